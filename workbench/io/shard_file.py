"""``shard.json``: which parts of a computation are in a folder, of all that there are; read strictly."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import RunError, WorkbenchError
from workbench.io.atomic import write_atomic
from workbench.io.strict_json import check_keys, parse, read_text

FORMAT, VERSION, NAME = "circuit-workbench/shard", 1, "shard.json"


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
        RunError: if it is missing, cut off, or of another format or version.
    """
    path = Path(folder) / NAME
    if not path.is_file():
        raise RunError(f"no finished shard in {folder}", hint=f"workbench runs resume {folder}")
    data = parse(read_text(path, error=RunError), where=str(path), error=RunError)
    if not isinstance(data, dict) or (data.get("format"), data.get("version")) != (FORMAT, VERSION):
        raise RunError(
            f"{path} is no record of a shard", hint=f"this workbench reads {FORMAT} version {VERSION}"
        )
    try:
        check_keys(data, {"format", "version", *ShardFile.__dataclass_fields__}, set(), str(path))
        parts = tuple(
            (str(key), None if shape is None else tuple(int(n) for n in shape))
            for key, shape in data["parts"]
        )
        return ShardFile(
            index=int(data["index"]),
            count=int(data["count"]),
            question=str(data["question"]),
            parts=parts,
            mine=tuple(str(key) for key in data["mine"]),
        )
    except WorkbenchError as problem:
        raise RunError(problem.message, hint=problem.hint) from None
    except (TypeError, ValueError) as problem:
        raise RunError(f"{path} is damaged: {problem}", hint=f"workbench runs resume {folder}") from None
