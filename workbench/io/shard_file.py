"""``shard.json``: which parts of a computation are in a folder, of all that there are; read strictly."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import RunError, WorkbenchError
from workbench.io.atomic import write_atomic
from workbench.io.bounds import exists
from workbench.io.strict_json import check_keys, parse, read_text

FORMAT, VERSION, NAME = "circuit-workbench/shard", 1, "shard.json"
_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,199}")


def check_key(key: str, where: str | os.PathLike[str]) -> str:
    """The key of a part, which names a file: it must stay in its folder.

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
        parts = [[key, None if shape is None else list(shape)] for key, shape in self.parts]
        return {**self.__dict__, "parts": parts, "mine": list(self.mine)}

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write it into a folder, atomically."""
        document = {"format": FORMAT, "version": VERSION, **self.to_dict()}
        return write_atomic(Path(folder) / NAME, json.dumps(document, indent=1, allow_nan=False) + "\n")


def load_shard(folder: str | os.PathLike[str]) -> ShardFile:
    """The share whose folder this is.

    Raises:
        RunError: if it is missing, cut off, of another format or version, or contradicts itself.
    """
    path = Path(folder) / NAME
    if not exists(path):
        raise RunError(f"no finished shard in {folder}", hint=f"workbench runs resume {folder}")
    data = parse(read_text(path, error=RunError), where=str(path), error=RunError)
    if not isinstance(data, dict) or (data.get("format"), data.get("version")) != (FORMAT, VERSION):
        raise RunError(
            f"{path} is no record of a shard", hint=f"this workbench reads {FORMAT} version {VERSION}"
        )
    try:
        check_keys(data, {"format", "version", *ShardFile.__dataclass_fields__}, set(), str(path))
        parts = tuple(
            (check_key(key, path), None if shape is None else tuple(int(n) for n in shape))
            for key, shape in data["parts"]
        )
        share = ShardFile(
            index=int(data["index"]),
            count=int(data["count"]),
            question=str(data["question"]),
            parts=parts,
            mine=tuple(check_key(key, path) for key in data["mine"]),
        )
        _check(share)
    except WorkbenchError as problem:
        raise RunError(problem.message, hint=problem.hint) from None
    except (TypeError, ValueError) as problem:
        again = f"rm {path}, then workbench runs resume {folder}"
        raise RunError(f"{path} is damaged: {problem}", hint=again) from None
    return share


def _check(share: ShardFile) -> None:
    """Whether there can be such a share.

    Raises:
        ValueError: what contradicts what.
    """
    known = [key for key, _ in share.parts]
    if not 1 <= share.index <= share.count:
        raise ValueError(f"there is no shard {share.index} of {share.count}")
    for what, keys in (("parts", known), ("mine", share.mine)):
        if len(set(keys)) < len(keys):
            raise ValueError(f"{what} names {next(k for k in keys if list(keys).count(k) > 1)} twice")
    if unknown := set(share.mine) - set(known):
        raise ValueError(f"mine has {min(unknown)}, which is none of its parts")
