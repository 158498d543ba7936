"""Specificity: does cutting a circuit out of the model hurt its task more than others that the model does?

The circuit's *edges* are cut (at node level its nodes): a node that other tasks read through other edges keeps
writing for them. Random circuits of the same size are cut out on every task beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from workbench.circuits.behavior import SHORT
from workbench.circuits.circuit import Circuit
from workbench.circuits.graph import Graph
from workbench.circuits.specificity import LEAST_OTHERS, PartDamage, Specificity, TaskDamage
from workbench.core.errors import OptionError, WorkbenchError
from workbench.core.progress import Progress
from workbench.engine.interventions.words import Ablation
from workbench.engine.of_task import on_a_task, paired_runs
from workbench.engine.paired_runs import PairedRuns
from workbench.evaluate.baselines import random_circuit
from workbench.evaluate.judge_plan import MOST_OTHERS
from workbench.evaluate.positions import positions_of
from workbench.evaluate.stability import Chooser
from workbench.evaluate.subject import Subject
from workbench.tasks.reading import is_file
from workbench.tasks.registry import list_tasks

__all__ = ["OtherTasks", "cross_damage", "other_tasks", "specificity"]


@dataclass(frozen=True, kw_only=True, eq=False)
class OtherTasks:
    """Runs of other tasks on the same model.

    Attributes:
        runs: One for each task that the model does.
        skipped: Tasks that were left out -> why: it does not do them, or cannot read them.
        least: How many are needed: three where nobody named any.
    """

    runs: tuple[PairedRuns, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)
    least: int = LEAST_OTHERS

    @property
    def lack(self) -> str:
        """Why they are too few to speak of specificity; empty where they are not."""
        if len(self.runs) >= self.least:
            return ""
        names = ", ".join(runs.pairs.pairs.task for runs in self.runs) or "none"
        return (
            f"of the {len(self.runs) + len(self.skipped)} other tasks of the workbench the model does "
            f"{len(self.runs)} ({names}); {self.least} are needed (name yours: --other-task FILE.jsonl)"
        )


def other_tasks(
    runs: PairedRuns, names: Sequence[str] = (), *, most: int = MOST_OTHERS, progress: Progress | None = None
) -> OtherTasks:
    """Open other tasks on the model of these runs: those that are named, or the first that the model does.

    As many pairs are made as the runs have, of the same split and seed; each task is measured by its own metric.

    Args:
        names: Tasks, or files of pairs; none for every task of the workbench in the order of their names.
        most: How many are taken at most where none is named.

    Returns:
        Runs of as many pairs for each task, and why the others were left out.

    Raises:
        OptionError: if the model does not do a task that is named.
        TaskError: if pairs of a task that is named do not align.

    Example:
        >>> import workbench as wb
        >>> runs = wb.paired_runs(wb.open_model("zoo:ioi"), "ioi", n=8)
        >>> len(wb.other_tasks(runs, most=2).runs)
        2
    """
    if names:
        return OtherTasks(runs=tuple(_named(runs, name) for name in names), least=1)
    found, skipped = [], {}
    known = [task.name for task in list_tasks() if task.name != runs.pairs.pairs.task]
    for k, name in enumerate(known):
        try:
            other = _opened(runs, name)
            if other.behavior.finding == "yes":
                found.append(other)
            else:
                skipped[name] = SHORT[other.behavior.finding]
        except WorkbenchError as problem:
            skipped[name] = problem.message.splitlines()[0][:120]
        if progress:
            progress(k + 1, len(known), f"does the model do {name}?")
        if len(found) == most:
            break
    return OtherTasks(runs=tuple(found), skipped=skipped)


def _named(runs: PairedRuns, name: str) -> PairedRuns:
    """A task that somebody asked for, which the model must do."""
    other = _opened(runs, name)
    if other.behavior.finding not in ("yes", "open"):
        raise OptionError(
            f"--other-task {name}: {other.behavior.sentence('damages')}",
            hint="leave --other-task out: tasks that the model does are then chosen",
        )
    return other


def _opened(runs: PairedRuns, name: str) -> PairedRuns:
    """Runs of another task like these runs."""
    own = runs.pairs.pairs
    how: dict[str, Any] = {} if is_file(name) else {"seed": own.seed or 0, "split": own.split}
    return paired_runs(
        runs.model,
        name,
        n=runs.n_pairs,
        batch_tokens=runs.batch_tokens,
        with_tower=runs.wiring.with_tower,
        bos=runs.pairs.prepend_bos,
        chat=runs.pairs.chat,
        **how,
    )


@on_a_task
def specificity(
    circuit: Circuit,
    runs: PairedRuns,
    *,
    others: Sequence[PairedRuns] | OtherTasks | None = None,
    draws: int = 20,
    part_draws: int = 0,
    seed: int = 0,
    ablation: Ablation = "resample",
    progress: Progress | None = None,
) -> Specificity:
    """Measure what cutting a circuit out of the model costs its task, and what it costs other tasks.

    ``drop = (m(model) - m(model without the circuit)) / (m(model) - m(nothing))``, for every task by its own metric;
    ``specificity = drop(own) - mean drop(others)``.

    Args:
        others: Runs of other tasks on the same model; by default those that ``other_tasks`` finds.
        draws: Random circuits of the same size, each cut out on every task.
        part_draws: Random circuits of the size of each part; with 0 no parts are measured. Parts are the edges in
            the circuits of all these tasks, in some and in this one alone (circuits of other tasks found by the same
            method and rule on their own pairs), and the edges that leave heads. A circuit that does not say how it
            was found has none.

    Returns:
        Shares of the gap, without unit: 0 where others lose as much as its own task, positive where they lose less.

    Raises:
        OptionError: if there is no other task, or by default fewer than three.
        CircuitError: if the circuit stands at positions that another task lacks.

    Source:
        Li and Subramani 2026, arXiv:2605.08348, for damage across tasks; there nodes are cut, here edges.

    Example:
        >>> import workbench as wb
        >>> runs = wb.paired_runs(wb.open_model("zoo:ioi"), "ioi", n=4)
        >>> circuit = wb.score(runs, "eap").top(40)
        >>> wb.specificity(circuit, runs, others=[runs], draws=1).value  # its own task is as much hurt
        0.0
    """
    found = _given(runs, others, progress)
    subject = Subject(runs=runs, circuit=circuit, ablation=ablation)
    drawn = _random_circuits(subject, draws, seed)
    every = (runs, *found.runs)
    damages = []
    for k, one in enumerate(every):
        damages.append(damage(circuit, one, random=drawn, ablation=ablation))
        if progress:
            progress(k + 1, len(every), f"cut out on {one.pairs.pairs.task}")
    return Specificity(
        own=damages[0],
        others=tuple(damages[1:]),
        sizes=tuple(c.size for c in drawn),
        seed=seed,
        skipped=dict(found.skipped),
        parts=tuple(_parts(subject, every, part_draws, seed, ablation)),
    )


def _parts(
    subject: Subject, every: Sequence[PairedRuns], draws: int, seed: int, ablation: Ablation
) -> Iterator[PartDamage]:
    """What each part of a circuit of edges does by itself; nothing for circuits that cannot be found again."""
    circuit = subject.circuit
    if not draws or circuit.level != "edge" or positions_of([circuit]):
        return
    try:
        there = [set(Chooser(circuit, other).on(np.arange(other.n_pairs))[0].edges) for other in every[1:]]
    except OptionError:  # a circuit that does not say how it was chosen
        return
    count = {edge: sum(edge in one for one in there) for edge in circuit.edges}
    chosen = {
        "in the circuits of all tasks": [e for e, n in count.items() if n == len(there)],
        "in those of some other tasks": [e for e, n in count.items() if 0 < n < len(there)],
        "in this task's alone": [e for e, n in count.items() if n == 0],
        "what heads write": [str(e) for e in circuit.parsed_edges if e.source.kind == "head"],
    }
    rng = np.random.default_rng(seed)
    for name, edges in chosen.items():
        if not edges:
            nan = float("nan")
            yield PartDamage(name=name, size=0, own=0.0, others=0.0, random_own=nan, random_others=nan)
            continue
        part = _only(circuit, edges)
        drawn = [random_edges(subject.graph, len(edges), rng) for _ in range(draws)]
        found = [damage(part, one, random=drawn, ablation=ablation) for one in every]
        lost = [one.drop for one in found]
        random = [float(one.random_drops.mean()) if draws else float("nan") for one in found]
        yield PartDamage(
            name=name,
            size=len(edges),
            own=lost[0],
            others=float(np.mean(lost[1:])),
            random_own=random[0],
            random_others=float(np.mean(random[1:])),
        )


def _only(circuit: Circuit, edges: Sequence[str]) -> Circuit:
    """Some edges of a circuit."""
    chosen = {edge: circuit.edges[str(edge)] for edge in circuit.parsed_edges if str(edge) in set(edges)}
    ends = {(edge.source, edge.target): score for edge, score in chosen.items()}
    return Circuit.build(shape=circuit.shape, nodes={}, edges=ends, level="edge")


def random_edges(graph: Graph, size: int, rng: np.random.Generator) -> Circuit:
    """Draw so many edges of the graph, whether they connect or not: as a part of a circuit need not."""
    places = list(graph.edges())
    drawn = [places[i] for i in rng.choice(len(places), size=size, replace=False)]
    edges = {(edge.source, edge.target): 1.0 for edge in drawn}
    return Circuit.build(shape=graph.shape, nodes={}, edges=edges, level="edge")


def _given(
    runs: PairedRuns, others: Sequence[PairedRuns] | OtherTasks | None, progress: Progress | None
) -> OtherTasks:
    """The other tasks.

    Raises:
        OptionError: if there are too few: none, or by default fewer than three.
    """
    if others is None:
        found = other_tasks(runs, progress=progress)
    else:
        found = others if isinstance(others, OtherTasks) else OtherTasks(runs=tuple(others), least=1)
    if found.lack:
        raise OptionError(found.lack, hint="name tasks that the model does: --other-task TASK")
    return found


def _random_circuits(subject: Subject, draws: int, seed: int) -> list[Circuit]:
    """Random circuits of the same size, at positions that the circuit itself has."""
    at = [label for label in subject.labels if label in positions_of([subject.circuit])]
    rng, circuit = np.random.default_rng(seed), subject.circuit
    return [
        random_circuit(subject.graph, circuit.size, rng, level=circuit.level, positions=at)
        for _ in range(draws)
    ]


def damage(
    circuit: Circuit,
    runs: PairedRuns,
    *,
    random: Sequence[Circuit] = (),
    ablation: Ablation = "resample",
) -> TaskDamage:
    """Cut a circuit, and each random one, out of the model on one task.

    Raises:
        CircuitError: if the circuit is of another architecture, or at positions that the pairs lack.
    """
    subject = Subject(runs=runs, circuit=circuit, ablation=ablation)
    gone = [_without(subject, subject.mask_of(c)) for c in random]
    without, nothing, *drawn = subject.measure([subject.complement, subject.nothing, *gone])
    pairs = runs.pairs.pairs
    return TaskDamage(
        task=pairs.task,
        metric=runs.metric.name,
        unit=runs.metric.unit,
        pairs=pairs.digest,
        full=runs.clean,
        without=without,
        nothing=nothing,
        random=np.array([values.mean() for values in drawn]),
        clusters=pairs.clusters,
    )


def _without(subject: Subject, mask: np.ndarray) -> np.ndarray:
    """The model without what a mask keeps."""
    return (subject.everything & ~mask) | subject.nothing


def cross_damage(
    circuits: Sequence[Circuit], runs: Sequence[PairedRuns], *, ablation: Ablation = "resample"
) -> Float[np.ndarray, "circuit task"]:
    """Cut each of several circuits out of the model on each of several tasks.

    Returns:
        Share of each task's gap that is lost without each circuit, no unit: where row and column are of one task the
        circuit's damage to its own.

    Example:
        >>> import workbench as wb
        >>> runs = wb.paired_runs(wb.open_model("zoo:ioi"), "ioi", n=4)
        >>> scores = wb.score(runs, "eap")
        >>> wb.cross_damage([scores.top(40), scores.fraction(0.5)], [runs, runs]).shape
        (2, 2)
    """
    return np.array([[damage(c, one, ablation=ablation).drop for one in runs] for c in circuits])
