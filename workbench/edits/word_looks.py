"""Which words of a caption the patches of a region look at: an edit for models that paint. No torch here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, ClassVar, Self

from workbench.core.errors import ModelError, OptionError
from workbench.edits.edit import ModelEdit, head_of, of_kinds
from workbench.tasks.canvas.words import GRID, SLOTS

if TYPE_CHECKING:
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

    from workbench.edits.place import At

MOST = 60.0
"""The largest number that is added to a score: what is looked at beside it is less than float32 can hold."""


@dataclass(frozen=True, kw_only=True)
class WordLooks(ModelEdit):
    """Add to the scores that the patches of a region have for words of the caption, and to those of all other patches.

    Args:
        heads: Heads that look at words: ``a1.h2``, or ``a1`` for a layer. They are those of the stack ``cross``.
        slots: The words: numbers from 0 to 7, or names such as ``first colour``.
        region: Top, left, bottom and right in patches, bottom and right excluded; None is the whole picture.
        inside: What is added inside the region; negative numbers take attention away.
        outside: What is added outside.

    Example:
        >>> WordLooks(heads=("a0",), slots=("first shape",), region=(0, 4, 8, 8), inside=3.0).describe()
        'looks of a0 at first shape: +3 in rows 0 to 8, columns 4 to 8'
    """

    kind: ClassVar[str] = "word-looks"
    what: ClassVar[str] = "painters: how strongly the patches of a region look at words"
    from_words: ClassVar[bool] = True
    reads_elsewhere: ClassVar[bool] = True
    home: ClassVar[str] = "word_rows"
    heads: tuple[str, ...]
    slots: tuple[int | str, ...]
    region: tuple[int, int, int, int] | None = None
    inside: float = 0.0
    outside: float = 0.0

    def __post_init__(self) -> None:
        if not self.heads:
            raise OptionError("the edit has no heads", hint="heads=('a0', 'a1', 'a2') for all of a painter")
        for text in self.heads:
            head_of(text)
        if not self.slots:
            raise OptionError(
                "the edit has no words", hint=f"slots: 0 to {len(SLOTS) - 1}, or {', '.join(SLOTS)}"
            )
        for slot in self.slots:
            if slot not in SLOTS and not (isinstance(slot, int) and 0 <= slot < len(SLOTS)):
                raise OptionError(
                    f"no slot {slot!r:.40}", hint=f"0 to {len(SLOTS) - 1}, or {', '.join(SLOTS)}"
                )
        for name in ("inside", "outside"):
            if not (isfinite(value := getattr(self, name)) and abs(value) <= MOST):
                raise OptionError(f"{name} is {value:g}; expected -{MOST:g} to {MOST:g}", hint=f"{name}=3")
        if self.region is not None:
            check_region(self.region)

    @property
    def words(self) -> tuple[int, ...]:
        """The slots as numbers."""
        return tuple(SLOTS.index(slot) if isinstance(slot, str) else slot for slot in self.slots)

    def describe(self) -> str:
        """Return in words what it does."""
        named = ", ".join(SLOTS[slot] for slot in self.words)
        if self.region is None:
            return f"looks of {', '.join(self.heads)} at {named}: {self.inside:+g} everywhere"
        top, left, bottom, right = self.region
        parts = (
            [f"{self.inside:+g} in rows {top} to {bottom}, columns {left} to {right}"] if self.inside else []
        )
        parts += [f"{self.outside:+g} outside"] if self.outside else []
        return f"looks of {', '.join(self.heads)} at {named}: {', '.join(parts) or 'nothing added'}"

    @contextmanager
    def on(
        self, model: TransformerBridge, *, at: At | None = None, decode_from: int | None = None
    ) -> Iterator[TransformerBridge]:
        """Inside, a painter computes with this edit; see `ModelEdit.on`.

        Raises:
            ModelError: if the model has no attention to words.
        """
        towers: Mapping[str, TransformerBridge] = getattr(model, "towers", {})
        if "cross" not in towers:
            raise ModelError("the model has no attention to words of a caption", hint="-m zoo:painter")
        with super().on(towers["cross"], at=at, decode_from=decode_from):
            yield model

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in vars(self).items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Return what ``to_dict`` wrote, read back."""
        of_kinds(data, heads=str, slots=(int, str), region=int, inside=(int, float), outside=(int, float))
        for name in ("heads", "slots"):
            if not isinstance(data.get(name), list):
                raise OptionError(
                    f"{name} is {data.get(name)!r:.40}; expected a list",
                    hint='heads=["a0"], slots=["first colour"]',
                )
        region = data.get("region")
        if region is not None and (not isinstance(region, list | tuple) or len(region) != 4):
            raise OptionError(f"region is {region!r:.40}; expected four numbers", hint="[0, 4, 8, 8]")
        return cls(
            **{
                **data,
                "heads": tuple(data["heads"]),
                "slots": tuple(data["slots"]),
                "region": None if region is None else tuple(region),
            }
        )


def check_region(region: tuple[int, int, int, int], grid: int = GRID) -> None:
    """Refuse a region that is empty or reaches outside the picture.

    Raises:
        OptionError: with the sides of the picture.

    Example:
        >>> check_region((0, 0, 9, 4))
        Traceback (most recent call last):
        workbench.core.errors.OptionError: region (0, 0, 9, 4) is not inside the picture
          hint: top, left, bottom, right in patches from 0 to 8, such as 0, 4, 8, 8 for the right half
    """
    top, left, bottom, right = region
    if not (0 <= top < bottom <= grid and 0 <= left < right <= grid):
        raise OptionError(
            f"region {region} is not inside the picture",
            hint=f"top, left, bottom, right in patches from 0 to {grid}, such as 0, 4, 8, 8 for the right half",
        )
