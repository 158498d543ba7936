"""``faithfulness.json``: what a circuit keeps by itself, beside random circuits of its size."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from workbench.circuits.faithfulness import Evaluation
from workbench.core.atomic import file_at
from workbench.core.behavior_part import BehaviorPart
from workbench.core.file_kind import FileKind
from workbench.core.show import saves
from workbench.core.typed import Count, Part, as_json

FILE_NAME = "faithfulness.json"
Number = Annotated[float | None, Meta(description="null where it is not defined")]


class RandomContent(Part, frozen=True):
    """Random circuits of the same size; no more than ``draws`` where none was drawn."""

    draws: Count
    mean_size: float | UnsetType = UNSET
    faithfulness_mean: float | UnsetType = UNSET
    faithfulness_max: float | UnsetType = UNSET
    as_good_or_better: Annotated[
        Count | UnsetType,
        Meta(description="draws whose faithfulness is as near to 1 as the circuit's, or nearer"),
    ] = UNSET


class FaithfulnessContent(Part, frozen=True):
    """What a circuit keeps by itself, beside random circuits of its size."""

    faithfulness: Number
    stderr: Number
    low: Number
    high: Number
    metric_circuit: Number
    metric_full: Number
    metric_empty: Number
    size: Count
    candidates: Count
    n: Count
    metric: str
    unit: str
    ablation: str
    model: str
    weights: str | None
    same_weights: Annotated[
        bool | None, Meta(description="null: the circuit does not record the weights it was found on")
    ]
    task: str
    corruption: str | None
    split: str
    pairs: str
    n_dropped: Count
    seed: Count
    random: RandomContent
    behavior: Annotated[
        BehaviorPart | None, Meta(description="what the model itself does on these pairs")
    ] = None
    clusters: Annotated[
        Count | UnsetType,
        Meta(
            description="independent groups, whose pairs are drawn together; absent where every pair is one"
        ),
    ] = UNSET
    standing: Annotated[
        list[str] | UnsetType, Meta(description="what was attached to the model or changed in it")
    ] = UNSET


FAITHFULNESS = FileKind(
    format="circuit-workbench/faithfulness",
    content=FaithfulnessContent,
    what="the faithfulness of a circuit",
    again="to measure it again: workbench evaluate CIRCUIT --out FOLDER",
)


@saves(Evaluation)
def save_faithfulness(found: Evaluation, path: str | os.PathLike[str]) -> Path:
    """Write a circuit's faithfulness; a path without ``.json`` is a folder: its ``faithfulness.json``."""
    return FAITHFULNESS.save(found.values, file_at(path, FILE_NAME))


def load_faithfulness(path: str | os.PathLike[str]) -> Evaluation:
    """Read a circuit's faithfulness, or the one in a folder.

    Raises:
        RunError: if it is missing, cut off, of another format, or was changed.
    """
    opened = FAITHFULNESS.load(Path(path) / FILE_NAME if os.path.isdir(path) else path)
    return Evaluation(values=FAITHFULNESS.document(as_json(opened.content)), notes=opened.origin.notes)


__all__ = ["FAITHFULNESS", "FILE_NAME", "load_faithfulness", "save_faithfulness"]
