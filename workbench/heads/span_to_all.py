"""What a part of a picture gives to every patch, in all heads, and a small head that points by these features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.core.errors import ShapeError
from workbench.heads.attentive_probe import parameters_of, standardised
from workbench.heads.grid_maps import Size
from workbench.heads.pointing_head import fit_pointing, point

Features = Float[Tensor, "picture patch feature"]


def span_to_all(
    patterns: Float[Tensor, "picture layer head query key"],
    span: Int[Tensor, "picture place"],
    *,
    first: int = 1,
) -> Features:
    """Stack what a part of each picture gives to every patch, one feature for each head of each layer.

    ``f[t, (l, h)] = mean over s in the part of A[l, h][s, t]``

    Args:
        patterns: Of all layers, as ``tower_patterns`` reads them.
        span: Positions of the part, counted as in the pattern.
        first: Where patches begin; what stands before, such as a class token, is left out.

    Returns:
        Shares of attention from 0 to 1; heads of the first layer come first.

    Raises:
        ShapeError: for a part of another number of pictures.

    Source:
        ViTGaze, 2024; the abstract alone was read.

    Example:
        >>> patterns = torch.eye(3).expand(1, 1, 2, 3, 3)
        >>> span_to_all(patterns, torch.tensor([[2]])).tolist()
        [[[0.0, 0.0], [1.0, 1.0]]]
    """
    if len(span) != len(patterns):
        raise ShapeError(
            f"a part is given for {len(span)} pictures of {len(patterns)}",
            hint="give positions for each picture",
        )
    at = span[:, None, None, :, None].to(patterns.device)
    rows = patterns.gather(3, at.expand(-1, *patterns.shape[1:3], -1, patterns.shape[4])).mean(3)
    return rows[..., first:].flatten(1, 2).transpose(1, 2)


def beside_span(
    hidden: Features, span: Int[Tensor, "picture place"], *, first: int = 1
) -> Float[Tensor, "picture patch both"]:
    """Put what the part itself holds, its mean, beside what every patch holds: features without attention."""
    places = (span - first)[..., None].expand(-1, -1, hidden.shape[-1]).to(hidden.device)
    own = hidden.gather(1, places).mean(1, keepdim=True)
    return torch.cat([hidden, own.expand_as(hidden)], -1)


def shuffled_heads(features: Features, *, seed: int) -> Features:
    """Deal the heads of each picture anew: the same numbers, and nobody knows which head gave which.

    Example:
        >>> features = torch.arange(6.0).reshape(1, 2, 3)
        >>> shuffled_heads(features, seed=0).sort(-1).values.tolist()
        [[[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]]
    """
    drawn = torch.rand(len(features), features.shape[-1], generator=torch.Generator().manual_seed(seed))
    order = drawn.argsort(1)[:, None].to(features.device)
    return features.gather(2, order.expand_as(features))


@dataclass(frozen=True, kw_only=True, eq=False)
class Followed:
    """What a head that points hit.

    Attributes:
        hits: 1 for each picture on whose target the largest weight lies, else 0; mean over trainings.
        parameters: Numbers that were learned.
    """

    hits: Float[np.ndarray, " picture"]
    parameters: int


def follow(
    features: Features,
    own: Bool[np.ndarray, "picture row column"],
    *,
    training: int,
    steps: int,
    seeds: tuple[int, ...],
    grid: Size,
    labels: Int[np.ndarray, " picture"] | None = None,
) -> Followed:
    """Train a small head to point at a target by features, and judge it on the pictures behind those for training.

    Args:
        own: Patches of each target.
        labels: Whose targets are learned in training; by default each picture's own.
    """
    told = standardised(features, features[:training])
    inside = torch.as_tensor(own, device=told.device)
    wanted = inside if labels is None else inside[torch.as_tensor(labels)]

    def loss(maps: Tensor, items: Tensor) -> Tensor:
        return -((maps * wanted[items]).sum((-2, -1)).clamp(min=1e-12)).log()

    found, learned = [], 0
    for seed in seeds:
        head = fit_pointing(told[:training], loss, grid=grid, steps=steps, seed=seed)
        best = point(head, told[training:], grid).flatten(1).argmax(-1)
        found.append(inside[training:].flatten(1).gather(1, best[:, None])[:, 0].double().cpu().numpy())
        learned = parameters_of(head)
    return Followed(hits=np.mean(found, axis=0), parameters=learned)
