"""The page of all papers: what a newcomer reads, charts beside controls, quick runs marked and never listed."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from workbench.commands.replicate import saying_what_lacks
from workbench.core.claims import judge, plain, untestable
from workbench.core.errors import ModelError, RunError
from workbench.core.strict_json import dump
from workbench.papers import default_runs
from workbench.papers.all_page import never_testable, papers_page, reasons, time_rows
from workbench.papers.kinds import Findings
from workbench.papers.quick import QUICK, unlike_default
from workbench.papers.registry import find_paper
from workbench.papers.result import Result, Results
from workbench.papers.shown_claim import chart_of, main_claim, numbers_of, sides
from workbench.papers.sixty import sixty
from workbench.papers.uses import uses_of
from workbench.view.few_bars import few_bars_svg

LACKS = "photographs and models of seven billion weights cannot be had here"


def result(name: str, folder: Path, *, claims: tuple = (), seconds: float = 1.0, sets: tuple = ()) -> Result:
    """A result of a paper as a run would leave it."""
    paper = find_paper(name)
    rows = [
        {"condition": "own way", "unit": "share", "mean": 0.5, "low": 0.4, "high": 0.6, "n": 9},
        {"condition": "nothing", "unit": "share", "mean": 0.25, "low": 0.2, "high": 0.3, "n": 9},
    ]
    return Result.of(
        paper,
        model="zoo:kv",
        findings=Findings(claims=claims, tables={"Conditions": rows}),
        plan={"options": plain(asdict(paper.make_options(sets)))},
        seconds=9.0,
        core_seconds=seconds,
        folder=folder / name,
    )


CLAIMS = (
    judge("words decide", "a word", True, found="many"),
    judge("a control", "above", True, found=0.9, control=0.1, source="a control of ours"),
    judge("<b>it</b> works", "above", False, found=0.5, control=0.25, source="section 4"),
    untestable("accuracy on TextVQA and V* rises", "LLaVA-1.5 and InstructBLIP on photographs", LACKS),
)


@pytest.fixture
def found(tmp_path) -> Results:
    first = result("where-to-look", tmp_path, claims=CLAIMS, seconds=3.0)
    other = result("pine", tmp_path, claims=(untestable("x", "y", "no room"),), sets=("conflicts=30",))
    survey = result("instruction-tuning-survey", tmp_path, seconds=0.0)
    return Results(results=[first, other, survey], failed={"lofit": "it lacks a task"}, folder=tmp_path)


def test_rows_add_up_and_every_share_is_of_the_whole_time(found):
    rows = time_rows(found)
    assert [(r["hold"], r["fail"], r["undecided"], r["decided"]) for r in rows] == [
        (2, 1, 1, 3),
        (0, 0, 1, 0),
        (0, 0, 0, 0),
    ]
    assert [r["share of time"] for r in rows] == ["75.0%", "25.0%", "0.0%"]
    assert [r["run"] for r in rows] == ["default", "quick", "default"]


def test_the_chart_is_of_the_paper_s_own_claim_with_the_names_of_its_conditions(found):
    first, other, _ = found.results
    assert main_claim(first.findings.claims) is CLAIMS[2] and main_claim(CLAIMS[:2]) is CLAIMS[1]
    chart = chart_of(first)
    assert "own way: 0.5, 95 % 0.4 to 0.6" in chart and "nothing: 0.25" in chart and chart.count("<rect") == 2
    wide = [float(w) for w in re.findall(r'<rect[^>]* width="([0-9.]+)"', chart)]
    assert wide[0] == pytest.approx(2 * wide[1], rel=0.01)  # from zero: .5 is twice .25
    assert chart_of(other) == ""
    goes_on = judge("and better than others", "above", True, found=0.9, control=0.1, source="section 4")
    assert main_claim([goes_on, *CLAIMS]) is CLAIMS[2] and main_claim([CLAIMS[1], goes_on]) is goes_on


def test_of_conditions_with_one_mean_the_bar_names_the_one_of_the_criterion():
    rows = [
        {"condition": name, "unit": unit, "mean": mean, "low": mean, "high": mean}
        for name, unit, mean in (
            ("no gate", "share", 0.75),
            ("hits, gate", "share", 0.75),
            ("all", "share", 0.5),
            ("steps", "steps", 3.0),
        )
    ]
    alike = judge("x", '"hits, gate" minus no gate above 0', False, found=0.75, control=0.75)
    assert [side.name for side in sides(alike, rows)] == ["hits, gate", "no gate"]
    alone = judge("x", "lost minus kept by chance at most 0", True, found=0.1, control=0.2)
    assert [side.name for side in sides(alone, rows)] == ["lost", "kept by chance"]
    words = judge("in words", "no gate minus all above 0", True, found="many", source="section 4")
    slope = judge("a slope", "no gate falls with steps", True, found="many", source="section 4")
    assert [side.value for side in sides(words, rows)] == [0.75, 0.5]
    assert main_claim([slope, words], rows=rows) is words and main_claim([slope], rows=rows) is None


def test_the_claim_that_a_paper_is_known_for_comes_first_and_is_one_of_its_claims(found):
    assert main_claim(CLAIMS, known_for="a control") is CLAIMS[1]
    for paper in sixty():
        assert paper["says"].endswith(".")
        assert paper.get("known for") in (None, *find_paper(paper["name"]).claims), paper["name"]
    told = numbers_of(CLAIMS[2], found.results[0])
    assert told["measured"] == "0.5 (own way)" and told["control"] == "0.25 (nothing)"
    assert told["holds if"] == "above" and told["unit"] == "share"


def test_bars_below_zero_end_at_zero_and_what_is_not_finite_is_left_out():
    nan = float("nan")
    chart = few_bars_svg(
        [("a", -1.0, nan, nan, ""), ("b", 1.0, nan, nan, ""), ("c", nan, nan, nan, "")], unit="", title="t"
    )
    (x1, w1), (x2, _) = re.findall(r'<rect x="([0-9.]+)" y="\d+" width="([0-9.]+)"', chart)
    assert float(x1) + float(w1) == pytest.approx(float(x2), abs=0.2)


def test_reasons_say_whether_anything_here_could_test_the_claim(found):
    first = found.results[0]
    own = next(c for c in find_paper("where-to-look").claims.values() if c.alone)
    assert never_testable(first, untestable(own.says, "", "")) and not never_testable(first, CLAIMS[0])
    assert [(r["kind"], r["reason"], r["claims"]) for r in reasons(found)] == [
        ("cannot be had here", LACKS, 1),
        ("lacking in this run", "no room", 1),
    ]


def test_the_page_escapes_links_and_marks_what_is_quick(found):
    page = found.page()
    assert "&lt;b&gt;it&lt;/b&gt; works" in page and "<b>it</b> works" not in page
    assert 'href="#pine"' in page and 'id="pine"' in page and 'href="where-to-look/report.html"' in page
    assert "Quick run: conflicts=30" in page and "A quick run" in page and "it lacks a task" in page
    assert "A survey: it has no claims of its own" in page
    usual = Results(results=[found.results[0]], failed={}, folder=found.folder).page()
    assert "quick" not in usual.split("<main", 1)[1].lower().replace("quickly", "")


@pytest.mark.parametrize("name", QUICK)
def test_a_quick_run_asks_for_less_than_a_default_run(name):
    paper = find_paper(name)
    usual, quick = (asdict(paper.make_options(texts)) for texts in ((), QUICK[name]))
    other = {option for option in usual if usual[option] != quick[option]}
    assert len(other) == len(QUICK[name]) == len(unlike_default(paper, plain(quick)))
    for option in other:
        size = {type(v): len(v) if isinstance(v, tuple) else v for v in (usual[option],)}[type(usual[option])]
        less = len(quick[option]) if isinstance(quick[option], tuple) else quick[option]
        assert less < size, option


def test_a_quick_run_is_never_taken_into_the_list_of_papers(tmp_path):
    old = Path(__file__).resolve().parents[1] / "data/v1/replication.json"
    own = tmp_path / "in-context-regression"
    own.mkdir()
    shutil.copy(old, own / "replication.json")
    content = json.loads(old.read_text(encoding="utf-8"))
    content["plan"]["options"] |= {"networks": 2}
    content.pop("digest", None)
    (own / "replication.json").write_text(dump(content, where="x"), encoding="utf-8")
    with pytest.raises(RunError, match=r"measured with .*networks=2.*default runs alone"):
        default_runs.keep_measured(tmp_path, ["in-context-regression"], file=tmp_path / "runs.json")
    assert not (tmp_path / "runs.json").exists()


def test_an_error_on_another_model_says_that_the_paper_needs_what_the_model_lacks():
    with (
        pytest.raises(ModelError, match=r"^pine cannot be measured on zoo:marked, .*needs: no words") as told,
        saying_what_lacks("pine", "zoo:marked", usual="zoo:kv"),
    ):
        raise ModelError("no words", hint="-m zoo:vlm")
    assert told.value.hint == "workbench replicate pine -m zoo:kv has all of it; or -m zoo:vlm"
    with pytest.raises(ModelError) as once, saying_what_lacks("pine", "zoo:marked", usual="zoo:kv"):
        raise ModelError("no words", hint="-m zoo:kv")
    assert once.value.hint == "workbench replicate pine -m zoo:kv has all of it"
    with pytest.raises(ModelError, match=r"^no words"), saying_what_lacks("pine", "zoo:kv", usual="zoo:kv"):
        raise ModelError("no words")


def test_every_link_to_a_method_has_its_entry_and_the_notebook_is_a_file(found):
    page = papers_page(found)
    assert all(page.count(f'href="#{one.name}"') and f'id="{one.name}"' in page for one in found.results)
    methods = set(re.findall(r'href="#(method-[^"]+)"', page))
    assert methods and methods == set(re.findall(r'id="(method-[^"]+)"', page))
    assert {f"method-{use}" for use in uses_of(find_paper("pine").module)} <= methods
    file = result("vit-heads", found.folder, claims=CLAIMS)
    (link,) = re.findall(
        r'href="([^"]+[.]ipynb)"', papers_page(Results(results=[file], failed={}, folder=found.folder))
    )
    assert (found.folder / link).resolve().is_file()
