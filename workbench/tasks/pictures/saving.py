"""Pictures beside the file of their pairs."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np

from workbench.core.atomic import write_output
from workbench.core.errors import RunError
from workbench.tasks.pictures.file import file_of, split
from workbench.tasks.pictures.image import MEMORY, Picture


def put_beside(picture: Picture, folder: Path) -> Picture:
    """Return the picture as one that is in this folder: copied there, or an array that is saved as
    ``pictures/DIGEST.npy``.

    Raises:
        RunError: if another picture of this name is there already.
        TaskError: if its file has changed since it was first read.
    """
    if picture.kind and picture.kind != MEMORY:
        return picture  # drawn anew wherever it is asked for
    if picture.kind == MEMORY:
        return _saved(picture, Picture(f"pictures/{picture.digest}.npy", folder))
    own = Picture(picture.source, folder)
    picture.pixels  # noqa: B018  what is refused here would be saved under the digest of other pixels
    if picture.folder == own.folder:
        return picture
    name = split(picture.source)[0]
    if (folder / name).exists():
        return _same(own, picture)
    _write(folder / name, file_of(picture.source, picture.folder).read_bytes())
    return _same(own, picture)


def _same(own: Picture, picture: Picture) -> Picture:
    """The picture of this folder, if it is the one to be saved."""
    if own != picture:
        assert own.folder is not None
        where = own.folder / own.source
        raise RunError(
            f"{where} is another picture than the one to be saved",
            hint="choose another folder; where two pictures have one name, wb.Picture.of(picture.pixels) for each",
        )
    return own


def _saved(picture: Picture, own: Picture) -> Picture:
    """An array as a file; its name is its digest, so what is there under that name is the same."""
    assert own.folder is not None
    path = own.folder / own.source
    if not path.exists():
        packed = BytesIO()
        np.save(packed, picture.pixels)
        _write(path, packed.getvalue())
    return _same(own, picture)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_output(path, data)
