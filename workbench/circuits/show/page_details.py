"""What the page of a circuit knows of each head and edge, from the files beside it, as data for ``closeup.js``."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from workbench.circuits.annotations import Annotations
from workbench.circuits.circuit import Circuit
from workbench.circuits.details import DetailsContent, found_shares
from workbench.circuits.verdicts.judgement import circuit_digest
from workbench.core.stats.intervals import ratio, ratio_interval
from workbench.core.typed import as_json
from workbench.view.text import number, printable

_ROLE = {"head", "query", "key", "attention", "direct_effect", "direct_stderr", "unit", "n"}


def page_details(
    circuit: Circuit,
    details: DetailsContent | None,
    evidence: Mapping[str, Any],
    path: str,
    others: Sequence[DetailsContent] = (),
) -> dict[str, Any]:
    """Return what is known of heads and edges; all foreign text is made printable.

    Exact effects are those of the details, else those of the edges that ``discover`` measured; the share of bootstrap
    draws is of the evaluation's stability.
    """
    found: dict[str, Any] = {} if details is None else printed(as_json(details))
    edges: dict[str, dict[str, Any]] = dict(found.get("edges", {}))
    for edge, exact in _sampled(circuit).items():
        own = edges.setdefault(edge, {"exact": None})
        if own["exact"] is None:
            own.update(exact=exact, exact_from="measured where it was found")
    for edge, share in found_shares(evidence).items():
        edges.setdefault(edge, {"exact": None})["found"] = share
    names = ("unit", "metric", "ablation", "n_pairs", "prompts", "heads", "notes")
    known = {name: found[name] for name in names} if found else {"prompts": [], "heads": {}, "notes": []}
    draws = len(evidence.get("stability", {}).get("sets", ()))
    command = f"workbench circuit details {_named(path)}"
    return {
        **known,
        "edges": edges,
        "draws": draws,
        "roles": _roles(circuit),
        "measured": details is not None,
        "others": [_effects_alone(other) for other in others],
        "command": command,
    }


def _effects_alone(other: DetailsContent) -> dict[str, Any]:
    """What another ablation costs: of heads with 95 % intervals, of edges the exact effect."""
    return {
        "ablation": printable(other.ablation),
        "n_pairs": other.n_pairs,
        "heads": {printable(head): [own.effect, own.low, own.high] for head, own in other.heads.items()},
        "edges": {printable(edge): own.exact for edge, own in other.edges.items() if own.exact is not None},
    }


MOST_ROWS = 40


def effects_beside(records: Mapping[str, DetailsContent]) -> list[dict[str, Any]]:
    """Return the effects of heads, then of edges, one row each and one column for each record, the largest first.

    Args:
        records: Heading of a column -> what was measured.

    Returns:
        At most 40 heads and 40 edges; effects in the metric's unit, None where a record has none.
    """
    heads = {name: {h: own.effect for h, own in found.heads.items()} for name, found in records.items()}
    edges = {name: {e: own.exact for e, own in found.edges.items()} for name, found in records.items()}
    return [row for columns in (heads, edges) for row in _rows_beside(columns)]


def _rows_beside(columns: Mapping[str, Mapping[str, float | None]]) -> list[dict[str, Any]]:
    size: dict[str, float] = {}
    for own in columns.values():
        for part, value in own.items():
            if value is not None:
                size[part] = max(size.get(part, 0.0), abs(value))
    largest = sorted(size, key=lambda part: -size[part])[:MOST_ROWS]
    return [{"part": part, **{name: own.get(part) for name, own in columns.items()}} for part in largest]


def _roles(circuit: Circuit) -> dict[str, list[tuple[str, str]]]:
    """What the evaluation says of heads with a role, as names and texts."""
    rows = circuit.evaluation.get("roles", ())
    return {
        printable(str(row["head"])): [
            ("looks", printable(f"from {row['query']} at {row['key']}: {number(row['attention'])}")),
            (
                "adds directly",
                printable(
                    f"{number(row['direct_effect'])} ± {number(row['direct_stderr'])} {row['unit']}, n {row['n']}"
                ),
            ),
        ]
        for row in rows
        if isinstance(row, Mapping) and set(row) >= _ROLE
    }


def under_ablations(evidence: Mapping[str, Any], clusters: Sequence[int] = ()) -> list[dict[str, Any]]:
    """Return the circuit's faithfulness under each ablation that its evaluation has, with 95 % intervals; one row each.

    Args:
        clusters: A number per pair, equal for pairs that are not independent; empty where all are.

    Example:
        >>> row = {"circuit": [1.0, 2.0], "nothing": [0.0, 0.0]}
        >>> under_ablations({"scores": {"model": [2.0, 4.0]}, "ablations": {"mean": row}})[0]["faithfulness"]
        0.5
    """
    rows, given = [], evidence.get("ablations")
    for name, row in given.items() if isinstance(given, Mapping) else ():
        own = [
            np.array(x, dtype=float) for x in (row["circuit"], evidence["scores"]["model"], row["nothing"])
        ]
        low, high, _ = ratio_interval(*own, clusters=clusters)
        rows.append(
            {
                "ablation": name,
                "faithfulness": ratio(*own),
                "from": float(low),
                "to": float(high),
                "pairs": len(own[0]),
            }
        )
    return [row for row in rows if np.isfinite(row["faithfulness"])]


def page_annotations(circuit: Circuit, annotations: Annotations | None, path: str) -> dict[str, Any]:
    """Return what was written on the circuit, and the line to type that keeps what the page saves."""
    return {
        "digest": circuit_digest(circuit),
        "annotations": None if annotations is None else _written(annotations),
        "annotateCommand": f"workbench circuit annotate {_named(path)} annotations.json",
    }


def _written(annotations: Annotations) -> dict[str, Any]:
    """As the page saves them: what is empty is left out."""
    found = as_json(annotations)
    return {
        what: {
            printable(name): {k: v for k, v in printed(own).items() if v not in ("", False, None)}
            for name, own in found[what].items()
        }
        for what in ("nodes", "edges", "groups")
    }


def _named(path: str) -> str:
    return shlex.quote(printable(path)) if path else "CIRCUIT"


def _sampled(circuit: Circuit) -> dict[str, float]:
    """Edges that were measured exactly to see how good the scores are."""
    agreement = circuit.evaluation.get("agreement")
    rows = agreement.get("edges", ()) if isinstance(agreement, Mapping) else ()
    return {str(row["edge"]): float(row["exact"]) for row in rows if row.get("exact") is not None}


def printed(value: Any) -> Any:
    """Return JSON values with every text printable, keys too."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable(k): printed(v) for k, v in value.items()}
    return [printed(v) for v in value] if isinstance(value, list) else value
