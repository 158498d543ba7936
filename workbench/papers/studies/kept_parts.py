"""Circuits of parts at positions, run as the paper runs them: means over corrupted prompts of a template."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float

from workbench.circuits.addresses import parse_node
from workbench.circuits.graph import Graph
from workbench.engine.interventions.means import Means
from workbench.engine.nodes import ablate_nodes, node_references
from workbench.evaluate.positions import Places
from workbench.model.hooks import hook_name
from workbench.model.wiring import writer_hooks
from workbench.papers.studies.kinds import State

Kind = Literal["mean-per-template", "resample"]
Mask = Bool[np.ndarray, "place source"]


@dataclass(kw_only=True, eq=False)
class Keeper:
    """Runs a model with only some (part, position) left alone; MLPs are always left alone, as in the paper.

    Attributes:
        kind: ``mean-per-template``: means over the reference pairs' corrupted prompts of the same template and
            length, at each position. ``resample``: the value on the pair's own corrupted prompt.
    """

    state: State
    kind: Kind = "mean-per-template"

    @cached_property
    def graph(self) -> Graph:
        return Graph(self.state.runs.wiring.node_shape())

    @cached_property
    def places(self) -> Places:
        return Places(labels=self.state.runs.position_labels)

    @cached_property
    def _means(self) -> Means | None:
        if self.kind == "resample":
            return None
        names = [hook_name(site, layer) for layer, site in writer_hooks(self.graph)]
        with torch.no_grad():
            return Means.over(self.state.reference, "corrupted", names)

    def mask(self, nodes: Iterable[str]) -> Mask:
        """These (part, position) and every MLP."""
        mask = self._all(lambda node: node.kind in ("mlp", "input"))
        for address in nodes:
            node = parse_node(address)
            where = self.places.holding(node.position)
            mask[where, self.graph.source_index[node.at(None)]] = True
        return mask

    def everything_but(self, nodes: Iterable[str]) -> Mask:
        """The whole model without these (part, position)."""
        taken = self.mask(nodes) & self._all(lambda node: node.kind == "head")
        return ~taken

    def _all(self, wanted) -> Mask:
        row = np.array([wanted(node) for node in self.graph.sources])
        return np.repeat(row[None], len(self.places.all), axis=0)

    @torch.no_grad()
    def run(self, masks: Sequence[Mask]) -> Float[np.ndarray, "mask pair"]:
        """The metric on the clean prompts with everything outside each mask ablated."""
        runs, kept = self.state.runs, torch.as_tensor(np.stack(masks))
        value = "corrupted" if self.kind == "resample" else self.kind
        values = np.full((len(masks), runs.n_pairs), np.nan)
        for b, batch in enumerate(runs.batches):
            labels = self.places.tokens(runs, batch)
            reference = node_references(runs, batch, value, self._means)
            size = max(1, runs.batch_tokens // (len(batch) * batch.n_tokens))
            for k in range(0, len(masks), size):
                ablated = (~kept[k : k + size]).to(runs.device)
                found = ablate_nodes(runs, batch, ablated, reference=reference, labels=labels)
                values[k : k + size, batch.index] = found.double().cpu().numpy()
            runs.release(batch)
            if self.state.progress:
                self.state.progress(b + 1, len(runs.batches), f"{len(masks)} circuits, {self.kind}")
        return values
