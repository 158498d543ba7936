"""Finished cells of a bench on disk: a killed bench loses the one it was in, a second start does the rest."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from workbench.errors import RunError
from workbench.io import load_scores, save_scores, write_atomic
from workbench.provenance import code_versions, digest_of
from workbench.scores import Scores

FORMAT, VERSION = "circuit-workbench/bench-cell", 1
# Modules beside the method's own whose change means that a cell must be measured again.
_MEASURING = {
    "truth": ("bench.measures", "evaluate.ground_truth", "evaluate.truth", "sweep.edges", "sweep.gradients"),
    "task": ("bench.measures", "evaluate.faithfulness", "sweep.edges", "sweep.gradients", "scores"),
}


@cache
def source_digest(module: str) -> str:
    """Digest of a module's file and of every module of ``workbench.methods`` that it imports."""
    found, todo = {}, [module]
    while todo:
        name = todo.pop()
        loaded = importlib.import_module(name)
        if name in found or not loaded.__file__:
            continue
        found[name] = hashlib.sha256(Path(loaded.__file__).read_bytes()).hexdigest()
        homes = {getattr(value, "__module__", None) for value in vars(loaded).values()}
        todo += [h for h in homes if isinstance(h, str) and h.startswith("workbench.methods.")]
    return digest_of(found)


def code_of(method_module: str, kind: str = "task") -> dict[str, Any]:
    """What computes a cell of a kind: package versions, and digests of the method's and the measuring sources."""
    return {
        **code_versions(),
        "method": source_digest(method_module),
        "measuring": digest_of([source_digest(f"workbench.{name}") for name in _MEASURING[kind]]),
    }


class Shelf:
    """The cells of one folder, each a JSON file named by the digest of what decides it; and their scores."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder) / "cells"

    def get(self, decided: Mapping[str, Any]) -> dict[str, Any] | None:
        """The finished cell that these things decide, or None.

        Raises:
            RunError: if its file is damaged.
        """
        path = self._path(decided)
        if not path.exists():
            return None
        try:
            cell = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as problem:
            raise RunError(f"{path} cannot be read: {problem}", hint=f"rm {path}, then start again") from None
        if not isinstance(cell, dict) or (cell.get("format"), cell.get("version")) != (FORMAT, VERSION):
            raise RunError(f"{path} is no cell of this bench", hint="choose another --out")
        return cell

    def put(self, decided: Mapping[str, Any], cell: Mapping[str, Any], scores: Scores | None) -> None:
        """Keep a finished cell, whole or not at all; its scores first."""
        path = self._path(decided)
        if scores is not None:
            save_scores(scores, path.with_suffix(".safetensors"))
        whole = {"format": FORMAT, "version": VERSION, "decided": dict(decided), **cell}
        write_atomic(path, json.dumps(whole, indent=1, allow_nan=False) + "\n")

    def scores(self, decided: Mapping[str, Any]) -> Scores:
        """The scores of a finished cell."""
        return load_scores(self._path(decided).with_suffix(".safetensors"))

    def _path(self, decided: Mapping[str, Any]) -> Path:
        return self.folder / f"{digest_of(dict(decided))}.json"
