"""The tensors of a model as lines of its digest: of a checkpoint, of a native directory, of a model in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from workbench.model import digest, encoders
from workbench.model.digest import Weight
from workbench.model.directory import PICKLED, weight_files
from workbench.model.huggingface import load_checked
from workbench.model.layout import layout_of, saved_weights
from workbench.model.pickles import load_tensors

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Lines:
    """One line of the digest for each tensor of a model, by name.

    Attributes:
        unread: Tensors of the file that are no part of the model.
        file_digest: Digest of the file as it is stored, where its names or dtypes are not the model's own.
    """

    by_name: Mapping[str, str]
    file_digest: str | None = None
    unread: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        return digest.combine(self.by_name.values())


def lines_of_native(directory: Path) -> Lines:
    """Return the lines of a native model: names and dtypes of its file, which no other kind of file holds."""
    stored = digest.read_headers(weight_files(directory))
    return Lines({tensor.name: digest.line(tensor.name, tensor) for tensor in stored})


def lines_of_model(model: PreTrainedModel) -> Lines:
    """Return the lines of a model in memory that is not wrapped yet."""
    return Lines(digest.weight_lines(saved_weights(model)))


def lines_of_checkpoint(directory: Path, model: PreTrainedModel, stored: Mapping[str, Weight]) -> Lines:
    """Return the lines of a Hugging Face model that was loaded from a directory, in whatever dtype.

    From the bytes of the files where each tensor is there as such; else the file is loaded once more in the widest
    dtype that it has.

    Args:
        stored: The tensors of its weight files, by their names there.
    """
    layout = layout_of(model)
    arranged, unread = layout.arranged(stored), tuple[str, ...]()
    found: dict[str, digest.Weight]
    if arranged is not None:
        found = arranged
        unread = tuple(sorted(set(stored) - layout.known))
    else:
        found = {**saved_weights(_loaded_again(directory, type(model), digest.widest_float(stored.values())))}
    lines = digest.weight_lines(found)
    own = [
        n
        for n, w in found.items()
        if stored.get(n) is w and digest.stored_dtype(w) == digest.dtype_in(lines[n])
    ]
    if len(own) == len(lines) == len(stored):
        return Lines(lines)
    known = {n: lines[n] for n in own}  # hashed once
    as_stored = digest.combine(known.get(n) or digest.line(n, w) for n, w in stored.items())
    return Lines(lines, as_stored, unread)


def _loaded_again(directory: Path, kind: type[PreTrainedModel], dtype: torch.dtype) -> PreTrainedModel:
    own = {"add_pooling_layer": False} if kind.__name__ in encoders.BARE else {}
    return load_checked(directory, kind, dtype=torch.promote_types(torch.float32, dtype), **own)


def stored_weights(directory: Path) -> dict[str, Weight]:
    """Return the tensors in the weight files of a directory, by their names there; values are read when they are
    asked for.
    """
    if files := weight_files(directory):
        return {tensor.name: tensor for tensor in digest.read_headers(files)}
    found: dict[str, Weight] = {}
    for file in weight_files(directory, PICKLED):
        found |= load_tensors(file, mmap=True)
    return found
