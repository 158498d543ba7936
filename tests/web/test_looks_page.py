"""Pictures under the attention in a real browser: words, patches and heads are pointed at; the card needs no script."""

from __future__ import annotations

import numpy as np
import pytest

from tests.web.test_circuit_page import browser, js, opened, pytestmark  # noqa: F401
from workbench.heads.picture_look import PictureLook
from workbench.tasks.pictures.image import Picture

HOSTILE = "<img src=x onerror='document.title=1'>"


def row(**shares: float) -> np.ndarray:
    """One row of a pattern over four patches and two words."""
    return np.array(
        [shares.get(f"p{i}", 0.0) for i in range(4)] + [shares.get(f"w{i}", 0.0) for i in range(2)]
    )


@pytest.fixture
def look() -> PictureLook:
    even = np.full((6, 6), 1 / 6)
    planted = even.copy()
    planted[4] = row(p1=0.8, w0=0.2)  # the word “red” looks at the second patch
    planted[5] = row(p2=0.6, w0=0.4)  # “?” at the third, and at “red”
    planted[3] = row(p3=1.0)  # the fourth patch at itself
    image = Picture.of(np.full((4, 4, 3), 200, np.uint8))
    return PictureLook(
        model=HOSTILE, image=image, grid=(2, 2), first=0, patterns={"a0.h0": even, "a0.h1": planted},
        words={4: "red", 5: HOSTILE}, query=5, question="red ?", objects=(("red star", (1, 0, 2, 1)),), asked=0,
    )  # fmt: skip


def said(browser) -> str:  # noqa: F811
    return js(browser, "document.getElementById('look-readout').textContent")


def shares(browser) -> list[str]:  # noqa: F811
    return js(browser, "[...document.querySelectorAll('#look-words small')].map((s) => s.textContent)")


def darkness(browser, patch: int) -> int:  # noqa: F811
    """The red of the middle of a patch of the large picture: 200 where it is looked at most."""
    code = (
        "((x, y) => {const copy = document.createElement('canvas'); copy.width = copy.height = 1;"
        "const context = copy.getContext('2d', {willReadFrequently: true});"
        "context.drawImage(document.getElementById('look-picture'), x, y, 1, 1, 0, 0, 1, 1);"
        "return context.getImageData(0, 0, 1, 1).data[0];})(arguments[0], arguments[1])"
    )
    return js(browser, code, 108 + 216 * (patch % 2), 108 + 216 * (patch // 2))


def move(browser, kind: str, patch: int) -> None:  # noqa: F811
    """The event of a mouse over the middle of a patch of the large picture."""
    code = (
        "((kind, x, y) => {const c = document.getElementById('look-picture'), b = c.getBoundingClientRect();"
        "const at = {bubbles: true, clientX: b.left + x * b.width, clientY: b.top + y * b.height};"
        "c.dispatchEvent(new MouseEvent(kind, at));})(arguments[0], arguments[1], arguments[2])"
    )
    js(browser, code, kind, 0.25 + 0.5 * (patch % 2), 0.25 + 0.5 * (patch // 2))


def until(browser, what) -> None:  # noqa: F811
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 20, poll_frequency=0.05).until(what)


def test_words_and_patches_are_pointed_at(browser, opened, look):  # noqa: F811
    from selenium.webdriver import ActionChains

    opened(look.page())
    first = js(browser, "document.getElementById('look-head').value")
    assert first == "0,1"  # the head that looks most at the object that is meant
    assert said(browser) == f"a0.h1 from “{HOSTILE}”: 0.60 of it to the picture, brightest patch 0.60"
    assert shares(browser) == ["0.40", "0.00"]
    until(browser, lambda driver: darkness(driver, 2) == 200)  # the picture is there
    assert darkness(browser, 0) == 50  # nothing is a quarter of its colour

    first = browser.find_element("css selector", "#look-words button")
    ActionChains(browser).move_to_element(first).perform()
    assert said(browser).startswith("a0.h1 from “red”: 0.80") and shares(browser) == ["0.20", "0.00"]
    assert darkness(browser, 1) == 200 and darkness(browser, 2) == 50

    ActionChains(browser).move_to_element(browser.find_element("css selector", "h1")).perform()
    assert said(browser).startswith(f"a0.h1 from “{HOSTILE}”")  # back where it was
    move(browser, "mousemove", 2)
    assert said(browser) == f"a0.h1 from “{HOSTILE}” to row 2, column 1: 0.600"
    move(browser, "click", 3)
    js(browser, "document.getElementById('look-picture').dispatchEvent(new MouseEvent('mouseleave'))")
    assert said(browser) == "a0.h1 from row 2, column 2: 1.00 of it to the picture, brightest patch 1.00"
    js(browser, "document.querySelector('#look-sheet button').click()")
    assert said(browser).startswith("a0.h0 from row 2, column 2: 0.67")


def test_keys_move_over_patches(browser, opened, look):  # noqa: F811
    from selenium.webdriver.common.keys import Keys

    opened(look.page())
    picture = browser.find_element("id", "look-picture")
    picture.send_keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    assert said(browser).endswith("to row 2, column 1: 0.600")
    picture.send_keys(Keys.ARROW_RIGHT, Keys.ENTER)
    assert said(browser) == "a0.h1 from row 2, column 2 to row 2, column 2: 1.000"
    picture.send_keys(Keys.ESCAPE)
    assert said(browser).startswith(f"a0.h1 from “{HOSTILE}”: 0.60")


def test_hostile_words_stay_text(browser, opened, look):  # noqa: F811
    opened(look.page())
    assert js(browser, "document.images.length") == 0
    assert HOSTILE in js(browser, "document.getElementById('look-words').textContent")


def test_the_card_shows_the_maps_of_the_word_under_the_pointer(browser, opened, look):  # noqa: F811
    from selenium.webdriver import ActionChains

    opened(f"<!doctype html><title>c</title><h1>.</h1>{look._repr_html_()}")
    seen = "getComputedStyle(document.querySelector('{}')).visibility"
    at_first, own = seen.format(".wb-token-maps .f"), seen.format(".w .m")
    assert js(browser, at_first) == "visible" and js(browser, own) == "hidden"
    ActionChains(browser).move_to_element(browser.find_element("css selector", ".w rect")).perform()
    assert js(browser, at_first) == "hidden" and js(browser, own) == "visible"
    ActionChains(browser).move_to_element(browser.find_element("css selector", "h1")).perform()
    assert js(browser, at_first) == "visible" and js(browser, own) == "hidden"
