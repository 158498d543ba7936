"""Minutes and verdicts of the list of papers are taken from a folder of results."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from workbench.core.claims import plain
from workbench.core.run_record import RunRecord
from workbench.core.source_digest import source_digest
from workbench.papers import default_runs
from workbench.papers.registry import find_paper, modules_of

OLD = Path(__file__).resolve().parents[1] / "data/v1/replication.json"  # 11 claims hold, 4 fail
PAPER = "in-context-regression"
TAKEN = {
    "model": "zoo:regression",
    "seed": 0,
    "verdicts": {"holds": 11, "fails": 4, "cannot be tested here": 0},
    "minutes": 1.5,
    "clock": "wall",
    "commit": "0123456789ab",
    "dirty": True,
    "sources": "d899914a556e8e0c",
    "date": "2026-03-04",
}


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """The file that the command writes, here and not in the package; it knows another paper already."""
    file = tmp_path / "default_runs.json"
    file.write_text(json.dumps({"pine": {**TAKEN, "minutes": 7.0}}), encoding="utf-8")
    monkeypatch.setattr(default_runs, "DATA", file)
    default_runs.measured.cache_clear()
    yield file
    default_runs.measured.cache_clear()


@pytest.fixture
def results(tmp_path) -> Path:
    """A folder as ``replicate all -o`` leaves it: one of our papers, 92 s, and one that nobody knows."""
    content = json.loads(OLD.read_text(encoding="utf-8")) | {"seconds": 92.0}
    content["plan"]["options"] = plain(
        asdict(find_paper(PAPER).options())
    )  # of a default run, no other is listed
    for name in (PAPER, "a-stranger"):
        own = tmp_path / "results" / name
        own.mkdir(parents=True)
        (own / "replication.json").write_text(json.dumps(content), encoding="utf-8")
        git = {"commit": "0123456789abcdef", "dirty": True}
        record = RunRecord(command="replicate", arguments={}, started=1772582400.0, git=git)  # 2026-03-04
        record.finish().write(own)
    return tmp_path / "results"


def test_results_of_a_folder_are_kept_beside_those_known_and_listed(run, kept, results):
    code, out, err = run("replicate", "list", "--results", results, "--json")
    assert code == 0, err
    rows = json.loads(kept.read_text(encoding="utf-8"))
    assert rows == {PAPER: TAKEN, "pine": {**TAKEN, "minutes": 7.0}} and list(rows) == sorted(rows)
    listed = {row["name"]: row for row in json.loads(out)}
    assert (listed[PAPER]["minutes"], listed[PAPER]["verdicts"]) == (1.5, "11 hold, 4 fail")
    assert listed["pine"]["minutes"] == 7.0 and listed["lofit"]["minutes"] is None
    assert "a-stranger" not in listed


def test_the_page_says_the_commit_and_the_date(run, kept, results, tmp_path):
    page = tmp_path / "papers.md"
    assert run("replicate", "list", "--results", results, "--docs", page)[0] == 0
    text = page.read_text(encoding="utf-8")
    assert "in-context-regression, pine on 2026-03-04, commit 0123456789ab" in text
    assert "11 hold, 4 fail" in text


def test_minutes_are_of_the_processor_where_a_run_kept_them(run, kept, results, tmp_path):
    file, page = results / PAPER / "replication.json", tmp_path / "papers.md"
    content = json.loads(file.read_text(encoding="utf-8")) | {"core_seconds": 30.0}
    file.write_text(json.dumps(content), encoding="utf-8")
    code, out, err = run("replicate", "list", "--results", results, "--docs", page, "--json")
    assert code == 0, err
    listed = {row["name"]: row for row in json.loads(out)}
    assert (listed[PAPER]["minutes"], listed[PAPER]["clock"]) == (0.5, "processor")
    assert (listed["pine"]["minutes"], listed["pine"]["clock"]) == (7.0, "wall")
    text = page.read_text(encoding="utf-8")
    assert "| minutes of the processor |" in text and "| 0.5 | 11 hold" in text
    assert "| 7 by the clock | 11 hold" in text


def test_rows_of_other_sources_than_today_s_are_marked(run, kept):
    today = source_digest(*modules_of(find_paper(PAPER)))
    rows = {PAPER: {**TAKEN, "sources": today}, "pine": {**TAKEN, "sources": today}}  # pine's code is another
    kept.write_text(json.dumps(rows), encoding="utf-8")
    code, out, _ = run("replicate", "list", "--json")
    listed = {row["name"]: row["code"] for row in json.loads(out)}
    assert code == 0 and (listed[PAPER], listed["pine"], listed["lofit"]) == ("this code", "older code", None)
    assert "older code" in run("replicate", "list")[1]


def test_a_folder_without_results_is_an_error_and_changes_nothing(run, kept, tmp_path):
    before = kept.read_bytes()
    code, out, err = run("replicate", "list", "--results", tmp_path)
    assert code == 1 and out == "" and "has no results of papers" in err and "replicate all -o" in err
    assert kept.read_bytes() == before
