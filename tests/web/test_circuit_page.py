"""The page of a circuit in a real browser: click, slider, search, keys, themes, escaping, no network."""

import json
import os
import shutil
import tempfile
from base64 import b64encode
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import numpy as np
import pytest

from tests.circuits import GROUPED, HOSTILE, POST_NORM, circuit, details, hostile, scores, small
from workbench.circuits.details import Patches, ShownPrompt, pattern_text
from workbench.circuits.files.annotations_file import load_annotations
from workbench.circuits.files.circuit_file import save_circuit
from workbench.circuits.graph import GraphShape
from workbench.circuits.show.circuit_page import circuit_page, report_page
from workbench.view.heatmap import heatmap_svg
from workbench.view.html import results_page
from workbench.view.page import repeated_by
from workbench.view.raster import png
from workbench.view.text import printable

CHROMIUM = next((p for p in ("chromium", "chromium-browser", "google-chrome") if shutil.which(p)), None)
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.web
if not (CHROMIUM and DRIVER) and not os.environ.get("CI"):
    pytest.skip(
        "needs chromium and chromedriver (Debian: chromium, chromium-driver)", allow_module_level=True
    )

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run", "--window-size=1280,860",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    from selenium import webdriver

    assert CHROMIUM and DRIVER, "CI needs chromium and chromedriver"
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which(CHROMIUM)
    profile = tempfile.mkdtemp(prefix="workbench-chromium-")
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_script_timeout(20)
    yield driver
    driver.quit()
    shutil.rmtree(profile, ignore_errors=True)


@pytest.fixture
def opened(browser, tmp_path):
    """Open a page of a circuit; at the end no script may have failed and nothing may have been fetched."""

    def load(page: str) -> Path:
        path = tmp_path / "page.html"
        path.write_text(page, encoding="utf-8")
        browser.get_log("performance"), browser.get_log("browser")
        browser.get(path.as_uri())
        return path

    yield load
    assert [line["message"] for line in browser.get_log("browser")] == []
    asked = [json.loads(line["message"])["message"] for line in browser.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in asked if m["method"] == "Network.requestWillBeSent"]
    assert [url for url in urls if not url.startswith(("file:", "data:", "chrome:"))] == []


def js(browser, code: str, *arguments):
    return browser.execute_script(f"return {code}", *arguments)


def drawn(browser) -> set[str]:
    """Addresses of the edges that are not hidden, asked of the picture itself."""
    return visible(browser, "edges('.edge')")


def nodes_drawn(browser) -> set[str]:
    return visible(browser, "nodes('.node')")


def visible(browser, which: str) -> set[str]:
    """What the picture shows, once it has been drawn: styles reach it with the next frame."""
    from selenium.webdriver.support.ui import WebDriverWait

    settled = f"circuitPage.cy.{which}.every(e => e.visible() !== e.hasClass('gone'))"
    WebDriverWait(browser, 20, poll_frequency=0.05).until(lambda driver: js(driver, settled))
    return set(js(browser, f"circuitPage.cy.{which}.filter(e => e.visible()).map(e => e.data('key'))"))


def slide(browser, n: int) -> None:
    js(
        browser,
        "(() => {const s = document.getElementById('keep'); s.value = arguments[0];"
        "s.dispatchEvent(new Event('input', {bubbles: true}));})()".replace("arguments[0]", str(n)),
    )


def click_on(browser, address: str) -> None:
    """A real click of the mouse where the picture draws this node."""
    from selenium.webdriver import ActionChains

    stage = browser.find_element("id", "graph")
    at = js(browser, f"circuitPage.cy.getElementById('n:' + {json.dumps(address)}).renderedPosition()")
    box = stage.size
    ActionChains(browser).move_to_element_with_offset(
        stage, at["x"] - box["width"] / 2, at["y"] - box["height"] / 2
    ).pause(0.1).click().perform()


MADE = {
    "plain": scores(GraphShape(n_layers=3, n_heads=4, n_kv_heads=4)).top(120),
    "grouped": scores(GROUPED).top(70),
    "post-norm": scores(POST_NORM).top(35),
    "positions": circuit(
        {"input@2->a0.h0<v>@end": 1.0, "a0.h0@end->logits@end": -1.0, "input@end->logits@end": 0.5}
    ),
}


@pytest.mark.parametrize("name", MADE)
def test_the_slider_prunes_by_the_rule_of_the_library(name, browser, opened):
    made = MADE[name]
    opened(circuit_page(made))
    assert drawn(browser) == set(made.edges) and nodes_drawn(browser) == set(made.all_nodes)
    for n in (2 * made.n_edges // 3, made.n_edges // 8, 1, 0):
        slide(browser, n)
        expected = made.top(n)
        assert drawn(browser) == set(expected.edges), n
        assert nodes_drawn(browser) == set(expected.all_nodes), n
        assert browser.find_element("id", "count").text == (
            f"{expected.n_edges} of them connected, {expected.n_nodes} nodes"
        )
    assert browser.find_element("id", "empty").is_displayed()


def test_a_page_says_how_it_is_read_until_something_is_chosen(browser, opened):
    made = MADE["plain"]
    opened(circuit_page(made.with_fields(metric="logit-difference")))
    head = next(n for n in made.nodes if n.startswith("a"))
    said = browser.find_element("id", "guide").text
    assert (
        f"{head} is attention head {head[-1]} of layer {head[1]}" in said and "logit-difference loses" in said
    )
    click_on(browser, head)
    assert not browser.find_elements("id", "guide")


def test_the_number_field_sets_the_slider(browser, opened):
    from selenium.webdriver.common.keys import Keys

    opened(circuit_page(small()))
    field = browser.find_element("id", "keep-number")
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys("4", Keys.ENTER)
    assert drawn(browser) == set(small().top(4).edges)
    assert browser.find_element("id", "keep").get_attribute("value") == "4"


def test_a_click_follows_the_paths_through_a_node(browser, opened):
    opened(circuit_page(small()))
    click_on(browser, "m1")
    details = browser.find_element("id", "details").text
    assert details.startswith("m1") and "MLP" in details and "a0.h0" in details and "+0.25" in details
    lit = set(js(browser, "circuitPage.cy.edges('.onpath').map(e => e.data('key'))"))
    assert lit == {"input->a0.h0<q>", "input->a0.h0<v>", "a0.h0->m1", "m1->logits"}
    faint = set(js(browser, "circuitPage.cy.elements('.faint').map(e => e.data('key'))"))
    assert faint == {"a1.h1", "a0.h0->a1.h1<q>", "a1.h1->logits"}


def test_hovering_tells_score_and_role(browser, opened):
    from selenium.webdriver import ActionChains

    opened(circuit_page(small()))
    stage = browser.find_element("id", "graph")
    at = js(browser, "circuitPage.cy.getElementById('n:a1.h1').renderedPosition()")
    move = ActionChains(browser)
    for nudge in (0, 2):
        move.move_to_element_with_offset(
            stage, at["x"] - stage.size["width"] / 2 + nudge, at["y"] - stage.size["height"] / 2
        ).pause(0.1)
    move.perform()
    tip = browser.find_element("id", "tip")
    assert tip.is_displayed() and tip.text.splitlines() == ["a1.h1, name mover", "1 edges in, 1 out"]


def test_the_list_of_edges_selects_one(browser, opened):
    opened(circuit_page(small()))
    buttons = browser.find_elements("css selector", "#strongest button")
    assert [b.text.split("\n")[0].split()[0] for b in buttons][:2] == ["a1.h1->logits", "input->a0.h0<v>"]
    buttons[2].click()
    assert js(browser, "circuitPage.selected().edge") == "a0.h0->a1.h1<q>"
    details = browser.find_element("id", "details").text
    assert "−1.5 logits" in details and "3 of 6" in details


def test_search_finds_by_address_and_role(browser, opened):
    from selenium.webdriver.common.keys import Keys

    opened(circuit_page(small()))
    box = browser.find_element("id", "search")
    box.send_keys("MOVER")
    assert browser.find_element("id", "found").text == "1 found"
    assert js(browser, "circuitPage.cy.nodes('.match').map(n => n.data('key'))") == ["a1.h1"]
    box.send_keys(Keys.ENTER)
    assert js(browser, "circuitPage.selected().node") == "a1.h1"
    box.send_keys(Keys.ESCAPE)
    assert js(browser, "circuitPage.selected()") is None and box.get_attribute("value") == ""


def test_everything_is_reached_by_keys(browser, opened):
    from selenium.webdriver.common.keys import Keys

    opened(circuit_page(small()))
    seen = []
    for _ in range(9):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        seen.append(browser.switch_to.active_element.get_attribute("id"))
        if seen[-1] == "graph":
            break
    assert seen == [
        "theme",
        "keep",
        "keep-number",
        "search",
        "fit",
        "save-png",
        "save-svg",
        "save-json",
        "graph",
    ]
    stage = browser.switch_to.active_element
    assert js(browser, "getComputedStyle(document.activeElement).outlineStyle") == "solid"
    walk = []
    for key in (Keys.ARROW_UP, Keys.ARROW_UP, Keys.ARROW_UP, Keys.ARROW_UP, Keys.ARROW_DOWN, Keys.ENTER):
        stage.send_keys(key)
        walk.append(js(browser, "circuitPage.selected().node"))
    assert walk == ["input", "a0.h0", "a1.h1", "logits", "a1.h1", "logits"]
    assert browser.find_element("id", "say").get_attribute("textContent").startswith("logits. 2 edges in")
    browser.find_element("css selector", "#details .list button").send_keys(Keys.ENTER)
    assert js(browser, "document.activeElement.id") == "details" and js(
        browser, "circuitPage.selected().edge"
    )
    browser.find_element("id", "notes-role").send_keys(Keys.ENTER)
    assert js(browser, "document.activeElement.id") == "notes-role"
    stage.send_keys(Keys.ARROW_DOWN)
    stage.send_keys(Keys.ESCAPE)
    assert js(browser, "circuitPage.selected()") is None


def test_prompt_tokens_have_positions_and_follow_the_selection(browser, opened):
    made = circuit({"input@2->a0.h0<v>@2": 1.0, "a0.h0@2->logits@2": -1.0}, prompt=("When", " Mary", " and"))
    opened(circuit_page(made))
    tokens = browser.find_elements("css selector", ".token")
    assert [t.text.split() for t in tokens] == [["When", "0"], ["Mary", "1"], ["and", "2"]]
    js(browser, "document.getElementById('graph').focus()")
    from selenium.webdriver.common.keys import Keys

    browser.find_element("id", "graph").send_keys(Keys.ARROW_UP)
    assert [("at" in t.get_attribute("class").split()) for t in tokens] == [False, False, True]


def test_themes_follow_the_system_and_the_button(browser, opened):
    from selenium.webdriver.support.ui import WebDriverWait

    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    )
    opened(circuit_page(small()))
    assert js(browser, "document.documentElement.dataset.theme") == "dark"
    dark = js(browser, "getComputedStyle(document.body).backgroundColor")
    fill = "circuitPage.cy.getElementById('n:m1').style('background-color')"
    dark_node = js(browser, fill)
    browser.find_element("id", "theme").click()
    assert js(browser, "document.documentElement.dataset.theme") == "light"
    assert js(browser, "getComputedStyle(document.body).backgroundColor") != dark
    WebDriverWait(browser, 20).until(lambda driver: js(driver, fill) != dark_node)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_hostile_text_stays_text(browser, opened):
    opened(circuit_page(hostile()))
    assert js(browser, "document.querySelectorAll('script').length") == 8  # seven of ours and the data
    assert js(browser, "document.querySelectorAll('b, img, iframe, object, link').length") == len(HOSTILE)
    tokens = [t.get_attribute("textContent") for t in browser.find_elements("css selector", ".token b")]
    assert tokens == [printable(text) for text in HOSTILE]
    click_on(browser, "a1.h1")
    assert "<script>alert(1)</script>" in browser.find_element("id", "details").text


def test_a_script_in_the_markup_does_not_run(browser, opened):
    """The page's policy is a second wall: even markup that was not escaped runs nothing."""
    from workbench.view.html import results_page

    page = results_page("t", [("x", "<script>window.ran = 1</script><img src=x onerror='window.ran = 2'>")])
    opened(page)
    assert js(browser, "window.ran === undefined")
    refused = [line["message"] for line in browser.get_log("browser")]
    assert any("Content Security Policy" in message for message in refused)


def test_large_pages_stay_usable(browser, opened):
    made = scores(GraphShape(n_layers=8, n_heads=8, n_kv_heads=8)).top(2500)
    assert made.n_edges > 1000
    opened(circuit_page(made))
    took = js(browser, f"(() => {{const t = performance.now(); circuitPage.update({made.n_edges});"
                       "return performance.now() - t;})()")  # fmt: skip
    assert len(drawn(browser)) == made.n_edges
    assert took < 10_000  # 340 ms on a busy machine; far above, so that no load fails it
    assert js(browser, "circuitPage.cy.zoom()") > 0


def test_reports_are_read_without_script_errors(browser, opened):
    import numpy as np

    heat = heatmap_svg(np.eye(3), ["0", "1", "2"], ["a", "b", "c"], title="heads", unit="logits")
    opened(report_page(small(), heatmaps={"Heads": heat}, tables={"T": [{"x": 1.0}]}))
    assert len(browser.find_elements("css selector", "main.report section")) == 4
    browser.find_element("id", "theme").click()
    assert js(browser, "document.documentElement.dataset.theme") in ("dark", "light")


@contextmanager
def frame_of(browser, wide: int):
    """Another size of the window, so narrow that no window of a desktop is."""
    size = {"width": wide, "height": 844, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        yield
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_window_made_narrow_has_the_layout_of_a_narrow_one(browser, opened):
    from selenium.webdriver.support.ui import WebDriverWait

    made = scores(GraphShape(n_layers=3, n_heads=4, n_kv_heads=4)).top(60)
    role = next(n for n in made.nodes if n.startswith("a"))
    page = circuit_page(made.with_roles({role: "mover"}))
    label = f"circuitPage.cy.getElementById('n:{role}').data('label')"
    seen = "circuitPage.cy.nodes('.node').not('.gone').map(n => [n.position('x'), n.style('font-size')])"
    rows = "circuitPage.cy.nodes('.row').not('.column').filter(e => e.visible()).length"
    found = {}
    with frame_of(browser, 390):
        opened(page)
        found["narrow"] = js(browser, label), js(browser, seen), js(browser, rows)
    opened(page)
    found["wide"] = js(browser, label), js(browser, seen), js(browser, rows)
    assert found["wide"][0] == f"{role}\nmover" and found["narrow"][0] == role
    assert found["wide"][2] > 0 and found["narrow"][2] == 0
    with frame_of(browser, 390):
        WebDriverWait(browser, 10).until(lambda _: js(browser, label) == role)
        assert (js(browser, label), js(browser, seen), js(browser, rows)) == found["narrow"]
    WebDriverWait(browser, 10).until(lambda _: js(browser, label) != role)
    assert (js(browser, label), js(browser, seen), js(browser, rows)) == found["wide"]


def test_words_of_a_wide_picture_wrap_on_a_phone_and_the_line_is_copied(browser, opened):
    long = "a title of a picture that is much too long for a telephone " * 4
    heat = heatmap_svg(
        np.eye(3), ["0", "1", "2"], ["a", "b", "c"], title=long, lead="said above", notes=["below"]
    )
    with repeated_by(lambda: "workbench runs page"):
        page = results_page("t", [("Heads", heat)])
    over = "e => e.getBBox().width > 0 && e.getBoundingClientRect().right > innerWidth"
    inside = f"[...document.querySelectorAll('svg text')].filter({over}).length"
    with frame_of(browser, 390):
        opened(page)
        told = [p.text for p in browser.find_elements("css selector", ".of-picture")]
        assert told == [f"{long.strip()}\nsaid above", "below"] and js(browser, inside) == 0
    assert not any(p.is_displayed() for p in browser.find_elements("css selector", ".of-picture"))
    browser.find_element("id", "copy").click()
    assert browser.find_element("id", "copy").text == "Copied"


@pytest.mark.parametrize("make", [lambda: scores(level="node").top(3), lambda: circuit({})])
def test_node_level_and_empty_circuits_open(make, browser, opened):
    made = make()
    opened(circuit_page(made))
    if made.size:
        slide(browser, 2)
        assert nodes_drawn(browser) == set(made.top(2).nodes)
    else:
        assert browser.find_element("id", "empty").is_displayed()


CURVE = {
    "ranking": "absolute", "metric": "logit-difference", "unit": "logits", "ablation": "resample",
    "points": [
        {"share": share, "edges": 0, "faithfulness": value, "low": value - 0.1, "high": value + 0.1,
         "random_mean": 0.1, "random_std": 0.05, "random_draws": 5}
        for share, value in ((0.0, 0.0), (0.2, 0.5), (1.0, 1.0))
    ],
}  # fmt: skip


def of_all_scores(n=20):
    """A circuit of the strongest edges of seeded scores, with a measured curve."""
    given = scores(seed=3)
    kept = given.top(n)
    evaluation = {"curve": CURVE, "n": 64, "behavior": {"does_task": True, "sentence": "it does"}}
    return kept.with_fields(task="ioi", model="zoo:ioi", evaluation=evaluation), given


def test_the_slider_goes_over_all_scores_and_begins_at_the_circuit(browser, opened):
    found, given = of_all_scores()
    opened(circuit_page(found, scores=given, path="my circuits/ioi"))
    assert js(browser, "document.getElementById('keep').max") == str(given.n_candidates)
    assert drawn(browser) == set(found.edges)
    slide(browser, given.n_candidates)
    assert drawn(browser) == set(given.top(given.n_candidates).edges)
    slide(browser, 25)
    assert drawn(browser) == set(given.top(25).edges)
    line = js(browser, "document.getElementById('command').textContent")
    assert line == "workbench circuit keep 'my circuits/ioi' --keep 25 -o kept"


def test_faithfulness_is_what_was_measured_or_said_to_be_a_line_between(browser, opened):
    found, given = of_all_scores()
    opened(circuit_page(found, scores=given))
    at = int(0.2 * given.n_candidates)
    slide(browser, at)
    said = js(browser, "document.getElementById('faith-said').textContent")
    assert said.startswith("0.5 (95 % interval 0.4 to 0.6), measured at this size. Random circuits")
    assert "0.1 ± 0.05 (5 draws)" in said and "n 64" in said
    slide(browser, at + 1)
    said = js(browser, "document.getElementById('faith-said').textContent")
    value = 0.5 + 0.5 / (given.n_candidates - at)
    assert said.startswith("About ") and float(said.split()[1]) == pytest.approx(value, abs=0.001)
    assert f"between what was measured at {at} and {given.n_candidates} edges" in said


def test_what_is_seen_stands_in_the_address_and_comes_back(browser, opened):
    found, given = of_all_scores(20)
    path = opened(circuit_page(found, scores=given, path="found"))
    edge = next(e for e in given.top(24).edges if "<" in e)
    slide(browser, 24)
    browser.execute_script("circuitPage.cy.getElementById('e:' + arguments[0]).emit('tap')", edge)
    address = js(browser, "location.hash")
    assert address.startswith("#keep=24&edge=")
    assert (
        js(browser, "document.getElementById('command').textContent")
        == f"workbench circuit why '{edge}' found"
    )
    browser.get("about:blank")
    browser.get(path.as_uri() + address)
    assert js(browser, "circuitPage.selected()") == {"edge": edge}
    assert js(browser, "document.getElementById('keep').value") == "24"
    browser.get("about:blank")
    browser.get(path.as_uri() + "#keep=%E0%A4%A&node=nobody&=&x")
    assert js(browser, "circuitPage.selected()") is None and drawn(browser) == set(found.edges)


def test_queries_keys_and_values_are_told_apart_and_the_shown_part_is_saved(browser, opened):
    opened(circuit_page(small()))
    named = "circuitPage.cy.edges('.edge').map((e) => [e.data('key'), e.style('target-label')])"
    labels = js(browser, named)
    assert dict(labels)["input->a0.h0<q>"] == "q" and dict(labels)["input->a0.h0<v>"] == "v"
    assert dict(labels)["a1.h1->logits"] == ""
    kept = json.loads(saved(browser, "save-json"))
    assert {edge["id"] for edge in kept["edges"]} == set(small().edges) and kept["unit"] == "logits"


def test_a_picture_stands_under_the_attention_of_a_clicked_head(browser, opened):
    from selenium.webdriver import ActionChains

    made = small()
    head, weights = made.heads[0], np.zeros((5, 5), dtype=np.uint8)
    weights[0], weights[3, 1] = (51, 0, 102, 0, 51), 255
    image = b64encode(png(np.full((4, 4, 3), 200, dtype=np.uint8))).decode()
    prompt = ShownPrompt(
        title="one",
        tokens=["class", "patch 0,0", "patch 0,1", "patch 1,0", "patch 1,1"],
        read_at=0,
        patterns={head: pattern_text(weights)},
        picture=Patches(rows=2, columns=2, first=1, png=image),
        reads="its first position",
    )
    opened(circuit_page(made, details=msgspec.structs.replace(details(made), prompts=[prompt])))
    click_on(browser, head)
    readout, under = (browser.find_element("id", f"closeup-{name}") for name in ("readout", "picture"))
    most = "2 “patch 0,1” 0.40, 0 “class” 0.20, 4 “patch 1,1” 0.20"
    assert readout.text == f"from 0 “class”, its first position: {most}; on the picture 0.60 in all"
    js(browser, "document.getElementById('closeup-picture').scrollIntoView({block: 'center'})")
    at = under.size["width"] // 4, under.size["height"] // 4
    ActionChains(browser).move_to_element_with_offset(under, at[0], -at[1]).perform()
    assert readout.text == "from 0 “class” at 2 “patch 0,1”: 0.400"
    ActionChains(browser).move_to_element_with_offset(under, -at[0], at[1]).click().perform()
    assert readout.text == "from 3 “patch 1,0” at 3 “patch 1,0”: 0.000"
    shown = "document.getElementById('closeup-picture').getContext('2d').getImageData(216, 72, 1, 1).data[0]"
    assert js(browser, shown) == pytest.approx(50, abs=3)  # dark: that query looks at the first patch alone


def test_a_clicked_head_shows_its_attention_and_a_clicked_edge_its_reason(browser, opened):
    from selenium.webdriver.common.keys import Keys

    made = small()
    head, edges = made.heads[0], list(made.edges)
    evil = "<img src=x onerror=alert(1)>"
    share = {
        "stability": {"parts": [edges[0]], "sets": [[0], [], [0], [0]]},
        "scores": {"model": [2.0, 4.0]},
        "ablations": {"zero": {"circuit": [1.0, 2.0], "nothing": [0.0, 0.0]}},
    }
    path = opened(circuit_page(made, details=details(made, word=evil), evidence=share, path="one"))
    assert "zero 0.5 0.5 0.5 2" in browser.find_element("css selector", "aside").text
    click_on(browser, head)
    told = browser.find_element("id", "details").text
    assert "+1.25 logits (95 % interval 1 to 1.5), resample, n 8" in told and f"{evil} 0.90" in told
    assert f"“{evil}” +2.5" in told and "“ John” −1" in told
    canvas = browser.find_element("id", "closeup-canvas")
    readout = browser.find_element("id", "closeup-readout")
    assert readout.text == "from 1 “ Mary”, where the answer is read: 1 “ Mary” 0.80, 0 “When” 0.20"
    canvas.send_keys(Keys.ARROW_UP)
    assert readout.text == "from 0 “When” at 0 “When”: 1.000"
    browser.find_element("css selector", "#closeup-prompt option[value='1']").click()
    assert js(browser, "location.hash").endswith(f"node={head}&prompt=1")
    browser.find_element("id", "closeup-wider").click()
    assert js(browser, "document.querySelector('aside').clientWidth") > 500
    browser.execute_script("circuitPage.cy.getElementById('e:' + arguments[0]).emit('tap')", edges[0])
    told = browser.find_element("id", "details").text
    assert "+0.75 logits" in told and "75 % of 4 bootstrap draws" in told
    assert f"who writes the query {evil} (sums to the score: +2 attention score, the largest 2 of 9)" in told
    assert "m0 +1.5 75 %" in told and "end−3 +0.5 25 %" in told
    browser.execute_script("circuitPage.cy.getElementById('e:' + arguments[0]).emit('tap')", edges[1])
    assert evil in browser.find_element("id", "details").text
    assert js(browser, "document.querySelectorAll('img').length") == 0
    browser.get("about:blank")
    path.write_text(circuit_page(made, path="my one"), encoding="utf-8")
    browser.get(f"{path.as_uri()}#node={head}")
    assert "workbench circuit details 'my one'" in browser.find_element("id", "details").text


CAUGHT = (
    "window.made = []; URL.createObjectURL = (b) => { b.text().then((t) => made.push(t)); return 'data:,'; };"
)


def saved(browser, button: str) -> str:
    """The text that a button saves."""
    from selenium.webdriver.support.ui import WebDriverWait

    browser.execute_script(CAUGHT + f"document.getElementById('{button}').click()")
    return WebDriverWait(browser, 20).until(lambda driver: js(driver, "window.made[0]"))


def test_what_is_written_on_a_circuit_is_saved_and_comes_back(browser, opened, tmp_path):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    evil, made = "<img src=x onerror=alert(1)>", small()
    save_circuit(made, tmp_path / "one")
    path = opened(circuit_page(made, path="one"))
    click_on(browser, "m1")
    for id_, text in (("note-name", evil), ("note-group", "late"), ("note-text", "why?")):
        browser.find_element("id", id_).send_keys(text, Keys.TAB)
    at = js(browser, "circuitPage.cy.getElementById('n:a0.h0').renderedPosition()")
    stage = browser.find_element("id", "graph")
    corner = at["x"] - stage.size["width"] / 2, at["y"] - stage.size["height"] / 2
    drag = ActionChains(browser).move_to_element_with_offset(stage, *map(int, corner))
    drag.click_and_hold().move_by_offset(30, 0).move_by_offset(10, 0).release().perform()
    browser.execute_script("circuitPage.cy.getElementById('e:a0.h0->m1').emit('tap')")
    browser.find_element("id", "note-hide").click()
    file = tmp_path / "annotations.json"
    file.write_text(saved(browser, "notes-save"), encoding="utf-8")
    kept = load_annotations(file, made)
    assert (
        kept.nodes["m1"].name == evil and kept.members == {"late": ["m1"]} and kept.nodes["m1"].note == "why?"
    )
    assert kept.edges["a0.h0->m1"].hidden and kept.nodes["a0.h0"].x is not None
    browser.get("about:blank")
    path.write_text(circuit_page(made, path="one", annotations=kept), encoding="utf-8")
    browser.get(path.as_uri())
    label = js(browser, "circuitPage.cy.getElementById('n:m1').data('label')")
    assert label.startswith("m1\n<img") and js(browser, "document.querySelectorAll('img').length") == 0
    assert "a0.h0->m1" not in set(
        js(browser, "circuitPage.cy.edges('.edge').filter(e => e.visible()).map(e => e.data('key'))")
    )
    moved = js(browser, "circuitPage.cy.getElementById('n:a0.h0').position('x')")
    assert abs(moved - at_rest(browser)) > 5
    assert js(browser, "JSON.stringify(circuitPage.notes.document().nodes.m1)") == json.dumps(
        {"name": evil, "group": "late", "colour": "", "note": "why?"}, separators=(",", ":")
    ).replace('"colour":"",', "")
    browser.find_element("id", "notes-back").click()
    browser.find_element("id", "notes-neighbours").click()
    assert "No two nodes are alike" in browser.find_element("id", "notes-said").text
    picture = ElementTree.fromstring(saved(browser, "save-svg"))
    assert len(picture.findall(".//{*}rect")) == 1 + made.n_nodes


def at_rest(browser) -> float:
    """Where the first head stands when nobody drags it."""
    return js(
        browser, "JSON.parse(document.getElementById('data').textContent).nodes.find(n => n.id === 'a0.h0').x"
    )


def test_a_circuit_of_another_choice_has_no_slider_over_scores():
    _, given = of_all_scores()
    greedy = given.choose(5, select="greedy").with_fields(evaluation={"curve": CURVE})
    page = circuit_page(greedy, scores=given)
    assert '"start":null' in page and f'max="{greedy.n_edges}"' in page


def test_two_circuits_on_one_page(browser, opened):
    from workbench.circuits.show.two_circuits import two_circuits_page

    here, there = small(), circuit({"input->a0.h0<q>": 0.75, "a0.h0->logits": 1.0})
    opened(two_circuits_page(here, there, paths=("one", "the other")))
    assert drawn(browser) == set(here.edges) | set(there.edges)
    mine = "[...e.classes()].filter((c) => c.startsWith('of-'))[0]"
    sides = dict(js(browser, f"circuitPage.cy.edges('.edge').map((e) => [e.data('key'), {mine}])"))
    assert sides["input->a0.h0<q>"] == "of-both" and sides["a0.h0->logits"] == "of-there"
    assert sides["a1.h1->logits"] == "of-here"
    browser.execute_script("circuitPage.cy.getElementById('e:input->a0.h0<q>').emit('tap')")
    told = js(browser, "document.getElementById('details').textContent")
    assert "in both" in told and "A+0.5" in told and "B+0.75" in told
    line = js(browser, "document.getElementById('command').textContent")
    assert line == "workbench circuit diff one 'the other' -o two.html"
    assert "Overlap against chance" in js(browser, "document.querySelector('aside').textContent")


def test_two_circuits_of_different_shapes_have_no_page():
    from workbench.circuits.show.two_circuits import two_circuits_page
    from workbench.core.errors import CircuitError

    with pytest.raises(CircuitError, match="different shapes"):
        two_circuits_page(small(), circuit({"input->a0.h0<q>": 1.0}, shape=GROUPED))
    deep = circuit(
        {"input->a2.h3<q>": 1.0, "a2.h3->logits": 1.0}, GraphShape(n_layers=3, n_heads=4, n_kv_heads=4)
    )
    page = two_circuits_page(small(), deep)
    assert "By number of layer and head" in page and '"a2.h3-\\u003elogits":"there"' in page
    assert '"a1.h1-\\u003elogits":"here"' in page and "How each was found and judged" in page
    page = two_circuits_page(hostile(), hostile())
    assert "<script>alert" not in page.split('<script type="application/json"')[0]
