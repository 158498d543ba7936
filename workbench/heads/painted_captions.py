"""What a painter was asked to paint, and what the reader sees in its pictures: a result that has a file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
from jaxtyping import UInt8
from msgspec import Meta

from workbench.core.errors import RunError
from workbench.core.file_kind import FileKind
from workbench.core.show import Told, saves
from workbench.core.typed import Count, Part
from workbench.tasks.canvas.captions import read_caption
from workbench.tasks.canvas.flat_shapes import Item
from workbench.tasks.canvas.picture_reader import PictureVerdict, Read, judge, read_picture

if TYPE_CHECKING:
    from workbench.model.flow_painter.sample import Painted

RESULT = "painting.json"
Pixels = UInt8[np.ndarray, "height width 3"]


class SeenContent(Part, frozen=True):
    """One object that the reader found."""

    colour: str
    shape: str
    side: str
    row: float
    column: float
    overlap: Annotated[float, Meta(description="with the best template; 1 is a drawn object")]


class PictureContent(Part, frozen=True):
    """One picture."""

    pixels: Annotated[list[list[list[Count]]], Meta(description="rows of pixels, red, green, blue, 0 to 255")]
    seen: list[SeenContent]
    right: Annotated[dict[str, bool], Meta(description="what is judged -> whether it is as asked")]


class AskedContent(Part, frozen=True):
    """One caption and its picture."""

    caption: str
    picture: PictureContent
    plain: Annotated[PictureContent | None, Meta(description="without the edit; null where there is none")]


class PaintingContent(Part, frozen=True):
    """Pictures that a model painted."""

    model: str
    seed: Count
    steps: Count
    guidance: float
    edit: Annotated[str | None, Meta(description="what was done to the captioned passes, in words")]
    pictures: list[AskedContent]


PAINTING = FileKind(
    format="circuit-workbench/painting",
    content=PaintingContent,
    what="a painting",
    again="workbench paint CAPTION -o NEW",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class OnePicture:
    """A picture as colours, and what the reader says of it."""

    pixels: Pixels
    seen: tuple[Read, ...]
    verdict: PictureVerdict

    @classmethod
    def of(cls, pixels: np.ndarray, asked: Sequence[Item]) -> OnePicture:
        """Read and judge a picture between 0 and 1, as the colours that a file can hold."""
        colours = np.round(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
        seen = read_picture(colours.astype(np.float32) / 255)
        return cls(pixels=colours, seen=seen, verdict=judge(seen, asked))

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        seen = [{**asdict(each), "side": each.side} for each in self.seen]
        return {"pixels": self.pixels.tolist(), "seen": seen, "right": asdict(self.verdict)}

    @property
    def phrase(self) -> str:
        """What is seen, in the words of a caption."""
        return (
            ", ".join(each.item.phrase + ("" if each.intact else " (broken)") for each in self.seen)
            or "nothing"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Painting(Told, saved_in="workbench.heads.painted_captions"):
    """Pictures that a painter made, with an edit beside those without it.

    Attributes:
        plain: The pictures without the edit; empty where there is no edit.
    """

    model: str
    captions: tuple[str, ...]
    seed: int
    steps: int
    guidance: float
    edit: str | None
    pictures: tuple[OnePicture, ...]
    plain: tuple[OnePicture, ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per picture: what was asked, what is seen, what is right."""
        rows = []
        for i, (caption, picture) in enumerate(zip(self.captions, self.pictures, strict=True)):
            before = {"seen without the edit": self.plain[i].phrase} if self.plain else {}
            right = [name for name, found in asdict(picture.verdict).items() if found]
            rows.append(
                {"asked": caption, **before, "seen": picture.phrase, "right": ", ".join(right) or "nothing"}
            )
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        before = self.plain or (None,) * len(self.pictures)
        asked = zip(self.captions, self.pictures, before, strict=True)
        return {
            "model": self.model,
            "seed": self.seed,
            "steps": self.steps,
            "guidance": float(self.guidance),
            "edit": self.edit,
            "pictures": [
                {"caption": c, "picture": p.to_dict(), "plain": None if b is None else b.to_dict()}
                for c, p, b in asked
            ],
        }

    def to_terminal(self) -> list[Any]:
        """Return lines, rows and tables for a terminal."""
        how = f"{self.model}, seed {self.seed}, {self.steps} steps, guidance {self.guidance:g}"
        return [how if self.edit is None else f"{how}; in the captioned passes: {self.edit}", self.rows()]


def painting_of(
    painted: Painted,
    *,
    model: str,
    seed: int,
    guidance: float,
    edit: str | None = None,
    plain: Painted | None = None,
) -> Painting:
    """Return what was painted as a result: read, judged, and ready to be saved.

    Args:
        edit: What was done to the captioned passes, in words.
        plain: The same without it.
    """

    def each(made: Painted) -> tuple[OnePicture, ...]:
        pairs = zip(made.pictures.numpy(), made.captions, strict=True)
        return tuple(OnePicture.of(pixels, asked) for pixels, asked in pairs)

    return Painting(
        model=model,
        captions=tuple(", ".join(item.phrase for item in items) for items in painted.captions),
        seed=seed,
        steps=len(painted.predictions),
        guidance=guidance,
        edit=edit,
        pictures=each(painted),
        plain=() if plain is None else each(plain),
    )


@saves(Painting)
def save_painting(painting: Painting, path: str | os.PathLike[str]) -> Path:
    """Write a painting, whole or not at all; to ``painting.json`` in a folder."""
    path = Path(path)
    return PAINTING.save(painting.to_dict(), path if path.suffix == ".json" else path / RESULT, indent=None)


def load_painting(path: str | os.PathLike[str]) -> Painting:
    """Read a painting.

    Raises:
        RunError: if it is no painting, is damaged or was changed since it was written.
    """
    content = PAINTING.load(Path(path)).content
    pictures = [_picture(asked.picture, asked.caption, path) for asked in content.pictures]
    plain = [
        _picture(asked.plain, asked.caption, path) for asked in content.pictures if asked.plain is not None
    ]
    return Painting(
        model=content.model,
        captions=tuple(asked.caption for asked in content.pictures),
        seed=content.seed,
        steps=content.steps,
        guidance=content.guidance,
        edit=content.edit,
        pictures=tuple(pictures),
        plain=tuple(plain),
    )


def _picture(content: PictureContent, caption: str, path: str | os.PathLike[str]) -> OnePicture:
    try:
        pixels = np.array(content.pixels, dtype=np.uint8)
    except (ValueError, OverflowError) as problem:
        raise RunError(
            f"{path} holds pixels that are no picture: {problem}",
            hint="paint it again: workbench paint CAPTION -o FOLDER",
        ) from None
    found = OnePicture.of(pixels.astype(np.float32) / 255, read_caption(caption))
    if _told(found) != (msgspec.to_builtins(content.seen), content.right):
        raise RunError(
            f"{path}: what is said of a picture is not what its pixels show", hint="paint it again"
        )
    return found


def _told(picture: OnePicture) -> tuple[list[Mapping[str, Any]], Mapping[str, bool]]:
    told = picture.to_dict()
    return told["seen"], told["right"]
