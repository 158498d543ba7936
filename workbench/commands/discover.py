"""The commands ``discover`` and ``demo``: open, search, judge, save."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from workbench.circuits.circuit import Circuit
from workbench.circuits.effects import Effects
from workbench.circuits.files import load_circuit
from workbench.circuits.scores import Scores
from workbench.commands.asked.discover import opening_of
from workbench.commands.do import serve
from workbench.commands.forms.discover import Demo, Discover
from workbench.commands.inputs import open_runs, record_of, tell_dropped
from workbench.core.errors import RunError
from workbench.core.job import Job, Note
from workbench.core.lock import NAME as LOCK
from workbench.core.plugins import is_ours
from workbench.core.progress import Progress
from workbench.core.run_file import load_record
from workbench.core.run_record import NAME as RUN
from workbench.core.run_record import RunRecord, code_versions, digest_of
from workbench.core.source_digest import source_digest, sources_of_plugin
from workbench.core.text import folder_name
from workbench.engine.cluster.spread import Spread
from workbench.engine.distribute import ShardFinished
from workbench.engine.interventions.ablation import ablations, parts_of
from workbench.engine.of_task import paired_runs
from workbench.engine.paired_runs import PairedRuns
from workbench.engine.run_folders.past_runs import UNFINISHED
from workbench.engine.saved_effects import SavedShard, finished_shard, save_shard, share_of_record
from workbench.engine.store import SweepStore, check_plan, drop_parts
from workbench.engine.sweep import sweep
from workbench.engine.told import tell_behavior
from workbench.evaluate.found_circuit import (
    SCORED,
    Discovery,
    discover,
    folder_of,
    save_discovery,
    write_discovery,
)
from workbench.methods.by_name import score
from workbench.methods.registry import Method, check_level, get_method
from workbench.model.open import open_model
from workbench.tasks.reading import is_file

ROOT = Path("circuits")  # where circuits get folders of their own


@dataclass(frozen=True, kw_only=True)
class SavedDiscovery:
    """A discovery and the folder it was written to."""

    discovery: Discovery
    folder: Path
    files: dict[str, str] = field(default_factory=dict)  # filled when they are written

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {**self.discovery.to_dict(), "folder": str(self.folder), "files": self.files}

    def to_terminal(self) -> list[Any]:
        """Return lines, rows and tables for a terminal."""
        return self.discovery.to_terminal()


def discovery(asked: Discover, job: Job) -> SavedDiscovery | SavedShard:
    """Find a circuit on one split, judge it on another, save everything.

    Finished parts of the scores are kept until the circuit is saved: a killed discovery goes on with ``resume``.
    """
    note, opening = job.note, opening_of(asked)
    runs = open_runs(note=note, **opening)
    if asked.max_memory is not None:  # what the budget came to decides the parts, here and in every worker
        asked = replace(asked, batch_tokens=runs.batch_tokens, max_memory=None)
    plan, root = _plan(runs, asked), job.root or ROOT
    spread = Spread(**asked.spreading(), serving=job.serving)
    program = partial(serve, replace(asked, shard=None, ray=None, workers=None))
    with spread.division(program, device=asked.device, note=note) as division:
        if spread.serving is not None:
            runs.division = division.asked(digest_of(plan), None)
            _scores(runs, asked)
        record = record_of(asked, runs)
        work = Path(job.out or _unfinished(runs, asked, plan, root))
        home = root if job.out is None and spread.share is None else None
        if spread.share is not None:
            work = work if work.name == spread.share.name else work / spread.share.name

        def search(store: SweepStore) -> Discovery:
            judged = None if spread.share is not None else _judged(runs, asked, note)
            for told in dict.fromkeys((runs, judged or runs)):
                record.behaviors |= tell_behavior(told, note, what=SCORED)
            record.write(work)
            runs.division = division.asked(digest_of(plan), store)
            return _search(runs, judged, asked, job.progress)

        return _Kept(search=search, plan=plan, record=record, home=home, job=job).at(work)


def _plan(runs: PairedRuns, asked: Discover) -> dict[str, Any]:
    """What decides the scores, as JSON values: the parts of one search never mix with those of another."""
    method = get_method(asked.method)
    return {
        "format": "circuit-workbench/search",
        "version": 1,
        "method": asked.method,
        "options": asdict(method.make_options(**asked.options)),
        "level": check_level(
            method, asked.level, per_position=asked.per_position, with_tower=asked.with_tower
        ),
        "per_position": asked.per_position,
        "batch_tokens": runs.batch_tokens,
        "code": {**code_versions(), "sources": source_digest(*_modules(method))},
        **sources_of_plugin(method.module, method.run),
        **runs.provenance(),
    }


def _modules(method: Method) -> list[str]:
    """Where the code of a search stands; that of a plug-in counts beside it."""
    return ["workbench.methods.by_name", *([method.module] if is_ours(method.module) else [])]


def _scores(runs: PairedRuns, asked: Discover) -> Scores:
    return score(
        runs, asked.method, level=asked.level, per_position=asked.per_position, **dict(asked.options)
    )


def _unfinished(runs: PairedRuns, asked: Discover, plan: Mapping[str, Any], root: Path) -> Path:
    """Where a search is kept until its circuit is known, beside where that will be."""
    name = f"{folder_name(asked.method)}{UNFINISHED}{digest_of(plan)[:8]}"
    return Path(root) / folder_name(runs.pairs.pairs.task) / folder_name(runs.identity.name) / name


def _search(
    runs: PairedRuns, judged: PairedRuns | None, asked: Discover, progress: Progress | None
) -> Discovery:
    found = discover(
        runs,
        asked.method,
        amount=asked.keep,
        level=asked.level,
        per_position=asked.per_position,
        by=None if asked.signed is None else "signed" if asked.signed else "absolute",
        greedy=asked.greedy,
        select=asked.select,
        test_runs=judged,
        random_draws=asked.random_draws,
        seed=asked.seed,
        options=asked.options,
        exact_sample=asked.exact_sample,
        progress=progress,
    )
    if is_file(asked.task):
        provenance = {**found.circuit.provenance, "pairs_file": Path(asked.task).name}
        found = replace(found, circuit=found.circuit.with_fields(provenance=provenance))
    return found


@dataclass(frozen=True, kw_only=True)
class _Kept:
    """A search with a record and finished parts in a folder of work.

    Attributes:
        home: Where the circuit gets a folder of its own; it stays in the folder of work when None.
    """

    search: Callable[[SweepStore], Discovery]
    plan: Mapping[str, Any]
    record: RunRecord
    home: Path | None
    job: Job

    def at(self, work: Path) -> SavedDiscovery | SavedShard:
        """What is kept in a folder, found there or searched now."""
        how = {"finished": self.finished, "begin": self.begin}
        tidy = {} if self.home is None else {"tidy": _tidy}
        return self.job.keep(work, self.record, self.compute, self.save, **how, **tidy)

    def finished(self, work: Path) -> SavedShard | None:
        share = finished_shard(work, digest_of(self.plan))
        return None if share is None else SavedShard(shard=share, folder=work)

    def begin(self, work: Path) -> None:
        _refuse_other_search(work, self.plan, self.record)
        check_plan(work, self.plan, resume=self.job.resume)

    def compute(self, work: Path) -> SavedDiscovery | SavedShard:
        with SweepStore(work, self.plan, resume=self.job.resume) as store:
            try:
                found = self.search(store)
            except ShardFinished as finished:
                self.record.question = digest_of(self.plan)
                return SavedShard(shard=share_of_record(finished, self.record), folder=work)
        if found.advice:
            self.job.note(found.advice)
        if found.agreement is not None and found.agreement.warning:
            self.job.note(found.agreement.warning)
        if found.summed is not None and found.summed.warning:
            self.job.note(found.summed.warning)
        folder = work if self.home is None else folder_of(found.circuit, self.home)
        return SavedDiscovery(discovery=found, folder=folder)

    def save(self, kept: SavedDiscovery | SavedShard, work: Path) -> dict[str, str]:
        if isinstance(kept, SavedShard):
            return save_shard(kept)
        if self.home is None:
            kept.files.update(write_discovery(kept.discovery, work, self.record))
        else:  # its record is beside it; that of the work goes with the work
            own = replace(self.record, outputs={}, attempts=[])
            kept.files.update(save_discovery(kept.discovery, kept.folder, own))
        drop_parts(work)
        return {}


def _refuse_other_search(folder: Path, plan: Mapping[str, Any], record: RunRecord) -> None:
    """Before anything is measured or written: the circuit in a folder, if there is one, is that of this search.

    Raises:
        RunError: in what the two differ.
    """
    if not (folder / "circuit.json").exists():
        return
    before = load_circuit(folder / "circuit.json")
    was = {**before.provenance, **_judging(before), "method": before.method, "level": before.level}
    now = {**plan, **{f"judging {name}": record.arguments.get(name) for name in ("random_draws", "seed")}}
    was.pop("options", None)  # scores add to them
    if (folder / RUN).exists():
        done = load_record(folder)
        if (done.command, done.status) == (record.command, "done"):
            was, now = {**was, **_choices(done.arguments)}, {**now, **_choices(record.arguments)}
    for name in sorted((set(was) & set(now)) - {"device", "code", "version", "format"}):
        if digest_of(was[name]) != digest_of(now[name]):
            raise RunError(
                f"{folder} holds another circuit: {name} was {str(was[name])[:80]}, now {str(now[name])[:80]}",
                hint="choose another --out",
            )


def _judging(circuit: Circuit) -> dict[str, Any]:
    """How a circuit was judged, as far as it says so."""
    judged = circuit.provenance.get("judged_on", {})
    return {f"judging {name}": judged[name] for name in ("random_draws", "seed") if name in judged}


def _choices(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """How circuits are scored, selected and judged, by the arguments of a search."""
    method, per_position = get_method(arguments["method"]), bool(arguments.get("per_position"))
    asked = [arguments.get(name) for name in ("keep", "signed", "greedy", "select")]
    return {
        **asdict(method.choice(*asked, per_position=per_position)),
        "per_position": per_position,
        "with_tower": bool(arguments.get("with_tower")),
        "options": asdict(method.make_options(**arguments.get("options", {}))),
        "test_split": arguments.get("test_split"),
    }


def _tidy(work: Path) -> None:
    """Remove what a search needed until its circuit was saved; shards in it stay."""
    for name in (RUN, LOCK):
        (work / name).unlink(missing_ok=True)  # the lock last, while it is still held
    with suppress(OSError):  # shards are still there
        work.rmdir()


def _judged(runs: PairedRuns, asked: Discover, note: Note) -> PairedRuns:
    """The pairs a circuit is judged on: another split in the same form; a file of pairs has no other."""
    if is_file(asked.task):
        return runs
    form: dict[str, Any] = dict(runs.pairs.pairs.options)
    judged = paired_runs(
        runs.model,
        asked.task,
        n=asked.limit,
        seed=asked.seed,
        split=asked.test_split,
        corruption=asked.corruption,
        metric=runs.metric,
        batch_tokens=runs.batch_tokens,
        with_tower=asked.with_tower,
        bos=runs.pairs.prepend_bos,
        chat=runs.pairs.chat,
        **form,
    )
    tell_dropped(judged, note)
    return judged


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """What the main job found and where it is."""

    effects: Effects
    saved: SavedDiscovery

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        heads = [{"head": label, "effect": effect} for label, effect in self.effects.top(5)]
        return {"strongest_heads": heads, **self.saved.to_dict()}

    def to_terminal(self) -> list[Any]:
        """Return lines, rows and tables for a terminal."""
        where = {name: path for name, path in self.saved.files.items()}
        return [*self.effects.to_terminal(), *self.saved.to_terminal(), "where everything is", where]


def demo(asked: Demo, job: Job) -> DemoResult:
    """Ablate all heads on IOI, discover a circuit by EAP-IG, judge it, save it, export it, write its page."""
    note, limit, seed = job.note, asked.limit, asked.seed
    note(f"1/4 opening {asked.model}")
    bridge = open_model(asked.model, **asked.opening())
    runs = paired_runs(bridge, "ioi", n=limit, seed=seed, split="train")
    form: dict[str, Any] = dict(runs.pairs.pairs.options)
    judged = paired_runs(bridge, "ioi", n=limit, seed=seed, split="test", **form)
    tell_dropped(runs, note)
    record = record_of(asked, runs)
    for own in (runs, judged):
        record.behaviors |= tell_behavior(own, note, what=SCORED)
    note(f"2/4 ablating every head on {judged.n_pairs} pairs of IOI")
    effects = sweep(
        judged, ablations(parts_of(judged.wiring, "heads")), kind="resample ablation", progress=job.progress
    )
    note("3/4 scoring every edge (EAP-IG), selecting and judging a circuit")
    found = discover(runs, "eap-ig", amount="10%", test_runs=judged, seed=seed, progress=job.progress)
    note("4/4 saving and exporting")
    folder = folder_of(found.circuit, job.out or job.root or ROOT)
    files = save_discovery(found, folder, record, effects=effects, exports=("graphml", "svg"))
    return DemoResult(effects=effects, saved=SavedDiscovery(discovery=found, folder=folder, files=files))
