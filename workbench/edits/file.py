"""Edits on disk: ``edit.json`` says what, ``edit.safetensors`` holds the tensors; read strictly, never pickled.

Torch is loaded where there are tensors to compute with, and not to look at them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from workbench.core.atomic import write_atomic
from workbench.core.bounds import exists, read_bytes
from workbench.core.digest import DIGEST
from workbench.core.errors import CircuitError, OptionError, RunError, WorkbenchError
from workbench.core.file_kind import Origin
from workbench.core.lock import locked
from workbench.core.run_file import remove_half_written
from workbench.core.show import saves
from workbench.core.strict_json import check_keys, dump
from workbench.edits.description import EDIT
from workbench.edits.edit import EDITS, PLUGIN, ModelEdit, said_of

if TYPE_CHECKING:
    from torch import Tensor

DESCRIPTION, TENSORS = "edit.json", "edit.safetensors"
MOST_BYTES = 256 << 20
# NumPy has no bfloat16: read as it is stored, then widened
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "BOOL": "?"}
_Decode = Callable[[bytes], "Mapping[str, Any]"]


def save_edit(edit: ModelEdit, folder: str | os.PathLike[str], *, replace: bool = False) -> Path:
    """Write an edit to a folder; the description last, with the digest of the tensors beside it.

    Args:
        replace: Another description in the folder may be replaced.

    Returns:
        The folder.

    Raises:
        RunError: if the folder holds another edit, or a file of that name that is none; or another process is
            writing there.
    """
    folder, (document, content) = Path(folder), _written(edit)
    file = folder / DESCRIPTION
    with locked(folder):  # or the description of one process could lie beside the tensors of another
        remove_half_written(folder)
        if not replace and exists(file) and not _says(file, document):
            raise RunError(
                f"{file} is there and says something else", hint="choose another --out, or remove it"
            )
        if content:
            write_atomic(folder / TENSORS, content)
        write_atomic(file, dump(document, where="edit", indent=1))
        if replace and not content:  # what an earlier edit left in this folder belongs to nobody now
            (folder / TENSORS).unlink(missing_ok=True)
    return folder


@saves(ModelEdit)
def write_edit(edit: ModelEdit, path: str | os.PathLike[str]) -> Path:
    """The same by type: the description, which `load_edit` reads with the tensors beside it.

    Raises:
        OptionError: for the name of a file; an edit is two files in a folder.
    """
    if Path(path).suffix in (".json", ".safetensors"):
        raise OptionError(
            f"{path} is the name of a file; an edit is a folder", hint=f"{Path(path).with_suffix('')}"
        )
    return save_edit(edit, path) / DESCRIPTION


def _says(file: Path, document: Mapping[str, Any]) -> bool:
    """Whether a description says what a document says; one that cannot be read says something else."""
    try:
        found = EDIT.open(file).content
    except RunError:
        return False
    return EDIT.document(msgspec.to_builtins(found))[DIGEST] == document[DIGEST]


def _written(edit: ModelEdit) -> tuple[dict[str, Any], bytes]:
    """The document of ``edit.json``, and the bytes of its tensors; none if it has none."""
    content, tensors = b"", edit.tensors()
    if tensors:
        from safetensors.torch import save

        content = save({name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()})
    sha = hashlib.sha256(content).hexdigest() if tensors else None
    return EDIT.document({"edit": said_of(edit), "tensors": sha}), content


def content_digest(edit: ModelEdit) -> str:
    """Return the digest of everything that makes an edit what it is, tensors included."""
    return _written(edit)[0][DIGEST][:16]


def load_edit(folder: str | os.PathLike[str]) -> ModelEdit:
    """Read an edit, strictly.

    Raises:
        RunError: for a missing, damaged or foreign file, an unknown kind, a key too many or too few.
    """
    return open_edit(folder)[0]


def open_edit(folder: str | os.PathLike[str]) -> tuple[ModelEdit, Origin]:
    """Return the same, and whether its description is as it was written.

    A description that was changed is read with a `ChangedFileWarning`.
    """
    return _read(folder, _tensors)


def describe_edit(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Say what a saved edit is, read as strictly and without torch: its kind, its settings, the shapes of its
    tensors.

    Raises:
        RunError: as ``load_edit``.
    """
    edit, origin = _read(folder, _arrays)
    sizes = {name: list(t.shape) for name, t in edit.tensors().items()}
    said = {"notes": list(origin.notes)} if origin.notes else {}
    return {"kind": edit.kind, "edit": edit.describe(), **edit.to_dict(), "tensors": sizes, **said}


def _read(folder: str | os.PathLike[str], decode: _Decode) -> tuple[ModelEdit, Origin]:
    folder = Path(folder)
    file = folder / DESCRIPTION if os.path.isdir(folder) else folder
    opened = EDIT.load(file)
    sha = opened.content.tensors
    tensors = {} if sha is None else _read_tensors(file.parent / TENSORS, sha, decode)
    try:
        return read_edit(msgspec.to_builtins(opened.content.edit), tensors), opened.origin
    except WorkbenchError as problem:
        raise RunError(f"{file}: {problem.message}", hint=problem.hint) from problem


def read_edit(data: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> ModelEdit:
    """Return an edit from its description and tensors: every key and tensor that the kind has, and no other.

    Raises:
        RunError: saying which is missing, unknown or of the wrong kind.
    """
    if not isinstance(data, Mapping) or not isinstance(kind := data.get("kind"), str):
        raise RunError("an edit has no kind", hint=f"one of {', '.join(EDITS)}")
    own = {name: value for name, value in data.items() if name != "kind"}
    if kind == PLUGIN:
        kind, own = own["name"], own["settings"]
    made = EDITS.get(kind)
    try:
        edit = made.from_dict(own, tensors)
    except (OptionError, RunError):
        raise
    except WorkbenchError as problem:
        raise RunError(f"{kind}: {problem.message}", hint=problem.hint) from problem
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise RunError(
            f"this is no {kind} edit: {problem}",
            hint="make the edit again: workbench edit make, or wb.save(edit, folder)",
        ) from problem
    try:
        check_keys(own, set(edit.to_dict()), set(), f"{kind} edit")
    except CircuitError as problem:
        raise RunError(problem.message, hint=problem.hint) from problem
    if set(edit.tensors()) != set(tensors):
        missing = set(edit.tensors()) ^ set(tensors)
        raise RunError(
            f"{kind} edit: tensors missing, or not its own: {', '.join(sorted(missing))}; expected "
            f"{', '.join(sorted(edit.tensors())) or 'none'}",
            hint="save the edit again: wb.save(edit, folder)",
        )
    return edit


def _read_tensors(file: Path, digest: Any, decode: _Decode) -> Mapping[str, Any]:
    """The tensors of a file whose digest is what the description says.

    Raises:
        RunError: if it is missing, cut off or another edit's.
    """
    from safetensors import SafetensorError

    if not exists(file):
        raise RunError(f"there is no {file}", hint=f"it belongs beside {DESCRIPTION}")
    content = read_bytes(file, most_bytes=MOST_BYTES)
    if hashlib.sha256(content).hexdigest() != digest:
        raise RunError(
            f"{file} is not the file that {DESCRIPTION} was written with",
            hint="it is damaged, or of another edit; save the edit again",
        )
    try:
        return decode(content)
    except (SafetensorError, ValueError) as problem:
        raise RunError(
            f"{file} is not a whole safetensors file: {problem}",
            hint="the file was cut short or damaged: copy it again, or save the edit again",
        ) from problem


def _tensors(content: bytes) -> dict[str, Tensor]:
    from safetensors.torch import load

    return load(content)


def _arrays(content: bytes) -> dict[str, np.ndarray]:
    """The tensors as NumPy arrays.

    Raises:
        RunError: for a type of number that no edit has.
    """
    from safetensors import deserialize

    found = {}
    for name, part in deserialize(content):
        if part["dtype"] not in _DTYPES:
            raise RunError(
                f"tensor {name} holds {part['dtype']}; expected {', '.join(_DTYPES)}",
                hint="save the tensor as float32: tensor.float()",
            )
        values = np.frombuffer(part["data"], dtype=_DTYPES[part["dtype"]]).reshape(part["shape"])
        found[name] = (values.astype("<u4") << 16).view("<f4") if part["dtype"] == "BF16" else values
    return found
