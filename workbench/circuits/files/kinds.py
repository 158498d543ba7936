"""Every kind of file that we write, by its format; and their JSON Schemas, which this module writes.

``python -m workbench.circuits.files.kinds`` writes the folder ``schema`` beside it anew from the models. A test
compares the two.
"""

from __future__ import annotations

import json
from pathlib import Path

from workbench.core.atomic import write_atomic
from workbench.core.errors import WorkbenchError, unknown
from workbench.core.file_kind import FileKind
from workbench.core.registry import Registry

SCHEMAS = Path(__file__).parent / "schema"
# Format -> where its kind is. Modules are loaded when they are asked for: some are above this room.
_OURS = {
    "circuit-workbench/annotations": "workbench.circuits.files.annotations_file:ANNOTATIONS",
    "circuit-workbench/bench-cell": "workbench.bench.file:CELL",
    "circuit-workbench/bench-discovery": "workbench.bench.file:BENCH",
    "circuit-workbench/circuit": "workbench.circuits.files.circuit_file:CIRCUIT",
    "circuit-workbench/details": "workbench.circuits.files.details_file:DETAILS",
    "circuit-workbench/edit": "workbench.edits.description:EDIT",
    "circuit-workbench/heads-table": "workbench.heads.file:HEADS_TABLE",
    "circuit-workbench/evaluation": "workbench.circuits.files.evaluation_file:EVALUATION",
    "circuit-workbench/faithfulness": "workbench.circuits.files.faithfulness_file:FAITHFULNESS",
    "circuit-workbench/effects": "workbench.circuits.files.effects_file:EFFECTS",
    "circuit-workbench/measured-edit": "workbench.edits.measured_file:MEASURED",
    "circuit-workbench/model-card": "workbench.model.card:CARD",
    "circuit-workbench/opened-model": "workbench.model.opened_file:OPENED",
    "circuit-workbench/painting": "workbench.heads.painted_captions:PAINTING",
    "circuit-workbench/plan": "workbench.circuits.files.plan_file:PLAN_FILE",
    "circuit-workbench/portrait": "workbench.heads.file:PORTRAIT",
    "circuit-workbench/replication": "workbench.papers.file:REPLICATION",
    "circuit-workbench/replications": "workbench.papers.file:REPLICATIONS",
    "circuit-workbench/reproduction": "workbench.papers.studies.file:STUDY",
    "circuit-workbench/reproduction-plan": "workbench.papers.studies.file:PLAN",
    "circuit-workbench/reproduction-step": "workbench.papers.studies.file:STEP",
    "circuit-workbench/run": "workbench.core.run_file:RUN_FILE",
    "circuit-workbench/shard": "workbench.circuits.files.shard_file:SHARD_FILE",
    "circuit-workbench/scores": "workbench.circuits.files.scores_file:SCORES",
    "circuit-workbench/trained-arms": "workbench.training.mixers.card:ARMS",
}
KINDS: Registry[FileKind] = Registry(
    "kind of file",
    group="workbench.files",
    holds=lambda made: isinstance(made, FileKind),
    error=WorkbenchError,
)
for _format, _target in _OURS.items():
    KINDS.lazy(_format, _target)


def file_kind(kind: FileKind, *, home: str) -> FileKind:
    """Register a kind of file that is not ours; its format begins with a word of its own, ``my-lab/table``.

    Args:
        home: The module that it is from, ``__name__`` there.
    """
    KINDS.add(kind.format, kind, home=home)
    return kind


def kind_of(format: str, *, error: type[WorkbenchError] = WorkbenchError) -> FileKind:
    """Return the kind of file that has a format.

    Raises:
        WorkbenchError: of the type ``error``, for a format that nobody registered.
    """
    if format not in KINDS:
        raise unknown("kind of file", format, KINDS, error=error)
    return KINDS.get(format)


def schema_path(format: str) -> Path:
    """Say where the JSON Schema of a format is kept."""
    return SCHEMAS / f"{format.removeprefix('circuit-workbench/')}.schema.json"


def schema_text(format: str) -> str:
    """Return the JSON Schema of a format, as the text of its file."""
    return json.dumps(kind_of(format).schema(), indent=1) + "\n"


def write_schemas() -> None:
    """Write every schema from its model."""
    for format in KINDS.ours():
        write_atomic(schema_path(format), schema_text(format))


if __name__ == "__main__":
    write_schemas()
