"""One engine for every gradient method: difference of activations times gradient of the metric.

    score = sum over positions and dimensions of (clean - reference) * mean over points of dF/d(place)

A method is a choice of the points at which the gradient is taken, of the backward rule, and of the reference.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.circuits.graph import Graph
from workbench.circuits.scores import Scores
from workbench.core.errors import ModelError, ShapeError
from workbench.core.progress import Progress
from workbench.engine.distribute import WorkPart, batch_parts
from workbench.engine.edges import written
from workbench.engine.gradients import Taped, pieces, start_of, taped_run
from workbench.engine.interventions.ablation import value_of
from workbench.engine.interventions.means import Means, found_means
from workbench.engine.interventions.words import Ablation
from workbench.engine.paired_runs import Batch, PairedRuns
from workbench.engine.reader_gradients import ReaderGradient, Readers, project_into, reader_taps, wide
from workbench.engine.rules import Backward, rule_of
from workbench.methods.outcome import graph_of, refuse_flat, result
from workbench.methods.points import Point
from workbench.methods.registry import Level
from workbench.model.hooks import hook_name
from workbench.model.wiring import Site, writer_hooks

_MOST_KEPT = 10**8  # numbers; per-pair scores beyond this (0.4 GB) are not kept, the mean is the same


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A gradient method.

    Attributes:
        points: Where gradients are taken, as a function of the graph; the mean is used.
        backward: How gradients go through norms, activations, products and attention.
        ablation: What the difference of activations is taken to.
        absolute: Whether the size of each pair's score is averaged, not the score.
    """

    points: Callable[[Graph], Sequence[Point]]
    backward: Backward = "plain"
    ablation: Ablation = "resample"
    absolute: bool = False

    def __post_init__(self) -> None:
        rule_of(self.backward)
        value_of(self.ablation)


def gradient_scores(
    runs: PairedRuns,
    recipe: Recipe,
    *,
    level: Level,
    method: str,
    source: str,
    options: dict,
    passes: int,
    per_position: bool = False,
    progress: Progress,
    unit: str | None = None,
) -> Scores:
    """Return scores of a recipe at a level.

    Raises:
        OptionError: if the metric has no gradient, or only vanishing ones at all points.
        ModelError: if the model has no such level, or the backward rule does not apply to it.
    """
    graph = graph_of(runs, level)
    points = recipe.points(graph)
    if all(point == Point() for point in points):
        refuse_flat(runs, method)
    tally = attribute(runs, recipe, points, level=level, per_position=per_position, progress=progress)
    return result(
        runs,
        tally.mean(),
        level=level,
        method=method,
        source=source,
        options=options,
        passes=passes,
        unit=unit,
        positions=runs.position_labels if per_position else (),
        per_pair=tally.per_pair,
    )


def attribute(
    runs: PairedRuns,
    recipe: Recipe,
    points: Sequence[Point],
    *,
    level: Level,
    per_position: bool,
    progress: Progress,
) -> Tally:
    """Difference times gradient, for every pair."""
    graph = graph_of(runs, level)
    if level == "neuron":
        shape: tuple[int, ...] = (graph.shape.n_layers, neuron_width(runs))
    else:
        shape = graph.edge_mask.shape if level == "edge" else (len(graph.sources),)
    exists = graph.edge_mask if level == "edge" else None
    if level == "neuron":
        exists = np.zeros(shape, dtype=bool)
        exists[list(runs.wiring.mlp_layers)] = True
    tally = Tally(runs, shape, exists=exists, per_position=per_position, absolute=recipe.absolute)
    works: dict[str, type[_Edges | _Nodes]] = {"edge": _Edges, "node": _Nodes, "neuron": _Neurons}
    work = works[level]
    sites = work.sites(runs, graph)
    means = _means(runs, recipe.ablation, {*sites, *(point.site for point in points if point.site)})
    total = len(runs.batches) * len(points)
    # edges of the last layer act at the last position; differences of one run do for them, given once
    short = level == "edge" and all(p.site is None for p in points) and Point() not in points[1:]

    def piece_of(batch: Batch, done: int) -> np.ndarray:
        batch_work = work(runs, batch, graph, tally)
        for p, point in enumerate(points):
            run = _run(runs, batch, point, batch_work, recipe, means, at_last=short)
            if p == 0:
                seen = run.seen if point == Point() else None
                batch_work.start(_differences(runs, batch, sites, recipe.ablation, means, seen))
            batch_work.add(run, 1 / len(points), recipe.backward)
            del run
            progress(done + p, total, f"{len(batch)} pairs of {batch.n_tokens} tokens")
        batch_work.finish()
        runs.release(batch)
        return tally.values()

    def compute(part: WorkPart) -> np.ndarray:
        found, done = [], part.batch * len(points) + 1
        for piece in pieces(runs, runs.batches[part.batch]):
            found.append(piece_of(piece, done))
        return np.concatenate(found)

    parts = batch_parts(runs, "gradients", tally.shape_of)
    with runs.left_alone(progress) as progress:
        for part, values in zip(parts, runs.division.values(parts, compute), strict=True):
            tally.take(runs.batches[part.batch], values)
    return tally


def neuron_width(runs: PairedRuns) -> int:
    """Return hidden units of each MLP.

    Raises:
        ModelError: if they cannot be seen.
    """
    if not runs.wiring.mlp_layers:
        raise ModelError("there are no neurons: the model has no MLPs", hint="--level node")
    if not runs.wiring.d_mlp:
        raise ModelError(
            "the hidden units of its MLPs cannot be read: they sit inside experts, or differ in number between layers",
            hint="--level node scores MLPs as a whole",
        )
    return runs.wiring.d_mlp


def _means(runs: PairedRuns, ablation: Ablation, sites: Iterable[Site]) -> Means | None:
    if not value_of(ablation).startswith("mean"):
        return None
    with torch.no_grad():
        return Means.over(runs, "clean", [hook_name(site, layer) for layer, site in sites])


@torch.no_grad()
def _differences(
    runs: PairedRuns,
    batch: Batch,
    sites: Sequence[Site],
    ablation: Ablation,
    means: Means | None,
    clean: Mapping[str, Tensor] | None,
) -> dict[Site, Tensor]:
    """Clean minus reference at every site, in float32 or wider; at the positions of the clean run that was seen."""
    names = [hook_name(site, layer) for layer, site in sites]
    clean = runs.activations(batch, "clean", names) if clean is None else clean
    if value_of(ablation) == "corrupted":
        runs.activations(batch, "corrupted", names)  # all in one pass, before single ones are asked for
    found = {}
    for site, name in zip(sites, names, strict=True):
        own = clean[name]
        reference = _reference(runs, batch, name, own, ablation, means)
        found[site] = wide(own) - reference[:, -own.shape[1] :]
    return found


def _reference(
    runs: PairedRuns, batch: Batch, name: str, clean: Tensor, ablation: Ablation, means: Means | None
) -> Tensor:
    """What an ablation puts at a hook, in float32 or wider."""
    value = value_of(ablation)
    if value == "corrupted":
        return wide(runs.activations(batch, "corrupted", [name])[name])
    own = wide(clean)
    return (
        torch.zeros_like(own)
        if value == "zero"
        else found_means(means, value).of(value, name, batch, own.dtype)
    )


def _run(
    runs: PairedRuns,
    batch: Batch,
    point: Point,
    work: _Work,
    recipe: Recipe,
    means: Means | None,
    *,
    at_last: bool,
) -> Taped:
    """The differentiable run of a point; the clean run's activations are seen for the differences."""
    walked = recipe.backward == "plain" and runs.is_walked(batch)
    at_last = at_last and walked and runs.last_only(batch)
    taps, keep = work.taps(walked=walked)
    names = [hook_name(site, layer) for layer, site in work.sites(runs, work.graph)]
    if point == Point():
        seen = [*keep, *names]
        run = taped_run(runs, batch, taps, keep=seen, backward=recipe.backward, at_last=at_last)
        if not at_last:  # the whole run, which other points read
            batch.cache.update({("clean", name): run.seen[name] for name in names})
        return run
    entry = hook_name("resid", 0)
    for side in ("clean", "corrupted"):  # all in one pass each, before single ones are asked for
        runs.activations(batch, side, [*names, *([] if entry in names else [entry])])
    if point.site is None:
        start = start_of(runs, batch, point.alpha)
        return taped_run(runs, batch, taps, keep=keep, start=start, backward=recipe.backward, at_last=at_last)
    name = hook_name(point.site[1], point.site[0])
    clean = runs.activations(batch, "clean", [name])[name]
    reference = _reference(runs, batch, name, clean, recipe.ablation, means).to(clean.dtype)
    between = reference + point.alpha * (clean - reference)
    if name == entry:
        return taped_run(runs, batch, taps, keep=keep, start=between, backward=recipe.backward)
    return taped_run(runs, batch, taps, keep=keep, replaced={name: between}, backward=recipe.backward)


class Tally:
    """Scores per pair, summed over positions or over those of each label, and their mean."""

    def __init__(
        self,
        runs: PairedRuns,
        shape: tuple[int, ...],
        *,
        exists: np.ndarray | None,
        per_position: bool,
        absolute: bool,
    ) -> None:
        self.runs, self.exists, self.absolute = runs, exists, absolute
        self.n_labels = len(runs.position_labels) if per_position else 0
        full = (self.n_labels, *shape) if per_position else shape
        small = runs.n_pairs * int(np.prod(full)) <= _MOST_KEPT
        self.per_pair = np.zeros((runs.n_pairs, *full), dtype=np.float32) if small else None
        self._sum = np.zeros(full)
        self.closed: np.ndarray | None = None
        self._of_batch: np.ndarray | None = None
        self._rounds: np.ndarray | None = None

    def values(self) -> Float[np.ndarray, " pair *place"]:
        """Return the values of the batch that was closed last."""
        if self.closed is None:
            raise ShapeError("no batch is closed")
        return self.closed

    @property
    def _open(self) -> np.ndarray:
        if self._of_batch is None:
            raise ShapeError("no batch is open")
        return self._of_batch

    def labels(self, batch: Batch) -> Int[Tensor, "pair pos"] | None:
        """Return the position label of every token, or None when positions are summed over."""
        return self.runs.labels_of(batch) if self.n_labels else None

    def open(self, batch: Batch) -> None:
        """Begin a batch."""
        self._of_batch = np.zeros((len(batch), *self._sum.shape), dtype=np.float32)

    def add(self, found: Float[Tensor, "pair pos *place"], where: tuple, labels: Tensor | None) -> None:
        """Add products at these places of the open batch."""
        if labels is None:
            values = found.sum(1)
            self._open[(slice(None), *where)] += values.float().cpu().numpy()
            return
        pairs = len(found)
        index = labels + self.n_labels * torch.arange(pairs, device=labels.device)[:, None]
        values = found.new_zeros(pairs * self.n_labels, *found.shape[2:])
        values.index_add_(0, index.flatten(), found.flatten(0, 1))
        values = values.unflatten(0, (pairs, self.n_labels))
        self._open[(slice(None), slice(None), *where)] += values.float().cpu().numpy()

    def end_round(self, weight: float = 1.0) -> None:
        """Of several rounds over an open batch whose sizes are added: this one is complete."""
        done = weight * np.abs(self._open)
        self._rounds = done if self._rounds is None else self._rounds + done
        self._open[:] = 0

    def close(self, batch: Batch) -> None:
        """End a batch: its values per pair are in ``closed``, to be taken in here or by another process."""
        values = self._open if self._rounds is None else self._rounds
        self._rounds = None
        if self.absolute:
            values = np.abs(values)
        if self.exists is not None:
            values[..., ~self.exists] = np.nan
        self.closed, self._of_batch = values, None

    def shape_of(self, batch: Batch) -> tuple[int, ...]:
        """Return the shape of the values of a batch."""
        return (len(batch), *self._sum.shape)

    def take(self, batch: Batch, values: Float[np.ndarray, " pair *place"]) -> None:
        """Count the pairs of a batch."""
        if self.per_pair is not None:
            self.per_pair[batch.index] = values
        self._sum += values.sum(0, dtype=np.float64)

    def mean(self) -> np.ndarray:
        """Return the mean over pairs."""
        return self._sum / self.runs.n_pairs


class _Work(ABC):
    """One batch at one level: taps for the runs, and what is done with their gradients."""

    def __init__(self, runs: PairedRuns, batch: Batch, graph: Graph, tally: Tally) -> None:
        self.runs, self.batch, self.graph, self.tally = runs, batch, graph, tally
        self.labels = tally.labels(batch)
        tally.open(batch)

    @staticmethod
    @abstractmethod
    def sites(runs: PairedRuns, graph: Graph) -> list[Site]:
        """Where differences are taken."""

    @abstractmethod
    def taps(self, *, walked: bool) -> tuple[list[str], list[str]]:
        """Hooks whose gradients are wanted, and hooks that are only kept."""

    @abstractmethod
    def start(self, differences: dict[Site, Tensor]) -> None:
        """Begin with the differences of the batch."""

    @abstractmethod
    def add(self, run: Taped, weight: float, backward: Backward) -> None:
        """Add the gradients of one run."""

    @abstractmethod
    def finish(self) -> None:
        """Multiply, and add to the tally."""


class _Nodes(_Work):
    """Every node at its output: heads before their output matrix, which is linear."""

    @staticmethod
    def sites(runs: PairedRuns, graph: Graph) -> list[Site]:
        return [(0, "resid"), *writer_hooks(graph)]

    def taps(self, *, walked: bool) -> tuple[list[str], list[str]]:
        return [hook_name(site, layer) for layer, site in self.sites(self.runs, self.graph)], []

    def start(self, differences: dict[Site, Tensor]) -> None:
        self.differences, self.gradients = differences, dict[str, Tensor]()

    def add(self, run: Taped, weight: float, backward: Backward) -> None:
        for name, grad in run.gradients().items():
            _accumulate(self.gradients, name, grad, weight)

    def finish(self) -> None:
        at = 0
        for (layer, site), difference in self.differences.items():
            product = difference.double() * self.gradients[hook_name(site, layer)].double()
            product = product.sum(-1) if product.dim() == 4 else product.sum(-1, keepdim=True)
            self.tally.add(product, (slice(at, at + product.shape[2]),), self.labels)
            at += product.shape[2]
        self.tally.close(self.batch)


class _Neurons(_Nodes):
    """Every hidden unit of every MLP, after activation and product."""

    @staticmethod
    def sites(runs: PairedRuns, graph: Graph) -> list[Site]:
        return [(layer, "neurons") for layer in runs.wiring.mlp_layers]

    def finish(self) -> None:
        for (layer, site), difference in self.differences.items():
            product = difference.double() * self.gradients[hook_name(site, layer)].double()
            self.tally.add(product, (layer,), self.labels)
        self.tally.close(self.batch)


def _accumulate(sums: dict, key, value: Tensor, weight: float) -> None:
    value = wide(value)
    if key not in sums:
        sums[key] = value if weight == 1 else value * weight
    else:
        sums[key].add_(value, alpha=weight)


class _Edges(_Work):
    """Every edge: what sources write times the gradient at each target's own copy of the stream.

    Gradients are summed over points where they are small, at q, k and v; one product with the differences of all
    sources follows for each layer. The term of the norm, different at every point, is a product of two thin factors.
    """

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
        self.readers: Readers | None = None
        self.sums: dict[tuple[int, int], Tensor] = {}
        self.matrices: dict[tuple[int, int], Tensor | None] = {}

    @torch.no_grad()
    def add(self, run: Taped, weight: float, backward: Backward) -> None:
        thin: list[ReaderGradient] = []
        self.readers = self.readers or Readers(self.runs, self.graph, backward)
        for found in self.readers.factors(run):
            key = (found.columns.start, found.columns.stop)
            _accumulate(self.sums, key, found.near, weight)
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
    def finish(self) -> None:
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
        self.tally.close(self.batch)

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
