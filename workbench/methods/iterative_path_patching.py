"""Iterative path patching: who writes what the logits read, who writes what those read, and so on backwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import numpy as np

from workbench.circuits import addresses as names
from workbench.circuits.addresses import Edge, Node
from workbench.circuits.graph import Graph
from workbench.circuits.scores import Scores
from workbench.core.errors import OptionError
from workbench.engine.interventions.path_patching import path_patches
from workbench.engine.interventions.words import Mlps
from workbench.engine.paired_runs import PairedRuns
from workbench.methods.options.passes import IterativePathPatching
from workbench.methods.outcome import graph_of, result
from workbench.methods.registry import Level


def iterative_path_patching(
    runs: PairedRuns, options: IterativePathPatching, *, level: Level, progress: Callable[..., None]
) -> Scores:
    """Path effects, followed backwards from the logits through every part that has one.

    ::

        receivers <- {logits}
        repeat:  path-patch every earlier head, MLP and the input into each receiver
                 senders whose effect is at least threshold * (F(clean) - F(corrupted)) are kept
                 receivers <- q, k, v (or MLP input) of the senders kept now that were not receivers before

    The score is the drop of the metric through that path; paths that were never tested score 0. With frozen MLPs a path
    is an edge and the score its exact effect, so this is ``exact`` on the part of the graph that is worth the passes.
    A path that works against the behavior scores below 0 and is not followed.

    Raises:
        OptionError: if the two prompts do not differ in the metric, so that no share is defined.

    Source:
        Wang et al. 2023, arXiv:2211.00593; Goldowsky-Dill et al. 2023, arXiv:2304.05969.
    """
    graph = graph_of(runs, level)
    least = options.threshold * _gap(runs)
    values = np.where(graph.edge_mask, 0.0, np.nan)
    rounds: list[dict] = []
    front, seen, tested = [len(graph.targets) - 1], set(), 0
    while front and (options.depth is None or len(rounds) < options.depth):
        for done, j in enumerate(front):
            values[: int(graph.n_visible[j]), j] = _effects(runs, graph, j, options.mlps)
            tested += int(graph.n_visible[j])
            progress(done + 1, len(front), f"round {len(rounds) + 1}: paths into {graph.targets[j]}")
        seen.update(front)
        kept = [(i, j) for j in front for i in range(int(graph.n_visible[j])) if values[i, j] >= least]
        rounds.append(_described(graph, front, kept, values))
        front = [j for j in _inputs_of(graph, {i for i, _ in kept}) if j not in seen]
    return result(
        runs,
        values,
        level="edge",
        method="iterative-path-patching",
        source="arXiv:2211.00593",
        options={**asdict(options), "tested": tested, "rounds": rounds},
        own_rule=f">={least!r}",
        passes=2 + 2 * tested,
    )


def _gap(runs: PairedRuns) -> float:
    gap = float(runs.metric.direction * (runs.clean - runs.corrupted).mean())
    if not gap > 0:
        raise OptionError(
            f"{runs.metric.name} is no better on clean than on corrupted prompts ({gap:.3g}): no share to follow",
            hint="take a task that the model does, another --corruption or another --metric",
        )
    return gap


def _effects(runs: PairedRuns, graph: Graph, target: int, mlps: Mlps) -> np.ndarray:
    """``(source,)`` mean drop through the path from each source that this target reads."""
    senders = [_sender(graph, node) for node in graph.sources[: int(graph.n_visible[target])]]
    return path_patches(runs, senders, [graph.targets[target]], mlps=mlps).mean


def _sender(graph: Graph, source: Node) -> tuple[Node, ...]:
    """A source as senders: a post-normed attention layer is all of its heads together."""
    if source.kind != "attn":
        return (source,)
    return tuple(names.head(source.depth, h) for h in range(graph.shape.n_heads))


def _inputs_of(graph: Graph, sources: set[int]) -> list[int]:
    """Targets through which these sources read, the last first."""
    wanted = {graph.sources[i] for i in sources}
    return [
        j for j in reversed(range(len(graph.targets))) if wanted & set(graph.fed_by(graph.targets[j].writer))
    ]


def _described(graph: Graph, front: list[int], kept: list[tuple[int, int]], values: np.ndarray) -> dict:
    """One round as JSON values: a table's rows."""
    rows = sorted(kept, key=lambda edge: -values[edge])
    return {
        "receivers": [str(graph.targets[j]) for j in front],
        "tested": int(sum(graph.n_visible[j] for j in front)),
        "kept": [
            {"path": str(Edge(graph.sources[i], graph.targets[j])), "effect": float(values[i, j])}
            for i, j in rows
        ],
    }
