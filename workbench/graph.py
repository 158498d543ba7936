"""The computation graph of an architecture: which part reads what which part wrote.

Sources write to the residual stream, targets read from it. In residual order every target reads a
*prefix* of the sources, so the whole edge set is one number per target (``n_visible``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np

from workbench import names
from workbench.errors import CircuitError, unknown
from workbench.names import Edge, Node

CONVENTION = (
    "position-free; sources input, heads, MLPs; targets q, k, v per head (k, v per KV group), MLP, logits"
)


@dataclass(frozen=True, kw_only=True)
class GraphShape:
    """What the graph needs to know of an architecture.

    ``head_writes`` is False in post-norm models (Gemma 2, OLMo 2): a norm follows the sum of the heads, so
    the whole attention layer is the writer, while each head still reads by itself.
    """

    n_layers: int
    n_heads: int
    n_kv_heads: int
    parallel: bool = False
    head_writes: bool = True
    attention_layers: tuple[int, ...] | None = None
    mlp_layers: tuple[int, ...] | None = None

    def has_attention(self, layer: int) -> bool:
        return self.attention_layers is None or layer in self.attention_layers

    def has_mlp(self, layer: int) -> bool:
        return self.mlp_layers is None or layer in self.mlp_layers

    def to_dict(self) -> dict:
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: dict) -> GraphShape:
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in data.items()})


@dataclass(frozen=True)
class Graph:
    """Sources, targets and the edges between them, as index tables.

    Example:
        >>> Graph(GraphShape(n_layers=12, n_heads=12, n_kv_heads=12)).n_edges
        32491
    """

    shape: GraphShape

    @cached_property
    def sources(self) -> tuple[Node, ...]:
        """Every part that writes, in residual order."""
        found = [names.INPUT]
        for layer in range(self.shape.n_layers):
            found += self._writers(layer)
            found += [names.mlp(layer)] if self.shape.has_mlp(layer) else []
        return tuple(found)

    @cached_property
    def targets(self) -> tuple[Node, ...]:
        """Every input that reads: per layer q of each head, k and v of each KV group, the MLP; last the logits."""
        found: list[Node] = []
        for layer in range(self.shape.n_layers):
            found += self.attention_targets(layer)
            found += [names.mlp(layer)] if self.shape.has_mlp(layer) else []
        return (*found, names.LOGITS)

    def _writers(self, layer: int) -> list[Node]:
        if not self.shape.has_attention(layer):
            return []
        if not self.shape.head_writes:
            return [names.attn(layer)]
        return [names.head(layer, h) for h in range(self.shape.n_heads)]

    def attention_targets(self, layer: int) -> list[Node]:
        """The q, k and v inputs of one layer, in the order of ``targets``."""
        if not self.shape.has_attention(layer):
            return []
        shape = self.shape
        make = names.head if shape.n_kv_heads == shape.n_heads else names.group
        queries = [names.head(layer, h, "q") for h in range(shape.n_heads)]
        return queries + [make(layer, g, slot) for slot in "kv" for g in range(shape.n_kv_heads)]

    @cached_property
    def source_index(self) -> dict[Node, int]:
        return {node: i for i, node in enumerate(self.sources)}

    @cached_property
    def target_index(self) -> dict[Node, int]:
        return {node: i for i, node in enumerate(self.targets)}

    @cached_property
    def n_visible(self) -> np.ndarray:
        """``(target,)``: how many of the first sources each target reads."""
        return np.array([self._visible(target) for target in self.targets], dtype=np.int64)

    def _visible(self, target: Node) -> int:
        """Sources before a layer's attention, before its MLP, or all of them."""
        if target.kind == "logits":
            return len(self.sources)
        count = sum(1 for s in self.sources if s.layer is None or s.layer < target.layer)
        if target.kind == "mlp" and not self.shape.parallel:
            count += len(self._writers(target.layer))
        return count

    @cached_property
    def edge_mask(self) -> np.ndarray:
        """``(source, target)``, True where the edge exists."""
        return np.arange(len(self.sources))[:, None] < self.n_visible[None, :]

    @property
    def n_edges(self) -> int:
        return int(self.n_visible.sum())

    def edges(self) -> Iterator[Edge]:
        """All edges, by source and then target."""
        for i, j in np.argwhere(self.edge_mask):
            yield Edge(self.sources[i], self.targets[j])

    def index(self, edge: Edge) -> tuple[int, int]:
        """Row and column of an edge in ``(source, target)`` arrays.

        Raises:
            CircuitError: if this architecture has no such edge.
        """
        if edge.source not in self.source_index:
            raise unknown("source", str(edge.source), map(str, self.sources), error=CircuitError)
        if edge.target not in self.target_index:
            raise unknown("target", str(edge.target), map(str, self.targets), error=CircuitError)
        i, j = self.source_index[edge.source], self.target_index[edge.target]
        if not self.edge_mask[i, j]:
            raise CircuitError(
                f"{edge.target} does not read {edge.source}: it comes earlier in the residual stream"
            )
        return i, j

    @cached_property
    def links(self) -> tuple[tuple[Node, Node], ...]:
        """Structural links that are not edges: KV group -> its heads, head -> its post-normed layer."""
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
        return tuple(found)

    def nodes(self) -> tuple[Node, ...]:
        """Every part that writes or reads, in residual order, without slots: what a node-level circuit keeps."""
        return (*self.sources, names.LOGITS)
