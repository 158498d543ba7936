"""Finished cells of a bench on disk: a killed bench loses the one it was in, a second start does the rest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.bench.file import CELL
from workbench.circuits.files import load_scores, save_scores
from workbench.circuits.scores import Scores
from workbench.core.bounds import exists
from workbench.core.errors import RunError
from workbench.core.run_record import code_versions, digest_of
from workbench.core.source_digest import source_digest, sources_of_plugin
from workbench.core.typed import as_json
from workbench.methods.registry import Method

# Beside the method: a change of these, or of what they import, means that a cell must be measured again.
_MEASURING = {
    "truth": ("bench.quantities", "evaluate.ground_truth", "model.open"),
    "task": ("bench.quantities", "model.open"),
}


def code_of(method: Method, kind: str = "task") -> dict[str, Any]:
    """Say what computes a cell of a kind: package versions, and a digest of all sources that it stands on."""
    theirs = sources_of_plugin(method.module, method.run)
    own = () if theirs else (method.module,)
    measuring = (f"workbench.{name}" for name in _MEASURING[kind])
    return {**code_versions(), "sources": source_digest(*own, *measuring), **theirs}


class Shelf:
    """The cells of one folder, each a JSON file named by the digest of what decides it; and their scores."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder) / "cells"

    def get(self, decided: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the finished cell that these things decide, or None.

        Raises:
            RunError: if its file is damaged, or of another cell.
        """
        path = self._path(decided)
        if not exists(path):
            return None
        content = CELL.load(path).content
        if digest_of(as_json(content.decided)) != path.stem:
            raise RunError(f"{path} is the file of another cell", hint=f"rm {path}, then start again")
        return as_json(content.cell)

    def put(self, decided: Mapping[str, Any], cell: Mapping[str, Any], scores: Scores | None) -> None:
        """Keep a finished cell, whole or not at all; its scores first."""
        path = self._path(decided)
        if scores is not None:
            save_scores(scores, path.with_suffix(".safetensors"))
        CELL.save({"decided": dict(decided), decided["kind"]: dict(cell)}, path)

    def scores(self, decided: Mapping[str, Any]) -> Scores:
        """Return the scores of a finished cell."""
        return load_scores(self._path(decided).with_suffix(".safetensors"))

    def _path(self, decided: Mapping[str, Any]) -> Path:
        return self.folder / f"{digest_of(dict(decided))}.json"
