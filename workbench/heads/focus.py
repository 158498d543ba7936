"""Where a question makes a model look, and what it answers when nothing else is left of the picture.

Maps of the plain attention and of the contrast with a general instruction, layer by layer; the layer and the region
that are best on pictures for choosing; answers when a region alone is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from workbench.heads.asked_pictures import AskedPictures, answered, ask_pictures
from workbench.heads.contrastive_map import contrast_region, contrastive_map
from workbench.heads.crops import elsewhere
from workbench.heads.localisation import Localisation, lift_apart, locate
from workbench.heads.span_attention import attention_entropy, span_attention
from workbench.tasks.scenes.layout import LADDERS
from workbench.tasks.scenes.questions import DESCRIBE
from workbench.view.pictures import HeadMaps

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Maps = Float[np.ndarray, "question layer row column"]
PLAIN, CONTRAST = "plain map", "contrast"
FLOORS = (0.001, 0.01, 0.1, 1.0)  # shares of a row of the pattern


def layer_entropy(model: TransformerBridge, asked: AskedPictures) -> Float[np.ndarray, "question layer"]:
    """Return how spread the last token's attention to the picture is, in nats, heads averaged.

    A head that gives the picture nothing is left out.
    """
    return np.nanmean(attention_entropy(model, asked.prompt), axis=2)


class Complexity(NamedTuple):
    """Questions about pictures from simple ones to complex ones.

    Attributes:
        along: What makes the pictures complex.
        level: How much of it the picture of every question has.
        entropy: As ``layer_entropy`` has it.
        right: 1 for every question that is answered rightly.
    """

    along: str
    level: Float[np.ndarray, " question"]
    entropy: Float[np.ndarray, "question layer"]
    right: Float[np.ndarray, " question"]

    def rows(self) -> list[dict[str, Any]]:
        """Return the mean entropy in nats and the share of right answers at every level.

        Example:
            >>> found = Complexity("waves", np.array([0.0, 1.0, 1.0]), np.eye(3), np.array([1.0, 1.0, 0.0]))
            >>> [row["right"].item() for row in found.rows()]
            [1.0, 0.5]
        """
        at = {level: self.level == level for level in dict.fromkeys(self.level.tolist())}
        return [
            {self.along: level, "entropy": self.entropy[own].mean(), "right": self.right[own].mean()}
            for level, own in at.items()
        ]


def by_complexity(
    model: TransformerBridge, along: str, *, kinds: Sequence[str], n: int, seed: int
) -> Complexity:
    """Ask questions about pictures of every kind of a ladder (``LADDERS``), from simple ones to complex ones.

    Args:
        along: The ladder.
        kinds: Of questions.
        n: Questions for each step; seeds of steps follow one another.
    """
    ladder = LADDERS[along]
    sets = [
        ask_pictures(model, world, kinds=kinds, n=n, seed=seed + i) for i, world in enumerate(ladder.values())
    ]
    return Complexity(
        along,
        np.repeat(list(ladder), n),
        np.concatenate([layer_entropy(model, each) for each in sets]),
        np.concatenate([answered(model, each) for each in sets]),
    )


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


def floor_rows(
    model: TransformerBridge, asked: AskedPictures, floors: Sequence[float] = FLOORS
) -> list[dict[str, Any]]:
    """Return ``lift_by_layer`` for every floor under the general map, that by default (its median) first."""
    return [
        {"floor": "median of the map" if floor is None else f"{floor:g}"}
        | {f"layer {i}": lift for i, lift in enumerate(lift_by_layer(model, asked, floor=floor))}
        for floor in (None, *floors)
    ]


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


def left_elsewhere(
    model: TransformerBridge,
    asked: AskedPictures,
    regions: Bool[np.ndarray, "question row column"],
    *,
    draws: int,
    rng: np.random.Generator,
) -> list[Float[np.ndarray, " question"]]:
    """Return ``left_alone`` of the same regions at other places of their pictures: the control of a choice."""
    moved = [elsewhere(regions, rng) for _ in range(draws)]
    return [left_alone(model, asked, each) for each in moved]


@dataclass(frozen=True, kw_only=True, eq=False)
class Focus:
    """Where a map lies in pictures, with what was chosen for it on others.

    Attributes:
        name: Of the map.
        maps: Of every picture, in all layers.
        chosen: The layer and the region.
        asked: The questions.
    """

    name: str
    maps: Maps
    chosen: Chosen
    asked: AskedPictures

    @cached_property
    def regions(self) -> Bool[np.ndarray, "question row column"]:
        """The region of every picture in which the map is large."""
        return self.chosen.regions(self.maps)

    @property
    def lies(self) -> Localisation:
        """Where the map of the chosen layer lies, beside the asked object and the others."""
        # 1e-12: a map that is 0 everywhere still has shares
        return locate(self.maps[:, self.chosen.layer] + 1e-12, self.asked.own, self.asked.others)

    def row(self) -> dict[str, Any]:
        """Return what was chosen, and how many patches are left of a picture in the mean."""
        best = self.chosen
        row = {"map": self.name, "layer": best.layer, "share kept": best.keep, "parts": best.parts}
        left = float(self.regions.sum((1, 2)).mean())
        return row | {"patches left": left, "lift above others": best.lift}


def find_focus(
    model: TransformerBridge,
    chosen_on: AskedPictures,
    asked: AskedPictures,
    *,
    keeps: Sequence[float],
    parts: Sequence[int],
) -> list[Focus]:
    """Return where the plain map and the contrast lie, each with the layer and the region best on other pictures.

    Args:
        chosen_on: Questions about other pictures, for choosing.
        asked: Those that are reported.
        keeps, parts: What is chosen from (``Chosen``).
    """
    first, found = focus_maps(model, chosen_on), focus_maps(model, asked)
    best = {name: choose(model, chosen_on, maps, keeps=keeps, parts=parts) for name, maps in first.items()}
    return [Focus(name=name, maps=maps, chosen=best[name], asked=asked) for name, maps in found.items()]


def focus_picture(found: Sequence[Focus], *, title: str) -> HeadMaps:
    """Return the maps of the first picture, each in its chosen layer."""
    values = np.stack([each.maps[0, each.chosen.layer] for each in found])[None]
    return HeadMaps.of(values, ["first picture"], [each.name for each in found], title=title)
