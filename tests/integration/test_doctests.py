"""The examples in docstrings are run, so that they stay true."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def modules_with_examples() -> list[str]:
    """Every module of the library, the command line and the benchmarks that shows an example."""
    files = [path for room in ("workbench", "cli", "benchmarks") for path in (ROOT / room).rglob("*.py")]
    shown = sorted(path.relative_to(ROOT) for path in files if ">>>" in path.read_text(encoding="utf-8"))
    return [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in shown]


@pytest.mark.parametrize("name", modules_with_examples())
def test_the_examples_of_a_module_come_out_as_shown(name):
    module = import_module(name)
    # One that another test imported lazily has no examples before its first use.
    getattr(module, "loaded", None)
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0


def test_examples_are_found_where_they_stand():
    assert {"workbench", "workbench.core.claims", "workbench.edits.kinds"} <= set(modules_with_examples())
