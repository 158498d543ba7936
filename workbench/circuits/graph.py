"""The computation graph of an architecture: which part reads what which part wrote.

Sources write to the residual stream, targets read from it. In residual order every target reads a
*prefix* of the sources, so the whole edge set is one number per target (``n_visible``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from workbench.circuits import addresses as names
from workbench.circuits.addresses import Edge, Node
from workbench.core.errors import CircuitError, unknown

CONVENTION = (
    "position-free; sources input, heads, MLPs; targets q, k, v per head (k, v per KV group), MLP, logits"
)
TOWER_CONVENTION = (
    "a tower's parts write for each other and projector; projector and input write for the others"
)
MEETING_CONVENTION = (
    "parts of the towers for pictures and for captions write for their own tower and for logits"
)

_MAY_LACK = ("tower", "meets")  # fields of a shape that files leave out where there is no tower
MOST_WRITERS = 200_000  # far above any model (Llama 3.1 405B has 16,254); a file cannot ask for more memory


@dataclass(frozen=True, kw_only=True)
class GraphShape:
    """What the graph needs to know of an architecture.

    ``head_writes`` is False in post-norm models (Gemma 2, OLMo 2): a norm follows the sum of the heads, so
    the whole attention layer is the writer, while each head still reads by itself. ``tower`` is the shape of the stack
    that sees, where edges cross from it to the language model. With ``meets`` no edge does: this stack reads captions,
    both run side by side, and both end in ``logits``, which say how alike a picture and a caption are.

    Example:
        >>> import workbench as wb
        >>> wb.Graph(wb.GraphShape(n_layers=2, n_heads=2, n_kv_heads=2)).n_edges
        46
    """

    n_layers: int
    n_heads: int
    n_kv_heads: int
    parallel: bool = False
    head_writes: bool = True
    attention_layers: tuple[int, ...] | None = None
    mlp_layers: tuple[int, ...] | None = None
    tower: GraphShape | None = None
    meets: bool = False

    def __post_init__(self) -> None:
        for name in ("n_layers", "n_heads", "n_kv_heads"):
            _check_count(name, getattr(self, name))
        for name in ("parallel", "head_writes", "meets"):
            if not isinstance(getattr(self, name), bool):
                raise CircuitError(
                    f"shape: {name} is {getattr(self, name)!r}; expected true or false",
                    hint=f"{name}=True or {name}=False",
                )
        if self.n_layers * (self.n_heads + 1) > MOST_WRITERS:
            raise CircuitError(
                f"shape: {self.n_layers} layers of {self.n_heads} heads are more than {MOST_WRITERS} writers",
                hint="take a part of the model: fewer layers, or fewer heads",
            )
        if (self.n_heads == 0) != (self.n_kv_heads == 0) or self.n_heads % max(self.n_kv_heads, 1):
            raise CircuitError(
                f"shape: {self.n_heads} heads cannot share {self.n_kv_heads} key/value heads evenly",
                hint="make n_heads a multiple of n_kv_heads: n_heads=8, n_kv_heads=2",
            )
        for name in ("attention_layers", "mlp_layers"):
            _check_layers(name, getattr(self, name), self.n_layers)
        if self.tower is not None and (
            not isinstance(self.tower, GraphShape) or self.tower.tower is not None
        ):
            raise CircuitError(
                "shape: tower is not the shape of one stack of layers",
                hint="tower=GraphShape(n_layers=3, n_heads=4, n_kv_heads=4, parallel=False)",
            )
        if self.meets and self.tower is None:
            raise CircuitError(
                "shape: meets is true and there is no tower that it could meet",
                hint="meets=False, or tower=GraphShape(n_layers=3, n_heads=4, n_kv_heads=4, parallel=False)",
            )

    def has_attention(self, layer: int) -> bool:
        return self.n_heads > 0 and (self.attention_layers is None or layer in self.attention_layers)

    def has_mlp(self, layer: int) -> bool:
        return self.mlp_layers is None or layer in self.mlp_layers

    def to_dict(self) -> dict:
        """Return it as JSON values; a tower is named only where there is one."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _MAY_LACK}
        found = {k: list(v) if isinstance(v, tuple) else v for k, v in own.items()}
        found |= {"meets": True} if self.meets else {}
        return found if self.tower is None else {**found, "tower": self.tower.to_dict()}

    @classmethod
    def from_dict(cls, data: dict) -> GraphShape:
        """Read what ``to_dict`` wrote.

        Raises:
            CircuitError: if a key is missing or unknown, or a value cannot be.
        """
        known = {f.name for f in fields(cls)}
        wrong, missing = sorted(set(data) - known), sorted(known - set(_MAY_LACK) - set(data))
        if wrong or missing:
            what = f"has an unknown key {wrong[0]!r}" if wrong else f"lacks {missing[0]!r}"
            raise CircuitError(f"shape: it {what}", hint=f"keys: {', '.join(sorted(known))}")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        if isinstance(values.get("tower"), dict):
            values["tower"] = cls.from_dict(values["tower"])
        return cls(**values)


def _check_count(name: str, value: object) -> None:
    least = 1 if name == "n_layers" else 0
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MOST_WRITERS:
        raise CircuitError(
            f"shape: {name} is {value!r}; expected a whole number from {least}", hint=f"{name}={least or 1}"
        )


def _check_layers(name: str, value: object, n_layers: int) -> None:
    if value is None:
        return
    whole = isinstance(value, tuple) and all(type(x) is int and 0 <= x < n_layers for x in value)
    if not isinstance(value, tuple) or not whole or list(value) != sorted(set(value)):
        raise CircuitError(
            f"shape: {name} must be rising layer numbers from 0 to {n_layers - 1}",
            hint="name each layer once, in order: (0, 1, 3)",
        )


@dataclass(frozen=True)
class Graph:
    """Sources, targets and the edges between them, as index tables.

    Where the shape has a tower, its sources and targets come first, then ``projector``, which reads the tower, then
    those of the language model, where ``projector`` writes beside ``input``. Two towers that meet have no
    ``projector``: after those of the one for pictures come those of the one for captions, and last ``logits``, which
    read both.

    Attributes:
        entering: What the first layer is given.
        end: What reads after the last layer.
        stack: The name before the addresses of a tower's parts; None is the model's own stack.

    Example:
        >>> Graph(GraphShape(n_layers=12, n_heads=12, n_kv_heads=12)).n_edges
        32491
        >>> small = Graph(GraphShape(n_layers=1, n_heads=1, n_kv_heads=1))
        >>> [str(node) for node in small.nodes()], str(next(small.edges())), small.index(next(small.edges()))
        (['input', 'a0.h0', 'm0', 'logits'], 'input->a0.h0<q>', (0, 0))
    """

    shape: GraphShape
    entering: tuple[Node, ...] = (names.INPUT,)
    end: Node = names.LOGITS
    stack: str | None = None

    @cached_property
    def parts(self) -> tuple[Graph, ...]:
        """The graphs of single stacks that it is made of, in order: itself, or a tower and the language model."""
        if self.shape.tower is None:
            return (self,)
        own = replace(self.shape, tower=None, meets=False)
        if self.shape.meets:
            seeing = Graph(self.shape.tower, (names.VISION_INPUT,), names.LOGITS, names.VISION)
            return seeing, Graph(own, (names.TEXT_INPUT,), names.LOGITS, names.TEXT)
        tower = Graph(self.shape.tower, (names.VISION_INPUT,), names.PROJECTOR, names.VISION)
        return tower, Graph(own, (names.INPUT, names.PROJECTOR))

    @cached_property
    def sources(self) -> tuple[Node, ...]:
        """Every part that writes, in residual order."""
        if self.shape.tower is not None:
            return tuple(node for part in self.parts for node in part.sources)
        found = list(self.entering)
        for layer in range(self.shape.n_layers):
            found += self._writers(layer)
            found += [self._own(names.mlp(layer))] if self.shape.has_mlp(layer) else []
        return tuple(found)

    @cached_property
    def targets(self) -> tuple[Node, ...]:
        """Every input that reads: per layer q of each head, k and v of each KV group, MLP; last logits."""
        if self.shape.tower is not None:
            every = (node for part in self.parts for node in part.targets)
            return (*(t for t in every if t != names.LOGITS), names.LOGITS)
        found: list[Node] = []
        for layer in range(self.shape.n_layers):
            found += self.attention_targets(layer)
            found += [self._own(names.mlp(layer))] if self.shape.has_mlp(layer) else []
        return (*found, self.end)

    def _own(self, node: Node) -> Node:
        """A part of this stack by its address in the model."""
        return node if self.stack is None else replace(node, tower=self.stack)

    def _writers(self, layer: int) -> list[Node]:
        if not self.shape.has_attention(layer):
            return []
        if not self.shape.head_writes:
            return [self._own(names.attn(layer))]
        return [self._own(names.head(layer, h)) for h in range(self.shape.n_heads)]

    def attention_targets(self, layer: int) -> list[Node]:
        """Return the q, k and v inputs of one layer, in the order of ``targets``."""
        if not self.shape.has_attention(layer):
            return []
        shape = self.shape
        make = names.head if shape.n_kv_heads == shape.n_heads else names.group
        queries = [names.head(layer, h, "q") for h in range(shape.n_heads)]
        every = queries + [make(layer, g, slot) for slot in "kv" for g in range(shape.n_kv_heads)]
        return [self._own(node) for node in every]

    @property
    def n_steps(self) -> int:
        """How many layers a pass has, those of a tower before the others; a pass may start at any of them."""
        return sum(part.shape.n_layers for part in self.parts)

    @cached_property
    def steps(self) -> tuple[tuple[int, tuple[int, ...]], ...]:
        """The layer that a pass starts at and the targets there, for each layer and each end, in order."""
        found: list[tuple[int, tuple[int, ...]]] = []
        first = 0
        for part, columns in zip(self.parts, self.columns, strict=True):
            n = part.shape.n_layers
            for layer in range(n):
                here = [columns[j] for j, t in enumerate(part.targets) if t.layer == layer]
                found.append((first + layer, tuple(here)))
            first += n
            if columns[-1] == len(self.targets) - 1 and first < self.n_steps:
                continue  # read with what the other tower ends with
            found.append((first - 1, (columns[-1],)))
        return tuple(found)

    @cached_property
    def columns(self) -> tuple[tuple[int, ...], ...]:
        """Where the targets of each part are in the graph; two towers that meet share the last one."""
        found, first, shared = [], 0, int(self.shape.meets)
        for part in self.parts:
            own = len(part.targets) - shared
            found.append((*range(first, first + own), *[len(self.targets) - 1] * shared))
            first += own
        return tuple(found)

    @cached_property
    def start_of(self) -> tuple[int, ...]:
        """``(target,)``: the first layer that an edge into a target can change, counted as ``steps`` does."""
        return tuple(start for start, columns in self.steps for _ in columns)

    @cached_property
    def source_index(self) -> dict[Node, int]:
        return {node: i for i, node in enumerate(self.sources)}

    @cached_property
    def target_index(self) -> dict[Node, int]:
        return {node: i for i, node in enumerate(self.targets)}

    @cached_property
    def n_visible(self) -> np.ndarray:
        """``(target,)``: the end of the run of sources that each target reads; see ``first_visible``."""
        if self.shape.tower is not None:
            seen = np.zeros(len(self.targets), dtype=np.int64)
            for at, part, columns in zip(self._first, self.parts, self.columns, strict=True):
                seen[list(columns)] = at + part.n_visible
            return seen
        counts, written = [], len(self.entering)
        for layer in range(self.shape.n_layers):
            heads = len(self._writers(layer))
            counts += [written] * len(self.attention_targets(layer))
            if self.shape.has_mlp(layer):
                counts.append(written if self.shape.parallel else written + heads)
            written += heads + self.shape.has_mlp(layer)
        return np.array([*counts, written], dtype=np.int64)

    @cached_property
    def _first(self) -> list[int]:
        """The first source of each part."""
        return [sum(len(part.sources) for part in self.parts[:n]) for n in range(len(self.parts))]

    @cached_property
    def first_visible(self) -> np.ndarray:
        """``(target,)``: the first source that each target reads; 0 but for a language model behind a tower."""
        start = np.zeros(len(self.targets), dtype=np.int64)
        for at, columns in zip(reversed(self._first), reversed(self.columns), strict=True):
            start[list(columns)] = at  # of what both towers end in: the first source of the first one
        return start

    @cached_property
    def _reads(self) -> list[int]:
        """``n_visible`` as plain numbers, which single look-ups read ten times faster."""
        return self.n_visible.tolist()

    @cached_property
    def _starts(self) -> list[int]:
        """``first_visible`` as plain numbers."""
        return self.first_visible.tolist()

    @cached_property
    def edge_mask(self) -> np.ndarray:
        """``(source, target)``, True where the edge exists."""
        at = np.arange(len(self.sources))[:, None]
        return (self.first_visible[None, :] <= at) & (at < self.n_visible[None, :])

    @property
    def n_edges(self) -> int:
        return int((self.n_visible - self.first_visible).sum())

    def edges(self) -> Iterator[Edge]:
        """Return all edges, by source and then target."""
        for i, j in np.argwhere(self.edge_mask):
            yield Edge(self.sources[i], self.targets[j])

    def index(self, edge: Edge) -> tuple[int, int]:
        """Row and column of an edge in ``(source, target)`` arrays; positions are passed over.

        Raises:
            CircuitError: if this architecture has no such edge.
        """
        i, j = self.source_index.get(edge.source.at(None)), self.target_index.get(edge.target.at(None))
        if i is None:
            raise unknown("source", str(edge.source), map(str, self.sources), error=CircuitError)
        if j is None:
            raise unknown("target", str(edge.target), map(str, self.targets), error=CircuitError)
        if self.shape.meets and edge.target.kind != "logits" and edge.source.tower != edge.target.tower:
            raise CircuitError(
                f"{edge.target} cannot read {edge.source}: the towers of pictures and captions meet in logits",
                hint=f"{edge.source}->logits",
            )
        if i < self._starts[j]:
            raise CircuitError(
                f"{edge.target} cannot read {edge.source}, which is in a tower; what it writes passes the projector",
                hint=f"{edge.source}->projector, and projector->{edge.target}",
            )
        if i >= self._reads[j]:
            parallel = "in parallel blocks an MLP does not read the heads of its own layer"
            raise CircuitError(
                f"{edge.target} cannot read {edge.source}, which writes later; circuits have no cycles",
                hint=parallel
                if self.shape.parallel and edge.target.kind == "mlp"
                else "turn it round: the source is the part that writes earlier",
            )
        return i, j

    @cached_property
    def links(self) -> tuple[tuple[Node, Node], ...]:
        """Structural links that are not edges: KV group -> its heads, head -> its post-normed layer."""
        if self.shape.tower is not None:
            return tuple(link for part in self.parts for link in part.links)
        shape, found = self.shape, []
        for layer in range(shape.n_layers):
            if not shape.has_attention(layer):
                continue
            for h in range(shape.n_heads):
                if shape.n_kv_heads != shape.n_heads:
                    g = h * shape.n_kv_heads // shape.n_heads
                    found.append((Node("group", layer, g), names.head(layer, h)))
                if not shape.head_writes:
                    found.append((names.head(layer, h), names.attn(layer)))
        return tuple((self._own(before), self._own(after)) for before, after in found)

    def fed_by(self, node: Node) -> tuple[Node, ...]:
        """Return the node and what structural links lead to from it: a KV group's heads, a head's post-normed layer."""
        found, front = {node: None}, [node]
        while front:
            front = [after for before, after in self.links if before in front and after not in found]
            found |= dict.fromkeys(front)
        return tuple(found)

    @property
    def roots(self) -> tuple[Node, ...]:
        """What no part of the model wrote: ``input``, and with a tower the patches too."""
        return tuple(node for node in self.sources if node.kind == "input")

    def nodes(self) -> tuple[Node, ...]:
        """Return every part that writes or reads, in residual order; a node-level circuit keeps some of them."""
        return (*self.sources, names.LOGITS)

    @cached_property
    def known(self) -> frozenset[Node]:
        """Every node a circuit of this architecture may have, without positions."""
        return frozenset((*self.nodes(), *(n for link in self.links for n in link)))
