"""Scores of nodes or edges: estimates with unit and sign, and how a circuit is selected from them."""

from __future__ import annotations

import decimal
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from workbench.circuits.addresses import INPUT, LOGITS, Edge, Node, neuron
from workbench.circuits.circuit import Circuit
from workbench.circuits.graph import Graph
from workbench.circuits.selection.rules import RANKINGS, Index, Level, Ranking, asked, one_rule
from workbench.core.errors import OptionError, ShapeError, expect, expect_word
from workbench.core.run_record import with_standing
from workbench.core.show import Shown
from workbench.core.text import printable

_FLOAT = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?"
_KEEP = re.compile(rf">=\s*(?P<tau>{_FLOAT})|(?P<percent>{_FLOAT})\s*%|(?P<n>[0-9]{{1,12}})|(?P<own>own)")


def check_rule(rule: str, *, select: str = "top", level: Level = "edge", positions: bool = False) -> None:
    """Whether ``Scores.keep`` will understand a rule; asked before hours of scoring.

    Raises:
        OptionError: if not.
    """
    match = _match(rule)
    if match["percent"] and float(match["percent"]) > 100:
        raise OptionError(f"cannot keep {rule} of the {level}s", hint="between 0% and 100%: --keep 5%")
    if select != "top" and (match["tau"] or match["own"]):
        raise OptionError(f"{select} selection needs a number or a share of edges", hint="--keep 5%")
    asked(select).check(level, positions)


def as_rule(amount: str | int | float) -> str:
    """Say how much to keep, as a rule: 200 is a number of edges, 0.05 a share of all.

    Raises:
        OptionError: for a share outside 0 to 1, or another type.

    Example:
        >>> as_rule(200), as_rule(0.05), as_rule(">=0.01")
        ('200', '5%', '>=0.01')
    """
    if isinstance(amount, str):
        return amount
    if isinstance(amount, int | np.integer) and not isinstance(amount, bool) and amount >= 0:
        return str(int(amount))
    if isinstance(amount, float | np.floating) and 0 <= amount <= 1:
        return f"{(decimal.Decimal(repr(float(amount))) * 100).normalize():f}%"
    raise OptionError(
        f"cannot keep {amount!r:.60}",
        hint="200 is a number of edges, 0.05 a share of all; or text: '5%', '>=0.01'",
    )


def _match(rule: str) -> re.Match[str]:
    match = _KEEP.fullmatch(rule.strip())
    if match is None:
        raise OptionError(
            f"cannot keep {rule!r}; expected a number, a share, a least score or own",
            hint="use a number (200), a share (5%), '>=0.01' or own: --keep 5%",
        )
    return match


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores(
    Shown, shown_in="workbench.circuits.show.notebook", saved_in="workbench.circuits.files.scores_file"
):
    """An estimate for every edge, node or neuron of a graph; positive supports the behavior, for every method.

    Attributes:
        values: ``(source, target)`` for edges (NaN where no edge exists), ``(source,)`` for nodes,
            ``(layer, d_mlp)`` for the hidden units of MLPs (NaN where a layer has none).
        positions: Labels of the leading axis of ``values`` when each position has scores of its own: the named
            positions, then ``rest`` for all other tokens. Empty when one score stands for all positions.
        unit: Unit of what they estimate, most often of the metric whose change they are.
        own_rule: The rule by which the method itself decides what is in the circuit, where it does.
        per_pair: ``(pair, *values.shape)`` when the scores are means over pairs; not written to files.
        passes: Forward and backward passes spent per batch of pairs.
        notes: What is to be said of the file that they were read from; not written to files.

    Example:
        >>> import workbench as wb
        >>> runs = wb.paired_runs(wb.open_model("zoo:ioi"), "ioi", n=4)
        >>> scores = wb.score(runs, "eap")
        >>> scores.top(20).n_edges <= 20, scores.fraction(0.05).edges == scores.keep("5%").edges
        (True, True)
        >>> scores.n_candidates == scores.graph.n_edges == len(scores.to_dataframe())
        True
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
    positions: tuple[str, ...] = ()
    own_rule: str = ""
    notes: tuple[str, ...] = ()
    per_pair: np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        expected = self._base_shape()
        if self.positions:
            expected = (len(self.positions), *expected)
        if self.values.shape != expected:
            raise ShapeError(
                f"{self.level} scores have shape {self.values.shape}; the graph needs {expected}",
                hint="make them of the model's graph: a row for each source, a column for each target",
            )
        bad = int((~np.isfinite(self.values[self.exists])).sum())
        if bad:
            raise ShapeError(
                f"{bad} {self.level} scores of {self.method} are not finite",
                hint="look for NaN in the model's outputs: workbench model check NAME",
            )

    def _base_shape(self) -> tuple[int, ...]:
        if self.level == "edge":
            return self.graph.edge_mask.shape
        if self.level == "node":
            return (len(self.graph.sources),)
        return (self.graph.shape.n_layers, self.values.shape[-1] if self.values.ndim else 0)

    @cached_property
    def exists(self) -> np.ndarray:
        """Where ``values`` stand for something: an edge of the graph, a node, a hidden unit."""
        if self.level == "edge":
            found = self.graph.edge_mask
        elif self.level == "node":
            found = np.ones(len(self.graph.sources), dtype=bool)
        else:
            layers = [self.graph.shape.has_mlp(n) for n in range(self.graph.shape.n_layers)]
            found = np.broadcast_to(np.array(layers)[:, None], self._base_shape())
        return np.broadcast_to(found, self.values.shape)

    @cached_property
    def candidates(self) -> np.ndarray:
        """What can be chosen: everything that exists but the input node, which is always kept."""
        found = self.exists.copy()
        if self.level == "node":
            found[..., 0] = False
        return found

    @property
    def n_candidates(self) -> int:
        """How many edges, nodes or neurons there are to choose from."""
        return int(self.candidates.sum())

    def without_sign(self, unit: str) -> bool:
        """Say whether they are sizes, masks or shares, which no part that opposes the behavior shows in.

        Args:
            unit: Of the metric; scores in it have a sign, and so have those of which some are negative (ensembles).
        """
        return self.unit != unit and not bool((self.values[self.candidates] < 0).any())

    def address(self, index: Index) -> str:
        """Return the address of what an index of ``values`` stands for, such as ``a5.h5@S2->a9.h9<q>@S2``."""
        found = self._at(index)
        return str(Edge(*found)) if isinstance(found, tuple) else str(found)

    def _at(self, index: Index) -> Node | tuple[Node, Node]:
        place = None
        if self.positions:
            place, index = self.positions[index[0]], index[1:]
        if self.level == "edge":
            return self.graph.sources[index[0]].at(place), self.graph.targets[index[1]].at(place)
        if self.level == "node":
            return self.graph.sources[index[0]].at(place)
        return neuron(*index).at(place)

    def ranked(self, by: Ranking = "absolute") -> list[Index]:
        """Return indices from best to worst. Ties keep residual order: the ranking is the same on every machine."""
        expect_word("ranking", by, RANKINGS)
        where = np.argwhere(self.candidates)
        chosen = self.values[tuple(where.T)]
        keys = -np.abs(chosen) if by == "absolute" else -chosen
        order = np.argsort(keys, kind="stable")
        return list(map(tuple, where[order].tolist()))

    def top(self, n: int, *, by: Ranking = "absolute", prune: bool = True) -> Circuit:
        """Return the circuit of the ``n`` best edges (nodes, neurons), without what is not connected to both ends."""
        expect(n, (int, np.integer), what="top: n", hint='top(200), fraction(0.05) or keep("5%")')
        return self.choose(n, by=by, prune=prune)

    def choose(self, n: int, *, by: Ranking = "absolute", select: str = "top", prune: bool = True) -> Circuit:
        """Return the circuit of ``n`` parts that a rule chooses: ``top``, ``greedy``, ``pnr:0.7`` or ``ilp``.

        Raises:
            OptionError: for an unknown rule, one that follows edges where the scores are of something else, or more
                parts than there are.
        """
        rule = asked(select)
        if not 0 <= n <= self.n_candidates:
            raise OptionError(
                f"cannot keep {n} of {self.n_candidates} {self.level}s",
                hint=f"choose between 0 and {self.n_candidates}, or a percentage such as 5%",
            )
        kept = rule(self, n, by)
        return self._circuit(kept, f"{rule} {n} by {by} score", nominal=len(kept), prune=prune)

    def fraction(self, share: float, *, by: Ranking = "absolute", prune: bool = True) -> Circuit:
        """Return the best ``share`` (0 to 1) of all edges: ``int(share * n)`` of them (methods as in MIB)."""
        return self.top(self.count(share), by=by, prune=prune)

    def count(self, share: float) -> int:
        """Say how many edges (or nodes) a share of 0 to 1 is, rounded down."""
        expect(share, (int, float, np.number), what="a share", hint='fraction(0.05) or keep("5%")')
        if not 0 <= share <= 1:
            raise OptionError(f"cannot keep a share of {share:g}", hint="use a number from 0 to 1, or 5%")
        # 1e-9: 0.07 * 100 is 7.000000000000001 in floats and 0.29 * 100 is 28.999999999999996
        return int(share * self.n_candidates + 1e-9)

    def threshold(self, tau: float, *, by: Ranking = "absolute", prune: bool = True) -> Circuit:
        """Return all edges (or nodes) whose score is at least ``tau``, ties included."""
        expect(tau, (int, float, np.number), what="threshold: tau", hint="threshold(0.01)")
        if not math.isfinite(tau):
            raise OptionError(f"the threshold is {tau}; it must be a finite number", hint="tau=0.01")
        kept = [
            i for i in self.ranked(by) if (abs(self.values[i]) if by == "absolute" else self.values[i]) >= tau
        ]
        return self._circuit(kept, f"{by} score >= {float(tau)!r}", nominal=len(kept), prune=prune)

    def keep(
        self,
        rule: str | int | float,
        *,
        by: Ranking = "absolute",
        greedy: bool = False,
        select: str = "top",
        prune: bool = True,
    ) -> Circuit:
        """Return the circuit a rule chooses: ``200`` (top-n), ``5%`` or 0.05 (of all), ``>=0.01`` (threshold),
        ``own``.

        ``own`` is the method's own decision, for methods that make one (ACDC, edge pruning ...); such a rule
        is by signed score.

        Args:
            greedy: Grow the number or share from the logits: ``select="greedy"``.
            select: How the number or share is chosen: ``top``, ``greedy``, ``pnr:0.7`` or ``ilp``.

        Raises:
            OptionError: if the rule is none of these, or another selection than ``top`` is asked for with a threshold.
        """
        select = one_rule(select, greedy)
        match = _match(as_rule(rule))
        if match["own"]:
            if not self.own_rule:
                raise OptionError(f"{self.method} ranks and does not decide", hint="say how much: --keep 5%")
            chosen = self.keep(self.own_rule, by="signed", prune=prune)
            # not the threshold alone: on other pairs the method decides anew
            return chosen.with_fields(
                selection={**chosen.selection, "rule": "own", "threshold": self.own_rule}
            )
        if match["tau"]:
            if select != "top":
                raise OptionError(f"{select} selection needs a number or a share of edges", hint="--keep 5%")
            return self.threshold(float(match["tau"]), by=by, prune=prune)
        n = self.count(float(match["percent"]) / 100) if match["percent"] else int(match["n"])
        return self.choose(n, by=by, select=select, prune=prune)

    def greedy(self, n: int, *, by: Ranking = "absolute") -> Circuit:
        """Grow from ``logits``: again and again the best edge whose reader is already in the circuit.

        Always connected to the logits; edges whose writers have no path from the input are pruned.
        """
        return self.choose(n, by=by, select="greedy")

    def _circuit(self, kept: list[Index], rule: str, *, nominal: int, prune: bool) -> Circuit:
        selection = {
            "rule": rule,
            "nominal": nominal,
            "candidates": self.n_candidates,
            "pruned": prune and self.level == "edge",
        }
        nodes: dict[Node, float | None] = {} if self.level == "edge" else {INPUT: None, LOGITS: None}
        edges: dict[tuple[Node, Node], float] = {}
        for index in kept:
            found, score = self._at(index), float(self.values[index])
            if isinstance(found, tuple):
                edges[found] = score
            else:
                nodes[found] = score
        circuit = Circuit.build(
            shape=self.graph.shape,
            level=self.level,
            method=self.method,
            unit=self.unit,
            metric=self.metric,
            selection=selection,
            provenance={**self.provenance, "options": dict(self.options)},
            nodes=nodes,
            edges=edges,
        )
        return circuit.prune_chosen() if prune and self.level == "edge" else circuit

    def by_layer_and_head(self) -> np.ndarray:
        """Return ``(layer, head)``: scores of heads, or the sum over their outgoing edges. NaN where no head is."""
        out = np.full((self.graph.shape.n_layers, self.graph.shape.n_heads), np.nan)
        if self.level == "neuron":
            return out
        whole = self.values.sum(0) if self.positions else self.values
        node = whole if self.level == "node" else np.nansum(np.where(self.graph.edge_mask, whole, 0), 1)
        for i, source in enumerate(self.graph.sources):
            if source.kind == "head" and source.tower is None:
                out[source.layer, source.index] = node[i]
        return out

    def to_dataframe(self):
        """One row per edge, node or neuron: address, score; best first by absolute value."""
        import pandas as pd

        rows = [{self.level: self.address(i), "score": float(self.values[i])} for i in self.ranked()]
        return pd.DataFrame(rows, columns=[self.level, "score"])

    def __repr__(self) -> str:
        where = f" at {len(self.positions)} positions" if self.positions else ""
        return printable(
            f"<Scores {self.method}: {self.n_candidates} {self.level}s{where}, metric {self.metric}, "
            f"unit {self.unit}, n={self.n_pairs}{with_standing(self.provenance)}>"
        )
