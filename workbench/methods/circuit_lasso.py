"""CircuitLasso: which parts predict which, over prompts. Nothing is changed in the model: a baseline without causes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import get_args

import numpy as np
import torch
from jaxtyping import Float

from workbench.circuits.graph import Graph
from workbench.circuits.scores import Scores
from workbench.core.errors import ModelError, OptionError
from workbench.engine.batch import RunName
from workbench.engine.paired_runs import PairedRuns
from workbench.engine.source_outputs import source_outputs
from workbench.methods.options.regression import CircuitLasso
from workbench.methods.outcome import graph_of, result
from workbench.methods.registry import Level

LEAST = 4  # prompts; with fewer every part predicts every other
KEPT = 1e-12  # a coefficient of this size is there


def group_lasso(
    x: Float[np.ndarray, "row feature"],
    y: Float[np.ndarray, "row response"],
    groups: Sequence[slice],
    penalty: float,
    *,
    steps: int = 300,
) -> Float[np.ndarray, "feature response"]:
    """Minimise ``|y - x B|^2 + penalty * sum over groups of |B of the group|`` by FISTA.

    Returns:
        Coefficients; those of a group that predicts too little are exactly 0.

    Example:
        >>> group_lasso(np.eye(2), np.array([[3.0], [-0.4]]), [slice(0, 1), slice(1, 2)], 1.0).round(3).ravel() + 0.0
        array([2.5, 0. ])
    """
    gram, cross = x.T @ x, x.T @ y
    largest = float(np.linalg.norm(gram, 2)) if gram.size else 0.0
    found = np.zeros((x.shape[1], y.shape[1]))
    if largest == 0:
        return found
    step, ahead, pace = 1 / (2 * largest), found, 1.0
    for _ in range(steps):
        moved = ahead - step * 2 * (gram @ ahead - cross)
        for group in groups:
            size = float(np.linalg.norm(moved[group]))
            moved[group] *= max(0.0, 1 - step * penalty / size) if size else 0.0
        next_pace = (1 + np.sqrt(1 + 4 * pace**2)) / 2
        ahead = moved + (pace - 1) / next_pace * (moved - found)
        change = float(np.abs(moved - found).max())
        found, pace = moved, next_pace
        if change <= 1e-10 * max(1.0, float(np.abs(found).max())):
            break
    return found


def largest_penalty(
    x: Float[np.ndarray, "row feature"], y: Float[np.ndarray, "row response"], groups: Sequence[slice]
) -> float:
    """Return the smallest penalty at which every coefficient is 0: ``max over groups of 2 |x of the group . y|``."""
    return max((2 * float(np.linalg.norm(x[:, group].T @ y)) for group in groups), default=0.0)


def told(vectors: Float[np.ndarray, "row d"], parts: int) -> Float[np.ndarray, "row part"]:
    """Return the largest principal components of some rows, in units of their common standard deviation."""
    centred = vectors - vectors.mean(0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    kept = left[:, :parts] * sizes[:parts]
    spread = float(np.sqrt((kept**2).sum() / len(kept)))
    # 1e-9: below this share of the vectors' own size nothing changes from prompt to prompt
    return kept / spread if spread > 1e-9 * max(1.0, float(np.abs(vectors).max())) else np.zeros_like(kept)


def circuit_lasso(
    runs: PairedRuns, options: CircuitLasso, *, level: Level, progress: Callable[..., None]
) -> Scores:
    """Size of a part's coefficient in a sparse regression of each later part: dependence, not effect.

    What a part writes at the named positions is told in its largest principal components over prompts; each part is
    regressed on all that it can read, with one price for each of these (group lasso), and the logits by the metric. No
    gradient, and nothing put in place of anything: two readers of one cause look linked. q, k and v of a head share
    a score.

    Returns:
        Sizes of coefficients, without unit, never negative; the method's own circuit is what is not 0.

    Raises:
        OptionError: for fewer than four prompts.

    Source:
        arXiv:2606.16939 (second-hand; there parts are single numbers).
    """
    graph = graph_of(runs, level)
    if len(graph.parts) > 1:
        raise ModelError("parts of several stacks are not regressed on each other", hint="--method eap-ig")
    prompts: tuple[RunName, ...] = get_args(RunName) if options.prompts == "both" else ("clean",)
    if runs.n_pairs * len(prompts) < LEAST:
        raise OptionError(
            f"{runs.n_pairs * len(prompts)} prompts; at least {LEAST} are needed", hint=f"-n {LEAST}"
        )
    features = [told(rows, options.parts) for rows in _written(runs, graph, prompts, progress)]
    metric = np.concatenate([runs.clean if side == "clean" else runs.corrupted for side in prompts])
    values = np.full(graph.edge_mask.shape, np.nan)
    writes = {str(node): i for i, node in enumerate(graph.sources)}
    known: dict[str, np.ndarray] = {}
    for column, target in enumerate(graph.targets):
        seen = np.flatnonzero(graph.edge_mask[:, column])
        name = str(target.writer)
        if name not in known:
            y = (
                told(metric[:, None], 1)
                if target.kind == "logits"
                else _outputs(features, writes, name, graph)
            )
            known[name] = _sizes([features[i] for i in seen], y, options)
        values[seen, column] = known[name]
    return result(
        runs,
        values,
        level="edge",
        method="circuit-lasso",
        source="arXiv:2606.16939",
        options=asdict(options),
        passes=len(prompts),
        unit="coefficient",
        own_rule=f">={KEPT!r}",
    )


def _outputs(features: Sequence[np.ndarray], writes: dict[str, int], name: str, graph: Graph) -> np.ndarray:
    """What the part of a target writes; the heads of a group, or of a layer that is one source, together."""
    if name in writes:
        return features[writes[name]]
    shape = graph.shape
    node = next(t for t in graph.targets if str(t.writer) == name)
    layer, index = node.layer, node.index
    if node.kind == "group" and index is not None:
        each = shape.n_heads // shape.n_kv_heads
        heads = [f"a{layer}.h{h}" for h in range(index * each, (index + 1) * each)]
        found = [features[writes[h]] for h in heads if h in writes]
        if found:
            return np.concatenate(found, axis=1)
    return features[writes[f"a{layer}"]]


def _sizes(x: Sequence[np.ndarray], y: np.ndarray, options: CircuitLasso) -> np.ndarray:
    """Size of the coefficients of every predecessor."""
    ends = np.cumsum([0, *(part.shape[1] for part in x)])
    groups = [slice(a, b) for a, b in pairwise(ends.tolist())]
    whole = np.concatenate(x, axis=1)
    found = group_lasso(
        whole, y, groups, options.penalty * largest_penalty(whole, y, groups), steps=options.steps
    )
    return np.array([float(np.linalg.norm(found[group])) for group in groups])


@torch.no_grad()
def _written(
    runs: PairedRuns, graph: Graph, prompts: Sequence[RunName], progress: Callable[..., None]
) -> list[Float[np.ndarray, "row d"]]:
    """For every source one row per prompt: its mean output at each named position, one after the other."""
    n, labels = runs.n_pairs, runs.position_labels
    rows: np.ndarray | None = None
    for done, batch in enumerate(runs.batches):
        token = runs.labels_of(batch)
        share = torch.stack([(token == k).double() for k in range(len(labels))], -1)  # (pair, pos, label)
        share = share / share.sum(1, keepdim=True).clamp_min(1)
        for k, side in enumerate(prompts):
            wrote = source_outputs(runs, batch, side, graph)
            assert isinstance(wrote, torch.Tensor)  # one stack: several are refused
            found = torch.einsum("bpl,bpsd->sbld", share.to(wrote.device), wrote.double()).flatten(2)
            if rows is None:
                rows = np.zeros((found.shape[0], n * len(prompts), found.shape[2]))
            rows[:, k * n + batch.index] = found.cpu().numpy()
        runs.release(batch)
        progress(done + 1, len(runs.batches), f"{len(batch)} pairs of {batch.n_tokens} tokens")
    assert rows is not None  # there is a batch wherever there are pairs
    return list(rows)
