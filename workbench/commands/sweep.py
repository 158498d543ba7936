"""The sweeps: open, run or resume, save with provenance. What a dry run says: ``workbench/commands/plans/sweep.py``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from workbench.circuits.effects import Effects
from workbench.commands.do import serve
from workbench.commands.forms.sweep import Ablate, KnockOutHeads, Patch, PathPatch, Sweep
from workbench.commands.inputs import open_runs, record_of, tell_dropped
from workbench.commands.plans.sweep import ablated, heads_of, knocked_out, patched, positions_of
from workbench.core.job import Job, Note
from workbench.core.run_record import digest_of
from workbench.core.text import folder_name
from workbench.engine.cluster.spread import Spread
from workbench.engine.interventions.intervention import Intervention, as_node
from workbench.engine.interventions.path_patching import path_patches, path_plan
from workbench.engine.interventions.site import site_of
from workbench.engine.interventions.words import Mode
from workbench.engine.of_task import paired_runs
from workbench.engine.paired_runs import PairedRuns
from workbench.engine.saved_effects import Saved, SavedShard, keep
from workbench.engine.sweep import Reference, describe_plan, sweep
from workbench.engine.told import tell_behavior

Asked = TypeVar("Asked", bound=Sweep)


def ablate(asked: Ablate, job: Job) -> Saved | SavedShard:
    """Ablate parts of a model one by one (or together) and save the table."""
    return _interventions(asked, job, ablated, kind=f"{asked.ablation} ablation")


def patch(asked: Patch, job: Job) -> Saved | SavedShard:
    """Patch every address of a site (or the named ones), at all positions together or each by itself."""
    sites = dict.fromkeys(site_of(as_node(node)) for node in asked.node)
    kind = f"patching {', '.join(sites) or asked.site}"
    return _interventions(asked, job, patched, kind=kind, mode=asked.mode)


def knock_out(asked: KnockOutHeads, job: Job) -> Saved | SavedShard:
    """Forbid heads to look from one position at another, one by one or all together."""
    return _interventions(asked, job, knocked_out, kind=f"knock-out of {asked.query} looking at {asked.key}")


def path_patch(asked: PathPatch, job: Job) -> Saved | SavedShard:
    """Path patching from senders (all heads by default) to the receivers, and save the table."""
    runs = open_runs(note=job.note, **asked.opening())
    given = list(asked.sender or heads_of(runs))
    groups: list[Any] = [given] if asked.together else given
    how: dict[str, Any] = {"mode": asked.mode, "mlps": asked.mlps, "positions": positions_of(runs, asked)}
    plan = path_plan(runs, groups, list(asked.receiver), **how)

    def measure(folder: Path | None) -> Effects:
        kept: dict[str, Any] = {"folder": folder, "resume": job.resume, "progress": job.progress}
        return path_patches(runs, groups, list(asked.receiver), **how, **kept)

    return _spread(asked, job, measure, runs, plan, tests=len(groups))


def _interventions(
    asked: Asked,
    job: Job,
    build: Callable[[Asked, PairedRuns], list[Intervention]],
    *,
    kind: str,
    mode: Mode = "noising",
) -> Saved | SavedShard:
    """Run a sweep over the interventions that ``build`` makes for a model."""
    how_open: dict[str, Any] = {"by_model": _looks_at_patterns(asked), "in_tower": _names_a_tower(asked)}
    runs = open_runs(note=job.note, **how_open, **asked.opening())
    interventions = build(asked, runs)
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


def _names_a_tower(asked: Sweep) -> bool:
    """Whether a part of a tower is named, such as ``vision:a0.h1``."""
    return any(":" in word for word in (getattr(asked, "parts", ""), *getattr(asked, "node", ())))


def _reference(asked: Sweep, runs: PairedRuns, job: Job) -> Reference | None:
    """The pairs whose clean prompts give the means, if a file of them is named."""
    file = getattr(asked, "reference", None)
    if file is None:
        return None
    how: dict[str, Any] = {"metric": runs.metric, "batch_tokens": runs.batch_tokens}
    how |= {"bos": runs.pairs.prepend_bos, "chat": runs.pairs.chat}
    others = paired_runs(runs.model, str(file), **how)
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
) -> Saved | SavedShard:
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


def default_folder(command: str, runs: PairedRuns, plan: Mapping[str, Any]) -> Path:
    """Return ``runs/<command>/<task>/<model>-<digest of the plan>`` below the current folder."""
    name = f"{folder_name(runs.identity.name)}-{digest_of(plan)[:8]}"
    return Path("runs") / command / folder_name(runs.pairs.pairs.task) / name


def tell_halved(runs: PairedRuns, note: Note) -> None:
    """Say that memory ran out and what was done about it."""
    if runs.n_halved:
        tokens, copies = max((tokens * copies, copies) for tokens, copies in runs.halved.items())
        note(
            f"memory ran out {runs.n_halved} times: fewer copies were stacked in one pass (now {copies}), which "
            f"changes no number; --batch-tokens {max(1, tokens)} starts there"
        )
