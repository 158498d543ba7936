"""The sweep engine: exact effects of many interventions, fast, crash-safe, equal to the naive loop.

An intervention in layer ``l`` leaves the layers below as they were, so its forward pass starts at ``l`` from
the base run's residual stream; interventions that start at one layer are stacked along the batch axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from workbench.circuits.effects import Effects
from workbench.core.errors import ModelError, OptionError, RunError, expect, expect_word
from workbench.core.progress import Progress, live
from workbench.core.run_record import code_versions, digest_of
from workbench.core.source_digest import source_digest
from workbench.engine.batch import RUNS
from workbench.engine.distribute import Here, WorkPart, remembered
from workbench.engine.interventions.apply import hooks_for
from workbench.engine.interventions.intervention import Edit, Intervention, check
from workbench.engine.interventions.means import Means
from workbench.engine.interventions.site import site_of
from workbench.engine.interventions.words import MODES, Mode
from workbench.engine.named_places import check_positions
from workbench.engine.of_task import on_a_task
from workbench.engine.paired_runs import Batch, PairedRuns, RunName
from workbench.engine.restart import (
    is_local,
    is_walked,
    plainly,
    restarted,
    together,
    without_plain_blocks,
)
from workbench.engine.restarted_tower import (
    computed_by,
    has_layers,
    stays_in_layer,
    tower_names,
    tower_restart,
    without_restart,
)
from workbench.engine.store import SweepStore
from workbench.engine.sweep_recording import record_for
from workbench.model.memory import is_out_of_memory


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Where means come from: one run of a reference set. By default the clean prompts of the pairs themselves.

    Example:
        >>> import workbench as wb
        >>> runs = wb.paired_runs(wb.open_model("zoo:ioi"), "ioi", n=4)
        >>> wb.ablate(runs, ["a0.h0"], ablation="mean", reference=wb.Reference(runs=runs)).labels
        ('a0.h0',)
    """

    runs: PairedRuns
    run: RunName = "clean"

    def __post_init__(self) -> None:
        expect_word("run", self.run, RUNS)


@on_a_task
def sweep(
    runs: PairedRuns,
    interventions: Sequence[Intervention],
    *,
    kind: str,
    mode: Mode = "noising",
    reference: Reference | None = None,
    folder: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Effects:
    """Measure every intervention on every pair.

    Args:
        mode: ``noising`` edits the clean run and reports the drop of the metric; ``denoising`` edits the
            corrupted run and reports the gain.
        folder: Where finished parts are kept; without it nothing is written.
        resume: Continue what an earlier, interrupted run left in ``folder``.
        progress: Called with parts done, parts in all and what is being done.

    Returns:
        One row per intervention: change of the metric in its unit, one value per pair; positive supports the
        behavior.

    Raises:
        ModelError: if this model cannot do one of the interventions.
        RunError: if the folder holds something else, or another process is writing there.

    Example:
        >>> import workbench as wb
        >>> runs = wb.paired_runs(wb.open_model("zoo:ioi"), "ioi", n=4)
        >>> wb.measure(runs, wb.ablations(["a0.h0"], "zero"), kind="zero ablation").labels
        ('a0.h0',)
    """
    if not interventions:
        raise OptionError(
            "there are no interventions; at least one is expected",
            hint="name at least one: --node a0.h1, or --parts heads",
        )
    for intervention in interventions:
        expect(intervention, Intervention, what="an intervention", hint='wb.ablations([["a1.h0"]], "zero")')
    labels = [i.label for i in interventions]
    if len(set(labels)) != len(labels):
        raise OptionError(
            "two interventions have one label; results would be mixed up",
            hint="give each intervention a label of its own",
        )
    for intervention in interventions:
        for edit in intervention.edits:
            check(edit, runs.wiring)
    check_positions(runs, interventions)
    base: RunName = "clean" if mode == "noising" else "corrupted"
    plan = describe_plan(runs, interventions, kind=kind, mode=mode, reference=reference)
    digest = digest_of(plan)
    store = (
        nullcontext(runs.division.store) if folder is None else SweepStore(Path(folder), plan, resume=resume)
    )
    with (
        store as kept,
        runs.left_alone(live(progress)) as told,
        remembered(runs.division.asked(digest, kept), digest, bare=runs.is_bare()) as division,
    ):
        patched = _run(runs, interventions, base, reference, division, told)
        return _table(runs, interventions, patched, plan, digest)


def _table(
    runs: PairedRuns,
    interventions: Sequence[Intervention],
    patched: np.ndarray,
    plan: dict[str, Any],
    digest: str,
) -> Effects:
    """The effects beside the metric of both runs."""
    sign, mode = runs.metric.direction, plan["mode"]
    base: RunName = "clean" if mode == "noising" else "corrupted"
    return Effects(
        labels=tuple(i.label for i in interventions),
        patched=patched,
        base=getattr(runs, base),
        gap=sign * (runs.clean - runs.corrupted),
        direction=sign,
        mode=mode,
        kind=plan["kind"],
        metric=runs.metric.name,
        unit=runs.metric.unit,
        task=runs.pairs.pairs.task,
        model=plan["model"],
        pair_ids=tuple(pair.id for pair in runs.pairs.pairs),
        clusters=runs.pairs.pairs.clusters,
        behavior=runs.behavior,
        provenance={
            "plan": digest,
            **{k: v for k, v in plan.items() if k != "interventions"},
            **({"stacks_halved": runs.n_halved} if runs.n_halved else {}),
            "computed by": computed_by(runs, interventions, base),
        },
    )


def describe_plan(
    runs: PairedRuns,
    interventions: Sequence[Intervention],
    *,
    kind: str,
    mode: Mode,
    reference: Reference | None = None,
) -> dict[str, Any]:
    """Everything that decides the numbers, as JSON values; equal plans give equal tables."""
    known = runs.identity
    expect_word("mode", mode, MODES)
    plan = {
        "format": "circuit-workbench/sweep",
        "version": 1,
        "kind": kind,
        "mode": mode,
        **known.decides(),
        "device": str(runs.device),
        "pairs": runs.pairs.pairs.digest,
        "n_pairs": runs.n_pairs,
        "prepend_bos": runs.pairs.prepend_bos,
        "tokens": runs.tokens_digest,
        "metric": runs.metric.name,
        "metric_source": runs.metric.source,
        "batch_tokens": runs.batch_tokens,
        "code": {**code_versions(), "sources": source_digest(__name__)},
        "interventions": [i.to_dict() for i in interventions],
    }
    if reference is not None:
        other = reference.runs
        plan["reference"] = {
            "pairs": other.pairs.pairs.digest,
            "tokens": other.tokens_digest,
            "run": reference.run,
        }
    return plan


def _run(
    runs: PairedRuns,
    interventions: Sequence[Intervention],
    base: RunName,
    reference: Reference | None,
    division: Here,
    progress: Progress,
) -> np.ndarray:
    """``(row, pair)`` metric values. One part is all interventions of one first layer on one batch."""
    by_layer: dict[tuple[str, int], list[int]] = {}
    for row, intervention in enumerate(interventions):
        by_layer.setdefault((intervention.tower or "", intervention.first_layer), []).append(row)
    patched = np.full((len(interventions), runs.n_pairs), np.nan)
    layer_of: dict[str, tuple[str, int]] = {}
    parts = []
    for b, batch in enumerate(runs.batches):
        for where in sorted(by_layer):
            tower, layer = where
            left = runs.wiring.n_layers - layer
            if tower:  # and the whole language model behind it
                left = runs.wiring.of(tower).n_layers - layer + runs.wiring.n_layers
            part = WorkPart(
                key=f"b{b:05d}-{tower and tower + '-'}l{layer:03d}",
                shape=(len(by_layer[where]), len(batch)),
                batch=b,
                cost=float(len(by_layer[where]) * len(batch) * batch.n_tokens * left),
                what=f"{tower and tower + ' '}layer {layer}, {len(batch)} pairs of {batch.n_tokens} tokens",
            )
            layer_of[part.key] = where
            parts.append(part)
    means = cache(lambda: _means(runs, interventions, reference, base))

    def compute(part: WorkPart) -> np.ndarray:
        batch, where = runs.batches[part.batch], layer_of[part.key]
        runs.release_others(batch)
        return _part(runs, batch, where, [interventions[r] for r in by_layer[where]], base, means())

    for done, (part, values) in enumerate(zip(parts, division.values(parts, compute), strict=True)):
        patched[np.ix_(np.array(by_layer[layer_of[part.key]]), runs.batches[part.batch].index)] = values
        progress(done + 1, len(parts), part.what)
    for batch in runs.batches:
        runs.release(batch)
    if not np.isfinite(patched).all():
        row = int(np.argwhere(~np.isfinite(patched))[0, 0])
        raise ModelError(
            f"{interventions[row].label} gives a metric that is not finite",
            hint="--dtype float32, or leave this part out",
        )
    return patched


def _means(
    runs: PairedRuns, interventions: Sequence[Intervention], reference: Reference | None, base: RunName
) -> Means | None:
    """Means of every hook that is replaced by one, over the reference set."""
    edits = [e for i in interventions for e in i.edits if isinstance(e, Edit) and e.is_mean]
    if not edits:
        return None
    chosen = reference or Reference(runs=runs)
    if chosen.runs is runs and chosen.run == base and len(runs.batches) == 1:
        # one pass for the means and for the sweep itself
        whole = any(is_local(i, runs.set_names) for i in interventions) and not isinstance(
            plainly(runs, runs.batches[0], base), str
        )
        record_for(runs, runs.batches[0], interventions, base, whole=whole)
    names = {runs.wiring.hook_of(e.part, site_of(e.part)) for e in edits}
    return Means.over(chosen.runs, chosen.run, names, {e.word for e in edits if e.word})


@torch.no_grad()
def _part(
    runs: PairedRuns,
    batch: Batch,
    where: tuple[str, int],
    interventions: Sequence[Intervention],
    base: RunName,
    means: Means | None,
) -> np.ndarray:
    """``(intervention, pair)`` metric values of interventions that all start at one layer of one stack."""
    tower, layer = where
    inside = np.array([stays_in_layer(i) for i in interventions])
    chosen = [i for i, stays in zip(interventions, inside, strict=True) if stays]
    plainly_found = _in_tower(runs, batch, where, chosen, base, means) if chosen else None
    if plainly_found is not None:
        whole = np.empty((len(interventions), len(batch)))
        whole[inside] = plainly_found
        if others := [i for i, stays in zip(interventions, inside, strict=True) if not stays]:
            whole[~inside] = _part(runs, batch, where, others, base, means)
        return whole
    order = together(interventions, runs.set_names)
    interventions = [interventions[i] for i in order]
    local = sum(is_local(i, runs.set_names) for i in interventions)
    walked = sum(map(is_walked, interventions))
    blocks = plainly(runs, batch, base) if local else ""
    record_for(runs, batch, interventions, base, whole=not isinstance(blocks, str))
    resid = runs.resid(batch, base, layer, tower=tower or None)
    size = runs.copies(batch)
    ends = local, walked  # they come in this order
    found: list[np.ndarray] = []
    start = 0
    while start < len(interventions):
        # plain blocks take all local ones, in chunks of their own
        plain = start < local and not isinstance(blocks, str)
        kind = next((end for end in ends if start < end), len(interventions))  # kinds are not mixed
        chunk = interventions[start : local if plain else min(kind, start + size)]
        try:
            if plain and not isinstance(blocks, str):
                values = restarted(runs, batch, blocks, chunk, base, means).double().cpu().numpy()
            else:
                values = _stacked(runs, batch, where, chunk, base, resid, means)
            found.append(values)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as problem:
            if not is_out_of_memory(problem):
                raise
            if plain:
                blocks = without_plain_blocks(runs, batch)
                continue
            if len(chunk) == 1:
                raise RunError(
                    f"not enough memory for one intervention on {len(batch)} pairs of {batch.n_tokens} tokens",
                    hint=f"use --batch-tokens {max(1, runs.batch_tokens // 4)} or fewer pairs",
                ) from None
            size = runs.halve(batch, len(chunk))
            continue
        start += len(chunk)
    values = np.empty((len(order), len(batch)))
    values[order] = np.concatenate(found)
    return values


def _in_tower(
    runs: PairedRuns,
    batch: Batch,
    where: tuple[str, int],
    interventions: Sequence[Intervention],
    base: RunName,
    means: Means | None,
) -> np.ndarray | None:
    """The same by plain functions of a tower's layers; None where these are not the model."""
    tower, layer = where
    if not has_layers(runs, tower or None):
        return None
    record_for(runs, batch, interventions, base, whole=False, also=tower_names(runs, tower or None))
    start = tower_restart(runs, batch, tower or None, base)
    if isinstance(start, str):
        return None
    size, found = start.at_once(), []
    try:
        for i in range(0, len(interventions), size):
            found.append(start.values(layer, interventions[i : i + size], means).double().cpu().numpy())
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as problem:
        if not is_out_of_memory(problem):
            raise
        without_restart(runs, batch, tower or None, base)
        return None
    return np.concatenate(found)


def _stacked(runs, batch, where, chunk, base, resid, means) -> np.ndarray:
    """The metric of a chunk: one pass with hooks from ``layer``."""
    times = len(chunk)
    prompt = batch.prompt(base).repeat(times)
    fwd = hooks_for(runs, batch, chunk, means)
    tower, layer = where
    resid = resid.repeat(times, 1, 1)
    values = runs.values(batch, prompt, fwd, start=layer, resid=resid, tower=tower or None)
    return values.reshape(times, len(batch)).double().cpu().numpy()
