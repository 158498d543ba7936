"""Circuits at single positions: which edges and nodes are kept at which tokens.

``a5.h5@S2->a9.h9<q>@S2`` is kept at the tokens called S2 and ablated at all others; an address without a position
is kept at all. Labels are those of ``PairedRuns.position_labels``, ``rest`` included; a number is that token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.circuits.addresses import INPUT, Node, parse_node
from workbench.circuits.circuit import Circuit
from workbench.circuits.graph import Graph
from workbench.core.errors import CircuitError
from workbench.engine.interventions.ablation import value_of
from workbench.engine.interventions.words import Ablation
from workbench.engine.nodes import ablate_nodes, mean_of_nodes, node_references
from workbench.engine.paired_runs import Batch, PairedRuns

Position = str | int | None


def positions_of(circuits: Iterable[Circuit]) -> set[str | int]:
    """Return every position that an edge (or, at node and neuron level, what is kept) of these circuits has."""
    found: set[Position] = set()
    for circuit in circuits:
        found |= {edge.source.position for edge in circuit.parsed_edges}
        found |= {edge.target.position for edge in circuit.parsed_edges}
        if circuit.level != "edge":
            found |= {node.position for node in _writers(circuit)}
    return {position for position in found if position is not None}


def _writers(circuit: Circuit) -> list[Node]:
    nodes = [parse_node(address, towers=True) for address in circuit.nodes]
    return [node for node in nodes if node.kind not in ("input", "logits")]


@dataclass(frozen=True, kw_only=True)
class Places:
    """Classes of tokens that masks can tell apart: a label, and which of some numbered tokens it is.

    Attributes:
        labels: ``runs.position_labels``.
        numbers: Numbered positions that the circuits name.
    """

    labels: tuple[str, ...]
    numbers: tuple[int, ...] = ()

    @classmethod
    def of(cls, runs: PairedRuns, circuits: Iterable[Circuit]) -> Places:
        """Return the places that these circuits name, on these runs.

        Raises:
            CircuitError: if the pairs have no such position.
        """
        wanted = positions_of(circuits)
        unknown = sorted(p for p in wanted if isinstance(p, str) and p not in runs.position_labels)
        if unknown:
            raise CircuitError(
                f"the circuit is at position {unknown[0]!r}, which these pairs do not all have",
                hint=f"positions of this task: {', '.join(runs.position_labels)}",
            )
        return cls(
            labels=runs.position_labels, numbers=tuple(sorted(p for p in wanted if isinstance(p, int)))
        )

    @cached_property
    def all(self) -> tuple[tuple[str, int | None], ...]:
        """(label, number or None) of every class of tokens."""
        return tuple((label, number) for label in self.labels for number in (None, *self.numbers))

    def holding(self, position: Position) -> Bool[np.ndarray, " place"]:
        """Say which places an address at this position means; all without a position."""
        return np.array([position is None or position in place for place in self.all])

    def tokens(self, runs: PairedRuns, batch: Batch) -> Int[Tensor, "pair pos"]:
        """Return the place of every token.

        Raises:
            TaskError: if a numbered position is outside the prompts.
        """
        found = runs.labels_of(batch) * (1 + len(self.numbers))
        rows = torch.arange(len(batch), device=found.device)
        for k, number in enumerate(self.numbers):
            found[rows, batch.at(number)] += k + 1
        return found


def kept_edges(circuit: Circuit, graph: Graph, places: Places) -> Bool[np.ndarray, "place source target"]:
    """True at the circuit's edges, at the tokens where it has them.

    Raises:
        CircuitError: for an edge from one position to another, or of another architecture.
    """
    mask = np.zeros((len(places.all), *graph.edge_mask.shape), dtype=bool)
    for edge in circuit.parsed_edges:
        if edge.source.position != edge.target.position:
            raise CircuitError(
                f"{edge} joins two positions; what a part writes is read at the token where it is written",
                hint=f"a key or value is read at its own position: {edge.source}->"
                f"{edge.target.at(edge.source.position)}",
            )
        mask[(places.holding(edge.source.position), *graph.index(edge))] = True
    return mask


def kept_nodes(circuit: Circuit, graph: Graph, places: Places) -> Bool[np.ndarray, "place source"]:
    """True at the circuit's nodes, at the tokens where it has them; the input is kept everywhere.

    Raises:
        CircuitError: if the circuit is of another architecture.
    """
    mask = np.zeros((len(places.all), len(graph.sources)), dtype=bool)
    mask[:, graph.source_index[INPUT]] = True
    for node in _writers(circuit):
        if node.at(None) not in graph.source_index:
            raise CircuitError(
                f"this model has no node {node.at(None)}; the circuit is of another architecture",
                hint="name the model that the circuit was found on: -m",
            )
        mask[places.holding(node.position), graph.source_index[node.at(None)]] = True
    return mask


@torch.no_grad()
def run_nodes(
    runs: PairedRuns,
    circuits: Sequence[Circuit],
    places: Places,
    ablation: Ablation = "resample",
    *,
    progress: Callable[[int, int, str], None] | None = None,
) -> Float[np.ndarray, "circuit pair"]:
    """Return the metric of node-level circuits on the clean prompts, every node ablated at the tokens where it is
    not kept.
    """
    value, graph = value_of(ablation), Graph(runs.wiring.node_shape())
    kept = torch.as_tensor(np.stack([kept_nodes(c, graph, places) for c in circuits]))
    means = mean_of_nodes(runs) if value.startswith("mean") else None
    values = np.full((len(circuits), runs.n_pairs), np.nan)
    for b, batch in enumerate(runs.batches):
        labels, reference = places.tokens(runs, batch), node_references(runs, batch, value, means)
        size = max(1, runs.batch_tokens // (len(batch) * batch.n_tokens))
        for k in range(0, len(circuits), size):
            ablated = (~kept[k : k + size]).to(runs.device)
            found = ablate_nodes(runs, batch, ablated, reference=reference, labels=labels)
            values[k : k + size, batch.index] = found.double().cpu().numpy()
        runs.release(batch)
        if progress:
            progress(b + 1, len(runs.batches), f"{len(circuits)} circuits, {ablation} ablation")
    return values
