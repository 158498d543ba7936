"""The atlas of heads in a real browser: sorting, choosing, hovering, keys; hostile tokens stay text; no network."""

from __future__ import annotations

import numpy as np
import pytest

from tests.web.test_circuit_page import browser, js, opened, pytestmark  # noqa: F401
from workbench.heads.every_head import Measurement
from workbench.heads.show.atlas import atlas_page
from workbench.heads.shown_patterns import PromptPatterns
from workbench.heads.table import Portrait

HOSTILE = "</script><img src=x onerror='document.title=1'>"


@pytest.fixture
def page() -> str:
    values = np.array([[0.1, 0.9], [float("nan"), 0.4]])
    shown = Measurement(
        name="induction", on="random", evidence="read-out", values=values, null=np.full((2, 2), 0.1), low=0.0,
        high=1.0, unit="attention", about="what", null_about="chance", n=4, missing={"why": ()},
    )  # fmt: skip
    portrait = Portrait(
        model=HOSTILE, n_layers=2, n_heads=2, attention_layers=(0, 1), measurements=(shown,), grounds=(),
        notes=(HOSTILE,), provenance={},
    )  # fmt: skip
    weights = np.zeros((2, 2, 3, 3), np.uint8)
    weights[..., 0] = 255  # every head looks at the first token ...
    weights[1, 1] = np.diag(
        [255, 51, 255]
    )  # ... but a1.h1, which looks at each token itself, at the second a fifth
    looked = [PromptPatterns(title="one", tokens=("<bos>", HOSTILE, "c"), layers=(0, 1), weights=weights)]
    return atlas_page(portrait, looked)


def text(browser, selector: str) -> str:  # noqa: F811
    return js(browser, f"document.querySelector('{selector}').textContent")


def heads(browser) -> list[str]:  # noqa: F811
    return js(
        browser, "[...document.querySelectorAll('#heads tbody button.address')].map((b) => b.textContent)"
    )


def test_sorting_choosing_and_hovering(browser, opened, page):  # noqa: F811
    opened(page)
    assert heads(browser) == ["a0.h0", "a0.h1", "a1.h0", "a1.h1"]
    column = "document.querySelectorAll('#heads thead button')[1].click()"
    js(browser, column)
    assert heads(browser) == ["a0.h1", "a1.h1", "a0.h0", "a1.h0"]  # largest first, no value last
    js(browser, column)
    assert heads(browser) == ["a0.h0", "a1.h1", "a0.h1", "a1.h0"]

    js(
        browser,
        "[...document.querySelectorAll('#heads button.address')].find((b) => b.textContent === 'a1.h1').click()",
    )
    assert js(browser, "document.getElementById('head').value") == "1,1"
    hover = (
        "((c) => { const b = c.getBoundingClientRect(); c.dispatchEvent(new MouseEvent('mousemove', "
        "{clientX: b.left + b.width / 2, clientY: b.top + b.height / 2})); })(document.getElementById('pattern'))"
    )
    js(browser, hover)
    assert text(browser, "#readout") == f"a1.h1: from 1 “{HOSTILE}” at 1 “{HOSTILE}”: 0.200"
    js(
        browser,
        "document.getElementById('pattern').dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowLeft'}))",
    )
    assert text(browser, "#readout").endswith("at 0 “<bos>”: 0.000")
    js(browser, "document.querySelectorAll('#sheet button')[0].click()")
    js(browser, "document.querySelectorAll('#tokens button')[2].dispatchEvent(new MouseEvent('mouseenter'))")
    assert text(browser, "#readout") == "a0.h0: from 2 “c”"
    shades = js(browser, "[...document.querySelectorAll('#tokens b')].map((b) => b.style.background)")
    assert shades == ["rgb(5, 68, 49)", "rgb(247, 247, 245)", "rgb(247, 247, 245)"]


def test_hostile_tokens_stay_text(browser, opened, page):  # noqa: F811
    opened(page)
    assert js(browser, "document.images.length") == 0
    assert HOSTILE in text(browser, "#tokens") and HOSTILE in text(browser, "h1")
    assert js(browser, "document.title") == f"Heads of {HOSTILE}"
