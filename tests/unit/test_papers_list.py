"""The sixty papers: in order, built or not, in a page of documentation that is as the command writes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench.core.errors import OptionError, RunError
from workbench.core.plugins import is_ours
from workbench.papers import default_runs
from workbench.papers.listing import paper_rows, papers_page
from workbench.papers.registry import find_paper, list_replications
from workbench.papers.sixty import not_built

ROOT = Path(__file__).resolve().parents[2]


def test_sixty_papers_stand_in_order_and_those_built_have_a_model():
    rows = [row for row in paper_rows() if row["number"] is not None]
    assert [row["number"] for row in rows] == list(range(1, 61)) and len({row["name"] for row in rows}) == 60
    built = {row["name"] for row in rows if row["built"]}
    ours = {name for name in list_replications() if is_ours(find_paper(name).module)}  # no plug-in's
    assert built == ours
    assert all((row["default model"] is not None) is row["built"] for row in rows)


def test_the_page_is_as_the_command_writes_it():
    page = (ROOT / "docs/papers.md").read_text(encoding="utf-8")
    assert page == papers_page(), "workbench replicate list --docs docs/papers.md"


def test_a_paper_that_is_not_built_says_so_and_a_misspelt_one_gets_a_suggestion():
    with pytest.raises(
        OptionError, match=r"paper 60, instruction-tuning-survey .* is not built yet[^$]*replicate list"
    ):
        raise not_built("instruction-tuning-survey", ())  # said of any of the sixty while it is not built
    with pytest.raises(OptionError, match="did you mean lofit"):
        find_paper("lofti")
    with pytest.raises(OptionError, match="did you mean mixture-of-heads"):
        find_paper("mixture-of-head")


def test_a_paper_without_claims_is_listed_as_a_survey():
    rows = {row["name"]: row for row in paper_rows()}
    assert rows["instruction-tuning-survey"]["verdicts"] == "survey" and "| survey |" in papers_page()
    surveys = [name for name, row in rows.items() if row["built"] and row["verdicts"] == "survey"]
    assert [name for name in surveys if find_paper(name).claims] == []


def test_what_is_listed_was_measured_and_says_when_and_with_which_code():
    for name, row in default_runs.measured().items():
        paper = find_paper(name)
        assert row["model"] == paper.model and row["seed"] == 0 and row["minutes"] > 0
        assert (
            sum(row["verdicts"].values()) == len(paper.claims)
            and row["sources"]
            and row["date"]
            and not row["dirty"]
        )


def test_a_folder_without_results_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(RunError, match="no results of papers"):
        default_runs.keep_measured(tmp_path, ["pine"], file=tmp_path / "runs.json")
    assert not (tmp_path / "runs.json").exists()
