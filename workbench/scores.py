"""Scores of nodes or edges: estimates with unit and sign, and how a circuit is selected from them."""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from workbench.circuit import Circuit
from workbench.errors import OptionError, ShapeError
from workbench.graph import Graph
from workbench.names import INPUT, LOGITS, Node

_FLOAT = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?"
_KEEP = re.compile(rf">=\s*(?P<tau>{_FLOAT})|(?P<percent>{_FLOAT})\s*%|(?P<n>[0-9]{{1,12}})")

Ranking = Literal["absolute", "signed"]
Level = Literal["edge", "node"]


def check_rule(rule: str, *, greedy: bool = False, level: Level = "edge") -> None:
    """Whether ``Scores.keep`` will understand a rule; asked before hours of scoring.

    Raises:
        OptionError: if not.
    """
    match = _KEEP.fullmatch(rule.strip())
    if match is None:
        raise OptionError(f"cannot keep {rule!r}", hint="use a number (200), a share (5%) or '>=0.01'")
    if match["percent"] and float(match["percent"]) > 100:
        raise OptionError(f"cannot keep {rule} of the {level}s", hint="between 0% and 100%")
    if greedy and (match["tau"] or level == "node"):
        raise OptionError("greedy growth needs a number or a share of edges", hint="--keep 5%")


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """An estimate for every edge or node of a graph; positive supports the behavior, for every method.

    Attributes:
        values: ``(source, target)`` for edges (NaN where no edge exists), ``(source,)`` for nodes.
        unit: Unit of the metric they estimate a change of.
        passes: Forward and backward passes spent per batch of pairs.
    """

    graph: Graph
    values: np.ndarray
    level: Level
    method: str
    unit: str
    metric: str
    n_pairs: int
    options: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    passes: int = 0
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        expected = self.graph.edge_mask.shape if self.level == "edge" else (len(self.graph.sources),)
        if self.values.shape != expected:
            raise ShapeError(
                f"{self.level} scores have shape {self.values.shape}; the graph needs {expected}"
            )
        bad = int((~np.isfinite(self.values[self._exists])).sum())
        if bad:
            raise ShapeError(
                f"{bad} {self.level} scores of {self.method} are not finite",
                hint="look for NaN in the model's outputs: workbench model check NAME",
            )

    @property
    def _exists(self) -> np.ndarray:
        return self.graph.edge_mask if self.level == "edge" else np.ones(len(self.graph.sources), dtype=bool)

    @property
    def n_candidates(self) -> int:
        """How many edges or nodes there are to choose from (the input node is always kept, never chosen)."""
        return self.graph.n_edges if self.level == "edge" else len(self.graph.sources) - 1

    def ranked(self, by: Ranking = "absolute") -> list[tuple[int, ...]]:
        """Indices from best to worst. Ties keep residual order: the ranking is the same on every machine."""
        where = np.argwhere(self._exists) if self.level == "edge" else np.arange(1, len(self.values))[:, None]
        chosen = self.values[tuple(where.T)]
        keys = -np.abs(chosen) if by == "absolute" else -chosen
        return [tuple(int(i) for i in where[k]) for k in np.argsort(keys, kind="stable")]

    def top(self, n: int, *, by: Ranking = "absolute", prune: bool = True) -> Circuit:
        """The circuit of the ``n`` best edges (or nodes), without what is not connected to both ends."""
        if not 0 <= n <= self.n_candidates:
            raise OptionError(
                f"cannot keep {n} of {self.n_candidates} {self.level}s",
                hint=f"choose between 0 and {self.n_candidates}, or a percentage such as 5%",
            )
        return self._circuit(self.ranked(by)[:n], f"top {n} by {by} score", nominal=n, prune=prune)

    def fraction(self, share: float, *, by: Ranking = "absolute", prune: bool = True) -> Circuit:
        """The best ``share`` (0 to 1) of all edges: ``int(share * n)`` of them (methods as in MIB)."""
        return self.top(self.count(share), by=by, prune=prune)

    def count(self, share: float) -> int:
        """How many edges (or nodes) a share of 0 to 1 is, rounded down."""
        if not 0 <= share <= 1:
            raise OptionError(f"cannot keep a share of {share:g}", hint="use a number from 0 to 1, or 5%")
        # 1e-9: 0.07 * 100 is 7.000000000000001 in floats and 0.29 * 100 is 28.999999999999996
        return int(share * self.n_candidates + 1e-9)

    def threshold(self, tau: float, *, by: Ranking = "absolute", prune: bool = True) -> Circuit:
        """All edges (or nodes) whose score is at least ``tau``, ties included."""
        if not math.isfinite(tau):
            raise OptionError(f"the threshold is {tau}; it must be a finite number")
        kept = [
            i for i in self.ranked(by) if (abs(self.values[i]) if by == "absolute" else self.values[i]) >= tau
        ]
        return self._circuit(kept, f"{by} score >= {tau:g}", nominal=len(kept), prune=prune)

    def keep(
        self, rule: str, *, by: Ranking = "absolute", greedy: bool = False, prune: bool = True
    ) -> Circuit:
        """The circuit a rule chooses: ``200`` (top-n), ``5%`` (of all), ``>=0.01`` (threshold).

        Args:
            greedy: Grow the number or share from the logits instead of taking the best wherever they are.

        Raises:
            OptionError: if the rule is none of these, or greedy growth is asked for with a threshold.
        """
        match = _KEEP.fullmatch(rule.strip())
        if match is None:
            raise OptionError(f"cannot keep {rule!r}", hint="use a number (200), a share (5%) or '>=0.01'")
        if match["tau"]:
            if greedy:
                raise OptionError("greedy growth needs a number or a share of edges", hint="--keep 5%")
            return self.threshold(float(match["tau"]), by=by, prune=prune)
        n = self.count(float(match["percent"]) / 100) if match["percent"] else int(match["n"])
        return self.greedy(n, by=by) if greedy else self.top(n, by=by, prune=prune)

    def greedy(self, n: int, *, by: Ranking = "absolute") -> Circuit:
        """Grow from ``logits``: again and again the best edge whose reader is already in the circuit.

        Always connected to the logits; edges whose writers have no path from the input are pruned.
        """
        if self.level != "edge":
            raise OptionError(
                "greedy selection follows edges; these are node scores", hint="use top or threshold"
            )
        if not 0 <= n <= self.n_candidates:
            raise OptionError(f"cannot keep {n} of {self.n_candidates} edges")
        return self._circuit(self._grow(n, by), f"greedy {n} by {by} score", nominal=n, prune=True)

    def _grow(self, n: int, by: Ranking) -> list[tuple[int, ...]]:
        """Indices of the ``n`` edges greedy growth takes, in the order it takes them."""
        rank = np.full(self.values.shape, np.inf)
        for place, index in enumerate(self.ranked(by)):
            rank[index] = place
        readers, reads = self._readers(), self.graph.n_visible
        opened: set[int] = set()
        queue: list[tuple[float, int, int]] = []
        newly = [self.graph.target_index[LOGITS]]
        kept: list[tuple[int, ...]] = []
        while len(kept) < n:
            for j in newly:
                opened.add(j)
                queue += [(rank[i, j], i, j) for i in range(reads[j])]
            if newly:
                heapq.heapify(queue)
            if not queue:
                break
            _, i, j = heapq.heappop(queue)
            kept.append((i, j))
            newly = [t for t in readers[self.graph.sources[i]] if t not in opened]
        return kept

    def _readers(self) -> dict[Node, list[int]]:
        """Source -> the targets whose reading can flow into it: a head's q and its KV group's k and v, ..."""
        following: dict[Node, list[Node]] = {}
        for before, after in self.graph.links:
            following.setdefault(before, []).append(after)
        found: dict[Node, list[int]] = {source: [] for source in self.graph.sources}
        for j, target in enumerate(self.graph.targets):
            reached = {target.writer}
            front = [target.writer]
            while front:
                front = [node for at in front for node in following.get(at, ()) if node not in reached]
                reached.update(front)
            for node in reached & found.keys():
                found[node].append(j)
        return found

    def _circuit(self, kept: list[tuple[int, ...]], rule: str, *, nominal: int, prune: bool) -> Circuit:
        selection = {
            "rule": rule,
            "nominal": nominal,
            "candidates": self.n_candidates,
            "pruned": prune and self.level == "edge",
        }
        common = {
            "shape": self.graph.shape,
            "level": self.level,
            "method": self.method,
            "unit": self.unit,
            "metric": self.metric,
            "selection": selection,
            "provenance": dict(self.provenance),
        }
        if self.level == "node":
            nodes: dict[Node, float | None] = {INPUT: None, LOGITS: None}
            nodes |= {self.graph.sources[i]: float(self.values[i]) for (i,) in kept}
            return Circuit.build(nodes=nodes, edges={}, **common)
        edges = {(self.graph.sources[i], self.graph.targets[j]): float(self.values[i, j]) for i, j in kept}
        circuit = Circuit.build(nodes={}, edges=edges, **common)
        return circuit.prune() if prune else circuit

    def by_layer_and_head(self) -> np.ndarray:
        """``(layer, head)``: scores of heads, or the sum over their outgoing edges. NaN where no head is."""
        node = (
            self.values
            if self.level == "node"
            else np.nansum(np.where(self.graph.edge_mask, self.values, 0), 1)
        )
        out = np.full((self.graph.shape.n_layers, self.graph.shape.n_heads), np.nan)
        for i, source in enumerate(self.graph.sources):
            if source.kind == "head":
                out[source.layer, source.index] = node[i]
        return out

    def to_dataframe(self):
        """One row per edge or node: address, score; best first by absolute value."""
        import pandas as pd

        rows = []
        for index in self.ranked():
            address = (
                f"{self.graph.sources[index[0]]}->{self.graph.targets[index[1]]}"
                if self.level == "edge"
                else str(self.graph.sources[index[0]])
            )
            rows.append({self.level: address, "score": float(self.values[index])})
        return pd.DataFrame(rows, columns=[self.level, "score"])

    def _repr_html_(self) -> str:
        from workbench.view.cards import scores_card

        return scores_card(self)

    def __repr__(self) -> str:
        return (
            f"<Scores {self.method}: {self.n_candidates} {self.level}s, metric {self.metric}, "
            f"unit {self.unit}, n={self.n_pairs}>"
        )
