"""AtP*: attribution patching with the QK fix and GradDrop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor

from workbench.circuits.graph import Graph
from workbench.circuits.scores import Scores
from workbench.engine.distribute import WorkPart, batch_parts
from workbench.engine.gradients import Taped, taped_run
from workbench.engine.paired_runs import Batch, PairedRuns
from workbench.engine.patterns import (
    Patterns,
    check_values,
    corrupted_patterns,
    key_effect,
    linear_key_effect,
    linear_query_effect,
    pattern_gradient,
    query_effect,
    value_effect,
)
from workbench.engine.spans import spans_of
from workbench.methods.attribution import neuron_width
from workbench.methods.options.gradients import AtPStar, atp_star_cost, backward_rounds
from workbench.methods.outcome import graph_of, refuse_flat, result
from workbench.methods.registry import Level
from workbench.methods.tally import Tally
from workbench.model.hooks import hook_name
from workbench.model.wiring import Site, writer_hooks

PARTS = ("output", "query", "key", "value")


def atp_star(
    runs: PairedRuns,
    options: AtPStar,
    *,
    level: Level,
    progress: Callable[..., None],
    per_position: bool = False,
) -> Scores:
    """AtP*: sizes of attribution patching, through the softmax exactly and without cancellation; it has no sign.

    ``score(n) = mean over pairs of 1/(L-1) sum over layers l of |difference * gradient at n with layer l shut|``

    Source:
        Kramár, Lieberum, Shah and Nanda 2024, arXiv:2403.00745.
    """
    refuse_flat(runs, "atp-star")
    graph = graph_of(runs, level)
    means, tallies = part_scores(runs, options, level=level, per_position=per_position, progress=progress)
    best = means.argmax(0)
    per_pair = None
    every = [t.per_pair for t in tallies if t.per_pair is not None]
    if len(every) == len(tallies):
        stacked = np.stack(every)
        per_pair = np.take_along_axis(stacked, best[None, None], 0)[0]
    return result(
        runs,
        np.take_along_axis(means, best[None], 0)[0],
        level=level,
        method="atp-star",
        source="arXiv:2403.00745",
        options=asdict(options),
        passes=atp_star_cost(options, graph, level).passes,
        unit=f"|{runs.metric.unit}|",
        positions=runs.position_labels if per_position else (),
        per_pair=per_pair,
    )


def part_scores(
    runs: PairedRuns,
    options: AtPStar,
    *,
    level: Level = "node",
    per_position: bool = False,
    progress: Callable[..., None] = lambda done, total, what="": None,
) -> tuple[np.ndarray, list[Tally]]:
    """Return scores of outputs, and of the queries, keys and values of heads, one array for each of ``PARTS``.

    Returns:
        ``(part, *shape of the level)`` mean over pairs (0 where a node has no such part), and the values per pair.
    """
    graph, parts = graph_of(runs, level), PARTS if level == "node" and options.heads == "all" else PARTS[:1]
    shape: tuple[int, ...] = (len(graph.sources),)
    exists = None
    if level == "neuron":
        shape, exists = (graph.shape.n_layers, neuron_width(runs)), _mlp_rows(runs, graph)
    spans = spans_of(runs, "positions") if per_position else None
    tallies = [Tally(runs, shape, exists=exists, spans=spans, absolute=True) for _ in parts]
    rounds = backward_rounds(options, graph)
    total = len(runs.batches) * rounds

    def compute(part: WorkPart) -> np.ndarray:
        b, batch = part.batch, runs.batches[part.batch]
        _Batch(runs, batch, graph, options, level, tallies).score(
            lambda done: progress(b * rounds + done, total, f"{len(batch)} pairs of {batch.n_tokens} tokens")
        )
        runs.release(batch)
        return np.stack([tally.values() for tally in tallies])

    pieces = batch_parts(runs, "parts", lambda batch: (len(tallies), *tallies[0].shape_of(batch)))
    for part, values in zip(pieces, runs.division.values(pieces, compute), strict=True):
        for tally, own in zip(tallies, values, strict=True):
            tally.take(runs.batches[part.batch], own)
    return np.stack([tally.mean() for tally in tallies]), tallies


def _mlp_rows(runs: PairedRuns, graph: Graph) -> np.ndarray:
    exists = np.zeros((graph.shape.n_layers, neuron_width(runs)), dtype=bool)
    exists[list(runs.wiring.mlp_layers)] = True
    return exists


class _Batch:
    """One batch: the clean run, once; a backward pass for each layer that is shut; what each gives."""

    def __init__(
        self,
        runs: PairedRuns,
        batch: Batch,
        graph: Graph,
        options: AtPStar,
        level: Level,
        tallies: list[Tally],
    ) -> None:
        self.runs, self.batch, self.graph, self.options = runs, batch, graph, options
        self.level, self.tallies, self.labels = level, tallies, tallies[0].labels(batch)
        self.sites = self._sites()
        names = [hook_name(site, layer) for layer, site in self.sites]
        extra = self._extra() if len(tallies) > 1 else []
        clean = runs.activations(batch, "clean", [*names, *extra])
        corrupted = runs.activations(batch, "corrupted", [*names, *extra])
        self.differences = {name: clean[name].double() - corrupted[name].double() for name in names}
        self.patterns: dict[int, Patterns] = {}
        if len(tallies) > 1:
            self.patterns = corrupted_patterns(runs, batch)
            for layer, at in self.patterns.items():
                check_values(runs, batch, layer, at)
        self.run: Taped = taped_run(runs, batch, names, gates=options.graddrop)

    def _sites(self) -> list[Site]:
        if self.level == "neuron":
            return [(layer, "neurons") for layer in self.runs.wiring.mlp_layers]
        return [(0, "resid"), *writer_hooks(self.graph)]

    def _extra(self) -> list[str]:
        """Hooks whose activations the parts of heads need: recorded in the same pass."""
        stream = [hook_name("resid", n) for n in range(self.runs.wiring.n_layers)]
        return stream + [hook_name(slot, n) for slot in "qkv" for n in self.runs.wiring.attention_layers]

    def score(self, progress: Callable[[int], None]) -> None:
        rounds = backward_rounds(self.options, self.graph)
        shut = range(rounds) if rounds > 1 else [None]
        for tally in self.tallies:
            tally.open(self.batch)
        for done, layer in enumerate(shut):
            self.run.shut.clear()
            self.run.shut.update([] if layer is None else [layer])
            gradients = self.run.gradients(again=done + 1 < rounds)
            self._round(gradients)
            for tally in self.tallies:
                tally.end_round(1 / max(1, rounds - 1))
            progress(done + 1)
        for tally in self.tallies:
            tally.close(self.batch)

    @torch.no_grad()
    def _round(self, gradients: dict[str, Tensor]) -> None:
        at = 0
        for layer, site in self.sites:
            name = hook_name(site, layer)
            product = self.differences[name] * gradients[name].double()
            if self.level == "neuron":
                self.tallies[0].add(product, (layer,), self.labels)
                continue
            product = product.sum(-1) if product.dim() == 4 else product.sum(-1, keepdim=True)
            where = slice(at, at + product.shape[2])
            self.tallies[0].add(product, (where,), self.labels)
            if site == "head-output" and self.patterns:
                self._parts(layer, gradients[name], where)
            at = where.stop

    def _parts(self, layer: int, grad_z: Tensor, where: slice) -> None:
        """Queries, keys and values of the heads of a layer."""
        at = self.patterns[layer]
        grad = pattern_gradient(self.runs, self.batch, layer, grad_z)
        fixed = self.options.qk_fix
        query = query_effect(at, grad) if fixed else linear_query_effect(at, grad)
        key = key_effect(at, grad) if fixed else linear_key_effect(at, grad)
        value = value_effect(self.runs, self.batch, layer, at, grad_z)
        for tally, found in zip(self.tallies[1:], (query, key, value), strict=True):
            tally.add(found.transpose(1, 2), (where,), self.labels)
