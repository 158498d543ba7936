"""What a line of a pairs file says about pictures: ``image``, ``grid`` and ``regions``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from workbench.core.errors import TaskError
from workbench.tasks.pictures.image import Picture

_NAME = re.compile(r"(?!\d+$)[^\s<>@]{1,200}")
RESERVED = ("image", "background", "class")
"""Regions that every picture has."""
_SIDES = ("clean", "corrupted")
Cells = tuple[int, ...]
"""Patches of one picture, numbered row by row from 0."""


@dataclass(frozen=True, kw_only=True)
class PictureFields:
    """The pictures of a pair, the patches they are divided in, and named sets of these."""

    image: tuple[Picture, Picture] | None = None
    grid: tuple[int, int] | None = None
    regions: Mapping[str, tuple[Cells, Cells]] = field(default_factory=dict)

    @property
    def alike(self) -> str:
        """What follows "the same text"."""
        return "" if self.image is None else " and the same picture"

    def taken(self, names: Iterable[str]) -> list[str]:
        """Which of these names always are sets of patches, where there is a picture."""
        return [] if self.image is None else [name for name in names if name in RESERVED]

    def are_alike(self, wrong: list[str]) -> bool:
        """Say whether both pictures are one; what cannot be loaded is added to the list of what is wrong."""
        if self.image is None:
            return True
        try:
            return self.image[0] == self.image[1]
        except TaskError as problem:
            wrong.append(problem.message)
            return False


def parse_pictures(data: Mapping[str, object], folder: Path | None, wrong: list[str]) -> PictureFields:
    """Say what a JSON object says about pictures; what is wrong with it is added to a list."""
    image = _image(data["image"], folder, wrong) if "image" in data else None
    for name in ("grid", "regions"):
        if name in data and "image" not in data:
            wrong.append(f"{name} is given without image")
    grid = _grid(data["grid"], wrong) if "grid" in data else None
    regions = _regions(data["regions"], grid, wrong) if "regions" in data else {}
    return PictureFields(image=image, grid=grid, regions=regions)


def _image(value: object, folder: Path | None, wrong: list[str]) -> tuple[Picture, Picture] | None:
    if isinstance(value, tuple) and len(value) == 2 and all(isinstance(p, Picture) for p in value):
        value = dict(zip(_SIDES, value, strict=True))
    if not isinstance(value, Mapping) or set(value) != set(_SIDES):
        wrong.append('image is no picture for each side; expected {"clean": "a.png", "corrupted": "b.png"}')
        return None
    clean, corrupted = (_picture(side, value[side], folder, wrong) for side in _SIDES)
    return None if clean is None or corrupted is None else (clean, corrupted)


def _picture(side: str, value: object, folder: Path | None, wrong: list[str]) -> Picture | None:
    if not isinstance(value, str | Picture) or value == "":
        wrong.append(f"image of the {side} prompt is {value!r:.60}; expected a path, or scene:SEED/INDEX")
        return None
    picture = Picture(value, folder) if isinstance(value, str) else value
    try:
        picture.require()
        if not picture.kind:  # a scene can always be drawn
            picture.digest  # noqa: B018  loads it, so that what is wrong with it is told with its line
    except TaskError as problem:
        wrong.append(f"{problem.message} ({side} prompt)")
        return None
    return picture


def _grid(value: object, wrong: list[str]) -> tuple[int, int] | None:
    if isinstance(value, list | tuple) and len(value) == 2 and all(type(n) is int and n > 0 for n in value):
        return value[0], value[1]
    wrong.append(f"grid is {value!r:.60}; expected rows and columns of patches: [6, 6]")
    return None


def _regions(value: object, grid: tuple[int, int] | None, wrong: list[str]) -> dict[str, tuple[Cells, Cells]]:
    if grid is None or not isinstance(value, Mapping):
        wrong.append(
            "regions need a grid" if grid is None else f"regions is {value!r:.60}; expected an object"
        )
        return {}
    found = {}
    for name, sides in value.items():
        if name in (*RESERVED, "end", "rest") or not _NAME.fullmatch(name):
            wrong.append(
                f"a region cannot be called {name!r}: {', '.join(RESERVED)}, end and rest always exist, and a name has "
                "no spaces, @, < or >, and is no number"
            )
        elif not (
            isinstance(sides, list | tuple) and len(sides) == 2 and all(_are_cells(s, grid) for s in sides)
        ):
            size = f"0 to {grid[0] * grid[1] - 1} (a grid of {grid[0]} x {grid[1]})"
            wrong.append(
                f"region {name!r} is {sides!r:.60}; expected patches of both pictures, each once, from {size}"
            )
        else:
            found[name] = (tuple(sides[0]), tuple(sides[1]))
    return found


def _are_cells(value: object, grid: tuple[int, int]) -> bool:
    return (
        isinstance(value, list | tuple)
        and all(type(n) is int and 0 <= n < grid[0] * grid[1] for n in value)
        and len(set(value)) == len(value)
    )
