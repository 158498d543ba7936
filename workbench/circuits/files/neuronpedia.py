"""Graph JSON of Neuronpedia's attribution-graph view.

What its page needs beyond its schema, and what is done about it here: a logit's label must contain
``(p=...)``; the largest layer that is not the logits' must not be 0, so layers count from 1; nodes of one
layer at one position need different ``feature`` numbers, so a head has its index and the MLP the next one;
``influence`` is cumulative, small for what matters, and prunes against ``node_threshold``.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict

from workbench.circuits.annotations import Annotations
from workbench.circuits.circuit import Circuit
from workbench.circuits.rows import NodeRow, about, edge_rows, node_rows, prompt_text, title
from workbench.circuits.summary import summarise
from workbench.core.errors import CircuitError
from workbench.view.text import number, printable

_SCANS = {"gpt2": "gpt2-small"}  # their name of a model that has another on the Hub
_TYPES = {
    "input": "embedding",
    "head": "attention head",
    "mlp": "mlp",
    "attn": "attention layer",
    "logits": "logit",
}


def to_neuronpedia(circuit: Circuit, *, annotations: Annotations | None = None) -> str:
    """Return the circuit as a Neuronpedia graph.

    One link per pair of nodes: its weight is the sum of the q, k and v edges between the two, and ``inputs``
    has each of them. KV groups are passed through to their heads. Nodes without a position stand at the last
    token, and the description says so; named positions are columns of their own, in place of the prompt's
    tokens. Groups of the annotations become supernodes, and roles of nodes without a group; hidden nodes
    are not pinned.
    """
    noted = {} if annotations is None else annotations.nodes
    columns = _columns(circuit)
    rows = [row for row in node_rows(circuit) if row.kind != "group"]
    ids = {row.id: _node_id(circuit, row, columns) for row in rows}
    if circuit.shape.tower is not None:
        raise CircuitError(
            "its graphs have one stack of layers; this circuit also has a tower",
            hint="export graphml or cytoscape instead",
        )
    influence = _influence(circuit)
    nodes = [
        _node(
            circuit,
            row,
            ids[row.id],
            columns,
            influence.get(row.id, 0.0),
            noted[row.id].name if row.id in noted else "",
        )
        for row in rows
    ]
    weights = _weights(circuit, set(ids))
    links = [
        {"source": ids[s], "target": ids[t], "weight": sum(w.values()), "inputs": w}
        for (s, t), w in weights.items()
    ]
    name = circuit.model.rsplit("/", 1)[-1].lower()
    supernodes = defaultdict(list)
    for row in rows:
        own = noted.get(row.id)
        named = (printable(own.group) if own else "") or row.role
        if named and not (own and own.hidden):
            supernodes[named].append(ids[row.id])
    document = {
        "metadata": {
            "slug": slug(title(circuit)),
            "scan": printable(_SCANS.get(name, name)) or "unknown",
            "prompt_tokens": columns,
            "prompt": prompt_text(circuit) or title(circuit),
            "node_threshold": 1.0,
            "info": {
                "description": "; ".join(
                    [*(f"{k}: {v}" for k, v in about(circuit).items()), *_placeless(circuit)]
                ),
                "generator": {"name": "Circuit Workbench"},
            },
        },
        "qParams": {
            "pinnedIds": [member for members in supernodes.values() for member in members],
            "supernodes": [[role, *members] for role, members in supernodes.items()],
            "linkType": "both",
            "clickedId": next((ids[row.id] for row in rows if row.kind == "logits"), ""),
        },
        "nodes": nodes,
        "links": links,
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def _placeless(circuit: Circuit) -> list[str]:
    """What is said of nodes that have no position."""
    without = sum(data["position"] is None for data in circuit.nodes.values())
    said = f"{without} of {len(circuit.nodes)} nodes have no position and are drawn at the last token"
    return [said] if without else []


def slug(text: str) -> str:
    """Lower-case letters, digits and hyphens.

    Example:
        >>> slug("EAP-IG · ioi · zoo:ioi")
        'eap-ig-ioi-zoo-ioi'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:80] or "circuit"


def _columns(circuit: Circuit) -> list[str]:
    """Tokens of the prompt; or the names of positions when nodes have named ones."""
    found = [data["position"] for data in circuit.nodes.values() if data["position"] is not None]
    if any(isinstance(position, str) for position in found):
        return [
            printable(str(p))
            for p in dict.fromkeys(sorted(found, key=lambda p: (isinstance(p, str), str(p))))
        ]
    tokens = [printable(token) for token in circuit.prompt]
    missing = max([0, *(p + 1 for p in found)]) - len(tokens)
    return tokens + [f"token {len(tokens) + i}" for i in range(missing)] or ["all positions"]


def _context(row: NodeRow, columns: list[str]) -> int:
    if row.position is None:
        return len(columns) - 1
    return (
        row.position
        if isinstance(row.position, int) and row.position < len(columns)
        else columns.index(printable(str(row.position)))
    )


def _place(circuit: Circuit, row: NodeRow) -> tuple[str, int]:
    """Layer, as text, and feature number."""
    if row.kind == "input":
        return "E", 0
    if row.kind == "logits":
        return str(circuit.shape.n_layers + 1), 0
    if row.kind == "head" and row.head is not None:
        return str(row.layer + 1), row.head
    features = {"mlp": circuit.shape.n_heads, "attn": circuit.shape.n_heads + 1}
    return str(row.layer + 1), features[row.kind]


def _node_id(circuit: Circuit, row: NodeRow, columns: list[str]) -> str:
    layer, feature = _place(circuit, row)
    return f"{layer}_{feature}_{_context(row, columns)}"


def _node(
    circuit: Circuit, row: NodeRow, id_: str, columns: list[str], influence: float, name: str = ""
) -> dict[str, object]:
    layer, feature = _place(circuit, row)
    label = f"{row.id} {printable(name) or row.role}".strip()
    if row.score is not None:
        label += f" ({number(row.score)} {printable(circuit.unit)})"
    return {
        "node_id": id_,
        "feature": feature,
        "layer": layer,
        "ctx_idx": _context(row, columns),
        "feature_type": _TYPES[row.kind],
        "jsNodeId": f"{layer}_{feature}-{_context(row, columns)}",
        "clerp": f"{row.id} (p=1.00)" if row.kind == "logits" else label,
        "influence": influence,
        "activation": row.score,
        "is_target_logit": row.kind == "logits",
        "token_prob": 1.0 if row.kind == "logits" else 0.0,
    }


def _influence(circuit: Circuit) -> dict[str, float]:
    """Node -> share of all strength in nodes at least as strong; the strongest node has the smallest."""
    ranked = [(a, abs(s)) for a, s in summarise(circuit, most=len(circuit.nodes)).nodes]
    total, so_far, found = sum(s for _, s in ranked) or 1.0, 0.0, {}
    for address, strength in ranked:
        so_far += strength
        found[address] = min(1.0, so_far / total)
    weakest = 1.0 if ranked else 0.0
    ends = {a: 0.0 for a, d in circuit.nodes.items() if d["kind"] in ("input", "logits")}
    return {a: weakest for a in circuit.nodes} | found | ends


def _weights(circuit: Circuit, shown: set[str]) -> dict[tuple[str, str], dict[str, float]]:
    """(source, target) -> input -> score; an edge into a KV group goes to each of its heads in the circuit."""
    rows = edge_rows(circuit)
    heads = defaultdict(list)
    for row in rows:
        if row.input == "link" and row.source not in shown:
            heads[row.source].append(row.target)
    weights: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for row in rows:
        for target in heads[row.target] if row.target not in shown else [row.target]:
            own = weights[row.source, target]
            own[row.input] = own.get(row.input, 0.0) + (row.score if row.score is not None else 0.0)
    return {ends: w for ends, w in weights.items() if ends[0] in shown}
