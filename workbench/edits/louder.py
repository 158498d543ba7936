"""What a model answers when heads are made louder: those that a picture moves most, random ones, always the same."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from workbench.edits.affine import affine_of
from workbench.edits.reinforce import Choose, Reinforce
from workbench.heads.asked_pictures import AskedPictures
from workbench.heads.divergence import Divergence
from workbench.heads.existence import says_yes

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

ROWS = 200  # questions of one pass


@dataclass(frozen=True, kw_only=True, eq=False)
class Louder:
    """Questions whether something is there, answered with heads made louder at the last position.

    Attributes:
        found: What heads put out for these questions with the picture and without it.
        seed: Of random heads.
    """

    model: TransformerBridge
    asked: AskedPictures
    found: Divergence
    seed: int = 0

    def as_it_is(self) -> Float[np.ndarray, " question"]:
        """Return 1 for every *yes* of the model as it is."""
        return says_yes(self.model, self.asked, rows=ROWS)

    def chosen(
        self, alpha: float, choose: Choose = "divergent", draw: int = 0
    ) -> Float[np.ndarray, " question"]:
        """Return 1 for every *yes* with heads made ``alpha`` times as loud that are chosen for every prompt.

        Args:
            choose: ``random`` draws as many heads of every layer; draws have numbers.
        """
        found, seed = self.found, self.seed * 997 + draw

        def under(rows: slice) -> AbstractContextManager:
            away = found.without[rows]
            edit = Reinforce(layers=found.layers, without=away, alpha=alpha, choose=choose, seed=seed)
            return edit.on(self.model)

        return says_yes(self.model, self.asked, rows=ROWS, under=under)

    def always(self, alpha: float, heads: Sequence[str]) -> Float[np.ndarray, " question"]:
        """Return 1 for every *yes* with the same heads made ``alpha`` times as loud for all prompts."""
        edit = affine_of(self.model, heads, a=alpha, b=0.0, train=(), positions=(-1,), when="all")
        return says_yes(self.model, self.asked, rows=ROWS, under=lambda rows: edit.on(self.model))
