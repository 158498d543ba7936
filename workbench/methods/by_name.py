"""One call for every method: ``score(runs, "eap-ig", steps=5)``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from workbench.circuits.scores import Scores
from workbench.core.progress import live
from workbench.core.run_record import digest_of
from workbench.core.source_digest import sources_of_plugin
from workbench.engine.distribute import remembered
from workbench.engine.of_task import on_a_task
from workbench.engine.paired_runs import PairedRuns
from workbench.methods.registry import Level, check_level, get_method
from workbench.model.wiring import require_parts
from workbench.tasks.alignment import BOTH


@on_a_task
def score(
    runs: PairedRuns,
    name: str = "eap-ig",
    *,
    level: Level | None = None,
    per_position: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
    **options: Any,
) -> Scores:
    """Score every edge or node with a method; positive supports the behavior.

    Args:
        level: ``edge``, ``node`` or ``neuron``; by default the method's first.
        per_position: Score every named position by itself, and all other tokens together.

    Returns:
        Scores ``(source, target)`` of edges or ``(source,)`` of nodes, in the metric's unit unless the method says
        another; positive supports the behavior.

    Raises:
        OptionError: for an unknown method or option, a level the method does not have, or positions it cannot
            tell apart.
        ModelError: if the model has no such level.
        TaskError: if the pairs change what another stack reads, which edges of this one do not carry.

    Example:
        >>> import workbench as wb
        >>> runs = wb.paired_runs(wb.open_model("zoo:ioi"), "ioi", n=4)
        >>> scores = wb.score(runs, "eap")
        >>> scores.level, scores.n_candidates
        ('edge', 479)
    """
    found = get_method(name)
    level = check_level(found, level, per_position=per_position, with_tower=runs.wiring.with_tower)
    chosen = found.make_options(**options)
    runs.settle(every_number=True)
    require_parts(runs.wiring)
    if level == "edge":
        both = runs.wiring.with_tower and runs.wiring.compares
        runs.pairs.require_change_of(BOTH if both else runs.own_stack)
    extra = {"per_position": True} if per_position else {}
    asked = digest_of([runs.provenance(), name, level, per_position, repr(chosen), runs.batch_tokens])
    before = runs.division
    with remembered(before, asked, bare=runs.is_bare()) as division:
        # two methods within one (auto) would take each other's parts for their own
        runs.division = before.asked(asked, before.store) if before.within else replace(division, within=True)
        try:
            scores = found.function(runs, chosen, level=level, progress=live(progress), **extra)
        finally:
            runs.division = before
    own = sources_of_plugin(found.module, found.run)
    return replace(scores, provenance={**scores.provenance, **own}) if own else scores
