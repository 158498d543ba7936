"""How a model takes pictures of more than one size: as how many positions, and cut into which pieces. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32

Size = tuple[int, int]


class Taken(NamedTuple):
    """As how many positions a picture is taken in: rows and columns of patches, all, and those before the patches."""

    grid: Size
    n_tokens: int
    first: int = 0


@dataclass(frozen=True, kw_only=True)
class WholePatches:
    """Pictures of any size in whole patches; squares of patches become one position of the language model each.

    Attributes:
        patch: Pixels of a side of a patch.
        merge: Patches of a side of such a square.
        frames: A patch is a row of numbers, repeated for so many moments (Qwen); 0 where pixels stay a picture.
        longest: The most pixels of a side; None where nothing is said.
    """

    patch: int
    merge: int
    frames: int = 0
    longest: int | None = None

    @property
    def unit(self) -> int:
        """Pixels of a side of what becomes one position."""
        return self.patch * self.merge

    def why_not(self, size: Size) -> str:
        """Why a picture of this height and width is not taken; empty where it is."""
        if any(side < self.unit or side % self.unit for side in size):
            return f"the model reads heights and widths in multiples of {self.unit}"
        if self.longest is not None and max(size) > self.longest:
            return f"the model reads no side longer than {self.longest}"
        return ""

    def taken(self, size: Size) -> Taken:
        """Return as how many positions a picture of this size is taken in."""
        rows, columns = size[0] // self.unit, size[1] // self.unit
        return Taken(grid=(rows, columns), n_tokens=rows * columns)

    def cut(self, pixels: Float32[np.ndarray, "3 height width"]) -> Float32[np.ndarray, "..."]:
        """Return pixels as the model is called with them: a picture, or one row of numbers for each patch."""
        if not self.frames:
            return pixels
        side, merge = self.patch, self.merge
        _, height, width = pixels.shape
        squares = pixels.reshape(3, height // self.unit, merge, side, width // self.unit, merge, side)
        patches = squares.transpose(1, 4, 2, 5, 0, 3, 6)[..., None, :, :].repeat(self.frames, axis=-3)
        return np.ascontiguousarray(patches.reshape(-1, 3 * self.frames * side * side))

    def told(self, size: Size) -> dict[str, tuple[int, ...]]:
        """Return what the model is told of each picture beside its pixels, by the model's own names."""
        if not self.frames:
            return {"image_sizes": size}
        return {"image_grid_thw": (1, size[0] // self.patch, size[1] // self.patch)}

    def size_in(self, extras: Mapping[str, Any]) -> Size:
        """Return the size of the first picture among what a model is told."""
        if not self.frames:
            return _size_in(extras)
        _, rows, columns = extras["image_grid_thw"][0].tolist()
        return rows * self.patch, columns * self.patch


@dataclass(frozen=True, kw_only=True)
class Crops:
    """A picture as an overview and crops of it, all of one size (LLaVA-NeXT).

    Crops are the picture's own pixels. The overview's pixels are means over blocks of the picture's, one for each pixel
    of a crop. Behind each row of the crops' patches stands a position that ends the row.

    Attributes:
        side: Height and width of a crop and of the overview.
        grid: Rows and columns of patches of a crop.
        sizes: The sizes that a picture may have, each in whole crops.
    """

    side: Size
    grid: Size
    sizes: tuple[Size, ...]

    def why_not(self, size: Size) -> str:
        """Why a picture of this height and width is not taken; empty where it is."""
        if size in self.sizes:
            return ""
        return f"the model reads {', '.join(f'{height} x {width}' for height, width in self.sizes)}"

    def _crops(self, size: Size) -> Size:
        return size[0] // self.side[0], size[1] // self.side[1]

    def taken(self, size: Size) -> Taken:
        """Return as how many positions a picture of this size is taken in."""
        down, along = self._crops(size)
        rows, columns = down * self.grid[0], along * self.grid[1]
        first = self.grid[0] * self.grid[1]
        return Taken(grid=(rows, columns), n_tokens=first + rows * (columns + 1), first=first)

    def cut(self, pixels: Float32[np.ndarray, "3 height width"]) -> Float32[np.ndarray, "crop 3 high wide"]:
        """Return the overview and the crops, row by row."""
        (high, wide), (down, along) = self.side, self._crops((pixels.shape[1], pixels.shape[2]))
        overview = pixels.reshape(3, high, down, wide, along).mean((2, 4), dtype=np.float64)
        crops = pixels.reshape(3, down, high, along, wide).transpose(1, 3, 0, 2, 4).reshape(-1, 3, high, wide)
        return np.concatenate([overview[None].astype(np.float32), crops])

    def told(self, size: Size) -> dict[str, tuple[int, ...]]:
        """Return what the model is told of each picture beside its pixels, by the model's own names."""
        return {"image_sizes": size}

    def size_in(self, extras: Mapping[str, Any]) -> Size:
        """Return the size of the first picture among what a model is told."""
        return _size_in(extras)


def _size_in(extras: Mapping[str, Any]) -> Size:
    height, width = extras["image_sizes"][0].tolist()
    return height, width


def one_size(sizes: Sequence[Size]) -> Size | None:
    """Return the one size that all pictures have; None where they have several."""
    found = set(sizes)
    return found.pop() if len(found) == 1 else None
