"""One call for every method: ``score(runs, "eap-ig", steps=5)``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workbench.errors import OptionError
from workbench.methods.registry import Level, get_method
from workbench.scores import Scores
from workbench.sweep.runs import PairedRuns


def score(
    runs: PairedRuns,
    name: str = "eap-ig",
    *,
    level: Level | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    **options: Any,
) -> Scores:
    """Score every edge or node with a method; positive supports the behavior.

    Args:
        level: ``edge`` or ``node``; by default the method's first.

    Raises:
        OptionError: for an unknown method or option, or a level the method does not have.
        ModelError: if the model has no such level.
    """
    found = get_method(name)
    level = level or found.levels[0]
    if level not in found.levels:
        raise OptionError(
            f"method {name} scores {' and '.join(found.levels)}s, not {level}s",
            hint="methods with both levels: exact, eap-ig",
        )
    chosen = found.make_options(**options)
    return found.function(runs, chosen, level=level, progress=progress or (lambda done, total, what="": None))
