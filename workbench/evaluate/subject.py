"""A circuit on trial: masks of what is kept, from which parts are taken, each measured once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from workbench.circuits.addresses import Edge, parse_edge, parse_node
from workbench.circuits.circuit import Circuit
from workbench.circuits.graph import Graph
from workbench.core.errors import CircuitError
from workbench.core.progress import Progress
from workbench.engine.interventions.words import Ablation
from workbench.engine.paired_runs import PairedRuns
from workbench.evaluate.faithfulness import run_circuits, run_masks
from workbench.evaluate.positions import Places, kept_edges, kept_nodes, positions_of

# ``(source, target)`` or, at node level, ``(source,)``, True where nothing is ablated; with a leading axis
# (place, ...) for circuits at single positions
Mask = np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A circuit and the model around it, from both of which the same parts can be taken.

    Taking a node away ablates every edge that leaves it (for all who read it, in the circuit and in the model
    alike); taking an edge away ablates that edge. What was measured is remembered.

    Raises:
        CircuitError: for a circuit of neurons, whose parts are not nodes or edges.

    Example:
        >>> import workbench as wb
        >>> runs = wb.paired_runs(wb.open_model("zoo:ioi"), "ioi", n=4)
        >>> subject = wb.Subject(runs=runs, circuit=wb.score(runs, "eap").top(100))
        >>> subject.ablation
        'resample'
    """

    runs: PairedRuns
    circuit: Circuit
    ablation: Ablation = "resample"
    _seen: dict[bytes, np.ndarray] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.circuit.level not in ("edge", "node"):
            raise CircuitError(
                f"a {self.circuit.level}-level circuit can be run, but not taken apart",
                hint="workbench evaluate without --full",
            )

    @cached_property
    def graph(self) -> Graph:
        wiring = self.runs.wiring
        return wiring.graph() if self.circuit.level == "edge" else Graph(wiring.node_shape())

    @cached_property
    def places(self) -> Places | None:
        """The classes of tokens that the circuit tells apart; None for one without positions."""
        return Places.of(self.runs, [self.circuit]) if positions_of([self.circuit]) else None

    def _at(self, position: str | int | None) -> tuple[np.ndarray, ...]:
        """The leading index of a mask that means a position: none where masks have no places."""
        return () if self.places is None else (self.places.holding(position),)

    @cached_property
    def kept(self) -> Mask:
        """The circuit itself."""
        return self.mask_of(self.circuit)

    def mask_of(self, circuit: Circuit) -> Mask:
        """Return the mask of another circuit of the same level and positions."""
        make = kept_edges if self.circuit.level == "edge" else kept_nodes
        if self.places is None:
            return make(circuit, self.graph, Places(labels=("rest",)))[0]
        return make(circuit, self.graph, self.places)

    @cached_property
    def everything(self) -> Mask:
        """The whole model."""
        whole = (
            self.graph.edge_mask if self.circuit.level == "edge" else np.ones(len(self.graph.sources), bool)
        )
        return np.broadcast_to(whole, self.kept.shape).copy()

    @cached_property
    def nothing(self) -> Mask:
        """The empty circuit; at node level the input stays."""
        empty = np.zeros_like(self.kept)
        if self.circuit.level == "node":
            empty[..., 0] = True
        return empty

    @property
    def complement(self) -> Mask:
        """The model with the circuit knocked out."""
        return (self.everything & ~self.kept) | self.nothing

    @cached_property
    def nodes(self) -> tuple[str, ...]:
        """Nodes of the circuit that write and can be taken away, in residual order."""
        known = {parse_node(a, towers=True): a for a in self.circuit.nodes}
        return tuple(
            a
            for node, a in known.items()
            if node.at(None) in self.graph.source_index and node.kind != "input"
        )

    @property
    def edges(self) -> tuple[str, ...]:
        """Edges of the circuit; none at node level."""
        return tuple(self.circuit.edges)

    @property
    def labels(self) -> tuple[str, ...]:
        """Positions at which random edges are drawn; none for a circuit without positions."""
        return () if self.places is None else self.places.labels

    def at(self, edge: Edge) -> tuple[int | np.ndarray, ...]:
        """Return the index of an edge in a mask."""
        return (*self._at(edge.source.position), *self.graph.index(edge))

    def without(self, mask: Mask, parts: Iterable[str]) -> Mask:
        """Return a mask with these nodes and edges ablated."""
        found = mask.copy()
        for part in parts:
            if "->" in part:
                found[self.at(parse_edge(part, towers=True))] = False
            else:
                node = parse_node(part, towers=True)
                at: tuple[int | np.ndarray, ...]
                at = (*self._at(node.position), self.graph.source_index[node.at(None)])
                found[at] = False
        return found

    def measure(self, masks: Sequence[Mask], progress: Progress | None = None) -> np.ndarray:
        """Return ``(mask, pair)`` metric with everything outside each mask ablated; equal masks are run once."""
        keys = [np.packbits(mask).tobytes() for mask in masks]
        new = {key: mask for key, mask in zip(keys, masks, strict=True) if key not in self._seen}
        if new:
            values = self._run(np.stack(list(new.values())), progress)
            self._seen.update(zip(new, values, strict=True))
        return np.stack([self._seen[key] for key in keys])

    def _run(self, masks: np.ndarray, progress: Progress | None) -> np.ndarray:
        if self.circuit.level == "edge":
            return run_masks(self.runs, masks, self.ablation, places=self.places, progress=progress)
        return run_circuits(
            self.runs, [self._circuit_of(mask) for mask in masks], ablation=self.ablation, progress=progress
        )

    def _circuit_of(self, mask: Mask) -> Circuit:
        """A node-level circuit of what a mask keeps."""
        labels = (
            [None] if self.places is None else [label if n is None else n for label, n in self.places.all]
        )
        nodes = {
            source.at(label): None
            for row, label in zip(np.atleast_2d(mask), labels, strict=True)
            for kept, source in zip(row[1:], self.graph.sources[1:], strict=True)
            if kept
        }
        return Circuit.build(shape=self.graph.shape, nodes=nodes, edges={}, level="node")


def classes_of(circuit: Circuit, nodes: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return nodes by role; heads without one by layer, and MLPs together."""
    found: dict[str, list[str]] = {}
    for address in nodes:
        data = circuit.nodes[address]
        if data["role"]:
            name = data["role"]
        elif data["kind"] == "mlp":
            name = "MLPs"
        else:
            name = f"other heads of layer {data['layer']}" if data["kind"] == "head" else data["kind"]
        found.setdefault(name, []).append(address)
    return {name: tuple(members) for name, members in found.items()}
