"""Docstrings: every public name says what it does and what it returns; the rooms get better only."""

from __future__ import annotations

import inspect
import json

import pytest

import workbench
from tests.docstrings import KNOWN, Described, shares, worse

FUNCTIONS = [
    name for name in workbench.__all__ if inspect.isfunction(inspect.unwrap(getattr(workbench, name)))
]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_public_name_says_what_it_does_and_what_it_returns(name):
    function = getattr(workbench, name)
    described = Described("workbench", name, inspect.getdoc(function) or "")
    assert described.begins_well, f"{name}: {described.text[:60]!r} begins with no verb"
    if inspect.signature(function).return_annotation not in (None, "None"):
        assert "Returns:" in described.text, f"{name} does not say what it returns"


def test_riddles_are_seen():
    assert not Described("r", "f", "What is asked, with what.").begins_well
    assert not Described("r", "f", "``(pair,)`` values.").begins_well
    assert Described("r", "f", "Estimate what each edge adds.").begins_well


def test_a_section_or_a_first_line_says_what_comes_back():
    assert Described("r", "f", "Estimate it.\n\nReturns:\n    Scores.").says_what_it_returns
    assert Described("r", "f", "Return the scores.").says_what_it_returns
    assert not Described("r", "f", "Estimate what it returns.").says_what_it_returns


def test_shares_of_the_rooms_do_not_fall():
    assert worse(shares(), json.loads(KNOWN.read_text(encoding="utf-8"))) == []


def test_a_lower_share_is_told():
    known = {"core": {"returns": 90, "verbs": 80}}
    assert worse({"core": {"returns": 91, "verbs": 79}}, known) == ["core: 79 % (verbs), 80 % is asked for"]


def test_every_public_function_and_class_has_an_example_which_the_suite_runs():
    names = [name for name in workbench.__all__ if callable(getattr(workbench, name))]
    without = [name for name in names if ">>> " not in (inspect.getdoc(getattr(workbench, name)) or "")]
    assert without == [
        "replicate_all"
    ]  # a paper takes seconds: `workbench replicate list` shows what there is
