"""What a published circuit is: classes of parts, where they act, and which class reads which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from workbench.circuits.addresses import INPUT, LOGITS, Node, head, mlp, parse_node
from workbench.circuits.circuit import Circuit
from workbench.circuits.graph import GraphShape
from workbench.core.errors import CircuitError

KEPT_WHOLE = "kept whole"
"""Role of parts that the source left in place and did not study; they are no part of the claim."""


@dataclass(frozen=True, kw_only=True)
class PublishedClass:
    """One class of a circuit: its name, its parts and the position where the source says they act.

    ``parts`` are written as papers do: ``"9.9 9.6 10.0"`` are heads, ``"m8 m9"`` MLPs.
    """

    role: str
    parts: str
    position: str | None = None
    does: str = ""

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The addresses, with the position where there is one."""
        return tuple(_node(text).at(self.position) for text in self.parts.split())

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "role": self.role,
            "parts": [str(node.at(None)) for node in self.nodes],
            "position": self.position,
            "does": self.does,
        }


def _node(text: str) -> Node:
    layer, dot, index = text.partition(".")
    return head(int(layer), int(index)) if dot else mlp(int(text.removeprefix("m")))


@dataclass(frozen=True, kw_only=True)
class Way:
    """What one class writes as another class reads it. ``slot`` is q, k, v or ``""`` where the source does not say.

    ``source`` and ``target`` are roles, or ``input`` and ``logits``.
    """

    source: str
    target: str
    slot: str = ""

    def to_dict(self) -> dict[str, str]:
        """Return it as JSON values."""
        return {"source": self.source, "target": self.target, "input": self.slot}


@dataclass(frozen=True, kw_only=True)
class Published:
    """A circuit as a paper names it.

    Attributes:
        model, revision: The model that was studied; ``revision`` is empty where the source names none.
        kept_whole: MLPs that the source never ablated; they are in the circuit, not in the claim.
        reported: Numbers of the source, by name. They are the source's, not measured here.
        read: Where the lists come from.
        uncertain: What may be wrong or is left out, one sentence each.
    """

    name: str
    title: str
    task: str
    model: str
    shape: GraphShape
    source: str
    parts: tuple[PublishedClass, ...]
    ways: tuple[Way, ...] = ()
    kept_whole: tuple[int, ...] = ()
    metric: str = "logit-difference"
    corruption: str = ""
    revision: str = ""
    read: str = ""
    reported: Mapping[str, float | str] = field(default_factory=dict)
    uncertain: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        roles = [part.role for part in self.parts]
        nodes = [node for part in self.parts for node in part.nodes]
        if len(set(roles)) != len(roles) or len({n.at(None) for n in nodes}) != len(nodes):
            raise CircuitError(
                f"{self.name}: a class or a part is listed twice; once is expected",
                hint="name every class and every part once",
            )
        ends = {end for way in self.ways for end in (way.source, way.target)} - {"input", "logits", *roles}
        if ends:
            raise CircuitError(
                f"{self.name}: no class called {sorted(ends)[0]!r}", hint=f"classes: {', '.join(roles)}"
            )

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        """Role -> addresses without positions, in the order of the source's table."""
        return {part.role: tuple(str(n.at(None)) for n in part.nodes) for part in self.parts}

    @property
    def n_parts(self) -> int:
        return sum(len(part.nodes) for part in self.parts)

    def row(self) -> dict[str, Any]:
        """Return one line of a list: what to type, what it is, where from."""
        return {
            "circuit": f"published:{self.name}",
            "task": self.task,
            "model": self.model,
            "heads": sum(node.kind == "head" for part in self.parts for node in part.nodes),
            "MLPs": sum(node.kind == "mlp" for part in self.parts for node in part.nodes),
            "classes": len(self.parts),
            "source": self.source,
        }

    def circuit(self) -> Circuit:
        """Return the circuit: node level, no scores, roles on the nodes, the classes and their source as provenance."""
        claimed = {node: part.role for part in self.parts for node in part.nodes}
        kept = {mlp(layer): KEPT_WHOLE for layer in self.kept_whole}
        roles = {str(node): role for node, role in {**kept, **claimed}.items()}
        nodes: dict[Node, float | None] = {node: None for node in (INPUT, *claimed, *kept, LOGITS)}
        return Circuit.build(
            shape=self.shape,
            nodes=nodes,
            edges={},
            roles=roles,
            level="node",
            method="published",
            unit="",
            metric=self.metric,
            task=self.task,
            model=self.model,
            selection={"rule": "named by its source", "nominal": self.n_parts, "scores": "none"},
            provenance=self._provenance(),
        )

    def _provenance(self) -> dict[str, Any]:
        kept = [f"m{layer}" for layer in self.kept_whole]
        return {
            "published": self.name,
            "title": self.title,
            "source": self.source,
            "read": self.read,
            "revision": self.revision or None,
            "corruption": self.corruption or None,
            "scores": "none: the source's effects are not part of this file",
            "classes": [part.to_dict() for part in self.parts],
            "ways": [way.to_dict() for way in self.ways],
            "kept_whole": kept,
            "reported": dict(self.reported),
            "uncertain": list(self.uncertain),
        }


def claimed_nodes(circuit: Circuit) -> list[str]:
    """Return addresses of a circuit that are part of its claim: no ends, nothing kept whole."""
    return [
        a
        for a, data in circuit.nodes.items()
        if data["role"] != KEPT_WHOLE and parse_node(a, towers=True).kind not in ("input", "logits")
    ]
