"""Any result to a file and back: it is written by its type, and read by the format that the file itself names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from workbench.circuits.files.kinds import KINDS, kind_of
from workbench.circuits.files.recognise import formats_in
from workbench.core.errors import OptionError, WorkbenchError, expect_path
from workbench.core.show import LOADERS, Shown

# Format -> what makes a result of such a file; modules are loaded when they are asked for: some are above this room.
_OURS = {
    "bench-discovery": "bench.table:load_bench",
    "circuit": "circuits.files.circuit_file:load_circuit",
    "edit": "edits.file:load_edit",
    "effects": "circuits.files.effects_file:load_effects",
    "evaluation": "circuits.files.evaluation_file:load_evaluation",
    "faithfulness": "circuits.files.faithfulness_file:load_faithfulness",
    "measured-edit": "edits.kept_measurement:load_measured",
    "painting": "heads.painted_captions:load_painting",
    "pairs": "tasks.pairs_file:read_pairs",
    "portrait": "heads.table:load_portrait",
    "replication": "papers.result:load_replication",
    "replications": "papers.result:load_replications",
    "reproduction": "papers.studies.result:load_study",
    "run": "core.run_file:load_record",
    "scores": "circuits.files.scores_file:load_scores",
}
for _name, _target in _OURS.items():
    LOADERS.lazy(f"circuit-workbench/{_name}", f"workbench.{_target}")


def save(result: Shown, path: str | os.PathLike[str]) -> Path:
    """Write a result in the format of its type, whole or not at all.

    Args:
        path: The file; without the ending of the format, the folder for it.

    Returns:
        The file that `load` reads it from.

    Raises:
        OptionError: if it is no result that has a file.

    Example:
        >>> import workbench as wb
        >>> from tempfile import mkdtemp
        >>> file = wb.save(wb.load_circuit("published:ioi"), mkdtemp())
        >>> wb.load(file)
        <Circuit published on ioi in gpt2: 40 nodes, 0 edges of 32491>
    """
    expect_path(path)
    if not isinstance(result, Shown):
        raise OptionError(
            f"{type(result).__name__} is no result that has a file",
            hint="workbench.save(result, path) writes circuits, scores, effects, judgements, portraits, edits, pairs",
        )
    return result.save(path)


def load(path: str | os.PathLike[str]) -> Any:
    """Read a file as what it says it is, strictly; of files that runs keep for themselves, the checked content.

    Returns:
        The result that the file holds; of files that runs keep for themselves, the checked content.

    Raises:
        WorkbenchError: for a file that does not say its format, one of a format that nothing here reads, and
            whatever is wrong with a file of ours.

    Example:
        >>> import workbench as wb
        >>> from tempfile import mkdtemp
        >>> wb.load(wb.save(wb.load_circuit("published:ioi"), mkdtemp())).task
        'ioi'
    """
    expect_path(path)
    file = Path(path)
    if os.path.isdir(file):
        raise WorkbenchError(f"{file} is a folder", hint=f"name the file: {_files_in(file)}")
    found = list(dict.fromkeys(formats_in(file)))
    format = next((name for name in found if name in LOADERS or name in KINDS), None)
    if format is None:
        said = (
            f"{file} says that its format is {found[0]!r:.80}" if found else f"{file} does not say its format"
        )
        raise WorkbenchError(
            f"{said}; known formats are {', '.join(known_formats())}",
            hint="open circuit.json, effects.parquet or run.json of a run: workbench runs list",
        )
    for offer in LOADERS.offers().get(format, ()):
        offer.load()  # what the plug-in registers for it is known from here on
    known = format in LOADERS and format not in LOADERS.offers()
    return LOADERS.get(format)(file) if known else kind_of(format).load(file).content


def known_formats() -> list[str]:
    """Return every format that `load` reads, those of plug-ins included."""
    return sorted({*LOADERS, *KINDS})


def _files_in(folder: Path) -> str:
    """The files of a folder that could be meant."""
    endings = (".json", ".jsonl", ".parquet", ".safetensors")
    names = sorted(entry.name for entry in folder.iterdir() if entry.suffix in endings)
    return ", ".join(names[:8]) or "there is none of ours in it"


__all__ = ["known_formats", "load", "save"]
