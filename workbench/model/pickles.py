"""Checkpoints that are pickles: tensors only, with the checksums of their zip file, or refused with a reason."""

from __future__ import annotations

import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from pickle import Unpickler, UnpicklingError
from typing import IO, Any

import torch

from workbench.core.bounds import in_words, require_regular
from workbench.core.errors import ModelError

_REPEATED, _SMALL = 4, 64_000_000  # tied tensors are there twice; bytes that any file may ask for


def load_tensors(path: Path, *, mmap: bool = False) -> Any:
    """Say what a file of ``torch.save`` holds, on the CPU; nothing in it is executed.

    Args:
        mmap: Leave the values in the file until they are asked for, where its format allows it.

    Raises:
        ModelError: if the file is damaged, holds anything but tensors and plain containers, or tensors that claim more
            numbers than it has.
    """
    size = require_regular(path, error=ModelError)
    is_zip = check_archive(path)
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap and is_zip)
    except UnpicklingError as error:
        raise ModelError(
            f"{path} {refused(error)}",
            hint="on a machine that trusts it: torch.save(model.state_dict(), 'weights.pt')",
        ) from error
    except Exception as error:  # its parser raises whatever the first wrong byte leads to
        said = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
        raise ModelError(
            f"{path} cannot be read as a checkpoint: {said}",
            hint="it may be cut off: download or copy it again",
        ) from error
    claimed = sum(t.numel() * t.itemsize for t in _tensors(loaded))
    if claimed > _REPEATED * size + _SMALL:
        raise ModelError(
            f"{path} has {in_words(size)}; its tensors claim {in_words(claimed)}",
            hint="save every tensor with .contiguous(): some repeat a few numbers (expand)",
        )
    return loaded


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    """The tensors in what was loaded, at any depth."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def check_archive(path: Path) -> bool:
    """Check each member of a checkpoint's zip file against its checksum, which torch does not look at.

    Returns:
        Whether it is a zip file. Files of the format before have no checksums: they pass.

    Raises:
        ModelError: if a member is damaged, there twice, or compressed, which ``torch.save`` never does.
    """
    hint = "the file was cut short or damaged: download or copy it again"
    try:
        with path.open("rb") as start:
            if start.read(4) != b"PK\x03\x04":
                return False
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise ModelError(
                    f"{path} is a compressed zip file; torch.save writes none",
                    hint="save it again with torch.save",
                )
            twice = [name for name, count in Counter(m.filename for m in members).items() if count > 1]
            damaged = twice[0] if twice else archive.testzip() or _of_another_size(archive)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError) as error:
        raise ModelError(f"{path} cannot be read as a checkpoint: {error}", hint=hint) from error
    if damaged is not None:
        raise ModelError(
            f"{path} is damaged: {damaged} is not what its checksum says, or its size", hint=hint
        )
    return True


_ITEM_BYTES = {
    **dict.fromkeys(("UntypedStorage", "ByteStorage", "CharStorage", "BoolStorage"), 1),
    **dict.fromkeys(("HalfStorage", "BFloat16Storage", "ShortStorage"), 2),
    **dict.fromkeys(("FloatStorage", "IntStorage"), 4),
    **dict.fromkeys(("DoubleStorage", "LongStorage", "ComplexFloatStorage"), 8),
    "ComplexDoubleStorage": 16,
}


class _Nothing:
    """Stands for whatever a pickle names: it is called, filled and asked, and does nothing."""

    def __new__(cls, *given: object, **named: object) -> _Nothing:
        return super().__new__(cls)

    def __call__(self, *given: object, **named: object) -> _Nothing:
        return self

    append = extend = update = add = __setitem__ = __setstate__ = __call__


class _Sizes(Unpickler):
    """Walks through a pickle and notes how many bytes each storage has to have; nothing that it names is loaded."""

    def __init__(self, source: IO[bytes]) -> None:
        super().__init__(source)
        self.bytes: dict[str, int] = {}

    def find_class(self, module: str, name: str) -> Any:
        return _ITEM_BYTES.get(name, _Nothing) if module in ("torch", "torch.storage") else _Nothing

    def persistent_load(self, identity: Any) -> None:
        _, item_bytes, key, _, count = identity[:5]
        self.bytes[key] = count * item_bytes


def _of_another_size(archive: zipfile.ZipFile) -> str | None:
    """The first storage that is not as long as the pickle says; None if all are, or it cannot be walked through.

    Loaded into memory torch compares them itself; mapped, it would read beyond.
    """
    sizes = {member.filename: member.file_size for member in archive.infolist()}
    for name in (n for n in sizes if n.endswith("/data.pkl")):
        with archive.open(name) as source:
            walk = _Sizes(source)
            with suppress(Exception):  # torch refuses that pickle, and says why
                walk.load()
        root = name.removesuffix("data.pkl")
        for key, count in walk.bytes.items():
            if sizes.get(f"{root}data/{key}", count) != count:
                return f"{root}data/{key}"
    return None


def refused(error: UnpicklingError) -> str:
    """Return the foreign thing that `torch.load(weights_only=True)` met, or that the file is damaged.

    torch's own message is a page of advice, with terminal escapes, on how to load the file all the same.
    """
    found = re.search(r"Unsupported (?:global: GLOBAL|class|operand) (\S+)", str(error))
    if found is not None:
        return f"holds more than tensors ({found[1]}), and loading that could run code"
    return "holds more than tensors or is damaged, and loading it otherwise could run code"
