"""Opening what a job needs: a model with pairs of a task; and the record of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from workbench.commands.asked.inputs import check_opening, chosen_options
from workbench.core.command import Command
from workbench.core.loading import loading
from workbench.core.run_record import RunRecord
from workbench.engine.metrics import Metric, get_metric
from workbench.engine.of_task import paired_runs
from workbench.engine.paired_runs import BATCH_TOKENS, PairedRuns
from workbench.engine.room import Work, keep_within
from workbench.model.sealed import sealed_model

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Note = Callable[[str], None]


def open_runs(
    *,
    model: str,
    task: str,
    metric: str | Metric | None = None,
    limit: int | None = None,
    split: str = "test",
    corruption: str | None = None,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    task_options: Sequence[str] = (),
    batch_tokens: int = BATCH_TOKENS,
    device: str | None = None,
    device_map: str | None = None,
    dtype: str = "float32",
    revision: str | None = None,
    offline: bool | None = None,
    trust_remote_code: bool = False,
    max_memory: int | str | None = None,
    work: Work = "nodes",
    by_model: bool = True,
    in_tower: bool = False,
    with_tower: bool = False,
    note: Note = lambda text: None,
) -> PairedRuns:
    """Open a model and make a task's pairs for it, saying what was dropped.

    Args:
        options: Of the task, in its own types.
        task_options: The same as ``name=value`` texts, which come first.
        max_memory: Most memory of the whole process, "4GB" or bytes: passes are made as small as it needs.
        work: What the runs are for, which decides how much a pass keeps.
        by_model: Some passes may go through the hooked model whatever its blocks are; it keeps more.
        in_tower: Interventions may begin in a tower; its activations then count for every stacked copy.
        with_tower: Edges cross from the tower that sees to the language model.

    Raises:
        WorkbenchError: for a misspelt task or metric before any weights are loaded.
    """
    check_opening(
        model=model,
        task=task,
        metric=metric if isinstance(metric, str) else None,
        split=split,
        corruption=corruption,
        device=device,
        device_map=device_map,
        dtype=dtype,
        offline=offline,
        max_memory=max_memory,
        revision=revision,
        task_options=task_options,
        **{"limit": limit, "seed": seed, "batch_tokens": batch_tokens},
    )
    if isinstance(metric, str):
        get_metric(metric)  # a user's file is run before any weights are read
    how: dict[str, Any] = {
        "device": device,
        "device_map": device_map,
        "dtype": dtype,
        "max_memory": max_memory,
    }
    found = sealed_model(model, **how) if work == "nodes" and not by_model else None
    whose: dict[str, Any] = {
        "revision": revision,
        "trust_remote_code": trust_remote_code,
        "offline": offline or None,
    }
    runs = paired_runs(
        found or _opened(model, **whose, **how),
        task,
        n=limit,
        seed=seed,
        split=split,
        corruption=corruption,
        metric=metric,
        batch_tokens=batch_tokens,
        with_tower=with_tower,
        **{**(options or {}), **chosen_options(task, task_options)},
    )
    tell_dropped(runs, note)
    if max_memory is not None:
        runs.batch_tokens = keep_within(runs, max_memory, work=work, by_model=by_model, in_tower=in_tower)
        note(f"passes of at most {runs.batch_tokens} tokens keep within {max_memory}")
    return runs


def _opened(model: str, **how: Any) -> TransformerBridge:
    with loading():
        from workbench.model.open import open_model  # TransformerLens: only for a model that has to be opened

    return open_model(model, **how)


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
    pairs = runs.pairs.pairs
    return RunRecord(
        command=asked.declared.name,
        arguments=asked.arguments(),
        model=runs.identity.to_dict(),
        pairs={
            "task": pairs.task,
            "split": pairs.split,
            "seed": pairs.seed,
            "corruption": pairs.corruption,
            "digest": pairs.digest,
            "n": runs.n_pairs,
            "source": pairs.source,
            "options": dict(pairs.options),
            "dropped": [d.to_dict() for d in runs.pairs.dropped],
        },
    )
