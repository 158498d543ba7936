"""Any result goes to a file by its type and comes back by the format that the file names."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import workbench as wb
from tests.circuits import scores, small
from workbench.bench.table import BenchResult, load_bench
from workbench.circuits.circuit import Circuit
from workbench.circuits.effects import Effects
from workbench.circuits.faithfulness import Evaluation
from workbench.circuits.files.any_result import known_formats
from workbench.circuits.files.faithfulness_file import FAITHFULNESS
from workbench.circuits.scores import Scores
from workbench.core.errors import OptionError, WorkbenchError
from workbench.core.run_record import RunRecord
from workbench.core.show import LOADERS, Shown, loads, saves
from workbench.edits.file import load_edit
from workbench.edits.stacked import Stack
from workbench.heads.table import Portrait, load_portrait
from workbench.papers.result import Result, load_replication
from workbench.papers.studies.result import Reproduction, load_study
from workbench.tasks.pairs import Pairs

OLD = Path(__file__).parents[1] / "data" / "v1"
OWN = ("digest", "folder")  # of a document: what differs by where it lies


def effects() -> Effects:
    patched = np.array([[1.0, 2.5], [3.0, np.nan]])
    told = {"mode": "noising", "kind": "zero ablation", "task": "t", "model": "m"}
    measured = {"metric": "logit-difference", "unit": "logits", "direction": 1}
    return Effects(
        labels=("a0.h0", "m1"), patched=patched, base=np.array([4.0, 5.0]), gap=None, **told, **measured
    )


def faithfulness() -> Evaluation:
    measured = {"faithfulness": 0.75, "stderr": 0.05, "low": 0.65, "high": 0.85, "metric_circuit": 3.0}
    measured |= {
        "metric_full": 4.0,
        "metric_empty": 0.0,
        "size": 12,
        "candidates": 40,
        "n": 8,
        "n_dropped": 0,
    }
    words = {
        "metric": "logit-difference",
        "unit": "logits",
        "ablation": "resample",
        "model": "m",
        "task": "t",
    }
    words |= {
        "split": "test",
        "pairs": "ab12",
        "corruption": None,
        "weights": None,
        "same_weights": None,
        "behavior": None,
    }
    return Evaluation(values=FAITHFULNESS.document({**measured, **words, "seed": 0, "random": {"draws": 0}}))


RESULTS: dict[str, tuple[type, Callable[[], Any], str]] = {
    "bench-discovery": (BenchResult, lambda: load_bench(OLD / "bench.json"), "bench.json"),
    "circuit": (Circuit, small, "circuit.json"),
    "edit": (Stack, lambda: load_edit(OLD / "edit-stack"), "edit.json"),
    "effects": (Effects, effects, "effects.parquet"),
    "faithfulness": (Evaluation, faithfulness, "faithfulness.json"),
    "pairs": (Pairs, lambda: wb.make_pairs("ioi", n=3), "x.jsonl"),
    "portrait": (Portrait, lambda: load_portrait(OLD / "portrait.json"), "portrait.json"),
    "replication": (Result, lambda: load_replication(OLD / "replication.json"), "replication.json"),
    "reproduction": (Reproduction, lambda: load_study(OLD / "study.json"), "study.json"),
    "run": (RunRecord, lambda: RunRecord(command="ablate", arguments={"limit": 8}), "run.json"),
    "scores": (Scores, scores, "scores.safetensors"),
}
ELSEWHERE = {
    "evaluation": "tests/integration/test_evaluate.py judges a circuit",
    "measured-edit": "its file also has the plan of the command",
    "painting": "tests/integration/test_painter_looks.py reads one back",
    "replications": "tests/integration/test_in_context_regression.py reads a page of two back",
}


def content(file: Path) -> Any:
    """What a file says; where it is JSON, without what differs by its place."""
    if file.suffix != ".json":
        return file.read_bytes()
    return {name: value for name, value in json.loads(file.read_text()).items() if name not in OWN}


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_comes_back_as_it_was(name, tmp_path):
    kind, make, usual = RESULTS[name]
    folder = tmp_path / "one" if name != "pairs" else tmp_path / "x.jsonl"
    file = wb.save(make(), folder)
    assert file.name == usual  # without an ending of the format the path is a folder
    back = wb.load(file)
    assert type(back) is kind
    again = wb.save(back, tmp_path / "two" if name != "pairs" else tmp_path / "y.jsonl")
    assert content(again) == content(file)


def test_every_format_with_a_result_of_its_own_is_tried():
    ours = {name.removeprefix("circuit-workbench/") for name in LOADERS if name.startswith("circuit-")}
    assert ours == {*RESULTS, *ELSEWHERE}


@pytest.mark.parametrize("name", ["circuit", "effects", "scores", "portrait", "run", "bench-discovery"])
def test_a_path_with_the_ending_is_the_file(name, tmp_path):
    _, make, usual = RESULTS[name]
    path = tmp_path / f"mine{Path(usual).suffix}"
    assert make().save(path) == path and path.is_file()


def test_of_other_files_of_ours_the_content_is_read():
    step = wb.load(OLD / "plan.json")
    assert step.study == "greater-than" and "task" in step.runs
    assert "circuit-workbench/shard" in known_formats()


def test_a_format_that_nothing_reads_is_named_with_those_that_are(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"format": "other/thing"}')
    with pytest.raises(WorkbenchError, match=r"its format is 'other/thing'; known formats are .*/circuit,"):
        wb.load(path)
    path.write_text("{}")
    with pytest.raises(WorkbenchError, match="does not say its format; known formats are"):
        wb.load(path)
    with pytest.raises(WorkbenchError, match=r"one is a folder\n  hint: name the file: circuit\.json"):
        wb.load(wb.save(small(), tmp_path / "one").parent)
    with pytest.raises(WorkbenchError, match=r"nothing\.json"):
        wb.load(tmp_path / "nothing.json")


def test_what_has_no_file_says_so(tmp_path):
    with pytest.raises(OptionError, match="dict is no result that has a file"):
        wb.save({}, tmp_path / "x.json")
    with pytest.raises(OptionError, match="Summary has no file\n  hint: it has: card, terminal"):
        small().summary()._repr_html_()
        small().summary().to_terminal()
        wb.save(small().summary(), tmp_path / "x.json")


def test_a_format_of_somebody_else_is_two_functions(tmp_path):
    class Note(Shown):
        text = "a note"

    @saves(Note)
    def save_note(note: Note, path: Path) -> Path:
        path.write_text(json.dumps({"format": "notes/note", "text": note.text}))
        return path

    @loads("notes/note")
    def load_note(path: Path) -> Note:
        assert json.loads(path.read_text())["text"] == "a note"
        return Note()

    try:
        assert type(wb.load(wb.save(Note(), tmp_path / "n.json"))) is Note
        assert "notes/note" in known_formats()
    finally:
        LOADERS.remove("notes/note")
