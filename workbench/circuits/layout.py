"""Where a circuit's nodes stand: layers bottom to top, heads in order, MLPs in a column of their own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from workbench.circuits.addresses import LOGITS, VISION, Node, layer_of, parse_node, place
from workbench.circuits.circuit import Circuit
from workbench.core.text import printable

ROW, COLUMN = 88.0, 96.0
LABEL = 136.0  # from where the name of a layer begins to the middle of its first node
APART = 220.0  # two columns of nodes: room for the names of layers between them
_RAISED = {"group": -0.4, "head": 0.0, "attn": 0.3, "mlp": 0.34}


def layered(circuit: Circuit) -> dict[str, tuple[float, float]]:
    """Address -> (x, y); y grows upwards from the input at 0, one row a layer that has nodes.

    In a row the heads stand by position and index, KV groups below them, a post-norm layer's writer above;
    the MLP is to the right, a little higher because it reads them. Layers without nodes take no space. A tower is a
    column of its own to the left; of two that meet the one for captions is on the right, with ``logits`` above it.
    A circuit at two positions or more has a column for each, in order, and one at the right for nodes of all positions.
    """
    nodes = {address: parse_node(address, towers=True) for address in circuit.all_nodes}
    if columns := position_columns(circuit):
        return _by_position(nodes, circuit.shape.n_layers, columns)
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


def position_columns(circuit: Circuit) -> tuple[str | int | None, ...]:
    """Positions that have columns, in their order, None last for all; empty for circuits without, or with a tower."""
    if circuit.shape.tower is not None:
        return ()
    nodes = [parse_node(address, towers=True) for address in circuit.all_nodes]
    at = {node.position for node in nodes if node.position is not None}
    if len(at) < 2:
        return ()
    free = any(node.position is None for node in nodes)
    return (*sorted(at, key=_order), *([None] if free else []))


def _order(position: str | int) -> tuple[bool, int, str]:
    """Numbers first and by size, then names."""
    number = isinstance(position, int)
    return not number, position if isinstance(position, int) else 0, str(position)


def _by_position(
    nodes: Mapping[str, Node], n_layers: int, columns: tuple[str | int | None, ...]
) -> dict[str, tuple[float, float]]:
    """Token by layer: a column for each position, one row a layer that has nodes at any of them."""
    levels = {level: i for i, level in enumerate(sorted({_level(n, n_layers) for n in nodes.values()}))}
    places, left = {}, 0.0
    for position in columns:
        rows = defaultdict(list)
        for address, node in nodes.items():
            if node.position == position:
                rows[_level(node, n_layers)].append(address)
        widest = max(len(row) for row in rows.values())
        for level, row in rows.items():
            ordered = sorted(row, key=lambda a: (nodes[a].kind == "mlp", nodes[a].index or 0))
            for i, address in enumerate(ordered):
                x = left + COLUMN * (i + (widest - len(row)) / 2)
                y = ROW * (levels[level] + _RAISED.get(nodes[address].kind, 0.0))
                places[address] = (round(x, 1), round(y, 1))
        left += COLUMN * (widest + 0.5)
    return places


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
    return sorted([*found, *_column_names(circuit, places, nodes)], key=lambda one: (one.stack, one.y))


def _column_names(
    circuit: Circuit, places: Mapping[str, tuple[float, float]], nodes: Mapping[str, Node]
) -> list[RowLabel]:
    """The name of each position, or its token, above its column."""
    found = []
    for position in position_columns(circuit):
        own = [places[a] for a, node in nodes.items() if node.position == position]
        token = position < len(circuit.prompt) if isinstance(position, int) else False
        text = (
            f"{position} {circuit.prompt[position].strip()}"
            if token and isinstance(position, int)
            else position
        )
        x, high = min(x for x, _ in own) - COLUMN / 3, max(y for _, y in places.values()) + 0.6 * ROW
        found.append(
            RowLabel("all positions" if position is None else printable(str(text)), x, high, "", None)
        )
    return found


def _level(node: Node, n_layers: int) -> int:
    if node.kind in ("input", "projector"):
        return -1
    return n_layers if node.kind == "logits" else layer_of(node)
