"""The sweeps: open, plan, run or resume, save with provenance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from workbench.circuits.addresses import Node
from workbench.circuits.effects import Effects
from workbench.commands.do import serve
from workbench.commands.forms.sweep import Ablate, KnockOutHeads, Patch, PathPatch, Sweep
from workbench.commands.inputs import PlannedRuns, open_runs, planned_runs, record_of, tell_dropped
from workbench.core.job import Job, Note
from workbench.core.run_record import digest_of
from workbench.engine.cluster.spread import Spread
from workbench.engine.cost import SweepCost, sweep_cost
from workbench.engine.interventions.ablation import ablations, parts_of
from workbench.engine.interventions.intervention import Intervention
from workbench.engine.interventions.patching import knock_outs, patches, site_nodes
from workbench.engine.interventions.path_patching import path_patches, path_plan
from workbench.engine.interventions.words import Mode
from workbench.engine.of_task import paired_runs
from workbench.engine.paired_runs import PairedRuns
from workbench.engine.saved_effects import Saved, SavedShard, keep
from workbench.engine.sweep import Reference, describe_plan, sweep
from workbench.engine.told import resolution_of, tell_behavior
from workbench.evaluate.found_circuit import slug

Result = Saved | SavedShard | SweepCost


def ablate(asked: Ablate, job: Job) -> Result:
    """Ablate parts of a model one by one (or together) and save the table."""

    def build(runs: PairedRuns | PlannedRuns, positions: Sequence[str | int]) -> list[Intervention]:
        named: list[tuple[str | Node, ...]] = [(n,) for n in asked.node]
        groups = named or [*parts_of(runs.wiring, asked.parts)]
        groups = [tuple(n for g in groups for n in g)] if asked.together else groups
        return ablations(groups, asked.ablation, positions=positions)

    return _interventions(asked, job, build, kind=f"{asked.ablation} ablation")


def patch(asked: Patch, job: Job) -> Result:
    """Patch every address of a site (or the named ones), at all positions together or each by itself."""

    def build(runs: PairedRuns | PlannedRuns, positions: Sequence[str | int]) -> list[Intervention]:
        nodes = list(asked.node) or site_nodes(runs.wiring, asked.site)
        return patches(nodes, mode=asked.mode, positions=positions)

    return _interventions(asked, job, build, kind=f"patching {asked.site}", mode=asked.mode)


def knock_out(asked: KnockOutHeads, job: Job) -> Result:
    """Forbid heads to look from one position at another, one by one or all together."""

    def build(runs: PairedRuns | PlannedRuns, positions: Sequence[str | int]) -> list[Intervention]:
        heads = asked.node or _heads(runs)
        return knock_outs(heads, _position(asked.query), _position(asked.key), together=asked.together)

    return _interventions(asked, job, build, kind=f"knock-out of {asked.query} looking at {asked.key}")


def path_patch(asked: PathPatch, job: Job) -> Result:
    """Path patching from senders (all heads by default) to the receivers, and save the table."""
    if job.dry_run:
        planned = planned_runs(note=job.note, **asked.opening())
        count = 1 if asked.together else len(asked.sender or _heads(planned))
        return _cost(asked, job, planned, [0] * count, passes_each=2)
    runs = open_runs(note=job.note, **asked.opening())
    given = list(asked.sender or _heads(runs))
    groups: list[Any] = [given] if asked.together else given
    how: dict[str, Any] = {"mode": asked.mode, "mlps": asked.mlps, "positions": _positions(runs, asked)}
    plan = path_plan(runs, groups, list(asked.receiver), **how)

    def measure(folder: Path | None) -> Effects:
        kept: dict[str, Any] = {"folder": folder, "resume": job.resume, "progress": job.progress}
        return path_patches(runs, groups, list(asked.receiver), **how, **kept)

    return _spread(asked, job, measure, runs, plan, tests=len(groups))


def _heads(runs: PairedRuns | PlannedRuns) -> list[str]:
    return [str(n) for group in parts_of(runs.wiring, "heads") for n in group]


def _position(text: str) -> str | int:
    return int(text) if text.isdecimal() else text


def _positions(runs: PairedRuns | PlannedRuns, asked: Sweep) -> tuple[str | int, ...]:
    """Names and numbers as typed; ``each`` stands for every name that all pairs have."""
    chosen = getattr(asked, "positions", ())
    if list(chosen) == ["each"]:
        return runs.pairs.position_names
    return tuple(_position(p) for p in chosen)


def _interventions(
    asked: Ablate | Patch | KnockOutHeads,
    job: Job,
    build: Callable[[Any, Sequence[str | int]], list[Intervention]],
    *,
    kind: str,
    mode: Mode = "noising",
) -> Result:
    """Plan or run a sweep over the interventions that ``build`` makes for a model."""
    if job.dry_run:
        planned = planned_runs(note=job.note, **asked.opening())
        made = build(planned, _positions(planned, asked))
        first = [0 if i.tower else i.first_layer for i in made]
        return _cost(asked, job, planned, first, in_tower=[i.first_layer for i in made if i.tower])
    runs = open_runs(note=job.note, by_model=_looks_at_patterns(asked), **asked.opening())
    interventions = build(runs, _positions(runs, asked))
    how: dict[str, Any] = {"kind": kind, "mode": mode, "reference": _reference(asked, runs, job)}
    plan = describe_plan(runs, interventions, **how)

    def measure(folder: Path | None) -> Effects:
        kept: dict[str, Any] = {"folder": folder, "resume": job.resume, "progress": job.progress}
        return sweep(runs, interventions, **how, **kept)

    return _spread(asked, job, measure, runs, plan, tests=len(interventions))


def _looks_at_patterns(asked: Sweep) -> bool:
    """Whether attention patterns are edited, which only the model itself has."""
    words = (getattr(asked, "site", ""), *getattr(asked, "node", ()))
    return isinstance(asked, KnockOutHeads) or any("pattern" in word for word in words)


def _reference(asked: Sweep, runs: PairedRuns, job: Job) -> Reference | None:
    """The pairs whose clean prompts give the means, if a file of them is named."""
    file = getattr(asked, "reference", None)
    if file is None:
        return None
    others = paired_runs(runs.model, str(file), metric=runs.metric, batch_tokens=runs.batch_tokens)
    tell_dropped(others, job.note)
    return Reference(runs=others)


def _spread(
    asked: Sweep,
    job: Job,
    measure: Callable[[Path | None], Effects],
    runs: PairedRuns,
    plan: Mapping[str, Any],
    *,
    tests: int,
) -> Result:
    """Measure here, a share of it here, or by workers; a worker itself only answers and keeps nothing."""
    if asked.max_memory is not None:  # what the budget came to decides the parts, here and elsewhere
        asked = replace(asked, batch_tokens=runs.batch_tokens, max_memory=None)
    spread = Spread(**asked.spreading(), serving=job.serving)
    program = partial(serve, replace(asked, shard=None, ray=None, workers=None))
    with spread.division(program, device=asked.device, note=job.note) as runs.division:
        if spread.serving is not None:
            measure(None)
        record = record_of(asked, runs)
        folder = Path(job.out or default_folder(asked.declared.name, runs, plan))
        if spread.share is not None:
            folder = folder if folder.name == spread.share.name else folder / spread.share.name

        def begun(folder: Path) -> Effects:
            record.behaviors = tell_behavior(runs, job.note, tests=tests)
            record.write(folder)
            return measure(folder)

        kept = keep(begun, plan, record, folder, resume=job.resume, note=job.note)
    tell_halved(runs, job.note)
    return kept


def _cost(
    asked: Sweep,
    job: Job,
    planned: PlannedRuns,
    first: Sequence[int],
    *,
    passes_each: float = 1.0,
    in_tower: Sequence[int] = (),
) -> SweepCost:
    named = f"{slug(planned.pairs.pairs.task)}/{slug(planned.wiring.name)}-DIGEST"
    return sweep_cost(
        planned.wiring,
        first,
        [len(ids) for ids in planned.pairs.clean],
        batch_tokens=planned.batch_tokens,
        folder=str(job.out or f"runs/{asked.declared.name}/{named}"),
        passes_each=passes_each,
        pictures=sum(pair.image is not None for pair in planned.pairs.pairs),
        in_tower=in_tower,
        resolution=resolution_of(len(first), planned.pairs),
    )


def default_folder(command: str, runs: PairedRuns, plan: Mapping[str, Any]) -> Path:
    """Return ``runs/<command>/<task>/<model>-<digest of the plan>`` below the current folder."""
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
