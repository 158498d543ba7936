"""What a configuration asks for, against what the weight files hold: compared before memory is taken."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from workbench.core.errors import ModelError, explaining
from workbench.model.digest import Weight
from workbench.model.directory import PICKLED, refuse_counts, weight_files
from workbench.model.stored_tensors import read_headers

_SLACK = 10_000_000  # numbers of masks and other tables that no file holds
_TWICE = 2  # tied embeddings lie in the file once
_MOST_SHOWN = 4
_UNCOUNTED = 10_000  # layers of a checkpoint whose tensors cannot be counted before it is read


def refuse_more_parts(path: Path, fields: Mapping[str, Any]) -> None:
    """Do nothing if the weights beside a configuration could have as many layers, experts and classes as it says.

    Raises:
        ModelError: naming the field.
    """
    if files := weight_files(path.parent):
        stored = read_headers(files)
        refuse_counts(path, fields, max(len(stored), *(max(t.shape, default=0) for t in stored), 1))
    elif files := weight_files(path.parent, PICKLED):
        refuse_counts(path, fields, sum(map(_tensors_in, files)))


def _tensors_in(file: Path) -> int:
    """The members of a checkpoint's zip file, no fewer than its tensors; nothing is unpacked."""
    if not zipfile.is_zipfile(file):
        return _UNCOUNTED
    try:
        with zipfile.ZipFile(file) as archive:
            return len(archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as problem:
        raise ModelError(
            f"{file} cannot be read as a checkpoint: {problem}",
            hint="the file was cut short or damaged: download or copy it again",
        ) from problem


def refuse_larger(path: Path, build: Callable[[], nn.Module], stored: Mapping[str, Weight]) -> None:
    """Do nothing if a model is not larger than the tensors beside its configuration.

    Args:
        path: The configuration.
        build: Makes the model; it is called where tensors have shapes and take no memory.
        stored: The tensors of the weight files.

    Raises:
        ModelError: with the first tensors that have another shape in the file.
    """
    if not stored:
        return
    with (
        explaining(
            f"{path}: a model of this configuration cannot be built",
            error=ModelError,
            hint="correct the configuration, or download it again",
        ),
        torch.device("meta"),
    ):
        made = build()
    needed = sum(t.numel() for t in (*made.parameters(), *made.buffers()))
    there = sum(map(_numbers, stored.values()))
    if needed <= _TWICE * there + _SLACK:
        return
    other = [
        f"{name} {tuple(t.shape)} instead of {tuple(stored[name].shape)}"
        for name, t in made.state_dict().items()
        if name in stored and tuple(stored[name].shape) != tuple(t.shape)
    ]
    first = f": {', '.join(other[:_MOST_SHOWN])}" if other else ""
    raise ModelError(
        f"{path} asks for a model of {needed:,} numbers; the weights beside it have {there:,}{first}",
        hint="download or copy the configuration and the weights again: they do not belong together",
    )


def _numbers(weight: Weight) -> int:
    """How many numbers a tensor really has; one that repeats its storage has those of the storage."""
    shaped = math.prod(weight.shape)
    if isinstance(weight, Tensor):
        return min(shaped, weight.untyped_storage().nbytes() // weight.itemsize)
    return shaped
