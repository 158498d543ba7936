"""The map of methods: every function that it names exists, and it says of a file what Python says of it."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest

import workbench
from workbench.papers.registry import find_paper
from workbench.papers.uses import shared_uses, uses_of, uses_of_papers
from workbench.papers.wishes import WISHES

HOME = Path(workbench.__file__).parent


@pytest.mark.parametrize("wish", WISHES, ids=lambda wish: wish.want)
def test_a_wish_leads_to_functions_that_are_there(wish):
    for function in wish.functions:
        module, _, name = function.rpartition(".")
        tree = ast.parse((HOME / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if hasattr(node, "name")}, function


def test_what_papers_use_is_there_when_it_is_imported():
    """The table is read from text; here Python is asked."""
    used = {use for functions in uses_of_papers().values() for use in functions}
    for use in used:
        module, _, name = use.rpartition(".")
        assert callable(getattr(import_module(f"workbench.{module}"), name)), use
    assert "heads.divergence.divergence" in uses_of(find_paper("vhd").module)
    assert "heads.divergence.divergence" not in uses_of(find_paper("lofit").module)


def test_shared_functions_are_those_of_two_papers_or_more():
    uses = {"a": ("heads.x.f", "heads.x.g"), "b": ("heads.x.g",), "c": ("edits.y.h", "heads.x.g")}
    assert shared_uses(uses) == {"heads.x.g": ("a", "b", "c")}


def test_every_built_paper_measures_with_the_library():
    assert all(functions for functions in uses_of_papers().values())
