"""Faithfulness: run the circuit, everything else ablated, and compare with the model and with nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from workbench.circuits.addresses import INPUT, parse_edge, parse_node
from workbench.circuits.circuit import Circuit
from workbench.circuits.faithfulness import faithfulness_sentence
from workbench.circuits.graph import Graph
from workbench.circuits.verdicts.statistics import Interval, ratio, ratio_interval
from workbench.core.errors import CircuitError, OptionError
from workbench.core.progress import Progress, live
from workbench.core.run_record import with_standing
from workbench.core.show import Shown
from workbench.core.stats.dependent_pairs import independent_of
from workbench.core.text import printable
from workbench.engine.edges import ablate_edges, copies_that_fit
from workbench.engine.interventions.ablation import value_of
from workbench.engine.interventions.intervention import Edit, Intervention
from workbench.engine.interventions.words import Ablation
from workbench.engine.live_parts import live_parts
from workbench.engine.of_task import on_a_task
from workbench.engine.paired_runs import Batch, PairedRuns
from workbench.engine.reference import reference_outputs
from workbench.engine.sweep import sweep
from workbench.evaluate.neurons import run_neurons
from workbench.evaluate.positions import Places, kept_edges, positions_of, run_nodes
from workbench.model.wiring import require_parts

SPARSE = (
    0.8  # share of removed edges from which on live parts alone are the shorter way, measured at two sizes
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Faithfulness(Shown, shown_in="workbench.evaluate.show"):
    """What a circuit keeps of the behavior; ``faithfulness`` is a ratio of means, 1 is the full model.

    Attributes:
        circuit, full, empty: ``(pair,)`` metric with the circuit, the whole model, nothing, all under ``ablation``.
        stderr: Of the faithfulness, by bootstrap over pairs.
        clusters: A number per pair, equal for pairs that are not independent; empty where all are.
        standing: What was attached to the model while it was measured; see ``ModelIdentity.standing``.
    """

    circuit: np.ndarray
    full: np.ndarray
    empty: np.ndarray
    size: int
    candidates: int
    metric: str
    unit: str
    ablation: str = "resample"
    standing: tuple[str, ...] = ()
    clusters: tuple[int, ...] = ()

    @property
    def faithfulness(self) -> float:
        """``(m(circuit) - m(empty)) / (m(full) - m(empty))`` of means over pairs; NaN without a gap."""
        return ratio(self.circuit, self.full, self.empty)

    @cached_property
    def interval(self) -> Interval:
        """95 % interval and standard error of the faithfulness: bootstrap over pairs, 1,000 resamples, fixed seed.

        Pairs of one cluster are drawn together.
        """
        return ratio_interval(self.circuit, self.full, self.empty, clusters=self.clusters)

    @property
    def stderr(self) -> float:
        """Standard error of the faithfulness, from the same resamples as its interval."""
        return self.interval.stderr

    @property
    def sentence(self) -> str:
        """The faithfulness with the means that it is made of, so that a reader can compute it again."""
        return faithfulness_sentence(
            float(self.circuit.mean()),
            float(self.full.mean()),
            float(self.empty.mean()),
            value=self.faithfulness,
            low=self.interval.low,
            high=self.interval.high,
            metric=self.metric,
            unit=self.unit,
            n=len(self.full),
            independent=len(set(self.clusters)) or len(self.full),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""

        def number(x: float) -> float | None:
            return float(x) if np.isfinite(x) else None

        return {
            "faithfulness": number(self.faithfulness),
            "stderr": number(self.stderr),
            "low": number(self.interval.low),
            "high": number(self.interval.high),
            "metric_circuit": number(self.circuit.mean()),
            "metric_full": number(self.full.mean()),
            "metric_empty": number(self.empty.mean()),
            "size": self.size,
            "candidates": self.candidates,
            "n": len(self.full),
            **independent_of(self.clusters),
            "metric": self.metric,
            "unit": self.unit,
            "ablation": self.ablation,
            **({"standing": list(self.standing)} if self.standing else {}),
        }

    def __repr__(self) -> str:
        return printable(
            f"<Faithfulness {self.faithfulness:.3f} ± {self.stderr:.3f}: {self.size} of {self.candidates}, "
            f"{self.metric} {self.circuit.mean():.3f} of {self.full.mean():.3f}, n={len(self.full)}"
            f"{with_standing({'standing': self.standing})}>"
        )


def kept_mask(circuit: Circuit, graph: Graph) -> np.ndarray:
    """Return ``(source, target)``, True at the circuit's edges.

    Raises:
        CircuitError: if the model's graph has no such edge, so the circuit is of another architecture.
    """
    mask = np.zeros(graph.edge_mask.shape, dtype=bool)
    for address in circuit.edges:
        edge = parse_edge(address, towers=True)
        if edge.source.position is not None or edge.target.position is not None:
            raise CircuitError(
                f"{address}: one mask for all positions cannot hold it",
                hint="run it with run_circuits, which keeps positions",
            )
        mask[graph.index(edge)] = True
    return mask


def run_circuits(
    runs: PairedRuns,
    circuits: Sequence[Circuit],
    *,
    ablation: Ablation = "resample",
    progress: Progress | None = None,
) -> np.ndarray:
    """Return ``(circuit, pair)`` metric of each circuit on the clean prompts, everything outside ablated.

    Edge level: every edge outside carries what its source writes under the ablation (resample: on the corrupted
    prompt; means: of the clean prompts of these runs). Node level: every node outside writes that.

    Raises:
        CircuitError: if a circuit is of another architecture.
        WorkbenchError: for an ablation that does not exist.
    """
    with runs.left_alone(live(progress)) as told:
        require_parts(runs.wiring)
        return _run_circuits(runs, circuits, ablation, told)


def _run_circuits(
    runs: PairedRuns, circuits: Sequence[Circuit], ablation: Ablation, progress: Progress
) -> np.ndarray:
    levels = {c.level for c in circuits}
    if len(levels) > 1:
        raise OptionError(
            f"{' and '.join(sorted(levels))} circuits cannot be run together",
            hint="evaluate them one after the other",
        )
    if levels == {"neuron"}:
        return run_neurons(runs, circuits, ablation, progress=progress)
    places = Places.of(runs, circuits) if positions_of(circuits) else None
    if levels == {"node"} and places is not None:
        return run_nodes(runs, circuits, places, ablation, progress=progress)
    if levels == {"node"}:
        return _run_nodes(runs, circuits, ablation, progress)
    check_towers(runs, circuits)
    graph = runs.wiring.graph()
    kept = [kept_mask(c, graph) if places is None else kept_edges(c, graph, places) for c in circuits]
    return run_masks(runs, np.stack(kept), ablation, places=places, progress=progress)


def check_towers(runs: PairedRuns, circuits: Sequence[Circuit]) -> None:
    """Do nothing if runs tell apart what these edge-level circuits do: a tower's parts, or the picture as input.

    Raises:
        CircuitError: if only one of the two has a tower.
    """
    for circuit in circuits:
        if (circuit.shape.tower is not None) != runs.wiring.with_tower:
            has, lack = ("has", "lack") if circuit.shape.tower is not None else ("lacks", "have")
            raise CircuitError(
                f"the circuit {has} edges of a tower, which these runs {lack}",
                hint=f"wb.paired_runs(model, task, with_tower={circuit.shape.tower is not None})",
            )
        if circuit.shape.meets != (runs.wiring.with_tower and runs.wiring.compares):
            ends = "two towers that meet in logits", "a tower and the language model behind it"
            has, lack = ends if circuit.shape.meets else ends[::-1]
            raise CircuitError(
                f"the circuit is of {has}, these runs are of {lack}",
                hint="evaluate it on the model that it was found on",
            )


def run_masks(
    runs: PairedRuns,
    kept: np.ndarray,
    ablation: Ablation = "resample",
    *,
    places: Places | None = None,
    progress: Progress | None = None,
) -> np.ndarray:
    """Return ``(circuit, pair)`` metric with only the edges of each mask ``(circuit, source, target)`` left alone.

    Args:
        places: With masks ``(circuit, place, source, target)``, the classes of tokens that have masks of their own.
    """
    graph = runs.wiring.graph()
    removed = graph.edge_mask & ~np.asarray(kept)
    sparse = np.flatnonzero([places is None and one.sum() > SPARSE * graph.n_edges for one in removed])
    values = np.full((len(kept), runs.n_pairs), np.nan)
    for b, batch in enumerate(runs.batches):
        values[:, batch.index] = _on_batch(runs, batch, removed, ablation, places, sparse)
        runs.release(batch)
        if progress:
            progress(b + 1, len(runs.batches), f"{len(kept)} circuits, {ablation} ablation")
    return values


@torch.no_grad()
def _on_batch(
    runs: PairedRuns,
    batch: Batch,
    removed: np.ndarray,
    ablation: Ablation,
    places: Places | None,
    sparse: np.ndarray,
) -> np.ndarray:
    """``(circuit, pair)``: sparse circuits by their live parts alone, where that can be, the others by whole passes."""
    graph, size = runs.wiring.graph(), copies_that_fit(runs, batch, runs.wiring.graph())
    values = np.full((len(removed), len(batch)), np.nan)
    reference = None if value_of(ablation) == "corrupted" else reference_outputs(runs, batch, graph, ablation)
    live = live_parts(runs, batch, graph, reference, room=0) if len(sparse) else None
    whole = np.arange(len(removed))
    if live is not None:
        whole = np.setdiff1d(whole, sparse)
        for some in _parts(sparse, size):
            values[some] = live.values(removed[some]).double().cpu().numpy()
    if len(whole) and reference is None:
        reference = reference_outputs(runs, batch, graph, ablation)
    labels = None if places is None else places.tokens(runs, batch)
    for some in _parts(whole, size):
        masks = torch.as_tensor(removed[some], device=runs.device)
        out = ablate_edges(runs, batch, graph, masks, reference=reference, labels=labels)
        values[some] = out.double().cpu().numpy()
    return values


def _parts(which: np.ndarray, size: int) -> list[np.ndarray]:
    return [which[k : k + size] for k in range(0, len(which), size)]


def _run_nodes(
    runs: PairedRuns, circuits: Sequence[Circuit], ablation: Ablation, progress: Progress | None
) -> np.ndarray:
    """Node level: every node outside each circuit takes its value under the ablation."""
    value = value_of(ablation)
    sources = Graph(runs.wiring.node_shape()).sources
    interventions = []
    for k, circuit in enumerate(circuits):
        unknown = [a for a in circuit.nodes if a != "logits" and parse_node(a) not in sources]
        if unknown:
            raise CircuitError(
                f"this model has no node {unknown[0]}; the circuit is of another architecture",
                hint="name the model that the circuit was found on: -m",
            )
        out = [n for n in sources if str(n) not in circuit.nodes and n != INPUT]
        # With every node kept there is nothing to edit: put the clean input into the clean run.
        edits = tuple(Edit(node=n, value=value) for n in out) or (Edit(node=INPUT, value="clean"),)
        interventions.append(Intervention(label=str(k), edits=edits))
    return sweep(runs, interventions, kind="circuits", progress=progress).patched


@on_a_task
def faithfulness(
    circuit: Circuit,
    runs: PairedRuns,
    *,
    ablation: Ablation = "resample",
    progress: Progress | None = None,
) -> Faithfulness:
    """Measure how much of the behavior a circuit keeps: 1 for the full model, 0 for the empty circuit.

    The empty circuit is measured under the same ablation. With resample ablation it is the corrupted run (edge
    level), or the clean input with every head and MLP corrupted (node level).

    Returns:
        One value per pair of circuit, full model and empty circuit in the metric's unit, and their ratio: a share of
        the gap without unit, which may leave 0 to 1.

    Source:
        Hanna, Pezzelle and Belinkov 2024, arXiv:2403.17806; Mueller et al. 2025 (MIB), arXiv:2504.13151.

    Example:
        >>> import workbench as wb
        >>> runs = wb.paired_runs(wb.open_model("zoo:ioi"), "ioi", n=4)
        >>> round(wb.faithfulness(wb.score(runs, "eap").top(479), runs).faithfulness, 3)
        1.0
    """
    if (
        circuit.level == "edge" and ablation == "resample"
    ):  # every reader of the empty one sees the corrupted run
        values = run_circuits(runs, [circuit], ablation=ablation, progress=progress)
        return faithfulness_of(circuit, runs, values[0], runs.corrupted, ablation)
    nothing = empty_like(circuit, runs)
    values = run_circuits(runs, [circuit, nothing], ablation=ablation, progress=progress)
    return faithfulness_of(circuit, runs, values[0], values[1], ablation)


def empty_like(circuit: Circuit, runs: PairedRuns) -> Circuit:
    """Return the circuit of the same level that has no part."""
    shape = runs.wiring.shape() if circuit.level == "edge" else runs.wiring.node_shape()
    return Circuit.build(shape=shape, nodes={}, edges={}, level=circuit.level)


def faithfulness_of(
    circuit: Circuit, runs: PairedRuns, values: np.ndarray, empty: np.ndarray, ablation: Ablation
) -> Faithfulness:
    """Return what a circuit keeps, from the metric of its run and of the run without any part."""
    graph, at = circuit.graph, len(runs.position_labels) if positions_of([circuit]) else 1
    wiring = runs.wiring
    candidates = {"edge": graph.n_edges, "node": len(graph.sources) - 1}
    candidates["neuron"] = len(wiring.mlp_layers) * wiring.d_mlp
    return Faithfulness(
        circuit=values,
        full=runs.clean,
        empty=empty,
        size=circuit.size,
        candidates=candidates[circuit.level] * at,
        metric=runs.metric.name,
        unit=runs.metric.unit,
        ablation=ablation,
        standing=runs.identity.standing,
        clusters=runs.pairs.pairs.clusters,
    )
