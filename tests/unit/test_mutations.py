"""Damaged files of ours: none is read as something else without a word. A small one; `benchmarks/fuzz` is the large."""

import copy
import json
import random
import struct
import warnings
from dataclasses import asdict
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.circuits import details, scores, small
from tests.unit.test_file_kind import effects
from workbench.circuits.files import save_circuit, save_scores
from workbench.circuits.files.details_file import save_details
from workbench.circuits.files.effects_file import save_effects
from workbench.circuits.files.kinds import kind_of
from workbench.circuits.files.plan_file import save_plan
from workbench.circuits.files.shard_file import ShardFile
from workbench.circuits.verdicts.criteria import Criteria
from workbench.core.errors import ChangedFileWarning, WorkbenchError
from workbench.core.file_kind import FileKind
from workbench.core.run_file import recording
from workbench.core.run_record import RunRecord

EVALUATION = {
    "circuit": {"digest": "ab", "level": "edge", "method": "eap", "task": "ioi", "model": "m", "size": 2,
                "candidates": 9, "heads": ["a0.h0"], "roles": {"a0.h0": "mover"}},
    "metric": "logit-difference", "unit": "logits", "direction": 1, "ablation": "resample",
    "pairs": {"ids": ["p", "q"], "groups": ["", ""]}, "provenance": {"seed": 0}, "plan": {"draws": 1},
    "criteria": asdict(Criteria()),
    "evidence": {"scores": {n: [1.0, 2.0] for n in ("model", "circuit", "nothing", "complement")}},
    "missing": {"stability": "no pairs"}, "verdicts": [],
}  # fmt: skip
FAITHFULNESS = {
    **dict.fromkeys(("faithfulness", "stderr", "low", "high", "metric_circuit", "metric_full", "metric_empty"), 0.5),
    **dict.fromkeys(("size", "candidates", "n", "n_dropped", "seed"), 3),
    **dict.fromkeys(("metric", "unit", "ablation", "model", "weights", "task", "corruption", "split", "pairs"), "x"),
    "same_weights": True, "random": {"draws": 0},
}  # fmt: skip
CARD = {"name": "tiny", "title": "t", "parameters": 8, "bytes": 100, "measured": {"IOI": 1.0}, "can": ["x"]}


def _record(folder: Path) -> Path:
    record = RunRecord(
        command="ablate", arguments={"model": "zoo:ioi", "limit": 4}, versions={"python": "3"}, git={}
    )
    (folder / "x.txt").write_text("x")
    with recording(record, folder):
        record.outputs["x"] = "x.txt"
    return folder / "run.json"


def _content(name: str, content: dict) -> Path:
    return lambda folder: kind_of(f"circuit-workbench/{name}").save(content, folder / f"{name}.json")


SHARD = ShardFile(index=1, count=2, question="ab", parts=(("a", (2, 3)), ("b", None)), mine=("a",))
MADE = {
    "circuit": lambda folder: save_circuit(small(), folder),
    "scores": lambda folder: save_scores(scores(), folder),
    "effects": lambda folder: save_effects(effects(), folder),
    "run": _record,
    "shard": SHARD.save,
    "plan": lambda folder: save_plan({"of": "ablation", "seed": 0, "code": {"torch": "2"}}, folder),
    "evaluation": _content("evaluation", EVALUATION),
    "faithfulness": _content("faithfulness", FAITHFULNESS),
    "annotations": _content(
        "annotations", {"nodes": {"m1": {"name": "x", "x": 1.5, "y": 2.0}}, "groups": {"a": {}}}
    ),
    "details": lambda folder: save_details(details(small()), folder),
    "model-card": _content("model-card", CARD),
}
ODD = (None, True, -1, 0.5, 10**30, 1e308, "", "x" * 300, "\ud800", [], {}, [[]], {"x": 1}, 5, 2)


def what(kind: FileKind, path: Path) -> object:
    """Everything that a reader gets of a file."""
    opened = kind.load(path)
    values = opened.payload
    if isinstance(values, np.ndarray):
        values = (values.dtype.str, values.shape, values.tobytes())
    elif isinstance(values, pa.Table):
        values = values.to_pydict()
    return msgspec.to_builtins(opened.content), opened.origin.version, repr(values)


def one_byte(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]


def one_field(document: object, rng: random.Random) -> object:
    """A JSON value with one member changed, removed, added or taken twice."""
    document = copy.deepcopy(document)
    holders = [document]
    for value in holders:
        inner = value.values() if isinstance(value, dict) else value
        holders += [x for x in inner if isinstance(x, dict | list)]
    holder = rng.choice([h for h in holders if h])
    key = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    old = holder[key]
    near = (
        [old + 1, -old, float(old)]
        if type(old) in (int, float)
        else [f"{old}x", "a"]
        if isinstance(old, str)
        else []
    )
    way = rng.randrange(4)
    if way == 0:
        del holder[key]
    elif way == 1 and isinstance(holder, list):
        holder.append(old)
    elif way == 2 and near:
        holder[key] = rng.choice(near)
    else:
        holder[key] = rng.choice(ODD)
    return document


def damaged(path: Path, whole: bytes, rng: random.Random) -> None:
    """Write a damaged copy: a flipped bit, a cut, or one field of the document changed."""
    way = rng.random()
    if way < 0.4:
        path.write_bytes(one_byte(whole, rng))
    elif way < 0.5:
        path.write_bytes(whole[: rng.randrange(len(whole))])
    elif path.suffix == ".json":
        path.write_text(json.dumps(one_field(json.loads(whole), rng)))
    elif path.suffix == ".safetensors":
        (length,) = struct.unpack("<Q", whole[:8])
        header = json.loads(whole[8 : 8 + length])
        document = one_field(json.loads(header["__metadata__"]["scores"]), rng)
        header["__metadata__"]["scores"] = json.dumps(document)
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + whole[8 + length :])
    else:
        table = pq.read_table(pa.BufferReader(whole))
        document = one_field(json.loads(table.schema.metadata[b"circuit-workbench"]), rng)
        meta = {**table.schema.metadata, b"circuit-workbench": json.dumps(document).encode()}
        pq.write_table(table.replace_schema_metadata(meta), path)


@pytest.mark.parametrize("name", MADE)
def test_no_damaged_file_is_read_as_something_else_without_a_word(name, tmp_path):
    kind, path = kind_of(f"circuit-workbench/{name}"), Path(MADE[name](tmp_path))
    rng, whole, good = random.Random(name), path.read_bytes(), what(kind, path)
    refused = told = same = 0
    for _ in range(60):
        damaged(path, whole, rng)
        with warnings.catch_warnings(record=True) as said:
            try:
                found = what(kind, path)
            except WorkbenchError as problem:
                assert problem.message
                refused += 1
                continue
        if found == good:
            same += 1
            continue
        assert [w.category for w in said] == [ChangedFileWarning], (name, found)
        told += 1
    assert refused > 30 and (told > 0) == kind.by_hand and refused + told + same == 60
