"""ACDC as its paper judges it: circuits at many thresholds against a circuit known by hand, and the area under them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Bool

from workbench.circuits.addresses import Node
from workbench.circuits.graph import Graph
from workbench.circuits.published.by_name import find_published
from workbench.core.errors import OptionError
from workbench.engine.paired_runs import PairedRuns
from workbench.methods.by_name import score
from workbench.model.known_circuits import edge_labels, list_truths, load_truth

EdgeMask = Bool[np.ndarray, "source target"]
Rate = tuple[float, float]
TAUS: Mapping[tuple[str, str], tuple[float, ...]] = {
    (task, metric): tuple(float(tau) for tau in np.logspace(low, high, n))
    for task, metric, low, high, n in (
        ("ioi", "kl", -6, 0, 21),
        ("ioi", "loss", -4, 0, 21),
        ("greater-than", "kl", -6, -4, 11),
        ("greater-than", "loss", -3, -1, 21),
    )
}
"""Thresholds by task and metric. Those of greater-than are the source's; of ioi ours, where the source was not read."""

# IOI: which class writes to which inputs of which class; MLPs and the input stand together
_IOI: tuple[tuple[str, str, str], ...] = (
    ("input", "previous token", "qkv"),
    ("input", "duplicate token", "qkv"),
    ("input", "S-inhibition", "q"),
    ("input", "negative name mover", "kv"),
    ("input", "name mover", "kv"),
    ("input", "backup name mover", "kv"),
    ("previous token", "induction", "kv"),
    ("induction", "S-inhibition", "kv"),
    ("duplicate token", "S-inhibition", "kv"),
    ("S-inhibition", "negative name mover", "q"),
    ("S-inhibition", "name mover", "q"),
    ("S-inhibition", "backup name mover", "q"),
)
_IOI_OUT = ("negative name mover", "name mover", "backup name mover")


def ioi_reference(graph: Graph, roles: Mapping[str, str]) -> EdgeMask:
    """Return the edges that ACDC's reference circuit of IOI has, between parts of these classes.

    MLPs are all in it: they are read by every head of the circuit and by each other, read every head of the circuit
    and the input, and write to the logits. Heads read the input, and each other, where the figure of the IOI paper has
    an arrow, at its inputs; movers of names write to the logits.

    Args:
        roles: Address of a head -> its class.

    Source:
        ``get_ioi_true_edges`` of ArthurConmy/Automatic-Circuit-Discovery bc99ace8 (read).
    """
    arrows = {(a, b): slots for a, b, slots in _IOI}

    def is_true(source: Node, target: Node) -> bool:
        writer, reader = (_part(node, roles) for node in (source, target))
        if writer is None or reader is None:
            return False
        if reader == "mlp" or writer == "mlp":
            return True
        if reader == "logits":
            return writer == "input" or writer in _IOI_OUT
        return str(target.slot) in arrows.get((writer, reader), "")

    return _mask(graph, is_true)


def greater_than_reference(graph: Graph, groups: Mapping[str, Iterable[str]]) -> EdgeMask:
    """Return the edges that ACDC's reference circuit of greater-than has, between parts of these groups.

    Args:
        groups: The parts of ``0.1``, ``0.3 0.5``, ``early MLP``, ``year mover`` and ``late MLP``.

    Source:
        ``get_greaterthan_true_edges`` of ArthurConmy/Automatic-Circuit-Discovery bc99ace8 (read).
    """
    of = {part: name for name, parts in groups.items() for part in parts}
    pairs = {
        ("0.1", "early MLP"),
        ("0.1", "year mover"),
        ("0.3 0.5", "year mover"),
        ("early MLP", "year mover"),
        ("year mover", "late MLP"),
        ("early MLP", "early MLP"),
        ("late MLP", "late MLP"),
    }
    entered, leaving = ("0.1", "0.3 0.5", "early MLP"), ("year mover", "late MLP")

    def is_true(source: Node, target: Node) -> bool:
        writer, reader = of.get(str(source)), of.get(str(target.writer))
        if str(source) == "input":
            return reader in entered
        if str(target) == "logits":
            return writer in leaving
        return (writer, reader) in pairs

    return _mask(graph, is_true)


def _part(node: Node, roles: Mapping[str, str]) -> str | None:
    """``input``, ``mlp``, ``logits`` or the class of a head; None for a head of no class."""
    if node.kind == "head":
        return roles.get(str(node.writer))
    return str(node.kind)


def _mask(graph: Graph, is_true: Callable[[Node, Node], bool]) -> EdgeMask:
    found = np.zeros_like(graph.edge_mask)
    for edge in graph.edges():
        found[graph.index(edge)] = is_true(edge.source, edge.target)
    return found


def reference_of(name: str, task: str, graph: Graph) -> EdgeMask:
    """Return the reference circuit of a task: of GPT-2 small, or of a built-in model whose circuit is known.

    Raises:
        OptionError: for any other model, whose circuit nobody knows.
    """
    if name in list_truths():
        return edge_labels(load_truth(name), graph)[0]
    published = find_published(task)
    if graph.shape != published.shape:
        raise OptionError(
            f"the circuit of {name} on {task} is not known, so there is no area to measure",
            hint="-m gpt2, or a model with a known circuit: zoo:truth-ioi",
        )
    parts = {one.role: tuple(str(node.at(None)) for node in one.nodes) for one in published.parts}
    if task == "ioi":
        return ioi_reference(graph, {head: role for role, heads in parts.items() for head in heads})
    early = parts.pop("early head")
    return greater_than_reference(graph, parts | {"0.1": early[:1], "0.3 0.5": early[1:]})


def acdc_area(runs: PairedRuns, truth: EdgeMask, taus: Sequence[float]) -> float:
    """Run ACDC at each threshold and return the area under its circuits, from 0 to 1.

    Every circuit is a point: the share of other edges that it has, and the share of true edges.
    """
    exists = runs.wiring.graph().edge_mask
    kept = []
    for tau in taus:
        circuit = score(runs, "acdc", tau=tau).keep("own")
        mask = np.zeros_like(exists)
        for edge in circuit.parsed_edges:
            mask[circuit.graph.index(edge)] = True
        kept.append(mask)
    return stair_area([rates(mask[exists], truth[exists]) for mask in kept])


def rates(kept: Bool[np.ndarray, " edge"], truth: Bool[np.ndarray, " edge"]) -> Rate:
    """Return which share of the edges outside the true circuit is kept, and which share of its own.

    Example:
        >>> rates(np.array([True, True, False, False]), np.array([True, False, True, False]))
        (0.5, 0.5)
    """
    return float(kept[~truth].mean()), float(kept[truth].mean())


def stair_area(points: Iterable[Rate]) -> float:
    """Return the area under the stairs of some points, (0, 0) and (1, 1) added, each step as low as it can be.

    A point that another beats, with fewer false edges and more true ones, does not count.

    Source:
        ``pessimistic_auc`` of ArthurConmy/Automatic-Circuit-Discovery bc99ace8 (read).

    Example:
        >>> stair_area([(0.5, 0.5)]), stair_area([(0.25, 0.25), (0.5, 0.5)])
        (0.25, 0.3125)
    """
    every = {(0.0, 0.0), (1.0, 1.0), *points}
    best = sorted((x, y) for x, y in every if not any(a < x and b > y for a, b in every))
    before, area = 0.0, 0.0
    for x, y in best:
        area += (1 - x) * max(0.0, y - before)
        before = max(before, y)
    return area
