"""Questions about small objects, asked again with the part enlarged at which a map points; and which layer is best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from workbench.heads.asked_maps import gradient_attention, pure_gradient, relative_attention
from workbench.heads.asked_pictures import AskedPictures, said
from workbench.heads.crops import Window, best_window, enlarged
from workbench.heads.localisation import lift_apart, locate
from workbench.tasks.scenes.questions import DESCRIBE

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Right = Float[np.ndarray, " question"]
Maps = Float[np.ndarray, "question layer row column"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Enlarging:
    """Questions that are asked again about other pictures of the same things: 1 for each right answer."""

    model: TransformerBridge
    asked: AskedPictures

    def right(self, pixels: Sequence[np.ndarray]) -> Right:
        """Return 1 for every question that is answered rightly about these pictures."""
        shown = self.asked.showing(self.model, pixels)
        return (said(self.model, shown) == self.asked.right).astype(float)

    def as_it_is(self) -> Right:
        """Return the answers about the pictures themselves."""
        return self.right([scene.pixels for scene in self.asked.scenes])

    def resized(self, size: str) -> Right:
        """Return the answers with the asked object of another size, and nothing else changed."""
        pairs = zip(self.asked.scenes, self.asked.questions, strict=True)
        return self.right([scene.changed(q.asked[0], size=size).pixels for scene, q in pairs])

    def cropped(self, windows: Sequence[Window]) -> Right:
        """Return the answers about a window of each picture, as large as the picture."""
        pairs = zip(self.asked.scenes, windows, strict=True)
        return self.right([enlarged(scene.pixels, window, self.asked.grid) for scene, window in pairs])

    def by_map(self, maps: np.ndarray, sizes: Sequence[tuple[int, int]]) -> Right:
        """Return the answers about the best window of each map; of several sizes the one that stands out most."""
        return self.cropped([best_window(each.astype(float), sizes) for each in maps])

    def at_random(self, size: tuple[int, int], draws: int, seed: Sequence[int]) -> Right:
        """Return the answers about windows at random places, the control of a crop: mean over draws."""
        rows, columns = (whole - side + 1 for whole, side in zip(self.asked.grid, size, strict=True))
        rng = np.random.default_rng(seed)

        def window() -> Window:
            return Window(int(rng.integers(rows)), int(rng.integers(columns)), *size)

        drawn = [self.cropped([window() for _ in self.asked.scenes]) for _ in range(draws)]
        return np.asarray(np.mean(drawn, axis=0))


def three_maps(model: TransformerBridge, asked: AskedPictures) -> dict[str, Maps]:
    """Return where a model looks, in three ways: relative and gradient attention of every layer, slope along pixels.

    The one along pixels has one layer.

    Source:
        Zhang et al. 2025, MLLMs Know Where to Look.
    """
    general = asked.asking(model, DESCRIBE)
    return {
        "relative": relative_attention(model, asked.prompt, general),
        "gradient": gradient_attention(model, asked.prompt),
        "pixels": pure_gradient(model, asked.prompt, general)[:, None],
    }


def best_layers(model: TransformerBridge, asked: AskedPictures) -> dict[str, int]:
    """Return the layer of each map whose lift on the asked object exceeds that on the others most, right or wrong."""
    best = {}
    for name, maps in three_maps(model, asked).items():
        apart = [lift_apart(maps[:, layer], asked.own, asked.others) for layer in range(maps.shape[1])]
        best[name] = int(np.argmax(apart))
    return best


def where_row(
    maps: Float[np.ndarray, "question row column"], asked: AskedPictures, wrong: np.ndarray
) -> dict[str, float]:
    """Return where a map lies, over all questions and over those that are answered wrongly, as a row of a table."""
    lies = locate(maps + 1e-12, asked.own, asked.others)
    row = {"lift": lies.lift.mean(), "of others": lies.other_lift.mean(), "pointing": lies.pointing.mean()}
    if wrong.any():
        row |= {"lift, wrong": lies.lift[wrong].mean(), "of others, wrong": lies.other_lift[wrong].mean()}
    return row
