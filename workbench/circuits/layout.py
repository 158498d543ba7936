"""Where a circuit's nodes stand: layers bottom to top, heads in order, MLPs in a column of their own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from workbench.circuits.addresses import Node, layer_of, parse_node, place
from workbench.circuits.circuit import Circuit

ROW, COLUMN = 88.0, 96.0
_RAISED = {"group": -0.4, "head": 0.0, "attn": 0.3, "mlp": 0.34}


def layered(circuit: Circuit) -> dict[str, tuple[float, float]]:
    """Address -> (x, y); y grows upwards from the input at 0, one row a layer that has nodes.

    In a row the heads stand by position and index, KV groups below them, a post-norm layer's writer above;
    the MLP is to the right, a little higher because it reads them. Layers without nodes take no space. A tower is a
    column of its own to the left.
    """
    nodes = {address: parse_node(address, towers=True) for address in circuit.all_nodes}
    own = _stack({a: node for a, node in nodes.items() if node.tower is None}, circuit.shape.n_layers)
    seen = {a: node for a, node in nodes.items() if node.tower is not None}
    if circuit.shape.tower is None or not seen:
        return own
    tower = _stack(seen, circuit.shape.tower.n_layers)
    shift = min((x for x, _ in own.values()), default=0.0) - max(x for x, _ in tower.values()) - 2 * COLUMN
    return {**{a: (round(x + shift, 1), y) for a, (x, y) in tower.items()}, **own}


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


def layer_rows(circuit: Circuit) -> list[tuple[str, float]]:
    """Label and y of each layer that has nodes, from the bottom; where a tower's is as high, both names."""
    found: dict[tuple[str, int], float] = {}
    for address, (_, y) in layered(circuit).items():
        node = parse_node(address, towers=True)
        if node.layer is not None:
            found[node.tower or "", node.layer] = y - ROW * _RAISED.get(node.kind, 0.0)
    labels: dict[float, list[str]] = defaultdict(list)
    for (tower, layer), y in sorted(found.items()):
        labels[round(y, 1)].append(f"{tower} layer {layer}".strip())
    return [(", ".join(names), y) for y, names in sorted(labels.items())]


def _level(node: Node, n_layers: int) -> int:
    if node.kind in ("input", "projector"):
        return -1
    return n_layers if node.kind == "logits" else layer_of(node)
