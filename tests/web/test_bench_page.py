"""The page of a bench in a real browser: tables and panels are there, nothing is fetched, no script fails."""

import json

import pytest

from tests.benches import made
from tests.web.test_circuit_page import browser  # noqa: F401  (the fixture, and the skip where there is no browser)
from workbench.bench.page import bench_page

pytestmark = pytest.mark.web


@pytest.fixture
def page(browser, tmp_path):  # noqa: F811
    path = tmp_path / "bench.html"
    path.write_text(bench_page(made()), encoding="utf-8")
    browser.get_log("performance"), browser.get_log("browser")
    browser.get(path.as_uri())
    yield browser
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert not [url for url in sent if not url.startswith(("file:", "data:", "chrome:"))]


def test_panels_have_curves_within_their_frames(page):
    boxes = page.execute_script(
        "return [...document.querySelectorAll('svg.wb-panels')].map(svg => { const s = svg.getBoundingClientRect();"
        "const inside = p => { const b = p.getBoundingClientRect(); return b.left >= s.left - 1 "
        "&& b.right <= s.right + 1 && b.top >= s.top - 1 && b.bottom <= s.bottom + 1 };"
        "return [...svg.querySelectorAll('g > path[stroke-width=\"1.7\"]')].map(inside) })"
    )
    # ROC and PR: five curves of known circuits (one refused); two tasks: two and three methods
    assert [len(found) for found in boxes] == [5, 5, 2, 3] and all(all(found) for found in boxes)


def test_curves_behind_the_panels_are_lines_and_not_filled(page):
    fills = page.execute_script(
        "return [...document.querySelectorAll('svg.wb-panels use')].map(u => "
        "getComputedStyle(document.querySelector(u.getAttribute('href'))).fill)"
    )
    assert len(fills) == 5 and set(fills) == {"none"}


def test_every_table_is_shown_with_its_rows(page):
    tables = page.execute_script(
        "return [...document.querySelectorAll('section')].map(s => [s.querySelector('h2').textContent,"
        "s.querySelectorAll('tbody tr').length])"
    )
    rows = dict(tables)
    assert rows["Edge AUROC on every known circuit"] == 3 and rows["Not measured"] == 2
    page.find_element("id", "theme").click()
    assert page.execute_script("return document.documentElement.dataset.theme") == "dark"
