"""Opening what a job needs: a model with pairs of a task; and the record of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workbench.commands.asked.inputs import Opening
from workbench.core.command import Command
from workbench.core.job import Note
from workbench.core.loading import loading
from workbench.core.progress import silent
from workbench.core.run_record import RunRecord
from workbench.engine.metrics import get_metric
from workbench.engine.of_task import paired_runs
from workbench.engine.paired_runs import PairedRuns
from workbench.engine.room import keep_within
from workbench.model.sealed import Sealed, sealed_model

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


def open_runs(*, note: Note = silent, **asked: Any) -> PairedRuns:
    """Open a model and make a task's pairs for it, saying what was dropped.

    Args:
        asked: The fields of an `Opening`; model and task are needed.

    Raises:
        WorkbenchError: for a misspelt task or metric before any weights are loaded.
    """
    opening = Opening(**asked)
    opening.check()
    if isinstance(opening.metric, str):
        get_metric(opening.metric)  # a user's file is run before any weights are read
    runs = paired_runs(
        _opened(opening),
        str(opening.task),
        n=opening.limit,
        seed=opening.seed,
        split=opening.split,
        corruption=opening.corruption,
        metric=opening.metric,
        batch_tokens=opening.batch_tokens,
        with_tower=opening.with_tower,
        **opening.manner,
        **opening.chosen(),
    )
    tell_dropped(runs, note)
    _keep_within(runs, opening, note)
    return runs


def _opened(opening: Opening) -> TransformerBridge | Sealed:
    """The model; a built-in one stays sealed where all passes can go through its plain blocks."""
    if opening.work == "nodes" and not opening.by_model:
        sealed = sealed_model(str(opening.model), **opening.place)
        if sealed is not None:
            return sealed
    with loading():
        from workbench.model.open import open_model  # TransformerLens: only for a model that has to be opened

    return open_model(str(opening.model), **opening.origin, **opening.place)


def _keep_within(runs: PairedRuns, opening: Opening, note: Note) -> None:
    """Make passes as small as the budget of memory needs, if there is one."""
    if opening.max_memory is None:
        return
    how: dict[str, Any] = {name: getattr(opening, name) for name in ("work", "by_model", "in_tower")}
    runs.batch_tokens = keep_within(runs, opening.max_memory, **how)
    note(f"passes of at most {runs.batch_tokens} tokens keep within {opening.max_memory}")


def tell_dropped(runs: PairedRuns, note: Note) -> None:
    """Say how many pairs were left out, and why."""
    dropped = runs.pairs.dropped
    if dropped:
        reasons = "; ".join(f"{count} {kind}" for kind, count in runs.pairs.reasons.items())
        note(
            f"{len(dropped)} of {len(dropped) + runs.n_pairs} pairs dropped ({reasons}); "
            f"first: {dropped[0].id}: {dropped[0].reason}"
        )


def record_of(asked: Command, runs: PairedRuns) -> RunRecord:
    """Return a run record with model and pairs filled in."""
    return RunRecord(
        command=asked.declared.name,
        arguments=asked.arguments(),
        model=runs.identity.to_dict(),
        pairs=pairs_of(runs),
    )


def pairs_of(runs: PairedRuns) -> dict[str, Any]:
    """Return what a record says of the pairs."""
    pairs = runs.pairs.pairs
    own = {name: getattr(pairs, name) for name in ("task", "split", "seed", "corruption", "digest")}
    dropped = [one.to_dict() for one in runs.pairs.dropped]
    more = {**runs.manner, "source": pairs.source, "options": dict(pairs.options), "dropped": dropped}
    return {**own, "n": runs.n_pairs, **more}
