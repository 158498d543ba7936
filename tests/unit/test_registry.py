"""Registries: what is known by name, when it is imported, and what a misspelt name says."""

from __future__ import annotations

import gc
import sys
from dataclasses import dataclass

import pytest

from workbench.core.errors import OptionError
from workbench.core.loading import loading
from workbench.core.registry import Registry, load
from workbench.methods.registry import METHODS, Cost, get_method, list_methods, method


def test_a_lazy_thing_is_imported_when_it_is_used():
    sys.modules.pop("colorsys", None)
    things = Registry("thing")
    things.lazy("turn", "colorsys:rgb_to_hsv")
    assert list(things) == ["turn"] and "turn" in things and "colorsys" not in sys.modules
    assert things.get("turn")(1.0, 0.0, 0.0) == (0.0, 1.0, 1.0) and "colorsys" in sys.modules


def test_a_module_that_does_not_register_the_thing_is_told():
    things: Registry[type] = Registry("thing")
    things.lazy("colour", "workbench.core.text")
    with pytest.raises(LookupError, match="does not register a thing called 'colour'"):
        things.get("colour")


def test_a_misspelt_name_is_told_with_the_closest():
    things = Registry("thing")
    things.add("first", 1)
    with pytest.raises(OptionError, match="no thing called 'frist'") as caught:
        things.get("frist")
    assert "first" in caught.value.hint


def test_a_method_of_ones_own_is_found_by_its_name():
    @dataclass(frozen=True, kw_only=True)
    class Nothing:
        """No options."""

    @method("mine", levels=("edge",), source="", options=Nothing, cost=lambda *_: Cost(forward=7))
    def mine(runs, options, *, level, progress):
        """Claim something."""

    try:
        found = get_method("mine")
        assert found.function is mine and found.claim == "Claim something." and "mine" in list_methods()
        assert found.cost(Nothing(), None, "edge").passes == 7
    finally:
        METHODS.remove("mine")
    assert "mine" not in list_methods()


def test_garbage_is_looked_for_again_after_loading():
    with loading():
        assert not gc.isenabled()
        with loading():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ImportError), loading():
        raise ImportError
    assert gc.isenabled()


def test_every_name_of_ours_leads_to_a_thing():
    """Names are written down so that nothing has to be imported for a list: a file that moves takes them along."""
    import workbench.circuits.files.any_result  # noqa: F401  it says which formats can be read
    from workbench.bench.cells import _MEASURING
    from workbench.commands.doctor import REGISTRIES
    from workbench.core.command import COMMANDS
    from workbench.core.show import LOADERS
    from workbench.training import RECIPES, get_recipe

    found = {r.kind: [r.get(name) for name in r.ours()] for r in (*REGISTRIES, LOADERS)}
    assert len(found) > 10 and all(found.values())
    assert len([get_recipe(name) for name in RECIPES]) > 20
    declared = [form.declared for _, form in COMMANDS.items()]
    named = {text for one in declared for text in (one.run, one.check) if text}
    assert len([load(text) for text in named]) > 20
    assert all(load(f"workbench.{name}") for names in _MEASURING.values() for name in names)
