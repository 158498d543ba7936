"""The one mechanism behind every file of ours: typed content, a digest over it, schemas that follow from the model."""

import hashlib
import json
import struct
import subprocess
import sys

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.circuits import TWO, scores, small
from workbench.circuits.effects import Effects
from workbench.circuits.files import load_circuit, load_scores, save_circuit, save_scores
from workbench.circuits.files.effects_file import load_effects, save_effects
from workbench.circuits.files.kinds import KINDS, schema_path, schema_text
from workbench.core.errors import ChangedFileWarning, CircuitError, RunError
from workbench.core.file_kind import FileKind
from workbench.core.typed import Direction, Part, typed


class Row(Part):
    name: str
    score: float | None
    sign: Direction = 1


class Table(Part):
    """A small file."""

    rows: list[Row]
    by_name: dict[str, Row] = msgspec.field(default_factory=dict)

    def __post_init__(self):
        if len({row.name for row in self.rows}) < len(self.rows):
            raise ValueError("rows has a name twice")


KIND = FileKind(format="circuit-workbench/small", content=Table, what="a small file")
GOOD = {"rows": [{"name": "a", "score": 1.0}, {"name": "b", "score": None}]}


def effects(patched=((1.0, 2.0), (3.0, 5.0))) -> Effects:
    return Effects(
        labels=("a0.h0", "a0.h1"), patched=np.array(patched), base=np.array([4.0, 6.0]), gap=np.array([2.0, 2.0]),
        direction=1, mode="noising", kind="zero ablation", metric="logit-difference", unit="logits",
        pair_ids=("p0", "p1"),
    )  # fmt: skip


@pytest.mark.parametrize("format", KINDS)
def test_the_schema_that_is_kept_follows_from_the_model(format):
    assert schema_path(format).read_text() == schema_text(format), (
        "python -m workbench.circuits.files.kinds writes it"
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"rows": 3}, "x.json: rows is a number; expected a list"),
        ({"rows": [{"name": 1, "score": 1}]}, "x.json: rows[0].name is a number; expected text"),
        ({"rows": [{"name": "a", "score": True}]}, "x.json: rows[0].score is true; expected a number or null"),
        ({"rows": [{"name": "a", "score": 10**400}]}, "x.json: rows[0].score is too large for a number"),
        ({"rows": [{"name": "a", "score": 1, "sign": 5}]}, "x.json: rows[0].sign is 5; expected -1 or 1"),
        ({"rows": [{"name": "a", "score": 1, "sign": 0.5}]}, "x.json: rows[0].sign is 0.5; expected a whole number"),
        ({"rows": [{"name": "a"}]}, "x.json: rows[0] lacks 'score'"),
        ({"rows": [{"name": "a", "score": 1, "nmae": 2}]}, "x.json: rows[0] has an unknown key 'nmae'"),
        ({"by_name": {"k": {"name": "a", "score": 1}, "é": {"name": [], "score": 1}}}, "by_name.é.name is a list"),
        ({"rows": [{"name": "a", "score": 1}] * 2}, "x.json: rows has a name twice"),
        ({"colour": 1}, "x.json has an unknown key 'colour'"),
    ],
)  # fmt: skip
def test_each_mistake_is_named_by_place_finding_and_expectation(change, says):
    with pytest.raises(RunError) as caught:
        typed({**GOOD, **change}, Table, where="x.json", error=RunError)
    assert says in caught.value.message


def test_a_near_miss_of_a_key_is_suggested():
    with pytest.raises(RunError) as caught:
        typed({"rows": [], "by_nmae": {}}, Table, where="x", error=RunError)
    assert caught.value.hint == "did you mean by_name?"


def test_the_digest_can_be_computed_without_the_library(tmp_path):
    document = json.loads(KIND.save(GOOD, tmp_path / "x.json").read_text())
    says = document.pop("digest")
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(text.encode()).hexdigest() == says and document["version"] == 2


def test_a_change_is_refused_and_another_layout_is_none(tmp_path):
    path = KIND.save(GOOD, tmp_path / "x.json")
    document = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(document.items())), indent=8))
    assert KIND.load(path).origin.state == "as written"
    document["rows"][0]["score"] = 2.0
    path.write_text(json.dumps(document))
    assert KIND.open(path).origin.state == "changed"
    with pytest.raises(RunError, match="was changed since it was written"):
        KIND.load(path)


def test_version_1_is_read_and_named_as_without_a_digest(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"format": KIND.format, "version": 1, **GOOD}))
    opened = KIND.load(path)
    assert opened.origin.state == "no digest" and "has no digest" in opened.origin.notes[0]
    path.write_text(json.dumps({"format": KIND.format, "version": 2, **GOOD}))
    with pytest.raises(RunError, match="lacks 'digest'"):
        KIND.load(path)


def test_what_could_not_be_read_is_not_written(tmp_path):
    with pytest.raises(RunError, match="score is text"):
        KIND.save({"rows": [{"name": "a", "score": "1"}]}, tmp_path / "x.json")
    assert not list(tmp_path.iterdir())


def test_a_circuit_changed_by_hand_is_read_with_a_warning_every_time(tmp_path):
    path = save_circuit(small(), tmp_path)
    path.write_text(path.read_text().replace('"score": 0.5', '"score": 0.25'))
    for _ in range(2):
        with pytest.warns(ChangedFileWarning, match="its digest says"):
            changed = load_circuit(path)
    assert changed.edges["input->a0.h0<q>"] == 0.25 and "was changed" in changed.notes[0]
    assert load_circuit(save_circuit(changed, tmp_path / "again")).notes == ()


def test_a_circuit_of_version_1_says_so(tmp_path):
    document = {k: v for k, v in small().to_dict().items() if k != "digest"} | {"version": 1}
    path = tmp_path / "circuit.json"
    path.write_text(json.dumps(document))
    made = load_circuit(path)
    assert made.edges == small().edges and "version 1" in made.notes[0]


def of_parquet(path, change):
    """The table with one thing of its own metadata changed."""
    table = pq.read_table(path)
    document = json.loads(table.schema.metadata[b"circuit-workbench"])
    change(document)
    meta = {**table.schema.metadata, b"circuit-workbench": json.dumps(document).encode()}
    pq.write_table(table.replace_schema_metadata(meta), path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("direction", value) for value in (5, 0.5, -1, True)),
        *(("base", value) for value in (True, [4.0], [4.0, 7.0], [4.0, "x"])),
        *(("gap", value) for value in ([1.0], None)),
        *(("pair_ids", value) for value in (["x"], ["p1", "p0"], [1, 2])),
        *(("mode", value) for value in ("denoising", "no")),
        *(("unit", value) for value in ("nats", None)),
        *(("provenance", value) for value in ({"seed": 1}, [])),
        ("colour", "red"),
    ],
)
def test_a_table_of_effects_with_one_changed_field_is_refused(field, value, tmp_path):
    path = save_effects(effects(), tmp_path)
    assert load_effects(path).notes == ()
    of_parquet(path, lambda document: document.update({field: value}))
    with pytest.raises(RunError, match=r"effects\.parquet"):
        load_effects(path)


def test_a_table_with_one_changed_number_is_refused_and_names_the_column(tmp_path):
    path = save_effects(effects(), tmp_path)
    document = pq.read_table(path).schema.metadata[b"circuit-workbench"]
    other = pq.read_table(save_effects(effects(((1.0, 2.0), (3.0, 5.5))), tmp_path / "other"))
    meta = {**other.schema.metadata, b"circuit-workbench": document}
    pq.write_table(other.replace_schema_metadata(meta), path)
    with pytest.raises(RunError, match="effect, patched, per_pair, share has other values"):
        load_effects(path)


def test_a_direction_turned_round_in_a_table_of_version_1_is_seen_in_its_means(tmp_path):
    path = save_effects(effects(), tmp_path)

    def first_edition(document):
        document.pop("digest")
        document.pop("blocks")
        document["version"] = 1

    of_parquet(path, first_edition)
    assert "version 1" in load_effects(path).notes[0]
    of_parquet(path, lambda document: document.update(direction=-1))
    with pytest.raises(RunError, match="its values per pair give"):
        load_effects(path)


def test_a_bit_flipped_in_scores_is_seen(tmp_path):
    path = save_scores(scores(TWO, level="node"), tmp_path)
    whole = path.read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    for at in range(8 + length, len(whole), 5):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(CircuitError, match="values has other values"):
            load_scores(path)
    header = whole[8 : 8 + length].replace(b'\\"eap\\"', b'\\"eaq\\"')
    path.write_bytes(whole[:8] + header + whole[8 + length :])
    with pytest.raises(CircuitError, match="was changed since it was written"):
        load_scores(path)


def test_models_forbid_what_they_do_not_know():
    def parts(cls):
        return [cls, *(p for sub in cls.__subclasses__() for p in parts(sub))]

    assert all(
        msgspec.inspect.type_info(part).cls.__struct_config__.forbid_unknown_fields for part in parts(Part)
    )


def test_kinds_of_files_are_known_without_torch():
    code = f"import sys\nfrom workbench.circuits.files.kinds import kind_of\nfor f in {sorted(KINDS)!r}: kind_of(f)\n"
    code += (
        "loaded = {'torch', 'transformers', 'transformer_lens'} & set(sys.modules)\nassert not loaded, loaded"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
