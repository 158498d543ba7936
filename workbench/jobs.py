"""Sweeps as jobs: open, plan, run or resume, save with provenance. What the sweep commands call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import names
from workbench.effects import Effects
from workbench.errors import OptionError, RunError, unknown
from workbench.interventions.ablation import ablations, parts_of, value_of
from workbench.interventions.edits import Intervention
from workbench.interventions.patching import knock_outs, patches, site_nodes
from workbench.interventions.path_patching import path_patches, path_plan
from workbench.io.effects_file import NAME, load_effects, save_effects
from workbench.io.lock import locked
from workbench.io.run_file import digest_of_file, load_record, recording
from workbench.metrics import Metric, get_metric
from workbench.model.identity import identity
from workbench.model.open import open_model
from workbench.model.outline import Outline, outline
from workbench.provenance import NAME as RUN
from workbench.provenance import RunRecord, digest_of
from workbench.study import N_PAIRS, paired_runs, pairs_of_file, slug
from workbench.sweep.cost import SweepCost, sweep_cost
from workbench.sweep.run import Reference, describe_plan, sweep
from workbench.sweep.runs import BATCH_TOKENS, PairedRuns
from workbench.sweep.store import PLAN, check_plan
from workbench.tasks.align import AlignedPairs, align
from workbench.tasks.fit import fit_pairs
from workbench.tasks.for_model import is_file, reading_of

Note = Callable[[str], None]
MODES = ("noising", "denoising")
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A table of effects and the folder it was written to."""

    effects: Effects
    folder: Path

    def to_dict(self) -> dict[str, Any]:
        return {**self.effects.to_dict(), "folder": str(self.folder)}

    def to_terminal(self) -> list[Any]:
        return self.effects.to_terminal()


def ablation_job(
    *,
    parts: str = "heads",
    node: Sequence[str] | None = None,
    together: bool = False,
    ablation: str = "resample",
    reference: Path | None = None,
    **common: Any,
) -> Saved | SweepCost:
    """Ablate parts of a model one by one (or together) and save the table."""
    value_of(ablation)  # a misspelt name is an error before anything is loaded
    if reference is not None and not ablation.startswith("mean"):
        raise OptionError(f"--reference is for means; the ablation is {ablation}", hint="--ablation mean")
    if reference is not None and not reference.is_file():
        raise OptionError(f"no file of pairs at {reference}", hint="--reference takes a .jsonl file of pairs")

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
) -> Saved | SweepCost:
    """Patch every address of a site (or the named ones), at all positions together or each by itself."""
    if mode not in MODES:
        raise unknown("mode", mode, MODES, error=OptionError)

    def build(runs: PairedRuns | PlannedRuns, positions: Sequence[str | int]) -> list[Intervention]:
        return patches(list(node) if node else site_nodes(runs.wiring, site), mode=mode, positions=positions)

    arguments = {"site": site, "node": node, "mode": mode}
    return _sweep_job("patch", f"patching {site}", mode, build, arguments, **common)


def knock_out_job(
    *, query: str, key: str, node: Sequence[str] | None = None, together: bool = False, **common: Any
) -> Saved | SweepCost:
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
    progress: Progress | None = None,
    note: Note = lambda text: None,
    **opening: Any,
) -> Saved | SweepCost:
    if dry_run:
        planned = planned_runs(note=note, **opening)
        first = [i.first_layer for i in build(planned, _positions(planned, positions))]
        return _cost(command, planned, first, out)
    runs = open_runs(note=note, **opening)
    interventions = build(runs, _positions(runs, positions))
    against = None
    if reference is not None:
        others = paired_runs(runs.model, str(reference), metric=runs.metric, batch_tokens=runs.batch_tokens)
        tell_dropped(others, note)
        against = Reference(runs=others)
    plan = describe_plan(runs, interventions, kind=kind, mode=mode, reference=against)

    def measure(folder: Path) -> Effects:
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

    record = record_of(command, {**arguments, **opening, "positions": list(positions)}, runs)
    return keep(measure, plan, record, out or default_folder(command, runs, plan), resume=resume, note=note)


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
    progress: Progress | None = None,
    note: Note = lambda text: None,
    **opening: Any,
) -> Saved | SweepCost:
    """Path patching from senders (all heads by default) to the receivers, and save the table."""
    for address in [*receiver, *(sender or ())]:
        names.parse_node(address)
    for kind, word, known in (("mode", mode, MODES), ("treatment of MLPs", mlps, ("recomputed", "frozen"))):
        if word not in known:
            raise unknown(kind, word, known, error=OptionError)
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

    def measure(folder: Path) -> Effects:
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

    record = record_of("path-patch", {**arguments, **opening, "positions": list(positions)}, runs)
    folder = out or default_folder("path-patch", runs, plan)
    return keep(measure, plan, record, folder, resume=resume, note=note)


def keep(
    measure: Callable[[Path], Effects],
    plan: Mapping[str, Any],
    record: RunRecord,
    folder: Path,
    *,
    resume: bool,
    note: Note = lambda text: None,
) -> Saved:
    """The table that a plan asks for: the one in the folder, or measured now, kept with its record.

    Nobody else writes to the folder meanwhile. However it ends, ``run.json`` says so; after a kill it says
    ``running`` although nobody holds the folder.

    Args:
        measure: Called with the folder, where it keeps finished parts.
        resume: Go on with what an earlier start of this very run left there.

    Raises:
        RunError: if the folder holds another run or somebody's unfinished work, or another process has it.
    """
    folder, record.question = Path(folder), digest_of(plan)
    with locked(folder):
        before = finished_table(folder, record.question)
        if before is not None and _is_done(folder):
            _refuse_changed(folder)
            note(f"already measured; showing {folder}")
            return Saved(effects=before, folder=folder)
        if before is None:
            check_plan(folder, plan, resume=resume)
            if resume and not (folder / PLAN).exists():
                note(f"nothing to resume in {folder}: starting anew (other options have other folders)")
        with _saying_how_to_go_on(folder, note), recording(record, folder):
            effects = measure(folder) if before is None else before
            _save(effects, folder, record)
    return Saved(effects=effects, folder=folder)


def _is_done(folder: Path) -> bool:
    """Whether the run in a folder ended well and its files are there; one of before there were records did."""
    if not (folder / RUN).exists():
        return True
    record = load_record(folder)
    return record.status == "done" and all((folder / name).exists() for name in record.outputs.values())


def _refuse_changed(folder: Path) -> None:
    """A table that is not as it was written is not shown as if it were.

    Raises:
        RunError: if its digest is not the recorded one.
    """
    was = load_record(folder).files.get(NAME) if (folder / RUN).exists() else None
    if was is not None and digest_of_file(folder / NAME) != was:
        raise RunError(
            f"{folder / NAME} was changed since it was written",
            hint=f"to measure it again: rm {folder / NAME}, then workbench runs resume {folder}",
        )


@contextmanager
def _saying_how_to_go_on(folder: Path, note: Note) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        note(f"interrupted; continue with: workbench runs resume {folder}")
        raise


def _save(effects: Effects, folder: Path, record: RunRecord) -> None:
    """Write the table, and its heatmap where it has one."""
    save_effects(effects, folder)
    record.outputs["effects"] = NAME
    if effects.grid()[0].size:
        effects.save_picture(folder / "heatmap.svg")
        record.outputs["heatmap"] = "heatmap.svg"


def finished_table(folder: Path, plan_digest: str) -> Effects | None:
    """The table an earlier, equal run left in a folder; None when there is none.

    Raises:
        RunError: if the folder holds the table of another run, which is never overwritten.
    """
    if not (folder / NAME).exists():
        return None
    before = load_effects(folder)
    if before.provenance.get("plan") != plan_digest:
        raise RunError(
            f"{folder} holds the table of another run: {before.title}", hint="choose another --out"
        )
    return before


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
    batch_tokens: int = BATCH_TOKENS,
    device: str | None = None,
    dtype: str = "float32",
    offline: bool = False,
    note: Note = lambda text: None,
) -> PairedRuns:
    """Open a model and make a task's pairs for it, saying what was dropped.

    Raises:
        WorkbenchError: for a misspelt task or metric before any weights are loaded.
    """
    from workbench.tasks.registry import get_task

    if not is_file(task):
        get_task(task)
    if isinstance(metric, str):
        get_metric(metric)
    bridge = open_model(model, device=device, dtype=dtype, offline=offline or None)
    runs = paired_runs(
        bridge,
        task,
        n=limit,
        seed=seed,
        split=split,
        corruption=corruption,
        metric=metric,
        batch_tokens=batch_tokens,
        **(options or {}),
    )
    tell_dropped(runs, note)
    return runs


@dataclass(frozen=True, kw_only=True)
class PlannedRuns:
    """What a dry run knows: the model's outline and the aligned pairs, no weights."""

    wiring: Outline
    pairs: AlignedPairs
    batch_tokens: int


def planned_runs(
    *,
    model: str,
    task: str,
    metric: str | None = None,
    limit: int | None = None,
    split: str = "test",
    corruption: str | None = None,
    seed: int = 0,
    batch_tokens: int = BATCH_TOKENS,
    offline: bool = False,
    note: Note = lambda text: None,
    **unused: Any,
) -> PlannedRuns:
    """The pairs as this model's tokenizer reads them, from tokenizer and configuration alone.

    ``unused`` are the options of the run that decide nothing here: device and dtype.
    """
    if isinstance(metric, str):
        get_metric(metric)
    reading = reading_of(model, offline=offline or None)
    common = {"prepend_bos": reading.prepend_bos, "n_ctx": reading.n_ctx}
    if is_file(task):
        own = pairs_of_file(task, n=limit, seed=seed, corruption=corruption)
        pairs = align(own, reading.tokenizer, **common)
    else:
        pairs = fit_pairs(
            task,
            reading.tokenizer,
            n=limit or N_PAIRS,
            seed=seed,
            split=split,
            corruption=corruption,
            **common,
        )
    if pairs.dropped:
        note(f"{len(pairs.dropped)} of {len(pairs.dropped) + len(pairs)} pairs would be dropped")
    return PlannedRuns(wiring=outline(model, offline=offline or None), pairs=pairs, batch_tokens=batch_tokens)


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
    )


def tell_dropped(runs: PairedRuns, note: Note) -> None:
    """Say how many pairs were left out, and why."""
    dropped = runs.pairs.dropped
    if dropped:
        reasons = "; ".join(f"{count} {kind}" for kind, count in runs.pairs.reasons.items())
        note(
            f"{len(dropped)} of {len(dropped) + runs.n_pairs} pairs dropped ({reasons}); "
            f"first: {dropped[0].id}: {dropped[0].reason}"
        )


def default_folder(command: str, runs: PairedRuns, plan: Mapping[str, Any]) -> Path:
    """``runs/<command>/<task>/<model>-<digest of the plan>`` below the current folder."""
    name = f"{slug(identity(runs.model).name)}-{digest_of(plan)[:8]}"
    return Path("runs") / command / slug(runs.pairs.pairs.task) / name


def _as_typed(value: Any) -> Any:
    """An argument as it would be typed: paths as text, a metric by its name."""
    if isinstance(value, Metric):
        return value.name
    return str(value) if isinstance(value, Path) else value


def record_of(command: str, arguments: Mapping[str, Any], runs: PairedRuns) -> RunRecord:
    """A run record with model and pairs filled in."""
    pairs = runs.pairs.pairs
    plain = {k: _as_typed(v) for k, v in arguments.items()}
    return RunRecord(
        command=command,
        arguments=plain,
        model=identity(runs.model).to_dict(),
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
