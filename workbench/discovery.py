"""Discovery as a job: what ``workbench discover`` and ``demo`` call."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from workbench.effects import Effects
from workbench.errors import OptionError
from workbench.graph import Graph
from workbench.interventions.ablation import ablations, parts_of
from workbench.io import export
from workbench.jobs import PlannedRuns, open_runs, planned_runs, record_of, tell_dropped
from workbench.methods.registry import Level, get_method
from workbench.methods.score import check_level
from workbench.model.open import open_model
from workbench.scores import check_rule
from workbench.study import Discovery, discover, folder_of, paired_runs, save_discovery
from workbench.sweep.run import sweep
from workbench.sweep.runs import BATCH_TOKENS, PairedRuns
from workbench.tasks.for_model import is_file

Note = Callable[[str], None]
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, kw_only=True)
class SavedDiscovery:
    """A discovery and the folder it was written to."""

    discovery: Discovery
    folder: Path
    files: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        return {**self.discovery.to_dict(), "folder": str(self.folder), "files": self.files}

    def to_terminal(self) -> list[Any]:
        return self.discovery.to_terminal()


def method_options(texts: Sequence[str] | None) -> dict[str, Any]:
    """``NAME=VALUE`` texts as options of a method; values are read as JSON where they can be.

    Raises:
        OptionError: for a text without ``=``.
    """
    chosen = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise OptionError(
                f"cannot read the option {text!r}", hint="write NAME=VALUE, for example steps=10"
            )
        try:
            chosen[name.strip()] = json.loads(value)
        except ValueError:
            chosen[name.strip()] = value
    return chosen


@dataclass(frozen=True, kw_only=True)
class Search:
    """What ``workbench discover`` is asked: the model and task, how to score, how much to keep, how to judge."""

    model: str
    task: str
    method: str = "eap-ig"
    keep: str | None = None
    level: Level | None = None
    per_position: bool = False
    signed: bool | None = None
    greedy: bool | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    metric: str | None = None
    limit: int | None = None
    split: str = "train"
    test_split: str = "test"
    corruption: str | None = None
    random_draws: int = 5
    seed: int = 0
    batch_tokens: int = BATCH_TOKENS
    device: str | None = None
    dtype: str = "float32"
    offline: bool = False

    def __post_init__(self) -> None:
        method = get_method(self.method)
        method.make_options(**self.options)
        level = check_level(method, self.level, per_position=self.per_position)
        chosen = method.choice(self.keep, self.signed, self.greedy, per_position=self.per_position)
        check_rule(chosen.keep, greedy=chosen.greedy, level=level)
        if chosen.greedy and self.per_position:
            raise OptionError("greedy growth is for edges that stand for all positions", hint="drop --greedy")

    def opening(self) -> dict[str, Any]:
        """What opening the runs it is found on needs."""
        names = ("model", "task", "metric", "limit", "split", "corruption", "seed", "batch_tokens")
        return {name: getattr(self, name) for name in (*names, "device", "dtype", "offline")}


def discovery_job(
    asked: Search,
    *,
    out: Path | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
    note: Note = lambda text: None,
) -> SavedDiscovery | DiscoveryCost:
    """Find a circuit on one split, judge it on another, save everything."""
    if dry_run:
        return discovery_cost(planned_runs(note=note, **asked.opening()), asked)
    runs = open_runs(note=note, **asked.opening())
    judged = _judged(runs, asked, note)
    record = record_of("discover", asdict(asked), runs)
    found = discover(
        runs,
        asked.method,
        amount=asked.keep,
        level=asked.level,
        per_position=asked.per_position,
        by=None if asked.signed is None else "signed" if asked.signed else "absolute",
        greedy=asked.greedy,
        test_runs=judged,
        random_draws=asked.random_draws,
        seed=asked.seed,
        options=asked.options,
        progress=progress,
    )
    if is_file(asked.task):
        provenance = {**found.circuit.provenance, "pairs_file": Path(asked.task).name}
        found = replace(found, circuit=found.circuit.with_fields(provenance=provenance))
    folder = out or folder_of(found.circuit, Path("circuits"))
    files = save_discovery(found, folder, record)
    return SavedDiscovery(discovery=found, folder=folder, files=files)


def _judged(runs: PairedRuns, asked: Search, note: Note) -> PairedRuns:
    """The pairs a circuit is judged on: another split in the same form; a file of pairs has no other."""
    if is_file(asked.task):
        note("your own pairs are used both to find and to judge the circuit, which flatters it")
        return runs
    judged = paired_runs(
        runs.model,
        asked.task,
        n=asked.limit,
        seed=asked.seed,
        split=asked.test_split,
        corruption=asked.corruption,
        metric=runs.metric,
        batch_tokens=asked.batch_tokens,
        **runs.pairs.pairs.options,
    )
    tell_dropped(judged, note)
    return judged


@dataclass(frozen=True, kw_only=True)
class DiscoveryCost:
    """Passes a method would take, before anything is run."""

    method: str
    level: str
    candidates: int | None  # not known for neurons, whose number only the weights tell
    forward: int
    backward: int
    pairs: int
    tokens: int
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {"dry_run": True, **self.__dict__}

    def to_terminal(self) -> list[Any]:
        return [
            "dry run: nothing was measured; no weights were loaded; passes are per pair",
            dict(self.__dict__),
        ]


def discovery_cost(planned: PlannedRuns, asked: Search) -> DiscoveryCost:
    """Passes per pair of a method on this model, from the registry's cost model; no weights are loaded."""
    found = get_method(asked.method)
    level = check_level(found, asked.level)
    graph = Graph(planned.wiring.shape("edge" if level == "edge" else "node"))
    cost = found.cost(found.make_options(**asked.options), graph, level)
    return DiscoveryCost(
        method=asked.method,
        level=level,
        candidates={"edge": graph.n_edges, "node": len(graph.sources) - 1}.get(level),
        forward=cost.forward,
        backward=cost.backward,
        pairs=len(planned.pairs),
        tokens=sum(len(ids) for ids in planned.pairs.clean),
        note=cost.note,
    )


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """What the main job found and where it is."""

    effects: Effects
    saved: SavedDiscovery

    def to_dict(self) -> dict[str, Any]:
        heads = [{"head": label, "effect": effect} for label, effect in self.effects.top(5)]
        return {"strongest_heads": heads, **self.saved.to_dict()}

    def to_terminal(self) -> list[Any]:
        where = {name: path for name, path in self.saved.files.items()}
        return [*self.effects.to_terminal(), *self.saved.to_terminal(), "where everything is", where]


def demo_job(
    *,
    model: str = "zoo:ioi",
    root: Path = Path("circuits"),
    limit: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    note: Note = lambda text: None,
) -> DemoResult:
    """Ablate all heads on IOI, discover a circuit by EAP-IG, judge it, save it, export it, write its page."""
    note(f"1/4 opening {model}")
    bridge = open_model(model)
    runs = paired_runs(bridge, "ioi", n=limit, seed=seed, split="train")
    judged = paired_runs(bridge, "ioi", n=limit, seed=seed, split="test", **runs.pairs.pairs.options)
    tell_dropped(runs, note)
    record = record_of("demo", {"model": model, "limit": limit, "seed": seed, "method": "eap-ig"}, runs)
    note(f"2/4 ablating every head on {judged.n_pairs} pairs of IOI")
    effects = sweep(
        judged, ablations(parts_of(judged.wiring, "heads")), kind="resample ablation", progress=progress
    )
    note("3/4 scoring every edge (EAP-IG), selecting and judging a circuit")
    found = discover(runs, "eap-ig", amount="10%", test_runs=judged, seed=seed, progress=progress)
    note("4/4 saving and exporting")
    folder = folder_of(found.circuit, root)
    files = save_discovery(found, folder, record, effects=effects)
    for suffix, kind in (("graphml", "graphml"), ("svg", "svg")):
        export(found.circuit, kind, folder / f"circuit.{suffix}")
        files[kind] = str(folder / f"circuit.{suffix}")
    return DemoResult(effects=effects, saved=SavedDiscovery(discovery=found, folder=folder, files=files))
