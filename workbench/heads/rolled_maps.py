"""Where attention rolled out through all layers says that a thing is: several ways of rolling, on the patches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float

from workbench.heads.asked_pictures import AskedPictures
from workbench.heads.observe import patterns_of
from workbench.heads.weighted_rollout import Flow, Pattern, sharpness, weighted_rollout

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    from workbench.model.prompt import Prompt

Way = Callable[[Mapping[int, Pattern]], Flow]
ROWS = 128  # prompts of one pass


def flow(
    patterns: Mapping[int, Pattern],
    *,
    regularised: bool = True,
    alike: bool = False,
    dealt: np.random.Generator | None = None,
) -> Flow:
    """Roll attention out with heads that weigh what they do, all the same, or what another head of their layer does.

    Args:
        patterns: By layer.
        regularised: Keep it off early tokens.
        alike: Every head weighs what the heads of its layer do on average.
        dealt: Weights are dealt to the heads of their layer.

    Returns:
        What of each position (key) has arrived at each query: shares that sum to 1.

    Example:
        >>> sharp, even = torch.eye(2), torch.tensor([[1.0, 0.0], [0.5, 0.5]])
        >>> patterns = {0: torch.stack([sharp, even])[None]}  # of two heads the first looks more sharply
        >>> [round(flow(patterns, alike=alike)[0, 1, 0].item(), 3) for alike in (False, True)]
        [0.076, 0.091]
    """
    weights = [sharpness(patterns[n]) for n in sorted(patterns)]
    if alike:
        weights = [each.mean(1, keepdim=True).expand_as(each) for each in weights]
    if dealt is not None:
        weights = [each[:, dealt.permutation(each.shape[1])] for each in weights]
    return weighted_rollout(patterns, regularised=regularised, weights=weights)


def last_layer(patterns: Mapping[int, Pattern]) -> Flow:
    """Return the last layer's attention, heads averaged.

    Example:
        >>> last_layer({0: torch.zeros(1, 2, 2, 2), 1: torch.ones(1, 2, 2, 2)}).sum().item()
        4.0
    """
    return patterns[max(patterns)].mean(1)


def dealt_ways(draws: int, seed: int) -> dict[str, Way]:
    """Return ways in which weights are dealt to the heads of their layer, the control of weighing heads."""
    return {str(i): partial(flow, dealt=np.random.default_rng([seed, i])) for i in range(draws)}


@torch.no_grad()
def rolled(
    model: TransformerBridge, prompt: Prompt, ways: Mapping[str, Way]
) -> dict[str, Float[np.ndarray, "row pos"]]:
    """Return what arrives at the last token from every position, in float64, in every way."""
    seen = [patterns_of(model, part).patterns for part in prompt.split(ROWS)]
    return {
        name: np.concatenate([way(patterns)[:, -1].double().cpu().numpy() for patterns in seen])
        for name, way in ways.items()
    }


def on_patches(
    asked: AskedPictures, rows: Float[np.ndarray, "row pos"]
) -> Float[np.ndarray, "row grid_row grid_column"]:
    """Return what arrived from the patches of the picture, as a map over the grid; of nothing, an even map."""
    return rows[:, list(asked.image)].reshape(len(asked), *asked.grid) + 1e-12


def even_quarter(rows: Float[np.ndarray, "row pos"]) -> float:
    """Return what an even map has on the first quarter of positions, which is rounded down.

    Example:
        >>> even_quarter(np.ones((1, 6)))
        0.16666666666666666
    """
    return int(rows.shape[1] / 4) / rows.shape[1]
