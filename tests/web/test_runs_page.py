"""The page of runs in a real browser: filter, sort, address; hostile records stay text."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.web.test_circuit_page import browser, js, opened, pytestmark  # noqa: F401
from workbench.commands.runs_page import runs_page
from workbench.core.run_record import RunRecord
from workbench.engine.run_folders.past_runs import find_runs

HOSTILE = "</td><img src=x onerror='document.title=1'>"


@pytest.fixture
def page(tmp_path: Path) -> str:
    for name, command, model, status in (
        ("a", "ablate", "zoo:ioi", "done"),
        ("b", "discover", HOSTILE, "interrupted"),
        ("c", "ablate", "zoo:kv", "done"),
    ):
        given = {"model": model, "task": "ioi"}
        RunRecord(command=command, arguments=given, model={"name": model}, status=status).write(
            tmp_path / name
        )
    (tmp_path / "a" / "report.html").write_text("x")
    return runs_page(list(find_runs([tmp_path])), tmp_path)


def shown(browser) -> list[str]:  # noqa: F811
    rows = "[...document.querySelectorAll('#runs tbody tr')].filter((r) => !r.hidden)"
    return js(browser, rows + ".map((r) => r.cells[8].firstChild.textContent.split('/').pop())")


def typed(browser, selector: str, value: str) -> None:  # noqa: F811
    found = f"document.querySelector('{selector}')"
    js(browser, f"{found}.value = '{value}'")
    js(browser, f"{found}.dispatchEvent(new Event('input'))")


def test_filter_sort_and_address(browser, opened, page):  # noqa: F811
    opened(page)
    assert shown(browser) == ["a", "b", "c"]
    assert js(browser, "document.querySelectorAll('td img').length") == 0 and HOSTILE in js(
        browser, "document.querySelector('#runs').textContent"
    )
    typed(browser, "#text", "ABLATE kv")
    assert (
        shown(browser) == ["c"]
        and js(browser, "document.getElementById('told').textContent") == "1 of 3 runs"
    )
    assert js(browser, "location.hash") == "#text=ABLATE+kv"
    typed(browser, "#text", "")
    typed(browser, "#status", "interrupted")
    assert shown(browser) == ["b"]
    typed(browser, "#status", "")
    click = "document.querySelectorAll('#runs th button')[1].click()"  # by model, then the other way
    js(browser, click)
    assert shown(browser)[-2:] == ["a", "c"]
    js(browser, click)
    assert shown(browser)[:2] == ["c", "a"]
    assert js(browser, "[...document.querySelectorAll('#runs a')].map((a) => a.getAttribute('href'))") == [
        "a/report.html"
    ]
