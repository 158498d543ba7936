"""An atlas of a painter's heads over time: a result. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from workbench.core.show import Told

ROLES = ("colour", "shape", "side")
AMONG = "among patches"
"""The name of what heads among patches do, beside the roles of words."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PainterAtlas(Told, shown_in="workbench.heads.show.painter_atlas"):
    """What every head of a painter looks at while pictures form.

    Attributes:
        own: Role of a word (or ``among patches``) -> how well looks fit the word's own object: (head, step). For words
            it is the intersection over union of a map with the object; among patches, the share of the looks of an
            object's patches that stay on the object.
        other: The same of the other object of the picture.
        heads, cross_heads: Addresses, in the order of the rows.
        chance: The share of a picture that an object covers, mean over objects.
        n: Objects behind each number; those of pictures that show both asked objects, each once.
    """

    model: str
    heads: tuple[str, ...]
    cross_heads: tuple[str, ...]
    own: dict[str, Float[np.ndarray, "head step"]]
    other: dict[str, Float[np.ndarray, "head step"]]
    chance: float
    n: int
    left_out: int

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return next(iter(self.own.values())).shape[1]

    def named(self, what: str) -> tuple[str, ...]:
        """Return the heads behind the rows of a table."""
        return self.heads if what == AMONG else self.cross_heads

    def rows(self) -> list[dict[str, Any]]:
        """Return one row for each head and role: the fit at the first, the middle and the last step, and the best."""
        middle = self.steps // 2
        return [
            {
                "head": head,
                "looks": "at its own object" if what == AMONG else f"at the {what}",
                "first step": round(float(own[0]), 3),
                f"step {middle + 1}": round(float(own[middle]), 3),
                "last step": round(float(own[-1]), 3),
                "other object, last": round(float(other[-1]), 3),
                "best step": int(own.argmax()) + 1,
            }
            for what in self.own
            for head, own, other in zip(self.named(what), self.own[what], self.other[what], strict=True)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "model": self.model,
            "n": self.n,
            "left_out": self.left_out,
            "chance": self.chance,
            "steps": self.steps,
            "heads": list(self.heads),
            "cross_heads": list(self.cross_heads),
            "own": {name: values.tolist() for name, values in self.own.items()},
            "other": {name: values.tolist() for name, values in self.other.items()},
        }

    def to_terminal(self) -> list[Any]:
        """Return lines, rows and tables for a terminal."""
        return [
            f"{self.model}: {self.n} objects, {self.left_out} pictures left out; an object covers {self.chance:.3f}",
            self.rows(),
        ]
