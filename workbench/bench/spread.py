"""The cells of a bench computed elsewhere: those of one subject are one part, packed as bytes."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from workbench.circuits.files import write_atomic
from workbench.core.run_record import code_versions
from workbench.engine.distribute import Here, WorkPart

CELLS = "cells"
Measure = Callable[[int, Path], None]


def bench_plan(settings: Any) -> dict[str, Any]:
    """Say what decides the cells, as JSON values."""
    return {
        "format": "circuit-workbench/bench-plan",
        "version": 1,
        "settings": json.loads(json.dumps(settings.to_dict())),
        "code": code_versions(),
    }


def fetch_cells(
    labels: Sequence[str],
    measure: Measure,
    folder: Path,
    division: Here,
    progress: Callable[[int, int, str], None] | None,
) -> None:
    """Measure the cells of every subject, here or by workers, and put them into the folder.

    Args:
        measure: Called with the number of a subject and a folder that its cells go to.
    """
    parts = [
        WorkPart(key=f"subject-{n:03d}", shape=None, batch=n, what=label) for n, label in enumerate(labels)
    ]

    def compute(part: WorkPart) -> np.ndarray:
        with TemporaryDirectory(prefix="workbench-bench-") as place:
            measure(part.batch, Path(place))
            return packed(Path(place) / CELLS)

    for done, (part, data) in enumerate(zip(parts, division.values(parts, compute), strict=True)):
        unpack(data, folder / CELLS)
        if progress:
            progress(done + 1, len(parts), part.what)


def packed(folder: Path) -> np.ndarray:
    """Return the files of a folder as bytes in one array."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    content = {file.name: b64encode(file.read_bytes()).decode("ascii") for file in files if file.is_file()}
    return np.frombuffer(json.dumps(content).encode("ascii"), dtype=np.uint8)


def unpack(data: np.ndarray, folder: Path) -> None:
    """Write packed files into a folder, each whole or not at all; a cell after its scores."""
    content = json.loads(data.tobytes())
    for name in sorted(content, key=lambda name: (name.endswith(".json"), name)):
        if Path(name).name == name:
            write_atomic(folder / name, b64decode(content[name]))
