"""What `WordLooks` computes: scores for some words raised or lowered, by region."""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.edits.place import Change, Place, Seen
from workbench.edits.word_looks import WordLooks


def changes_of(edit: WordLooks, place: Place) -> Sequence[Change]:
    """Return one change of the pattern of each layer."""

    def change(pattern: Tensor, seen: Seen) -> Tensor:
        return raised(pattern, added_scores(edit, pattern.shape[2], pattern.shape[3]).to(pattern))

    heads = place.heads(edit.heads)
    return [
        Change(layer=layer, site="pattern", heads=own, fn=change, alone=True, forward=True)
        for layer, own in heads.items()
    ]


def added_scores(edit: WordLooks, n_patches: int, n_words: int) -> Float[Tensor, "patch word"]:
    """Return what the edit adds to the score of every patch for every word."""
    grid = isqrt(n_patches)
    inside = torch.zeros(grid, grid, dtype=torch.bool)
    top, left, bottom, right = edit.region or (0, 0, grid, grid)
    inside[top:bottom, left:right] = True
    added = torch.zeros(n_patches, n_words)
    added[:, list(edit.words)] = torch.where(
        inside.flatten()[:, None], float(edit.inside), float(edit.outside)
    )
    return added


def raised(
    pattern: Float[Tensor, "row head patch word"], added: Float[Tensor, "patch word"]
) -> Float[Tensor, "row head patch word"]:
    """Return the pattern that scores with something added would have given; rows without it stay as they are.

    Example:
        >>> raised(torch.tensor([[[[0.5, 0.5]]]]), torch.tensor([[0.0, 100.0]])).round().tolist()
        [[[[0.0, 1.0]]]]
    """
    made = (pattern.clamp(min=torch.finfo(pattern.dtype).tiny).log() + added).softmax(-1)
    return torch.where(added.any(-1)[:, None], made, pattern)
