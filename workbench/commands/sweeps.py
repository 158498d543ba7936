"""Sweeps as jobs: open, plan, run or resume, save with provenance. What the sweep commands call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from workbench.circuits.effects import Effects
from workbench.commands.asked.sweep import check_sweep
from workbench.commands.opening import PlannedRuns, open_runs, planned_runs, record_of, tell_dropped
from workbench.core.progress import Progress
from workbench.core.run_record import digest_of
from workbench.engine.cluster.spread import Spread
from workbench.engine.cost import SweepCost, sweep_cost
from workbench.engine.distribute import Serving
from workbench.engine.interventions.ablation import ablations, parts_of
from workbench.engine.interventions.edits import Intervention
from workbench.engine.interventions.patching import knock_outs, patches, site_nodes
from workbench.engine.interventions.path_patching import path_patches, path_plan
from workbench.engine.keep import Saved, SavedShard, keep
from workbench.engine.of_task import paired_runs
from workbench.engine.run import Reference, describe_plan, sweep
from workbench.engine.runs import PairedRuns
from workbench.engine.told import resolution_of, tell_behavior
from workbench.evaluate.study import slug

Note = Callable[[str], None]
Result = Saved | SavedShard | SweepCost


def ablation_job(
    *,
    parts: str = "heads",
    node: Sequence[str] | None = None,
    together: bool = False,
    ablation: str = "resample",
    reference: Path | None = None,
    **common: Any,
) -> Result:
    """Ablate parts of a model one by one (or together) and save the table."""

    def build(runs: PairedRuns | PlannedRuns, positions: Sequence[str | int]) -> list[Intervention]:
        groups = [(n,) for n in node] if node else parts_of(runs.wiring, parts)
        groups = [tuple(n for g in groups for n in g)] if together else groups
        return ablations(groups, ablation, positions=positions)

    arguments = {
        "parts": parts,
        "node": node,
        "together": together,
        "ablation": ablation,
        "reference": reference,
    }
    kind = f"{ablation} ablation"
    return _sweep_job("ablate", kind, "noising", build, arguments, reference=reference, **common)


def patching_job(
    *, site: str = "head-output", node: Sequence[str] | None = None, mode: str = "denoising", **common: Any
) -> Result:
    """Patch every address of a site (or the named ones), at all positions together or each by itself."""

    def build(runs: PairedRuns | PlannedRuns, positions: Sequence[str | int]) -> list[Intervention]:
        return patches(list(node) if node else site_nodes(runs.wiring, site), mode=mode, positions=positions)

    arguments = {"site": site, "node": node, "mode": mode}
    return _sweep_job("patch", f"patching {site}", mode, build, arguments, **common)


def knock_out_job(
    *, query: str, key: str, node: Sequence[str] | None = None, together: bool = False, **common: Any
) -> Result:
    """Forbid heads to look from one position at another, one by one or all together."""

    def build(runs: PairedRuns | PlannedRuns, positions: Sequence[str | int]) -> list[Intervention]:
        heads = node or [str(n) for group in parts_of(runs.wiring, "heads") for n in group]
        return knock_outs(heads, _position(query), _position(key), together=together)

    arguments = {"query": query, "key": key, "node": node, "together": together}
    kind = f"knock-out of {query} looking at {key}"
    return _sweep_job("knock-out", kind, "noising", build, arguments, **common)


def _position(text: str) -> str | int:
    return int(text) if text.isdecimal() else text


def _positions(runs: PairedRuns | PlannedRuns, chosen: Sequence[str]) -> tuple[str | int, ...]:
    """Names and numbers as typed; ``each`` stands for every name that all pairs have."""
    if list(chosen) == ["each"]:
        return runs.position_names
    return tuple(_position(p) for p in chosen)


def _sweep_job(
    command: str,
    kind: str,
    mode: str,
    build: Callable[[Any, Sequence[str | int]], list[Intervention]],
    arguments: Mapping[str, Any],
    *,
    reference: Path | None = None,
    resume: bool = False,
    dry_run: bool = False,
    out: Path | None = None,
    positions: Sequence[str] = (),
    shard: str | None = None,
    ray: str | None = None,
    workers: int | None = None,
    serving: Serving | None = None,
    progress: Progress | None = None,
    note: Note = lambda text: None,
    **opening: Any,
) -> Result:
    check_sweep(**arguments, positions=positions, **opening, shard=shard, ray=ray, workers=workers)
    spread = Spread(shard=shard, ray=ray, workers=workers, serving=serving)
    if dry_run:
        planned = planned_runs(note=note, **opening)
        first = [i.first_layer for i in build(planned, _positions(planned, positions))]
        return _cost(command, planned, first, out)
    touched = [command, str(arguments.get("site")), *(arguments.get("node") or ())]
    by_model = any("pattern" in word or word == "knock-out" for word in touched)
    runs = open_runs(note=note, by_model=by_model, **opening)
    interventions = build(runs, _positions(runs, positions))
    against = None
    if reference is not None:
        others = paired_runs(runs.model, str(reference), metric=runs.metric, batch_tokens=runs.batch_tokens)
        tell_dropped(others, note)
        against = Reference(runs=others)
    plan = describe_plan(runs, interventions, kind=kind, mode=mode, reference=against)

    def measure(folder: Path | None) -> Effects:
        return sweep(
            runs,
            interventions,
            kind=kind,
            mode=mode,
            reference=against,
            folder=folder,
            resume=resume,
            progress=progress,
        )

    asked = {**arguments, **opening, "positions": list(positions)}
    how = {"tests": len(interventions), "out": out, "resume": resume, "note": note}
    return _spread(command, asked, measure, runs, plan, spread, **how)


def _spread(
    command: str,
    asked: Mapping[str, Any],
    measure: Callable[[Path | None], Effects],
    runs: PairedRuns,
    plan: Mapping[str, Any],
    spread: Spread,
    *,
    tests: int,
    out: Path | None,
    resume: bool,
    note: Note,
) -> Result:
    """Measure here, a share of it here, or by workers; a worker itself only answers and keeps nothing."""
    if asked.get("max_memory") is not None:  # what the budget came to decides the parts, here and elsewhere
        asked = {**asked, "batch_tokens": runs.batch_tokens, "max_memory": None}
    program = partial(JOBS[command], **asked)
    with spread.division(program, device=asked.get("device"), note=note) as runs.division:
        if spread.serving is not None:
            measure(None)
        record = record_of(command, {**asked, **spread.to_dict()}, runs)
        folder = Path(out or default_folder(command, runs, plan))
        if spread.share is not None:
            folder = folder if folder.name == spread.share.name else folder / spread.share.name

        def begun(folder: Path) -> Effects:
            record.behaviors = tell_behavior(runs, note, tests=tests)
            record.write(folder)
            return measure(folder)

        kept = keep(begun, plan, record, folder, resume=resume, note=note)
    tell_halved(runs, note)
    return kept


def path_patching_job(
    *,
    receiver: Sequence[str],
    sender: Sequence[str] | None = None,
    together: bool = False,
    mlps: str = "recomputed",
    mode: str = "noising",
    resume: bool = False,
    dry_run: bool = False,
    out: Path | None = None,
    positions: Sequence[str] = (),
    shard: str | None = None,
    ray: str | None = None,
    workers: int | None = None,
    serving: Serving | None = None,
    progress: Progress | None = None,
    note: Note = lambda text: None,
    **opening: Any,
) -> Result:
    """Path patching from senders (all heads by default) to the receivers, and save the table."""
    check_sweep(
        receiver=receiver,
        sender=sender,
        mlps=mlps,
        mode=mode,
        positions=positions,
        **opening,
        shard=shard,
        ray=ray,
        workers=workers,
    )
    spread = Spread(shard=shard, ray=ray, workers=workers, serving=serving)
    if dry_run:
        planned = planned_runs(note=note, **opening)
        heads = [str(n) for group in parts_of(planned.wiring, "heads") for n in group]
        count = 1 if together else len(sender or heads)
        return _cost("path-patch", planned, [0] * count, out, passes_each=2)
    runs = open_runs(note=note, **opening)
    given = list(sender) if sender else [str(n) for group in parts_of(runs.wiring, "heads") for n in group]
    groups: list[Any] = [given] if together else list(given)
    targets, where = list(receiver), _positions(runs, positions)
    plan = path_plan(runs, groups, targets, mode=mode, mlps=mlps, positions=where)
    arguments = {
        "receiver": list(receiver),
        "sender": sender,
        "together": together,
        "mlps": mlps,
        "mode": mode,
    }

    def measure(folder: Path | None) -> Effects:
        return path_patches(
            runs,
            groups,
            receiver,
            mode=mode,
            mlps=mlps,
            positions=where,
            progress=progress,
            folder=folder,
            resume=resume,
        )

    asked = {**arguments, **opening, "positions": list(positions)}
    how = {"tests": len(groups), "out": out, "resume": resume, "note": note}
    return _spread("path-patch", asked, measure, runs, plan, spread, **how)


JOBS = {
    "ablate": ablation_job,
    "patch": patching_job,
    "knock-out": knock_out_job,
    "path-patch": path_patching_job,
}


def _cost(
    command: str, planned: PlannedRuns, first: Sequence[int], out: Path | None, *, passes_each: float = 1.0
) -> SweepCost:
    folder = out or f"runs/{command}/{slug(planned.pairs.pairs.task)}/{slug(planned.wiring.name)}-DIGEST"
    lengths = [len(ids) for ids in planned.pairs.clean]
    return sweep_cost(
        planned.wiring,
        first,
        lengths,
        batch_tokens=planned.batch_tokens,
        folder=str(folder),
        passes_each=passes_each,
        resolution=resolution_of(len(first), planned.pairs),
    )


def default_folder(command: str, runs: PairedRuns, plan: Mapping[str, Any]) -> Path:
    """``runs/<command>/<task>/<model>-<digest of the plan>`` below the current folder."""
    name = f"{slug(runs.identity.name)}-{digest_of(plan)[:8]}"
    return Path("runs") / command / slug(runs.pairs.pairs.task) / name


def tell_halved(runs: PairedRuns, note: Note) -> None:
    """Say that memory ran out and what was done about it."""
    if runs.n_halved:
        tokens, copies = max((tokens * copies, copies) for tokens, copies in runs.halved.items())
        note(
            f"memory ran out {runs.n_halved} times: fewer copies were stacked in one pass (now {copies}), which "
            f"changes no number; --batch-tokens {max(1, tokens)} starts there"
        )
