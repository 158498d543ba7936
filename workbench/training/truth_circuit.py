"""The circuit file of a model whose circuit is known by construction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from workbench.circuits.addresses import parse_edge, parse_node
from workbench.circuits.circuit import Circuit
from workbench.circuits.graph import GraphShape
from workbench.model.known_circuits import COMPILED

METRIC = "logit-difference"
UNIT = "1: in the circuit"


def true_circuit(
    name: str,
    shape: GraphShape,
    *,
    task: str,
    content: Sequence[str],
    supporting: Sequence[str],
    roles: Mapping[str, str],
    idle: Mapping[str, str],
    algorithm: str,
    norm: str,
    sharpness: str,
    corruption: str = "unrelated",
    options: Mapping[str, object] | None = None,
    varies: Mapping[str, Sequence[str]] | None = None,
    about: str = "",
    method: str = COMPILED,
) -> Circuit:
    """Return a circuit of these edges, with what `workbench.model.known_circuits` reads of it.

    Args:
        content: Edges that differ between the prompts under ``corruption`` and reach the answer.
        supporting: Edges that carry the same in every prompt of a length.
        roles: Node -> what it does, for nodes in the circuit.
        idle: Node -> what it seems to do, for all others.
        method: How the circuit came into the model: compiled, or trained.
        varies: Other corruptions of the task -> the content edges that differ under them.

    Raises:
        CircuitError: if the architecture has no such node or edge.
    """
    edges = {parse_edge(edge): 1.0 for edge in (*content, *supporting)}
    truth = {
        "options": dict(options or {}),
        "corruption": corruption,
        "supporting": list(supporting),
        "idle": list(idle),
        "varies": {corruption: list(content)} | {key: list(edges) for key, edges in (varies or {}).items()},
        "algorithm": algorithm,
        "norm": norm,
        "sharpness": sharpness,
        "about": about,
    }
    nodes = {parse_node(node): None for node in roles}
    return Circuit.build(
        shape=shape,
        nodes=nodes,
        edges={(edge.source, edge.target): score for edge, score in edges.items()},
        roles=roles,
        method=method,
        unit=UNIT,
        metric=METRIC,
        task=task,
        model=f"zoo:{name}",
        selection={"rule": "all edges the program uses"},
        provenance={"truth": truth, "idle roles": dict(idle)},
    )
