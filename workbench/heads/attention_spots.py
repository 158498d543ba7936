"""Spots of an instruction scored against views of a panorama, and a monitor that says when a spot is passed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from workbench.core.errors import OptionError
from workbench.heads.image_text import phrase_vectors, picture_vectors
from workbench.tasks.scenes.walks import Walks

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

NEVER = -1


@torch.no_grad()
def spot_similarities(
    model: TransformerBridge,
    views: UInt8[np.ndarray, "step view height width 3"],
    spots: Sequence[str],
) -> Float[np.ndarray, "spot step view"]:
    """Compare every view of some panoramas with every spot of an instruction.

    Args:
        spots: Phrases of one length.

    Returns:
        Cosine similarities of whole pictures and phrases, from -1 to 1.

    Raises:
        ModelError: for a model that has no space for pictures and phrases.

    Source:
        VLN-CM 2024, as its abstract has it.
    """
    steps, n_views = views.shape[:2]
    seen = picture_vectors(model, views.reshape(-1, *views.shape[2:]))
    alike = phrase_vectors(model, spots) @ seen.T
    return alike.double().cpu().numpy().reshape(len(spots), steps, n_views)


def walk_similarities(model: TransformerBridge, walks: Walks) -> Float[np.ndarray, "walk spot step view"]:
    """Compare every view of some walks with every spot of their instructions (`spot_similarities`).

    Raises:
        ModelError: for a model that has no space for pictures and phrases.
    """
    pairs = zip(walks.pixels, walks.phrases, strict=True)
    return np.stack([spot_similarities(model, views, spots) for views, spots in pairs])


def best_views(similarities: Float[np.ndarray, "... view"]) -> Int[np.ndarray, "..."]:
    """Say which view is most like the spot.

    Example:
        >>> best_views(np.array([[0.1, 0.7, 0.2], [0.6, 0.1, 0.1]])).tolist()
        [1, 0]
    """
    return similarities.argmax(-1)


def right_views(
    similarities: Float[np.ndarray, "walk spot step view"], seen_in: Int[np.ndarray, "walk step spot"]
) -> Float[np.ndarray, "walk spot step"]:
    """Return 1 where the view that is most like a spot is the one that it is seen in, else 0.

    Args:
        seen_in: The view of each spot; -1 where it is not seen.

    Returns:
        NaN where the spot is not seen.

    Example:
        >>> alike = np.array([[[[0.1, 0.7], [0.6, 0.2], [0.3, 0.4]]]])  # one walk, one spot, three steps
        >>> right_views(alike, np.array([[[1], [1], [-1]]])).tolist()
        [[[1.0, 0.0, nan]]]
    """
    there = seen_in.transpose(0, 2, 1)
    return np.where(there == NEVER, np.nan, (best_views(similarities) == there).astype(float))


def spots_found(model: TransformerBridge, walks: Walks) -> Float[np.ndarray, "walk spot step"]:
    """Return 1 where a model chooses the view that a spot is seen in, else 0; NaN where it is not seen.

    Raises:
        ModelError: for a model that has no space for pictures and phrases.

    Example:
        >>> import workbench as wb
        >>> from workbench.tasks.scenes.walks import draw_walks
        >>> spots_found(wb.open_model("zoo:clip"), draw_walks(n=1, steps=4, seed=0)).shape
        (1, 2, 4)
    """
    return right_views(walk_similarities(model, walks), walks.seen_in)


def share_faced(
    right: Float[np.ndarray, "walk spot step"],
    switched: Int[np.ndarray, " walk"],
    passed: Int[np.ndarray, " walk"],
) -> Float[np.ndarray, " walk"]:
    """Return the share of the steps of each walk at which the spot that is due is looked for and faced.

    Args:
        right: Whether each spot is faced where it is looked for (`right_views`).
        switched: The step from which the second spot is looked for; -1 never.
        passed: The step from which it is due.

    Example:
        >>> right = np.array([[[1.0, 1.0, np.nan], [0.0, 0.0, 1.0]]])
        >>> share_faced(right, np.array([2]), np.array([2])).tolist()
        [1.0]
    """
    steps = np.arange(right.shape[2])[None]
    looks = (steps >= np.where(switched == NEVER, right.shape[2], switched)[:, None]).astype(int)
    due = (steps >= passed[:, None]).astype(int)
    shown = np.take_along_axis(right, due[:, None], 1)[:, 0]
    return np.asarray(np.where(looks == due, shown, 0.0).mean(1))


def falls_at(best: Float[np.ndarray, "walk step"], *, fall: float) -> Int[np.ndarray, " walk"]:
    """Say at which step a spot is passed: the first at which its best similarity is ``fall`` below the most so far.

    Args:
        best: Similarity of the spot with the view that is most like it, at every step.

    Returns:
        The step from which the next spot is looked for; -1 where the similarity never falls so far.

    Raises:
        OptionError: for a fall that is not above zero.

    Source:
        VLN-CM 2024, as its abstract has it: a progress monitor.

    Example:
        >>> falls_at(np.array([[0.3, 0.5, 0.8, 0.4], [0.3, 0.4, 0.5, 0.6]]), fall=0.2).tolist()
        [3, -1]
    """
    if not fall > 0:
        raise OptionError(f"fall is {fall}; more than 0 is expected", hint="fall=0.1")
    fallen = best <= np.maximum.accumulate(best, 1) - fall
    return np.where(fallen.any(1), fallen.argmax(1), NEVER)


def switch_f1(said: Int[np.ndarray, " walk"], true: Int[np.ndarray, " walk"]) -> float:
    """Return F1 of the steps at which a spot is said to be passed; -1 says none.

    Example:
        >>> switch_f1(np.array([3, -1, 2]), np.array([3, 4, 4]))  # one of two said, one of three true
        0.4
    """
    hits, told = int((said == true).sum()), int((said != NEVER).sum())
    return 2 * hits / (told + len(true)) if len(true) else 0.0


def choose_fall(
    best: Float[np.ndarray, "walk step"], true: Int[np.ndarray, " walk"], falls: Sequence[float]
) -> tuple[float, dict[float, float]]:
    """Choose on some walks how far the similarity has to fall: the fall of the largest F1, of equal ones the first.

    Args:
        best: As of `falls_at`.
        true: The steps at which the spots are passed.

    Returns:
        The fall; and the F1 of every one that was tried, from 0 to 1.

    Example:
        >>> choose_fall(np.array([[0.3, 0.5, 0.8, 0.4]]), np.array([3]), [0.1, 0.5])
        (0.1, {0.1: 1.0, 0.5: 0.0})
    """
    f1 = {fall: switch_f1(falls_at(best, fall=fall), true) for fall in falls}
    return max(f1, key=lambda fall: f1[fall]), f1
