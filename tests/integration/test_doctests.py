"""The examples in docstrings are run, so that they stay true."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import workbench as wb

ROOT = Path(__file__).resolve().parents[2]
open_model, identity = wb.open_model, wb.identity
KEPT: dict[str, tuple[object, object]] = {}  # built-in models, with what they were when they were opened


def modules_with_examples() -> list[str]:
    """Every module of the library, the command line and the benchmarks that shows an example."""
    files = [path for room in ("workbench", "cli", "benchmarks") for path in (ROOT / room).rglob("*.py")]
    shown = sorted(path.relative_to(ROOT) for path in files if ">>>" in path.read_text(encoding="utf-8"))
    return [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in shown]


def state(model) -> object:
    """What an example could leave behind: changed weights and settings, standing edits, hooks, training, gradients."""
    hooks = [name for name, point in model.hook_dict.items() if point.fwd_hooks or point.bwd_hooks]
    wanted = [name for name, weight in model.named_parameters() if weight.requires_grad]
    return identity(model), hooks, wanted, model.training


def open_once(name, **how):
    """A built-in model that was opened before, if it still is as it was then."""
    if how or not isinstance(name, str) or not name.startswith("zoo:"):
        return open_model(name, **how)
    if name not in KEPT or state(KEPT[name][0]) != KEPT[name][1]:
        model = open_model(name)
        KEPT[name] = model, state(model)
    return KEPT[name][0]


@pytest.fixture(scope="module", autouse=True)
def forget():
    yield
    KEPT.clear()


@pytest.mark.parametrize("name", modules_with_examples())
def test_the_examples_of_a_module_come_out_as_shown(name, monkeypatch):
    monkeypatch.setattr(wb, "open_model", open_once)
    module = import_module(name)
    # One that another test imported lazily has no examples before its first use.
    getattr(module, "loaded", None)
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0


def test_a_model_that_an_example_changed_is_opened_anew():
    first = open_once("zoo:truth-induction")
    assert open_once("zoo:truth-induction") is first
    next(first.parameters()).data.mul_(2)
    second = open_once("zoo:truth-induction")
    assert second is not first and open_once("zoo:truth-induction") is second
    next(iter(second.hook_dict.values())).add_hook(lambda value, hook: None)
    assert open_once("zoo:truth-induction") is not second


def test_examples_are_found_where_they_stand():
    assert {"workbench", "workbench.core.claims", "workbench.edits.kinds"} <= set(modules_with_examples())
