"""Help texts that name what is registered: ``{methods}`` stands for the names in the registry of methods."""

from __future__ import annotations

import re
from importlib import import_module

REGISTRIES = {
    "methods": "workbench.methods.registry:METHODS",
    "tasks": "workbench.tasks.registry:TASKS",
    "papers": "workbench.papers.registry:PAPERS",
    "metrics": "workbench.engine.metric_names:METRICS",
    "edits": "workbench.edits.edit:EDITS",
    "exports": "workbench.circuits.files.export:FORMATS",
    "pair_imports": "workbench.tasks.importers:PAIR_IMPORTS",
    "circuit_imports": "workbench.circuits.files.importers:CIRCUIT_IMPORTS",
}


def with_names(text: str) -> str:
    """Return a help text with the names of what is registered, plug-ins included.

    Example:
        >>> "graphml" in with_names("one of {exports}")
        True
    """
    return re.sub(r"\{(\w+)\}", _names, text)


def _names(found: re.Match[str]) -> str:
    module, _, registry = REGISTRIES[found[1]].partition(":")
    return ", ".join(getattr(import_module(module), registry))
