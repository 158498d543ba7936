"""Exact effects of single nodes at single positions and of single neurons: many parts of one layer share a pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.circuits.graph import Graph
from workbench.engine.distribute import WorkPart as Piece
from workbench.engine.interventions.ablation import value_of
from workbench.engine.interventions.means import Means, found_means
from workbench.engine.interventions.site import site_of
from workbench.engine.interventions.words import Ablation
from workbench.engine.paired_runs import Batch, PairedRuns
from workbench.model.hooks import hook_name


@dataclass(frozen=True, kw_only=True)
class ExactPart:
    """What is replaced: a unit (head, neuron; None: all of it) of a site, and where its effect is written."""

    unit: int | None
    place: tuple[int, ...]


Parts = dict[tuple[int, str], list[ExactPart]]  # (layer, site) -> what is replaced there


def node_parts(graph: Graph) -> Parts:
    """Return every source of a node-level graph; effects in ``(source,)``."""
    found: Parts = {}
    for i, node in enumerate(graph.sources):
        found.setdefault((node.layer or 0, site_of(node)), []).append(ExactPart(unit=node.index, place=(i,)))
    return found


def neuron_parts(runs: PairedRuns, graph: Graph) -> Parts:
    """Return every hidden unit of every MLP; effects in ``(layer, d_mlp)``."""
    layers = [n for n in range(graph.shape.n_layers) if graph.shape.has_mlp(n)]
    return {
        (n, "neurons"): [ExactPart(unit=i, place=(n, i)) for i in range(runs.wiring.d_mlp)] for n in layers
    }


def part_drops(
    runs: PairedRuns,
    parts: Parts,
    shape: tuple[int, ...],
    *,
    ablation: Ablation,
    per_position: bool,
    progress: Callable[..., None],
) -> Iterator[tuple[Batch, np.ndarray]]:
    """Return ``(pair, *label, *shape)`` drops of the metric for one batch after the other."""
    means = _means(runs, parts, ablation)
    labels = list(range(len(runs.position_labels))) if per_position else [None]
    sites = list(parts)
    total = len(runs.batches) * len(sites)

    def shape_at(batch: Batch, site: tuple[int, str]) -> tuple[int, ...]:
        return len(batch), len(labels), len(parts[site])

    def compute(piece: Piece) -> np.ndarray:
        batch, site = runs.batches[piece.batch], sites[int(piece.key[-5:])]
        runs.release_others(batch)
        found = np.zeros(shape_at(batch, site))
        places = {part: n for n, part in enumerate(parts[site])}
        for (label, part), drop in _at_site(runs, batch, *site, parts[site], labels, means, ablation):
            found[:, label or 0, places[part]] = drop
        return found

    pieces = [
        Piece(
            key=f"parts-b{b:05d}-s{s:05d}",
            shape=shape_at(batch, site),
            batch=b,
            cost=float(len(batch) * batch.n_tokens * len(parts[site])),
            what=f"{site[1]} of layer {site[0]}, {len(batch)} pairs",
        )
        for b, batch in enumerate(runs.batches)
        for s, site in enumerate(sites)
    ]
    values = zip(pieces, runs.division.values(pieces, compute), strict=True)
    for b, batch in enumerate(runs.batches):
        found = np.zeros((len(batch), len(labels), *shape))
        for s, site in enumerate(sites):
            piece, drops = next(values)
            for n, part in enumerate(parts[site]):
                at: tuple[slice | int, ...] = (slice(None), slice(None), *part.place)
                found[at] = drops[:, :, n]
            progress(b * len(sites) + s + 1, total, piece.what)
        runs.release(batch)
        yield batch, found if per_position else found[:, 0]


def _means(runs: PairedRuns, parts: Parts, ablation: Ablation) -> Means | None:
    if not value_of(ablation).startswith("mean"):
        return None
    with torch.no_grad():
        return Means.over(runs, "clean", [hook_name(site, layer) for layer, site in parts])


def _reference(
    runs: PairedRuns, batch: Batch, name: str, own: Tensor, means: Means | None, ablation
) -> Tensor:
    value = value_of(ablation)
    if value == "corrupted":
        return runs.activations(batch, "corrupted", [name])[name]
    return (
        torch.zeros_like(own)
        if value == "zero"
        else found_means(means, value).of(value, name, batch, own.dtype)
    )


@torch.no_grad()
def _at_site(
    runs: PairedRuns,
    batch: Batch,
    layer: int,
    site: str,
    units: Sequence[ExactPart],
    labels: Sequence[int | None],
    means: Means | None,
    ablation: Ablation,
) -> Iterator[tuple[tuple[int | None, ExactPart], np.ndarray]]:
    """``(pair,)`` drops of each unit at each label. What replaces itself changes nothing and is not run."""
    name = hook_name(site, layer)
    own = runs.activations(batch, "clean", [name])[name]
    reference = _reference(runs, batch, name, own, means, ablation)
    where = runs.labels_of(batch) if labels != [None] else None
    trials = [
        (label, part)
        for part in units
        for label in labels
        if _differs(own, reference, part.unit, None if label is None or where is None else where == label)
    ]
    clean = runs.measure(batch, runs.clean_output(batch))
    size = max(1, runs.batch_tokens // (len(batch) * batch.n_tokens))
    for k in range(0, len(trials), size):
        chunk = trials[k : k + size]
        resid = runs.resid(batch, "clean", layer).repeat(len(chunk), 1, 1)
        hooks = [(name, _replace(batch, chunk, reference, where))]
        prompt = batch.prompt("clean").repeat(len(chunk))
        values = runs.values(batch, prompt, hooks, start=layer, resid=resid).reshape(len(chunk), len(batch))
        drops = runs.metric.direction * (clean[None] - values).double()
        yield from zip(chunk, drops.cpu().numpy(), strict=True)


def _differs(own: Tensor, reference: Tensor, unit: int | None, where: Tensor | None) -> bool:
    a, b = (own, reference) if unit is None else (own[:, :, unit], reference[:, :, unit])
    return not torch.equal(a, b) if where is None else not torch.equal(a[where], b[where])


def _replace(
    batch: Batch,
    trials: Sequence[tuple[int | None, ExactPart]],
    reference: Float[Tensor, "pair pos *unit"],
    where: Int[Tensor, "pair pos"] | None,
) -> Callable[..., Tensor]:
    """A hook that replaces one unit, at the tokens of one label, in every copy of the batch."""

    def edit(tensor: Tensor, hook) -> Tensor:
        tensor = tensor.clone()
        for rows, (label, part) in zip(tensor.split(len(batch)), trials, strict=True):
            mine = rows if part.unit is None else rows[:, :, part.unit]
            new = reference if part.unit is None else reference[:, :, part.unit]
            here = slice(None) if label is None else where == label
            mine[here] = new[here]
        return tensor

    return edit
