"""Where a circuit's nodes stand: layers bottom to top, heads in order, MLPs in a column of their own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from workbench.circuits.addresses import LOGITS, VISION, Node, layer_of, parse_node, place
from workbench.circuits.circuit import Circuit

ROW, COLUMN = 88.0, 96.0
LABEL = 136.0  # from where the name of a layer begins to the middle of its first node
APART = 220.0  # two columns of nodes: room for the names of layers between them
_RAISED = {"group": -0.4, "head": 0.0, "attn": 0.3, "mlp": 0.34}


def layered(circuit: Circuit) -> dict[str, tuple[float, float]]:
    """Address -> (x, y); y grows upwards from the input at 0, one row a layer that has nodes.

    In a row the heads stand by position and index, KV groups below them, a post-norm layer's writer above;
    the MLP is to the right, a little higher because it reads them. Layers without nodes take no space. A tower is a
    column of its own to the left; of two that meet the one for captions is on the right, with ``logits`` above it.
    """
    nodes = {address: parse_node(address, towers=True) for address in circuit.all_nodes}
    seen = {a: node for a, node in nodes.items() if node.tower == VISION}
    own = _stack({a: node for a, node in nodes.items() if a not in seen}, circuit.shape.n_layers)
    if circuit.shape.tower is None or not seen:
        return own
    tower = _stack(seen, circuit.shape.tower.n_layers)
    shift = min((x for x, _ in own.values()), default=0.0) - max(x for x, _ in tower.values()) - APART
    found = {**{a: (round(x + shift, 1), y) for a, (x, y) in tower.items()}, **own}
    end = str(LOGITS)
    if circuit.shape.meets and end in found and len(own) > 1:
        others = [place for address, place in found.items() if address != end]
        middle = (max(x for x, _ in tower.values()) + shift + min(own[a][0] for a in own if a != end)) / 2
        found[end] = round(middle, 1), round(max(y for _, y in others) + ROW, 1)
    return found


def _stack(nodes: Mapping[str, Node], n_layers: int) -> dict[str, tuple[float, float]]:
    """Where the nodes of one stack of layers stand."""
    rows = defaultdict(list)
    for address, node in nodes.items():
        rows[_level(node, n_layers)].append(address)
    widest = max([1, *(sum(nodes[a].kind == "head" for a in row) for row in rows.values())])
    places: dict[str, tuple[float, float]] = {}
    for level, key in enumerate(sorted(rows)):
        by_kind = defaultdict(list)
        for address in sorted(rows[key], key=lambda a: (*place(nodes[a]), nodes[a].index or 0)):
            by_kind[nodes[address].kind].append(address)
        for kind, members in by_kind.items():
            middle = COLUMN * (widest / 2 + 0.5 * len(members)) if kind == "mlp" else 0.0
            middle -= COLUMN * 1.5 if kind == "projector" else 0.0
            for i, address in enumerate(members):
                x = middle + COLUMN * (i - (len(members) - 1) / 2)
                places[address] = (round(x, 1), round(ROW * (level + _RAISED.get(kind, 0.0)), 1))
    return places


@dataclass(frozen=True)
class RowLabel:
    """The name of a layer at the left of its stack, or of a whole stack above it.

    Attributes:
        stack: The tower that it is of; empty for the model's own.
        layer: None for the name of the stack.
    """

    text: str
    x: float
    y: float
    stack: str
    layer: int | None


def row_labels(circuit: Circuit) -> list[RowLabel]:
    """Name each layer that has nodes, from the bottom; where there is a tower, name its column and the other one too.

    ``x`` is where the text begins, left of the nodes of its stack.
    """
    places = layered(circuit)
    nodes = {a: parse_node(a, towers=True) for a in places}
    stacks: dict[str, list[str]] = defaultdict(list)
    for address, node in nodes.items():
        between = node.kind == "projector" or (circuit.shape.meets and node.kind == "logits")
        if not between:
            stacks[node.tower or ""].append(address)
    high, found = max((y for _, y in places.values()), default=0.0), []
    for stack, members in stacks.items():
        x = min(places[a][0] for a in members) - LABEL
        rows = {nodes[a].layer: places[a][1] - ROW * _RAISED.get(nodes[a].kind, 0.0) for a in members}
        found += [RowLabel(f"layer {n}", x, y, stack, n) for n, y in rows.items() if n is not None]
        if circuit.shape.tower is not None:
            name = f"{stack} tower" if stack else "language model"
            found.append(RowLabel(name, x, high + ROW / 2, stack, None))
    return sorted(found, key=lambda one: (one.stack, one.y))


def _level(node: Node, n_layers: int) -> int:
    if node.kind in ("input", "projector"):
        return -1
    return n_layers if node.kind == "logits" else layer_of(node)
