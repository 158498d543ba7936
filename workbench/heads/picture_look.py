"""What one picture shows of every head of a tower, or of a language model that is asked about it. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from workbench.core.errors import OptionError, unknown
from workbench.core.show import Shown
from workbench.heads.grid_maps import Size, over_grid
from workbench.tasks.pictures.image import Picture

Box = tuple[int, int, int, int]
"""Top, left, bottom and right in patches, half open."""


def patch_positions(grid: Size, first: int, gap: int) -> tuple[int, ...]:
    """Return the positions of patches that stand row by row, with ``gap`` others behind each row.

    Example:
        >>> patch_positions((2, 2), 3, 1)
        (3, 4, 6, 7)
    """
    rows, columns = grid
    return tuple(first + row * (columns + gap) + column for row in range(rows) for column in range(columns))


@dataclass(frozen=True, kw_only=True, eq=False)
class PictureLook(Shown, shown_in="workbench.heads.show.looks"):
    """What one picture shows of every head.

    Attributes:
        patterns: Head -> its pattern, ``(query, key)``, over all positions that the model has for the prompt.
        first: The position of the first patch; the others follow it row by row.
        gap: How many positions stand behind each row of patches, such as a token that ends the row.
        words: Position -> its text, of every position that is no patch; a tower's class token is one.
        query: The position whose attention is shown at first: the class token, or the last word.
        question: What was asked; empty for a tower.
        said: The most probable classes or words with their probabilities; empty for a model that names none.
        objects: What a drawn picture shows, each with the patches around it.
        asked: Which of them the question is about, or the frame is around; None where that is not known.

    Example:
        >>> pattern, words = np.array([[0.5, 0.25, 0.0, 0.0, 0.25]] * 5), {0: "class token"}
        >>> what = {"model": "mine", "image": Picture("scene:7/12"), "grid": (2, 2), "first": 1, "words": words}
        >>> look = PictureLook(patterns={"a0.h0": pattern}, **what)
        >>> look.patches, look.map_of("a0.h0").tolist(), look.words_of("a0.h0"), look.name_of(2)
        ((1, 2, 3, 4), [[0.25, 0.0], [0.0, 0.25]], {0: 0.5}, 'row 1, column 2')
    """

    model: str
    image: Picture
    grid: Size
    first: int
    patterns: Mapping[str, Float[np.ndarray, "query key"]]
    words: Mapping[int, str] = field(default_factory=dict)
    query: int = 0
    question: str = ""
    said: tuple[tuple[str, float], ...] = ()
    objects: tuple[tuple[str, Box], ...] = ()
    asked: int | None = None
    gap: int = 0

    @property
    def patches(self) -> tuple[int, ...]:
        """The positions of the patches, row by row."""
        return patch_positions(self.grid, self.first, self.gap)

    @property
    def size(self) -> int:
        """How many positions there are."""
        return len(next(iter(self.patterns.values())))

    def map_of(self, head: str, query: int | None = None) -> Float[np.ndarray, "row column"]:
        """Say how much a position looks at each patch.

        Args:
            query: The position that looks; by default the class token, or the last word.

        Returns:
            Shares of attention from 0 to 1, rows of patches from the top.

        Raises:
            OptionError: for a head or a position that there is not.
        """
        return over_grid(self._row(head, query)[list(self.patches)], self.grid, first=0)

    def words_of(self, head: str, query: int | None = None) -> dict[int, float]:
        """Say how much a position looks at each position that is no patch.

        Returns:
            Position -> share of attention from 0 to 1.

        Raises:
            OptionError: for a head or a position that there is not.
        """
        row = self._row(head, query)
        return {at: float(row[at]) for at in self.words}

    def position_of(self, word: str) -> int:
        """Find the position of a word of the question.

        Raises:
            OptionError: if it is not there, or is there twice.
        """
        found = [at for at, text in self.words.items() if text.strip() == word.strip()]
        if len(found) == 1:
            return found[0]
        if not found:
            raise unknown("word", word, [text.strip() for text in self.words.values()], error=OptionError)
        raise OptionError(
            f"{word!r} stands at {len(found)} positions: {', '.join(map(str, found))}",
            hint=f"name the position: query={found[0]}",
        )

    def name_of(self, position: int) -> str:
        """Name a position: the word that stands there, or the row and column of the patch."""
        if position in self.words:
            return self.words[position].strip() or f"position {position}"
        row, column = divmod(position - self.first, self.grid[1] + self.gap)
        return f"row {row + 1}, column {column + 1}"

    def _row(self, head: str, query: int | None) -> Float[np.ndarray, " key"]:
        if head not in self.patterns:
            raise unknown("head", head, self.patterns, error=OptionError)
        A = self.patterns[head]
        query = self.query if query is None else query
        if not 0 <= query < len(A):
            raise OptionError(
                f"position {query} is outside the prompt's {len(A)} positions",
                hint=f"query={len(A) - 1} is the last position; leave it out for the default",
            )
        return A[query]

    def __repr__(self) -> str:
        asked = f" ({self.question!r})" if self.question else ""
        said = f", said {self.said[0][0].strip()}" if self.said else ""
        return f"PictureLook({self.model} at {self.image.source}{asked}: {len(self.patterns)} heads{said})"
