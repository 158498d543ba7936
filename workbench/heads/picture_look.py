"""What one picture shows of every head of a tower, as data. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from workbench.core.errors import OptionError, unknown
from workbench.core.show import Shown
from workbench.heads.grid_maps import Size, over_grid
from workbench.tasks.pictures.image import Picture

Box = tuple[int, int, int, int]
"""Top, left, bottom and right in patches, half open."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PictureLook(Shown, shown_in="workbench.heads.show.looks"):
    """What one picture shows of every head.

    Attributes:
        patterns: Head -> its pattern, ``(query, key)``; positions are the class token, then patches row by row.
        said: The most probable classes with their probabilities; empty for a model that names none.
        objects: What a drawn picture shows, each with the patches around it; the one that is asked about is first.
    """

    model: str
    image: Picture
    grid: Size
    first: int
    patterns: Mapping[str, Float[np.ndarray, "query key"]]
    said: tuple[tuple[str, float], ...] = ()
    objects: tuple[tuple[str, Box], ...] = ()

    def map_of(self, head: str, query: int = 0) -> Float[np.ndarray, "row column"]:
        """Say how much a position looks at each patch; position 0 is the class token.

        Returns:
            Shares of attention from 0 to 1, rows of patches from the top.

        Raises:
            OptionError: for a head or a position that there is not.
        """
        if head not in self.patterns:
            raise unknown("head", head, self.patterns, error=OptionError)
        A = self.patterns[head]
        if not 0 <= query < len(A):
            raise OptionError(f"position {query} is outside the picture's {len(A)} positions")
        return over_grid(A[query], self.grid, first=self.first)

    def __repr__(self) -> str:
        said = f", said {self.said[0][0]}" if self.said else ""
        return f"PictureLook({self.model} at {self.image.source}: {len(self.patterns)} heads{said})"
