"""Models whose circuit is known: which edges and nodes are in it, as labels that scores can be judged by.

A built-in model with a known circuit has a ``circuit.json`` beside its weights. Its edges are what the program was
compiled to, or what a model was trained to use alone (strict interchange). Two kinds are told
apart, because methods compare a clean with a corrupted prompt:

- *content* edges carry something that differs between the two prompts and that the answer depends on;
- *supporting* edges carry what is the same in every prompt of a length (positions, marks of a template): the
  program needs them, but no exchange between the two prompts can show it. They count neither way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool

from workbench.circuits.circuit import Circuit
from workbench.circuits.files import load_circuit
from workbench.circuits.graph import Graph
from workbench.core.errors import CircuitError, unknown
from workbench.model.builtin import PREFIX, ZOO
from workbench.tasks.pairs import Pairs
from workbench.tasks.registry import Option, make_pairs

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

FILE = "circuit.json"
COMPILED = "known by construction"  # the method of circuits that were compiled
KEYS = {"options", "corruption", "supporting", "idle", "varies", "about", "algorithm", "sharpness", "norm"}
EdgeLabels = Bool[np.ndarray, "source target"]
NodeLabels = Bool[np.ndarray, "source"]


@dataclass(frozen=True, kw_only=True)
class Truth:
    """A known circuit, and on which pairs its content edges can be seen.

    Args:
        model: Name of the model, ``zoo:truth-greater``.
        circuit: The true circuit, supporting edges included; every edge scores 1.
        corruption: The task's corruption under which every content edge differs between the two prompts and
            reaches the answer.
        supporting: Addresses of its edges whose content is the same in both prompts.
        idle: Nodes that compute something which nothing reads.
        varies: Corruption -> the content edges that differ under it and reach the answer.
        algorithm: One line.
        norm: Which norm, and how constant its scale is.
        sharpness: How close to one position the working heads attend; saturated attention has hardly a gradient.
        about: What is special: edges that back each other up, or cancel.
    """

    model: str
    circuit: Circuit
    task: str
    options: Mapping[str, Option]
    corruption: str
    supporting: tuple[str, ...]
    idle: tuple[str, ...]
    varies: Mapping[str, tuple[str, ...]]
    algorithm: str
    norm: str
    sharpness: str
    about: str

    @property
    def content(self) -> tuple[str, ...]:
        """The edges that exchanges between the two prompts can show."""
        return tuple(edge for edge in self.circuit.edges if edge not in self.supporting)

    @property
    def trained(self) -> bool:
        """Whether the circuit was learned and not compiled: other edges do a little then, without noise."""
        return self.circuit.method != COMPILED

    @property
    def metric(self) -> str:
        """The metric in which the labels hold."""
        return self.circuit.metric

    def pairs(self, n: int, *, seed: int = 0, split: str = "test") -> Pairs:
        """Return pairs of the task with the corruption that shows every content edge."""
        options: dict[str, Any] = dict(self.options)
        return make_pairs(self.task, n=n, seed=seed, split=split, corruption=self.corruption, **options)


def list_truths() -> tuple[str, ...]:
    """List the built-in models whose circuit is known.

    Returns:
        Names, ``zoo:`` included.

    Example:
        >>> import workbench as wb
        >>> "zoo:truth-ioi" in wb.list_truths()
        True
    """
    return tuple(sorted(PREFIX + path.parent.name for path in ZOO.glob(f"*/{FILE}")))


def load_truth(name: str) -> Truth:
    """Load the known circuit of a built-in model.

    Returns:
        The circuit with its labels, its pairs and its metric.

    Raises:
        CircuitError: if no circuit is known for a model of this name, or its file lacks what a truth must say.

    Example:
        >>> import workbench as wb
        >>> wb.load_truth("zoo:truth-induction").model
        'zoo:truth-induction'
    """
    known = list_truths()
    full = name if name.startswith(PREFIX) else PREFIX + name
    if full not in known:
        raise unknown("model with a known circuit", name, known, error=CircuitError)
    path = ZOO / full.removeprefix(PREFIX) / FILE
    circuit = load_circuit(path)
    said = circuit.provenance.get("truth")
    if not isinstance(said, dict) or set(said) != KEYS:
        raise CircuitError(
            f"{path}: provenance.truth must say exactly {', '.join(sorted(KEYS))}",
            hint="install the workbench again: pip install --force-reinstall circuit-workbench",
        )
    supporting, content = tuple(said["supporting"]), set(circuit.edges)
    for edge in supporting:
        if edge not in content:
            raise unknown(f"edge of {path}", edge, content, error=CircuitError)
    return Truth(
        model=full,
        circuit=circuit,
        task=circuit.task,
        options=dict(said["options"]),
        corruption=said["corruption"],
        supporting=supporting,
        idle=tuple(said["idle"]),
        varies={name: tuple(edges) for name, edges in said["varies"].items()},
        algorithm=said["algorithm"],
        norm=said["norm"],
        sharpness=said["sharpness"],
        about=said["about"],
    )


def add_noise(model: TransformerBridge, noise: float, *, seed: int = 0) -> None:
    """Move each entry of each weight matrix by ``noise`` times the root mean square of its entries that are not 0.

    In a compiled model an edge outside the circuit does exactly nothing, so any score but 0 finds the circuit. Noise
    lets every edge do a little, as in a trained model.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, matrix in sorted(model.named_parameters(), key=lambda item: item[0]):
            used = matrix[matrix != 0]
            if matrix.dim() > 1 and used.numel():
                drawn = torch.randn(matrix.shape, generator=generator, dtype=torch.float64)
                matrix.add_((noise * used.double().square().mean().sqrt() * drawn).to(matrix))


def edge_labels(truth: Truth, graph: Graph) -> tuple[EdgeLabels, EdgeLabels]:
    """Say which edges are in the true circuit, and which count at all.

    Supporting edges and pairs of nodes without an edge do not count; every other edge outside the circuit is a
    negative.

    Returns:
        Two masks ``(source, target)``, True where an edge is in the circuit and where it counts.

    Raises:
        CircuitError: if the graph is of another architecture.

    Example:
        >>> import workbench as wb
        >>> truth = wb.load_truth("zoo:truth-induction")
        >>> wanted, counted = wb.edge_labels(truth, truth.circuit.graph)
        >>> int(wanted.sum())
        5
    """
    if graph.shape != truth.circuit.shape:
        raise CircuitError(
            f"the known circuit of {truth.model} is of {truth.circuit.shape}, the scores of {graph.shape}",
            hint=f"score edges of zoo:{truth.model} itself",
        )
    positive, counted = np.zeros_like(graph.edge_mask), graph.edge_mask.copy()
    for edge in truth.circuit.parsed_edges:
        at = graph.index(edge)
        if str(edge) in truth.supporting:
            counted[at] = False
        else:
            positive[at] = True
    return positive, counted


def node_labels(truth: Truth, graph: Graph) -> tuple[NodeLabels, NodeLabels]:
    """Say which sources are in the true circuit, and which count.

    A node is a positive if a content edge leaves it. A node that only supporting edges leave does not count.

    Returns:
        Two masks ``(source,)``, True where a node is in the circuit and where it counts.

    Example:
        >>> import workbench as wb
        >>> truth = wb.load_truth("zoo:truth-induction")
        >>> wanted, counted = wb.node_labels(truth, truth.circuit.graph)
        >>> int(wanted.sum())
        3
    """
    writing = {edge: str(edge.source) for edge in truth.circuit.parsed_edges}
    content = {node for edge, node in writing.items() if str(edge) not in truth.supporting}
    constant = set(writing.values()) - content
    names = [str(node) for node in graph.sources]
    return np.array([n in content for n in names]), np.array([n not in constant for n in names])
