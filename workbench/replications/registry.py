"""The replications that there are. A new one is a module with ``REPLICATION`` and one line here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from workbench.errors import OptionError, unknown

if TYPE_CHECKING:
    from workbench.replications.kinds import Replication

_MODULES: dict[str, str] = {
    "component-reuse": "component_reuse",
    "retrieval-heads": "retrieval_heads",
    "preplan-anchor": "preplan_anchor",
    "relevance": "relevance",
    "attention-calibration": "attention_calibration",
    "pine": "pine",
    "lofit": "lofit",
    "soft-injection": "soft_injection",
    "in-context-regression": "in_context_regression",
}


def list_replications() -> tuple[str, ...]:
    """Names of all replications."""
    return tuple(_MODULES)


def find_replication(name: str) -> Replication:
    """A replication by name.

    Raises:
        OptionError: if there is none, with the closest spellings.
    """
    if name not in _MODULES:
        raise unknown("replication", name, _MODULES, error=OptionError)
    return import_module(f"workbench.replications.{_MODULES[name]}").REPLICATION


def replication_rows() -> list[dict[str, Any]]:
    """One line per replication: what to type, which paper, on which model by default."""
    found = [find_replication(name) for name in list_replications()]
    return [{"name": r.name, "paper": r.title, "source": r.source, "default model": r.model} for r in found]
