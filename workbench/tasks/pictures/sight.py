"""How a model takes a picture in: of which size, as how many positions, scaled in which way. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float32

from workbench.tasks.pictures.image import Picture
from workbench.tasks.pictures.sizes import Crops, WholePatches

FARTHEST = 10.0
"""Numbers farther from zero are no scaled picture; a model whose own colours go farther reads three times as far."""
FIRST = ("object", "answer", "others", "rings")
"""Regions that take a patch before all others, in this order; digests of pairs know no order of names."""


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """What makes numbers of colours: ``(colour * factor - mean) / std``, channel by channel."""

    factor: float = 1 / 255
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @property
    def largest(self) -> float:
        """The largest number, up or down, that a colour becomes."""
        ends = [(c * self.factor - m) / s for c in (0, 255) for m, s in zip(self.mean, self.std, strict=True)]
        return max(map(abs, ends))


@dataclass(frozen=True, kw_only=True)
class CaptionReading:
    """How a model reads captions beside a picture.

    Attributes:
        n_ctx: The most tokens of one caption.
        d_vocab: Rows of its embedding.
        end: Id of the token at which a caption is read, its last one; None where the last one is, whatever it is.
        own: The stack that an address without a name means: ``vision`` or ``text``.
    """

    n_ctx: int
    d_vocab: int
    end: int | None = None
    own: Literal["vision", "text"] = "vision"


@dataclass(frozen=True, kw_only=True)
class PaintReading:
    """How a model that paints reads a caption beside the picture that it works on; it also reads the time.

    Attributes:
        n_words: Words of a caption; a caption without a word is all zeros.
        d_vocab: Rows of its embedding.
    """

    n_words: int
    d_vocab: int


@dataclass(frozen=True, kw_only=True)
class Sight:
    """How a model takes a picture in.

    Attributes:
        size: Height and width of its pictures, in pixels.
        grid: Rows and columns of the positions that stand for patches.
        n_tokens: How many positions a picture takes: tokens of a prompt, or all that a tower has.
        first: How many of them come before the patches: a class token, an overview.
        before: What those are called.
        gap: How many of them stand behind each row of patches.
        token: Id of the token that stands for such a position among words; None where the model reads no words.
        scaling: How colours become numbers; None where nobody says so, and only numbers are taken.
        marks: The model's argument that says which tokens are a picture's; empty where it has none.
        tower_first: The first patch among the tower's own positions, where these are the image tokens; else None.
        nested: Pixels have an axis for several pictures of one prompt; here there is one.
        captions: How it reads captions that a picture is compared with; None where it compares none.
        paints: How it reads captions of a picture that it paints; None where it paints none.
        sizes: How it takes pictures of other sizes; None where it takes this one alone. ``size``, ``grid``, ``first``
            and ``n_tokens`` are of one of them, and ``of`` gives those of a picture.
        row_ends: Tokens of the tokenizer that end a row of patches and the picture, where they stand among the image
            tokens (Pixtral).
    """

    size: tuple[int, int]
    grid: tuple[int, int]
    n_tokens: int
    first: int = 0
    before: str = "class"
    gap: int = 0
    token: int | None = None
    scaling: Scaling | None = None
    marks: str = ""
    nested: bool = False
    tower_first: int | None = None
    captions: CaptionReading | None = None
    paints: PaintReading | None = None
    sizes: WholePatches | Crops | None = None
    row_ends: tuple[str, str] | None = None

    def of(self, picture: Picture) -> Sight:
        """Return how a picture of this size is taken in."""
        return self.of_size(picture.size) if self.sizes is not None else self

    def of_size(self, size: tuple[int, int]) -> Sight:
        """Return how pictures of this height and width are taken in."""
        if self.sizes is None or size == self.size:
            return self
        return replace(self, size=size, **self.sizes.taken(size)._asdict())

    def why_not(self, picture: Picture) -> str:
        """Why the model cannot take a picture, with what was found and what is expected; empty where it can.

        Raises:
            TaskError: if it cannot even be loaded.
        """
        if self.sizes is not None:
            if why := self.sizes.why_not(picture.size):
                height, width = picture.size
                return (
                    f"picture {picture.source} has {height} x {width} pixels; {why}, and nothing is resized"
                )
        elif picture.size != self.size:
            found, expected = (" x ".join(map(str, size)) for size in (picture.size, self.size))
            return f"picture {picture.source} has {found} pixels; the model reads {expected}, and nothing is resized"
        if picture.pixels.dtype == np.uint8 and self.scaling is None:
            return (
                f"picture {picture.source} holds colours, and nothing beside the model says how they become numbers: "
                "put preprocessor_config.json with image_mean and image_std there, or give float32 3 x height x width"
            )
        return "" if picture.pixels.dtype == np.uint8 else self._why_no_numbers(picture)

    def _why_no_numbers(self, picture: Picture) -> str:
        """Why numbers can be none that the model reads: 0 to 255 where about -1 to 1 is expected."""
        usual = 1.0 if self.scaling is None else self.scaling.largest
        least, most = float(picture.pixels.min()), float(picture.pixels.max())
        if max(-least, most) <= max(FARTHEST, 3 * usual):
            return ""
        return (
            f"picture {picture.source} holds numbers from {least:.4g} to {most:.4g}; the model reads about "
            f"{-usual:.2g} to {usual:.2g}: colours from 0 to 255 are given as uint8 height x width x 3"
        )

    def numbers(self, picture: Picture) -> Float32[np.ndarray, "..."]:
        """The picture as the model reads it: (3, height, width), or in the pieces that ``sizes`` cuts."""
        scaled = self._scaled(picture)
        return scaled if self.sizes is None else self.sizes.cut(scaled)

    def _scaled(self, picture: Picture) -> Float32[np.ndarray, "3 height width"]:
        pixels = picture.pixels
        if pixels.dtype != np.uint8:
            return pixels
        assert self.scaling is not None
        factor = self.scaling.factor
        mean, std = (np.array(of, dtype=np.float32) for of in (self.scaling.mean, self.scaling.std))
        scaled = (pixels.astype(np.float32) * np.float32(factor) - mean) / std
        return np.ascontiguousarray(scaled.transpose(2, 0, 1))

    def why_no_grid(self, grid: tuple[int, int] | None) -> str:
        """Why regions on a grid are not sets of this model's patches; empty where they are, or there are none."""
        if grid is None or grid == self.grid:
            return ""
        found, expected = (" x ".join(map(str, size)) for size in (grid, self.grid))
        return f"regions are on a grid of {found} patches; the model's is {expected}"

    def sets(
        self, regions: Mapping[str, tuple[Sequence[int], Sequence[int]]], start: int | Sequence[int]
    ) -> dict[str, tuple[int, ...]]:
        """Named sets of positions: ``image``, the regions, ``background`` where there are some, ``class`` where it is.

        A region is what it covers in either picture. A patch belongs to the first region that covers it in either
        (``FIRST``, then by name), so that none is in two of them; a region that is left with none is not there.

        Args:
            start: The first position that the picture takes; all of them, where others stand between.
        """
        places = range(start, start + self.n_tokens) if isinstance(start, int) else start
        patches = [places[place] for place in self.patches()]
        found, left = {"image": tuple(patches)}, set(range(len(patches)))
        for name in (*(name for name in FIRST if name in regions), *sorted(set(regions) - set(FIRST))):
            clean, corrupted = regions[name]
            own = left & {*clean, *corrupted}
            left -= own
            found[name] = tuple(patches[cell] for cell in sorted(own))
        if regions:
            found["background"] = tuple(patches[cell] for cell in sorted(left))
        found = {name: places for name, places in found.items() if places}
        if self.first:
            found[self.before] = tuple(places[: self.first])
        return found

    def patches(self) -> tuple[int, ...]:
        """The positions of patches among those that a picture takes."""
        rows, columns = self.grid
        return tuple(
            self.first + row * (columns + self.gap) + column
            for row in range(rows)
            for column in range(columns)
        )
