"""What every foreign format needs of a circuit: nodes and edges as flat rows of safe text and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from workbench.circuits.circuit import Circuit
from workbench.core.run_record import measured_on
from workbench.view.text import printable

if TYPE_CHECKING:
    from workbench.circuits.compare import Comparison

MANY = 6  # equal tokens behind one another that are shown as one


@dataclass(frozen=True)
class NodeRow:
    """One node; ``layer`` is -1 for the input and what a projector writes, the number of layers for the logits."""

    id: str
    kind: str
    layer: int
    head: int | None
    position: str | int | None
    score: float | None
    role: str


@dataclass(frozen=True)
class EdgeRow:
    """One edge between nodes; ``input`` is q, k, v, in or link. A link has no score."""

    id: str
    source: str
    target: str
    input: str
    score: float | None


def node_rows(circuit: Circuit) -> list[NodeRow]:
    """Return every node in residual order, helpers of KV groups included; roles made printable."""
    ends = {"input": -1, "projector": -1, "logits": circuit.shape.n_layers}
    return [
        NodeRow(
            address,
            data["kind"],
            ends.get(data["kind"], data["layer"]),
            data["head"],
            data["position"],
            data["score"],
            printable(data["role"]),
        )
        for address, data in circuit.all_nodes.items()
    ]


def edge_rows(circuit: Circuit) -> list[EdgeRow]:
    """Return every edge in residual order, then the structural links."""
    rows = [
        EdgeRow(str(edge), str(edge.source), str(edge.target.host), edge.target.slot or "in", score)
        for edge, score in circuit.parsed_edges.items()
    ]
    return rows + [EdgeRow(f"{s}=>{t}", s, t, "link", None) for s, t in circuit.links]


def about(circuit: Circuit) -> dict[str, str]:
    """Say what the circuit is, as printable text; empty entries left out."""
    found = {"behavior": said_of_model(circuit.evaluation)}
    found |= {
        name: printable(getattr(circuit, name)) for name in ("task", "model", "method", "metric", "unit")
    }
    found["model"] = printable(measured_on(circuit.model, circuit.provenance))
    found["level"] = circuit.level
    found["selection"] = printable(circuit.how_chosen)
    found["prompt"] = prompt_text(circuit)
    found |= published_source(circuit)
    return {name: text for name, text in found.items() if text}


def said_of_model(evaluation: Mapping[str, Any]) -> str:
    """Return the sentences on what the model itself does on the pairs of a circuit, printable; empty where nobody
    looked.
    """
    told = {"": evaluation.get("behavior"), "where it was found, ": evaluation.get("behavior_found_on")}
    return "; ".join(
        printable(where + str(one.get("sentence", "")))
        for where, one in told.items()
        if isinstance(one, Mapping)
    )


def published_source(circuit: Circuit) -> dict[str, str]:
    """Say where a published circuit comes from and what of it is uncertain, printable; empty for others."""
    known = circuit.provenance
    if not known.get("published"):
        return {}
    uncertain = known.get("uncertain")
    lines = [printable(str(line)) for line in uncertain] if isinstance(uncertain, list) else []
    words = {name: printable(str(known.get(name) or "")) for name in ("source", "read")}
    return words | {"uncertain": " ".join(lines)}


def prompt_text(circuit: Circuit) -> str:
    """Return the prompt as one printable line. Tokens that bring no spaces of their own get some between them."""
    spaced = any(token[:1].isspace() for token in circuit.prompt)
    return printable(("" if spaced else " ").join(circuit.prompt))


def prompt_parts(circuit: Circuit) -> list[tuple[str, int, int]]:
    """Return the prompt's tokens with their first and last position: a run of many alike, as a picture's, is one."""
    found = []
    for text, run in groupby(enumerate(map(printable, circuit.prompt)), key=lambda one: one[1]):
        places = [i for i, _ in run]
        if len(places) < MANY:
            found += [(text, i, i) for i in places]
        else:
            found.append((f"{text} × {len(places)}", places[0], places[-1]))
    return found


def class_rows_shown(found: Comparison) -> list[dict[str, Any]]:
    """Return the classes of a comparison as rows for a table; depth only where the models differ."""
    rows = []
    for row in found.classes:
        shown: dict[str, Any] = {"role": printable(row.role), "A": len(row.here), "B": len(row.there)}
        if found.difference is None and found.overlap.matching.startswith("layer"):
            shown |= {"mean depth in A": row.depth_here, "mean depth in B": row.depth_there}
        else:
            shown |= {"same role in both": row.same, "in the other": row.found}
            shown |= {"by chance": row.expected, "p": row.p_value}
        rows.append(shown)
    return rows


def way_rows_shown(found: Comparison) -> list[dict[str, Any]]:
    """Return the ways of a comparison as rows for a table."""
    return [
        {
            "way": printable(row.way),
            "direct edges": row.stated,
            "in the other": row.found,
            "by chance": row.expected,
            "p": row.p_value,
        }
        for row in found.ways
    ]


def measures(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Say what an evaluation measured in single values, by readable name; curves and lists of heads left out."""
    plain = {k: v for k, v in evaluation.items() if isinstance(v, int | float | str)}
    return {str(k).replace("_", " "): v for k, v in plain.items()} | _agreement(evaluation.get("agreement"))


def _agreement(found: Any) -> dict[str, str]:
    """How far scores agree with exact effects of some edges, where these were measured."""
    if not isinstance(found, Mapping):
        return {}
    told = {}
    for key, name in (("linear", "correlation with exact effects"), ("rank", "correlation of their ranks")):
        row = found.get(key)
        numbers = [row.get(k) for k in ("value", "low", "high")] if isinstance(row, Mapping) else []
        if numbers and all(isinstance(x, int | float) for x in numbers):
            value, low, high = numbers
            told[name] = (
                f"{value:.2f} ({low:.2f} to {high:.2f}), by {found.get('n')} of {found.get('of')} edges"
            )
    return told


def title(circuit: Circuit) -> str:
    """Return one line of printable text: method, task and model."""
    words = about(circuit)
    parts = [words.get("method", ""), words.get("task", ""), words.get("model", "")]
    return " · ".join(part for part in parts if part) or "circuit"
