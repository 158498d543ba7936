"""Where a question makes a model look, and what it answers when nothing else is left of the picture.

Maps of the plain attention and of the contrast with a general instruction, layer by layer; the layer and the region
that are best on pictures for choosing; answers when a region alone is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from workbench.heads.asked_pictures import AskedPictures, answered, ask_pictures
from workbench.heads.contrastive_map import contrast_region, contrastive_map
from workbench.heads.localisation import lift_apart
from workbench.heads.span_attention import attention_entropy, span_attention
from workbench.tasks.scenes.layout import World
from workbench.tasks.scenes.questions import DESCRIBE

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Maps = Float[np.ndarray, "question layer row column"]
PLAIN, CONTRAST = "plain map", "contrast"


def layer_entropy(model: TransformerBridge, asked: AskedPictures) -> Float[np.ndarray, "question layer"]:
    """Return how spread the last token's attention to the picture is, in nats, heads averaged.

    A head that gives the picture nothing is left out.
    """
    return np.nanmean(attention_entropy(model, asked.prompt), axis=2)


class Complexity(NamedTuple):
    """Questions about pictures of one kind.

    Attributes:
        entropy: As ``layer_entropy`` has it.
        right: 1 for every question that is answered rightly.
    """

    entropy: Float[np.ndarray, "question layer"]
    right: Float[np.ndarray, " question"]


def by_complexity(
    model: TransformerBridge, worlds: Sequence[World], *, kinds: Sequence[str], n: int, seed: int
) -> list[Complexity]:
    """Ask questions about pictures of every world, from simple ones to complex ones.

    Args:
        kinds: Of questions.
        n: Questions for each world; seeds of worlds follow one another.
    """
    sets = [ask_pictures(model, world, kinds=kinds, n=n, seed=seed + i) for i, world in enumerate(worlds)]
    return [Complexity(layer_entropy(model, each), answered(model, each)) for each in sets]


def focus_maps(
    model: TransformerBridge, asked: AskedPictures, *, floor: float | None = None
) -> dict[str, Maps]:
    """Return the plain map of every layer and its contrast with that under a general instruction, heads averaged.

    Args:
        floor: Under the general map; by default its median.
    """
    prompts = asked.prompt, asked.asking(model, DESCRIBE)
    own, general = (span_attention(model, each).mean(2) for each in prompts)
    own, general = (each.reshape(*each.shape[:2], *asked.grid) for each in (own, general))
    return {PLAIN: own, CONTRAST: contrastive_map(own, general, floor=floor)}


def lift_by_layer(
    model: TransformerBridge, asked: AskedPictures, *, floor: float | None = None
) -> list[float]:
    """Return for every layer how much the contrast's lift on the asked object exceeds that on the others."""
    maps = focus_maps(model, asked, floor=floor)[CONTRAST]
    return [lift_apart(each, asked.own, asked.others) for each in maps.swapaxes(0, 1)]


def best_layer(
    maps: Maps,
    own: Bool[np.ndarray, "question row column"],
    others: Bool[np.ndarray, "question slot row column"],
) -> tuple[int, float]:
    """Return the layer whose lift on the asked object exceeds that on the others most, and by how much.

    Example:
        >>> own, others = np.array([[[True, False]]]), np.array([[[[False, True]]]])
        >>> layer, lift = best_layer(np.array([[[[0.5, 0.5]], [[0.75, 0.25]]]]), own, others)
        >>> layer, round(lift, 6)
        (1, 1.0)
    """
    lifts = [lift_apart(each, own, others) for each in maps.swapaxes(0, 1)]
    return int(np.argmax(lifts)), max(lifts)


class Chosen(NamedTuple):
    """What was chosen for a map on some pictures.

    Attributes:
        layer: Whose map is taken.
        keep: Share of all patches that is looked at.
        parts: How many connected parts stay.
        lift: By how much the layer's lift on the asked object exceeds that on the others.
    """

    layer: int
    keep: float
    parts: int
    lift: float

    def regions(self, maps: Maps) -> Bool[np.ndarray, "question row column"]:
        """Return the region of every picture in which its map is large."""
        return regions_of(maps[:, self.layer], self.keep, self.parts)


def choose(
    model: TransformerBridge,
    asked: AskedPictures,
    maps: Maps,
    *,
    keeps: Sequence[float],
    parts: Sequence[int],
) -> Chosen:
    """Choose the layer by its lift on the asked object, and the region by right answers when nothing else is left.

    Of equal ones the first.
    """
    layer, lift = best_layer(maps, asked.own, asked.others)
    shapes = list(product(keeps, parts))
    shares = [left_alone(model, asked, regions_of(maps[:, layer], *shape)).mean() for shape in shapes]
    return Chosen(layer, *shapes[int(np.argmax(shares))], lift)


def regions_of(
    maps: Float[np.ndarray, "question row column"], keep: float, parts: int
) -> Bool[np.ndarray, "question row column"]:
    """Return the region of every map, as ``contrast_region`` has it."""
    return np.stack([contrast_region(each, keep=keep, components=parts) for each in maps])


def left_alone(
    model: TransformerBridge, asked: AskedPictures, regions: Bool[np.ndarray, "question row column"]
) -> Float[np.ndarray, " question"]:
    """Return 1 for every question that is answered rightly when a region alone is left of its picture."""
    return answered(model, asked, asked.covering(model, regions))
