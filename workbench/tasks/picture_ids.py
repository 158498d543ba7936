"""One pair of pictures alone, as positions of a model that reads no words, or the reason why it cannot be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from workbench.tasks.outputs import Outputs
from workbench.tasks.pairs import Pair, Pairs
from workbench.tasks.pictures.sight import Sight
from workbench.tasks.prompt_tokens import Drop
from workbench.tasks.token_ids import class_of


@dataclass(frozen=True, kw_only=True)
class PictureAligner:
    """Reads pictures and class names as a classifier does. Ids are the numbers of positions, the class token first."""

    sight: Sight
    outputs: Outputs

    def read_ahead(self, pairs: Pairs) -> None:
        """Do nothing: pictures are read one by one."""

    def align(
        self, pair: Pair
    ) -> tuple[
        np.ndarray,
        np.ndarray,
        tuple[int, ...],
        tuple[int, ...],
        dict[str, int],
        Mapping[str, tuple[int, ...]],
    ]:
        """Return ids of both prompts, correct and incorrect classes, positions, and sets of positions.

        Raises:
            Drop: if the model cannot take the pictures, or has no such class.
        """
        self.check(pair)
        correct, incorrect = (
            tuple(class_of(self.outputs, answer) for answer in answers) if self.outputs.classes else ()
            for answers in (pair.correct, pair.incorrect)
        )
        if same := set(correct) & set(incorrect):
            name = self.outputs.classes[min(same)]
            raise Drop("same-answer", f"{name!r} is both correct and incorrect", [name])
        ids = np.arange(self.sight.n_tokens)
        return ids, ids, correct, incorrect, {"end": 0}, self.sight.sets(pair.regions, 0)

    def check(self, pair: Pair) -> None:
        """Do nothing if these are two pictures without words.

        Raises:
            Drop: if not.
        """
        for side, text in zip(("clean", "corrupted"), (pair.clean, pair.corrupted), strict=True):
            if pair.image is not None and text.strip():
                raise Drop(
                    "picture", f"the {side} prompt has words ({text!r:.40}), and the model reads none", [text]
                )
        self.check_pictures(pair)
        if pair.image is not None and pair.image[0].digest == pair.image[1].digest:
            raise Drop("picture", "clean and corrupted are the same picture")

    def check_pictures(self, pair: Pair) -> None:
        """Do nothing if the model can take both pictures and the regions on them.

        Raises:
            Drop: if not.
        """
        if pair.image is None:
            raise Drop("picture", "the pair has no picture, and the model reads nothing without one")
        for side, picture in zip(("clean", "corrupted"), pair.image, strict=True):
            if why := self.sight.why_not(picture):
                raise Drop("picture", f"the {side} prompt: {why}")
        if why := self.sight.why_no_grid(pair.grid):
            raise Drop("picture", why)
