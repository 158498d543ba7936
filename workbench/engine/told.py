"""What is said before anything is measured: what the model itself does, and what a test of so many effects can show."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from workbench.core.stats.sign_flips import Resolution
from workbench.tasks.alignment import AlignedPairs

if TYPE_CHECKING:
    from workbench.engine.paired_runs import PairedRuns

Note = Callable[[str], None]


def tell_behavior(
    runs: PairedRuns, note: Note, *, tests: int = 0, what: str = "effects below"
) -> dict[str, dict[str, Any]]:
    """Say what the model itself does on these pairs, and what a test of so many effects on them can show at all.

    Returns:
        The same by the name of the pairs, as a run record keeps it.
    """
    pairs, behavior = runs.pairs.pairs, runs.behavior
    name = pairs.task if pairs.seed is None else f"{pairs.task}, {pairs.split}"
    note(f"{name}: {behavior.sentence(what)}")
    if tests:
        note(resolution_of(tests, runs.pairs).words)
    return {name: behavior.to_dict(what)}


def resolution_of(tests: int, aligned: AlignedPairs) -> Resolution:
    """Say what a test of so many effects can show on these pairs."""
    clusters = len(set(aligned.pairs.clusters))
    return Resolution(tests=tests, clusters=clusters, grouped=clusters < len(aligned))
