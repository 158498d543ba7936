"""The map of methods: every function that it names exists, and it says of a file what Python says of it."""

from __future__ import annotations

import ast
from dataclasses import fields
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import pytest

import workbench
from workbench.core.command import COMMANDS
from workbench.methods.registry import METHODS
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


def test_functions_of_wishes_can_be_imported_and_called():
    for function in {function for wish in WISHES for function in wish.functions}:
        module, _, name = function.rpartition(".")
        assert callable(getattr(import_module(f"workbench.{module}"), name)), function


@pytest.mark.parametrize(
    "word", ["sinks", "steer heads", "restrict", "localise", "contrast", "probe", "train a mask"]
)
def test_the_first_things_that_people_want_are_wishes(word):
    assert any(word in wish.want for wish in WISHES)


def test_what_a_wish_says_to_type_is_a_command_with_such_flags_and_a_paper_that_is_built():
    for wish in WISHES:
        program, *words = wish.command.split() or ["workbench"]
        if program != "workbench" or not words:
            continue
        name = next(n for n in (" ".join(words[:2]), words[0]) if n in COMMANDS)
        texts = [
            option.metadata["text"] for option in fields(COMMANDS.get(name)) if "text" in option.metadata
        ]
        flags = {flag for text in texts for flag in text.flags}
        asked = [word for word in words if word.startswith("-")]
        assert set(asked) <= flags, (wish.command, set(asked) - flags)
        if name == "replicate":
            assert find_paper(words[1]).name == words[1]
        for flag, value in pairwise(words):
            assert flag != "--method" or value in METHODS, wish.command


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
