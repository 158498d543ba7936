"""One engine for every gradient method: difference of activations times gradient of the metric.

    score = sum over positions and dimensions of (clean - reference) * mean over points of dF/d(place)

A method is a choice of the points at which the gradient is taken, of the backward rule, and of the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from workbench.circuits.graph import Graph
from workbench.circuits.scores import Scores
from workbench.core.errors import ModelError
from workbench.core.progress import Progress
from workbench.engine.distribute import WorkPart, batch_parts
from workbench.engine.gradients import Taped, pieces, start_of, taped_run
from workbench.engine.interventions.ablation import value_of
from workbench.engine.interventions.means import Means, found_means
from workbench.engine.interventions.words import Ablation
from workbench.engine.paired_runs import Batch, PairedRuns
from workbench.engine.reader_gradients import Differentiated, wide
from workbench.engine.rules import Backward, rule_of
from workbench.engine.spans import Spans, spans_of
from workbench.methods.crossing_edges import CrossingEdges, check_crossing
from workbench.methods.edge_work import EdgeWork
from workbench.methods.outcome import graph_of, refuse_flat, result
from workbench.methods.points import Point
from workbench.methods.registry import Level
from workbench.methods.tally import Tally, Work, accumulate
from workbench.model.hooks import hook_name
from workbench.model.wiring import Site, writer_hooks


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A gradient method.

    Attributes:
        points: Where gradients are taken, as a function of the graph; the mean is used.
        backward: How gradients go through norms, activations, products and attention.
        ablation: What the difference of activations is taken to.
        absolute: Whether the size of each pair's score is averaged, not the score.
        path: Inputs at the points, found for each batch, in place of those on the straight line.
        conductance: Whether each gradient is multiplied with what its own stretch of the line changes, not with the
            whole difference.
    """

    points: Callable[[Graph], Sequence[Point]]
    backward: Backward = "plain"
    ablation: Ablation = "resample"
    absolute: bool = False
    path: Callable[[PairedRuns, Batch], Sequence[Tensor]] | None = None
    conductance: bool = False

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
    spans = spans_of(runs, "positions") if per_position else None
    tally = attribute(runs, recipe, points, level=level, spans=spans, progress=progress)
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
    spans: Spans | None = None,
    progress: Progress,
) -> Tally:
    """Multiply differences with gradients, for every pair.

    Args:
        spans: Which tokens have a score of their own; by default all have one together.

    Returns:
        ``(pair, *place)`` or ``(pair, span, *place)`` products, and their mean over pairs.
    """
    graph = graph_of(runs, level)
    shape, exists = _places(runs, graph, level)
    tally = Tally(runs, shape, exists=exists, spans=spans, absolute=recipe.absolute)
    crosses = len(graph.parts) > 1
    if crosses:
        straight = recipe.path is None and not recipe.conductance
        check_crossing(recipe.backward, points, per_position=spans is not None, straight=straight)
    work: type[EdgeWork | _Nodes] = _WORKS[level]
    sites = [] if crosses else work.sites(runs, graph)
    means = _means(runs, recipe.ablation, {*sites, *(point.site for point in points if point.site)})
    # edges of the last layer act at the last position; differences of one run do for them, given once
    short = level == "edge" and all(p.site is None for p in points) and Point() not in points[1:]
    line = _Line(runs, recipe, tuple(points), sites, means, at_last=short)

    def score(batch: Batch, tell: Callable[[int], None]) -> None:
        if crosses:
            CrossingEdges(runs, batch, graph, tally).scored(points, recipe.ablation)
            tell(len(points))
        elif recipe.conductance:
            _stretches(runs, batch, points, work(runs, batch, graph, tally), recipe)
            tell(len(points))
        else:
            line.score(batch, work(runs, batch, graph, tally), tell)

    total = len(runs.batches) * len(points)

    def compute(part: WorkPart) -> np.ndarray:
        found, before = [], part.batch * len(points)
        for piece in pieces(runs, runs.batches[part.batch]):
            what = f"{len(piece)} pairs of {piece.n_tokens} tokens"
            score(piece, partial(_tell, progress, before, total, what))
            runs.release(piece)
            found.append(tally.values())
        return np.concatenate(found)

    parts = batch_parts(runs, "gradients", tally.shape_of)
    with runs.left_alone(progress) as progress:
        for part, values in zip(parts, runs.division.values(parts, compute), strict=True):
            tally.take(runs.batches[part.batch], values)
    return tally


def _tell(progress: Progress, before: int, total: int, what: str, done: int) -> None:
    progress(before + done, total, what)


def _places(runs: PairedRuns, graph: Graph, level: Level) -> tuple[tuple[int, ...], np.ndarray | None]:
    """The shape of the scores of a level, and which of their places exist; None where all do."""
    if level == "edge":
        return graph.edge_mask.shape, graph.edge_mask
    if level != "neuron":
        return (len(graph.sources),), None
    shape = (graph.shape.n_layers, neuron_width(runs))
    exists = np.zeros(shape, dtype=bool)
    exists[list(runs.wiring.mlp_layers)] = True
    return shape, exists


@dataclass(frozen=True)
class _Line:
    """The points at which gradients are taken, one run each; their mean is multiplied with the difference."""

    runs: PairedRuns
    recipe: Recipe
    points: tuple[Point, ...]
    sites: Sequence[Site]
    means: Means | None
    at_last: bool

    def score(self, batch: Batch, work: Work, tell: Callable[[int], None]) -> None:
        """Score the pairs of a batch, saying after each point how many are done."""
        runs, recipe = self.runs, self.recipe
        inputs = [None] * len(self.points) if recipe.path is None else recipe.path(runs, batch)
        for p, (point, given) in enumerate(zip(self.points, inputs, strict=True)):
            run = _run(runs, batch, point, work, recipe, self.means, at_last=self.at_last, given=given)
            if p == 0:
                seen = run.seen if point == Point() else None
                work.start(_differences(runs, batch, self.sites, recipe.ablation, self.means, seen))
            work.add(run, 1 / len(self.points), recipe.backward)
            del run
            tell(p + 1)
        work.finish()


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
    work: Work,
    recipe: Recipe,
    means: Means | None,
    *,
    at_last: bool,
    given: Tensor | None,
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
        start = start_of(runs, batch, point.alpha) if given is None else given
        return taped_run(runs, batch, taps, keep=keep, start=start, backward=recipe.backward, at_last=at_last)
    name = hook_name(point.site[1], point.site[0])
    clean = runs.activations(batch, "clean", [name])[name]
    reference = _reference(runs, batch, name, clean, recipe.ablation, means).to(clean.dtype)
    between = reference + point.alpha * (clean - reference)
    if name == entry:
        return taped_run(runs, batch, taps, keep=keep, start=between, backward=recipe.backward)
    return taped_run(runs, batch, taps, keep=keep, replaced={name: between}, backward=recipe.backward)


def _stretches(runs: PairedRuns, batch: Batch, points: Sequence[Point], work: Work, recipe: Recipe) -> None:
    """For each stretch of the line, from clean to corrupted: the gradient at its beginning times what it changes."""
    walked = recipe.backward == "plain" and runs.is_walked(batch)
    taps, keep = work.taps(walked=walked)
    sites = work.sites(runs, work.graph)
    names = {site: hook_name(site[1], site[0]) for site in sites}
    runs.activations(batch, "corrupted", [hook_name("resid", 0)])
    after = runs.activations(batch, "clean", [*names.values(), hook_name("resid", 0)])
    for point in sorted(points, key=lambda point: -point.alpha):
        start = start_of(runs, batch, point.alpha)
        run = taped_run(
            runs, batch, taps, keep=[*keep, *names.values()], start=start, backward=recipe.backward
        )
        work.start({site: wide(after[name]) - wide(run.seen[name]) for site, name in names.items()})
        after = {name: run.seen[name] for name in names.values()}
        work.add(run, 1.0, recipe.backward)
        work.multiply()
    work.tally.close(work.batch)


class _Nodes(Work):
    """Every node at its output: heads before their output matrix, which is linear."""

    @staticmethod
    def sites(runs: PairedRuns, graph: Graph) -> list[Site]:
        return [(0, "resid"), *writer_hooks(graph)]

    def taps(self, *, walked: bool) -> tuple[list[str], list[str]]:
        return [hook_name(site, layer) for layer, site in self.sites(self.runs, self.graph)], []

    def start(self, differences: dict[Site, Tensor]) -> None:
        self.differences, self.gradients = differences, dict[str, Tensor]()

    def add(self, run: Differentiated, weight: float, backward: Backward) -> None:
        for name, grad in run.gradients().items():
            accumulate(self.gradients, name, grad, weight)

    def multiply(self) -> None:
        at = 0
        for (layer, site), difference in self.differences.items():
            product = difference.double() * self.gradients[hook_name(site, layer)].double()
            product = product.sum(-1) if product.dim() == 4 else product.sum(-1, keepdim=True)
            self.tally.add(product, (slice(at, at + product.shape[2]),), self.labels)
            at += product.shape[2]


class _Neurons(_Nodes):
    """Every hidden unit of every MLP, after activation and product."""

    @staticmethod
    def sites(runs: PairedRuns, graph: Graph) -> list[Site]:
        return [(layer, "neurons") for layer in runs.wiring.mlp_layers]

    def multiply(self) -> None:
        for (layer, site), difference in self.differences.items():
            product = difference.double() * self.gradients[hook_name(site, layer)].double()
            self.tally.add(product, (layer,), self.labels)


_WORKS: Mapping[Level, type[EdgeWork | _Nodes]] = {"edge": EdgeWork, "node": _Nodes, "neuron": _Neurons}
