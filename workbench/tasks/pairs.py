"""Pairs of prompts as strings: what a task is before any tokenizer has seen it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, overload

from workbench.core.atomic import write_output
from workbench.core.show import Shown
from workbench.core.text import printable
from workbench.tasks.pictures.fields import Cells
from workbench.tasks.pictures.image import Picture
from workbench.tasks.pictures.saving import put_beside

if TYPE_CHECKING:
    import pandas

Span = tuple[int, int]
"""Half-open range of characters of one prompt."""

FORMAT, VERSION = "circuit-workbench/pairs", 1
LEAST_GROUPS = 6  # 2 ** (1 - 6) is below 0.05: fewer groups cannot show anything by themselves


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One clean prompt, one corrupted prompt, and the answers read after the last token.

    Args:
        id: Unique within its file.
        correct: Answers that are right for the clean prompt, leading space included (``" Mary"``).
        incorrect: Answers that are wrong for the clean prompt; may be empty.
        positions: Name -> (span in clean, span in corrupted), half-open character ranges. The token
            of a position is the last token that overlaps its span. ``end``, the last token of the
            prompt, always exists and is never listed.
        group: Template the pair was made from; mean ablation and held-out splits go by it.
        image: The picture of the clean and that of the corrupted prompt; None for text alone.
        grid: Rows and columns of patches that ``regions`` are numbered in.
        regions: Name -> (patches of the clean, patches of the corrupted picture), such as ``object`` and ``others``.
            ``image``, ``background`` (what no region covers) and ``class`` always exist and are never listed.

    Example:
        >>> import workbench as wb
        >>> pair = wb.Pair(id="a", clean="1 2 1", corrupted="1 3 1", correct=(" 2",), incorrect=(" 3",))
        >>> pair.clean
        '1 2 1'
    """

    id: str
    clean: str
    corrupted: str
    correct: tuple[str, ...]
    incorrect: tuple[str, ...] = ()
    positions: Mapping[str, tuple[Span, Span]] = field(default_factory=dict)
    group: str = ""
    image: tuple[Picture, Picture] | None = None
    grid: tuple[int, int] | None = None
    regions: Mapping[str, tuple[Cells, Cells]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """Return the pair as JSON values; what it does not have (positions, group, pictures) is left out."""
        out: dict[str, object] = {
            "id": self.id,
            "clean": self.clean,
            "corrupted": self.corrupted,
            "correct": list(self.correct),
            "incorrect": list(self.incorrect),
        }
        if self.positions:
            out["positions"] = {name: [list(a), list(b)] for name, (a, b) in self.positions.items()}
        if self.group:
            out["group"] = self.group
        return out | self._pictures()

    def _pictures(self) -> dict[str, object]:
        """What of the pair is about pictures."""
        out: dict[str, object] = {}
        if self.image is not None:
            out["image"] = {"clean": self.image[0].source, "corrupted": self.image[1].source}
        if self.grid is not None:
            out["grid"] = list(self.grid)
        if self.regions:
            out["regions"] = {name: [list(a), list(b)] for name, (a, b) in self.regions.items()}
        return out

    @property
    def content(self) -> dict[str, object]:
        """The pair as JSON values, with digests of its pixels in place of their names: what its numbers depend on."""
        said = self.to_dict()
        if self.image is None:
            return said
        return said | {"image": [picture.digest for picture in self.image]}


@dataclass(frozen=True, kw_only=True)
class Pairs(Sequence[Pair], Shown, shown_in="workbench.tasks.show"):
    """Pairs of one task, with where they came from.

    ``metric`` names the task's usual metric, ``source`` the paper or file, ``options`` what the generator
    was asked for.

    Example:
        >>> import workbench as wb
        >>> pairs = wb.make_pairs("ioi", n=3)
        >>> pairs.task, len(pairs), pairs.position_names[-2:], pairs.to_dataframe().shape
        ('ioi', 3, ('S1+1', 'end'), (3, 6))
    """

    items: tuple[Pair, ...]
    task: str
    split: str = "test"
    seed: int | None = None
    corruption: str = ""
    metric: str = "logit-difference"
    source: str = ""
    options: Mapping[str, str | int | bool] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Pair]:
        return iter(self.items)

    @overload
    def __getitem__(self, index: int) -> Pair: ...
    @overload
    def __getitem__(self, index: slice) -> Pairs: ...
    def __getitem__(self, index: int | slice) -> Pair | Pairs:
        if isinstance(index, slice):
            return replace(self, items=self.items[index])
        return self.items[index]

    @cached_property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of the pairs' canonical JSON and pixels; metadata does not enter."""
        content = [pair.content for pair in self.items]
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]

    @property
    def position_names(self) -> tuple[str, ...]:
        """Named positions that every pair has, ``end`` last."""
        shared = set.intersection(*(set(pair.positions) for pair in self.items)) if self.items else set()
        order = self.items[0].positions if self.items else ()
        return (*(name for name in order if name in shared), "end")

    @property
    def clusters(self) -> tuple[int, ...]:
        """A number per pair, equal for pairs that may have come out alike together, such as wordings of one fact.

        Pairs that a generator drew (they have its seed) were drawn one by one and are independent. In pairs from
        elsewhere, those that share a clean prompt belong together, and so do those of one group where there are 6
        groups or more; with fewer nothing can be said beyond these groups, and their pairs count one by one. Pairs of
        the same id, as in a resample, are one.
        """
        by_group = (
            self.seed is None and len({pair.group for pair in self.items if pair.group}) >= LEAST_GROUPS
        )
        return joined([tuple(self._alike(pair, by_group)) for pair in self.items])

    def _alike(self, pair: Pair, by_group: bool) -> Iterator[object]:
        """What joins a pair to others."""
        yield "id", pair.id
        if self.seed is None:
            yield "clean", pair.clean, pair.image and pair.image[0].digest
        if by_group and pair.group:
            yield "group", pair.group

    def header(self) -> dict[str, object]:
        """Return the first line of a saved file: format, version and where the pairs came from."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "task": self.task,
            "split": self.split,
            "seed": self.seed,
            "corruption": self.corruption,
            "metric": self.metric,
            "source": self.source,
            "options": dict(self.options),
        }

    def to_jsonl(self) -> str:
        """Return a header line, then one pair a line; ASCII, so that no terminal or editor can change it."""
        lines = [self.header(), *(pair.to_dict() for pair in self.items)]
        return "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)

    def save(self, path: str | PathLike[str]) -> Path:
        """Write `to_jsonl` to a file, whole or not at all; pictures from files and arrays are written beside it.

        Raises:
            RunError: if it cannot be written, or another picture of the same name is there.
        """
        pairs = self if str(path) == "-" else replace(self, items=_beside(self.items, Path(path).parent))
        return write_output(path, pairs.to_jsonl())

    def to_dataframe(self) -> pandas.DataFrame:
        """Return one row per pair: id, group, clean, corrupted, correct, incorrect; where there are some, pictures."""
        import pandas

        columns = ("id", "group", "clean", "corrupted", "correct", "incorrect")
        table = pandas.DataFrame(
            [[getattr(pair, name) for name in columns] for pair in self], columns=columns
        )
        for i, side in enumerate(("clean", "corrupted") if any(pair.image for pair in self) else ()):
            table[f"{side}_image"] = [pair.image[i].source if pair.image else None for pair in self]
        return table

    def __repr__(self) -> str:
        parts = [f"{len(self)} pairs", f"task {self.task!r}", f"split {self.split}"]
        parts += [f"seed {self.seed}"] if self.seed is not None else []
        parts += [f"corruption {self.corruption}"] if self.corruption else []
        return printable(f"Pairs({', '.join(parts)}, digest {self.digest})")


def _beside(items: Sequence[Pair], folder: Path) -> tuple[Pair, ...]:
    """The pairs with pictures that are in this folder."""
    return tuple(
        pair
        if pair.image is None
        else replace(pair, image=(put_beside(pair.image[0], folder), put_beside(pair.image[1], folder)))
        for pair in items
    )


def joined(labels: Sequence[Sequence[object]]) -> tuple[int, ...]:
    """Return a number per item, equal for items that are joined by labels they share, directly or through others.

    Example:
        >>> joined([("a",), ("b", "c"), ("c",), ("a", "d"), ("e",)])
        (0, 1, 1, 0, 2)
    """
    root: dict[object, object] = {}

    def find(label: object) -> object:
        while root.setdefault(label, label) != label:
            label = root[label]
        return label

    for own in labels:
        for other in own[1:]:
            root[find(other)] = find(own[0])
    numbers: dict[object, int] = {}
    return tuple(numbers.setdefault(find(own[0]), len(numbers)) for own in labels)
