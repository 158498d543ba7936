"""Scores of every edge from one batch: differences of what sources write, times gradients at what targets read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.circuits.graph import Graph
from workbench.engine.paired_runs import Batch, PairedRuns
from workbench.engine.reader_gradients import (
    Differentiated,
    ReaderGradient,
    Readers,
    project_into,
    reader_taps,
)
from workbench.engine.rules import Backward
from workbench.engine.source_outputs import written
from workbench.methods.tally import Sums, Work, accumulate
from workbench.model.wiring import Site, writer_hooks

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    from workbench.model.inner_towers import TowerStack

    Stack = TransformerBridge | TowerStack


class EdgeWork(Work):
    """Every edge: what sources write times the gradient at each target's own copy of the stream.

    Gradients are summed over points where they are small, at q, k and v; one product with the differences of all
    sources follows for each layer. The term of the norm, different at every point, is a product of two thin factors.
    """

    def __init__(
        self, runs: PairedRuns, batch: Batch, graph: Graph, tally: Sums, *, stack: Stack | None = None
    ) -> None:
        super().__init__(runs, batch, graph, tally)
        self.stack = stack
        self.readers: Readers | None = None
        self.sums: dict[tuple[int, int], Tensor] = {}
        self.matrices: dict[tuple[int, int], Tensor | None] = {}

    @staticmethod
    def sites(runs: PairedRuns, graph: Graph) -> list[Site]:
        return [(0, "resid"), *writer_hooks(graph)]

    def taps(self, *, walked: bool) -> tuple[list[str], list[str]]:
        return reader_taps(self.graph, walked=walked)

    @torch.no_grad()
    def start(self, differences: dict[Site, Tensor]) -> None:
        first = next(iter(differences.values()))
        self.delta = first.new_empty(*first.shape[:2], len(self.graph.sources), first.shape[-1])
        at = 0
        for (layer, site), difference in differences.items():
            matrix_part = "mlp-out" if site == "resid" else site  # both are written as they are
            found = written(self.runs.model, self.runs.wiring, layer, matrix_part, difference)
            self.delta[:, -found.shape[1] :, at : at + found.shape[2]] = found
            # of the last layer at the last position alone: read by nothing at the others
            self.delta[:, : -found.shape[1], at : at + found.shape[2]] = 0
            at += found.shape[2]

    def begin(self, delta: Float[Tensor, "pair pos source d_model"]) -> None:
        """Begin with the differences of all sources."""
        self.delta = delta

    @torch.no_grad()
    def add(self, run: Differentiated, weight: float, backward: Backward) -> None:
        thin: list[ReaderGradient] = []
        self.readers = self.readers or Readers(self.runs, self.graph, backward, self.stack)
        for found in self.readers.factors(run):
            key = (found.columns.start, found.columns.stop)
            accumulate(self.sums, key, found.near, weight)
            self.matrices[key] = found.matrix
            thin += [found] if found.normed is not None else []
        self._take_away(thin, weight)

    def _take_away(self, thin: list[ReaderGradient], weight: float) -> None:
        """Subtract ``(difference . normed) * along`` for every norm that has this term."""
        norms: list[Tensor] = []
        for found in thin:
            if found.normed is not None and not any(found.normed is n for n in norms):
                norms.append(found.normed)
        if not norms:
            return
        onto = torch.stack(norms, dim=-1).flatten(0, 1)  # (pair * pos, d_model, norm)
        shadow = torch.bmm(self.delta.flatten(0, 1), onto).unflatten(0, self.delta.shape[:2])
        for found in thin:
            if found.along is None:
                continue
            norm = next(i for i, n in enumerate(norms) if n is found.normed)
            seen = self._seen(found.columns)
            product = shadow[:, :, :seen, norm, None] * (-weight * found.along)[:, :, None]
            self.tally.add(product, (slice(seen), found.columns), self.labels)

    def _seen(self, columns: slice) -> int:
        return int(self.graph.n_visible[columns.start])

    @torch.no_grad()
    def multiply(self) -> None:
        groups: list[list[tuple[int, int]]] = [[]]
        enough = len(self.graph.targets) // self.graph.shape.n_layers
        for key in self.sums:
            if groups[-1] and groups[-1][-1][1] - groups[-1][0][0] >= enough:
                groups.append([])
            groups[-1].append(key)
        widest = max(group[-1][1] - group[0][0] for group in groups)
        # one buffer for all: fresh memory of this size costs as much time as the projections themselves
        self.gradient = self.delta.new_empty(self.delta.shape[:2].numel(), widest, self.delta.shape[-1])
        for group in groups:
            self._contract(group)

    def _contract(self, keys: list[tuple[int, int]]) -> None:
        """One product for neighbouring targets, about a layer's; what is no edge among them is masked afterwards."""
        columns = slice(keys[0][0], keys[-1][1])
        seen = int(self.graph.n_visible[columns].max())
        gradient = self.gradient[:, : columns.stop - columns.start]  # (pair * pos, target, d_model)
        for key in keys:
            first = key[0] - columns.start
            project_into(gradient[:, first : first + key[1] - key[0]], self.sums.pop(key), self.matrices[key])
        product = torch.bmm(self.delta[:, :, :seen].flatten(0, 1), gradient.transpose(1, 2))
        self.tally.add(product.unflatten(0, self.delta.shape[:2]), (slice(seen), columns), self.labels)
