"""``shard.json``: which parts of a computation are in a folder, of all that there are; read strictly."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from workbench.core.bounds import exists
from workbench.core.errors import RunError
from workbench.core.file_kind import FileKind
from workbench.core.strict_json import first_twice
from workbench.core.typed import Count, Part

NAME = "shard.json"
_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,199}")


def check_key(key: str, where: str | os.PathLike[str]) -> str:
    """Return the key of a part, which names a file: it must stay in its folder.

    Args:
        where: The file or folder that has it.

    Raises:
        RunError: if it has other characters than letters, digits, ``_``, ``-`` and ``.``, or begins with a dot.
    """
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise RunError(
            f"{where} names a part {key!r:.80}; letters, digits, _, - and . are expected, no dot in front",
            hint="it was damaged or made by somebody else: measure this shard again in a new folder",
        )
    return key


@dataclass(frozen=True, kw_only=True)
class ShardFile:
    """The ``index``-th of ``count`` shares of one computation.

    Attributes:
        question: Digest of what is measured; shares of one table have the same.
        parts: Key and shape of every part there is, in order.
        mine: Keys of the parts of this share.
    """

    index: int
    count: int
    question: str
    parts: tuple[tuple[str, tuple[int, ...] | None], ...]
    mine: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        parts = [[key, None if shape is None else list(shape)] for key, shape in self.parts]
        return {**self.__dict__, "parts": parts, "mine": list(self.mine)}

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write it into a folder, atomically."""
        return SHARD_FILE.save(self.to_dict(), Path(folder) / NAME)


class ShardContent(Part, frozen=True):
    """One share of a computation that several jobs share."""

    index: Annotated[int, Meta(ge=1, le=2**53, description="which share this is, from 1")]
    count: Annotated[int, Meta(ge=1, le=2**53, description="how many shares there are")]
    question: Annotated[
        str, Meta(description="digest of what is measured; shares of one table have the same")
    ]
    parts: Annotated[
        list[tuple[str, list[Count] | None]],
        Meta(
            description="key and shape of every part there is, in order; null where no shape is known beforehand"
        ),
    ]
    mine: Annotated[list[str], Meta(description="keys of the parts of this share")]

    def __post_init__(self) -> None:
        known = [key for key, _ in self.parts]
        if self.index > self.count:
            raise ValueError(f"there is no shard {self.index} of {self.count}")
        for what, keys in (("parts", known), ("mine", self.mine)):
            if (twice := first_twice(keys)) is not None:
                raise ValueError(f"{what} names {twice!r:.80} twice")
        if unknown := set(self.mine) - set(known):
            raise ValueError(f"mine has {min(unknown)!r:.80}, which is none of its parts")


SHARD_FILE = FileKind(
    format="circuit-workbench/shard",
    content=ShardContent,
    what="a record of a shard",
    again="rm FILE, then workbench runs resume FOLDER",
)


def load_shard(folder: str | os.PathLike[str]) -> ShardFile:
    """Return the share whose folder this is.

    Raises:
        RunError: if it is missing, cut off, of another format or version, was changed, or contradicts itself.
    """
    path = Path(folder) / NAME
    if not exists(path):
        raise RunError(f"no finished shard in {folder}", hint=f"workbench runs resume {folder}")
    found = SHARD_FILE.load(path).content
    return ShardFile(
        index=found.index,
        count=found.count,
        question=found.question,
        parts=tuple((check_key(k, path), None if n is None else tuple(n)) for k, n in found.parts),
        mine=tuple(check_key(key, path) for key in found.mine),
    )
