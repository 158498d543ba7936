"""Salient relevance: from a noisy relevance map to the regions that stand out, on a line of tokens or in a picture.

Source: Li, Tian, Mueller and Chen 2017 (salient relevance), whose second step is context-aware saliency on the map.
There patches are of an image. Here places are pixels or cells of a picture, or tokens of a line.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float

from workbench.core.errors import OptionError
from workbench.engine.gradients import taped_run
from workbench.engine.paired_runs import PairedRuns
from workbench.engine.rules import Backward


def saliency(
    values: Float[np.ndarray, "*place"], *, scales: Sequence[int] = (1, 2), k: int = 4, weight: float = 3.0
) -> Float[np.ndarray, "*place"]:
    """Say how much each place stands out of the places most like it, 0 to 1.

    ``S_i = 1 - exp(-mean over the k most similar j of d(i, j))`` with ``d = |p_i - p_j| / (1 + weight |i - j| / n)``,
    ``p`` the mean absolute value of a window scaled to a largest of 1, ``n`` the longest side; the mean over window
    sizes. So what differs from its neighborhood stands out more than what differs from places far away.

    Args:
        values: Of a line ``(pos,)``, or of a picture ``(row, column)``.
        scales: Sides of the windows.

    Raises:
        OptionError: if there are no ``k`` other places.
    """
    n = values.size
    if not 1 <= k < n:
        raise OptionError(
            f"k is {k}; expected 1 to {n - 1}, as {n} places have {n - 1} others",
            hint=f"k={max(n - 1, 1)}, or a larger map",
        )
    at = _places(values.shape)
    apart = _distances(at, at) / max(values.shape)
    found = np.zeros(n)
    for scale in scales:
        p = _windows(np.abs(values), scale).ravel()
        p = p / p.max() if p.max() > 0 else p
        d = np.abs(p[:, None] - p[None, :]) / (1 + weight * apart)
        np.fill_diagonal(d, np.inf)
        found += 1 - np.exp(-np.partition(d, k - 1, axis=1)[:, :k].mean(1))
    return (found / len(scales)).reshape(values.shape)


def _places(shape: tuple[int, ...]) -> np.ndarray:
    """Every place by its coordinates ``(place, side)``."""
    return np.argwhere(np.ones(shape, dtype=bool)).astype(float)


def _distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How far places are from others ``(place, other)``, in steps along a side."""
    return np.sqrt(((one[:, None] - other[None, :]) ** 2).sum(-1))


def _windows(values: np.ndarray, size: int) -> np.ndarray:
    """Mean over the window of ``size`` places, along every side, around each place, cut at the ends."""
    half = (size - 1) // 2
    for side in range(values.ndim):
        moved = np.moveaxis(values, side, 0)
        parts = [moved[max(0, i - half) : i - half + size].mean(0) for i in range(len(moved))]
        values = np.moveaxis(np.array(parts), 0, side)
    return values


def near_foci(salient: Float[np.ndarray, "*place"], *, threshold: float = 0.8) -> Float[np.ndarray, "*place"]:
    """Saliency, less the further from the nearest focus: a place with at least ``threshold`` of the largest.

    ``S_i (1 - distance / n)``, n the longest side; never below 0.
    """
    if salient.max() <= 0:
        return salient.copy()
    at, foci = _places(salient.shape), np.argwhere(salient >= threshold * salient.max()).astype(float)
    distance = _distances(at, foci).min(1).reshape(salient.shape)
    return salient * np.maximum(1 - distance / max(salient.shape), 0.0)


def salient_relevance(
    values: Float[np.ndarray, "*place"], *, scales: Sequence[int] = (1, 2), k: int = 4
) -> Float[np.ndarray, "*place"]:
    """Return both steps together: a map of the areas that stand out, 0 to 1.

    Example:
        >>> values = np.zeros((5, 5))
        >>> values[2, 2] = 1.0
        >>> found = salient_relevance(values)
        >>> bool(found[2, 2] == found.max()), bool(found[0, 0] < found[2, 2] / 4)
        (True, True)
    """
    return near_foci(saliency(values, scales=scales, k=min(k, values.size - 1)))


def token_relevance(runs: PairedRuns, *, backward: Backward) -> list[np.ndarray]:
    """Return, for each pair, relevance of every token: gradient times difference of its input from the mean
    prompt's.
    """
    found: list[np.ndarray] = [np.zeros(0)] * runs.n_pairs
    for batch in runs.batches:
        run = taped_run(runs, batch, ["blocks.0.hook_in"], backward=backward)
        entry = run.seen["blocks.0.hook_in"].detach()
        gradient = run.gradients()["blocks.0.hook_in"]
        values = ((entry - entry.mean(0)) * gradient).sum(-1).double().cpu().numpy()
        for i, row in zip(batch.index, values, strict=True):
            found[int(i)] = row
        runs.release(batch)
    return found


@torch.no_grad()
def occlusion(runs: PairedRuns) -> list[np.ndarray]:
    """Return, for each pair, the exact drop of the metric when a token's input becomes the mean over prompts of its
    length.
    """
    found: list[np.ndarray] = [np.zeros(0)] * runs.n_pairs
    for batch in runs.batches:
        entry = runs.resid(batch, "clean", 0)
        clean = runs.measure(batch, runs.clean_output(batch))
        drops = np.zeros((len(batch), batch.n_tokens))
        for pos in range(batch.n_tokens):
            resid = entry.clone()
            resid[:, pos] = entry[:, pos].mean(0)
            values = runs.values(batch, batch.prompt("clean"), resid=resid)
            drops[:, pos] = (runs.metric.direction * (clean - values)).double().cpu().numpy()
        for i, row in zip(batch.index, drops, strict=True):
            found[int(i)] = row
        runs.release(batch)
    return found


def planted_region(
    n: int = 40, width: int = 8, noise: float = 0.5, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return a line with one region that matters, and the same with noise at every place: ``(truth, noisy)``."""
    rng = np.random.default_rng(seed)
    truth = np.zeros(n)
    start = int(rng.integers(0, n - width))
    truth[start : start + width] = 1.0
    return truth, truth + noise * rng.normal(size=n)
