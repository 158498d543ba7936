"""Files of results: those of version 1 are read and named, every field is checked, no change goes unseen."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.files import rewrite
from workbench.bench.cells import Shelf
from workbench.bench.table import load_bench
from workbench.circuits.files.kinds import kind_of
from workbench.circuits.files.recognise import recognise
from workbench.core.digest import document_digest
from workbench.core.errors import ChangedFileWarning, RunError, WorkbenchError
from workbench.core.file_kind import FileKind
from workbench.core.run_record import digest_of
from workbench.core.strict_json import dump
from workbench.core.typed import as_json
from workbench.edits.file import describe_edit
from workbench.edits.kept_measurement import load_measured
from workbench.engine.run_folders.verification import own_state
from workbench.heads.table import load_portrait
from workbench.papers.kept_result import load_result
from workbench.papers.studies.file import StepContent
from workbench.papers.studies.kinds import StepResult

OLD = Path(__file__).parents[1] / "data" / "v1"  # written by the last commit before version 2
FILES = {
    "replication": OLD / "replication.json",
    "reproduction": OLD / "study.json",
    "reproduction-plan": OLD / "plan.json",
    "reproduction-step": OLD / "steps" / "task.json",
    "portrait": OLD / "portrait.json",
    "edit": OLD / "edit-stack" / "edit.json",
    "measured-edit": OLD / "measured.json",
    "bench-cell": OLD / "cells" / "1baef287b4d6f8be.json",
    "bench-discovery": OLD / "bench.json",
}
# Under these keys any JSON value may stand, or any name.
FREE = ("numbers", "found", "setting", "provenance", "options", "runs", "plan", "code", "rules")


def kind(name: str) -> FileKind:
    return kind_of(f"circuit-workbench/{name}")


def new_version(name: str, folder: Path) -> Path:
    """The same content as version 2 writes it."""
    content = as_json(kind(name).open(FILES[name]).content)
    return kind(name).save(content, folder / "file.json")


def leaves(value: Any, path: tuple = ()) -> Iterator[tuple]:
    if isinstance(value, dict | list) and value:
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(item, (*path, key))
    else:
        yield path


def replaced(value: Any, path: tuple, change: Callable[[Any], Any]) -> Any:
    if not path:
        return change(value)
    copy = list(value) if isinstance(value, list) else dict(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], change)
    return copy


def some(paths: Iterator[tuple], most: int = 120) -> list[tuple]:
    found = list(paths)
    return random.Random(0).sample(found, min(most, len(found)))


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_version_1_is_read_and_named_as_such(name):
    opened = kind(name).load(FILES[name])
    assert opened.origin.state == "no digest" and "is of version 1" in opened.origin.note


@pytest.mark.parametrize("name", FILES)
def test_version_2_holds_the_same_and_comes_back(name, tmp_path):
    path = new_version(name, tmp_path)
    opened = kind(name).load(path)
    assert opened.origin.state == "as written" and json.loads(path.read_text())["version"] == 2
    assert opened.content == kind(name).open(FILES[name]).content


def test_numbers_of_version_1_are_the_numbers_that_are_read():
    def old(name: str) -> dict[str, Any]:
        return json.loads(FILES[name].read_text())

    was, result = old("replication"), kind("replication").load(FILES["replication"]).content
    assert [claim.claim_of().to_dict() for claim in result.claims] == was["claims"]
    for part in ("tables", "numbers", "verdicts", "plan"):
        assert as_json(result)[part] == was[part]
    assert result.pictures == {} and result.pictures_not_read == 1
    bench = load_bench(FILES["bench-discovery"])
    assert {"format", "version", *bench.document} == set(old("bench-discovery"))
    assert all(bench.document[part] == old("bench-discovery")[part] for part in bench.document)
    assert "version 1" in bench.notes[0]
    portrait, was = load_portrait(OLD), old("portrait")
    assert portrait.to_dict()["measurements"] == was["measurements"] and "version 1" in portrait.file_notes[0]
    measured = load_measured(OLD)
    assert list(measured.rows) == old("measured-edit")["rows"] and "version 1" in measured.notes[0]
    shown = describe_edit(FILES["edit"])
    assert shown["edits"] == old("edit")["edits"] and "version 1" in shown["notes"][0]
    step = StepResult.from_dict(old("reproduction-step"))
    assert step.to_dict() == old("reproduction-step")


def test_an_old_replication_is_shown_with_what_is_missing():
    question = kind("replication").load(FILES["replication"]).content.plan
    found = load_result(OLD, digest_of(as_json(question)))
    assert "version 1" in found.notes[0] and "no markup is read" in found.notes[1]
    with pytest.raises(RunError, match="holds another run"):
        load_result(OLD, "another question")


def test_a_cell_is_found_by_what_decides_it_and_no_other(tmp_path):
    (tmp_path / "cells").mkdir()
    decided = json.loads(FILES["bench-cell"].read_text())["decided"]
    shelf = Shelf(tmp_path)
    assert shelf.get(decided) is None
    path = tmp_path / "cells" / FILES["bench-cell"].name
    path.write_bytes(FILES["bench-cell"].read_bytes())
    assert shelf.get(decided)["CPR"] == json.loads(path.read_text())["CPR"]
    other = OLD / "cells" / "c8b088911df96650.json"
    path.write_bytes(other.read_bytes())
    with pytest.raises(RunError, match="file of another cell"):
        shelf.get(decided)


@pytest.mark.parametrize("name", FILES)
def test_a_changed_value_is_told(name, tmp_path):
    path = new_version(name, tmp_path)
    document = json.loads(path.read_text())
    for where in some(leaves(document)):
        change = {"version": 1}.get(where[0], "changed")
        path.write_text(dump(replaced(document, where, lambda v, to=change: to if v != to else 0), where="x"))
        if kind(name).by_hand:
            with pytest.warns(ChangedFileWarning) if readable(name, path) else pytest.raises(WorkbenchError):
                kind(name).load(path)
        else:
            with pytest.raises(WorkbenchError):
                kind(name).load(path)


def readable(name: str, path: Path) -> bool:
    try:
        kind(name).open(path)
    except WorkbenchError:
        return False
    return True


@pytest.mark.parametrize("name", FILES)
def test_a_value_of_another_type_is_named_even_under_a_new_digest(name, tmp_path):
    path = new_version(name, tmp_path)
    document = json.loads(path.read_text())
    checked = [p for p in leaves(document) if not set(p) & {*FREE, "format", "version", "digest"}]
    for where in some(iter(checked)):
        changed = replaced(document, where, lambda v: {"another": "type"} if not isinstance(v, dict) else 5)
        path.write_text(dump({**changed, "digest": document_digest(changed)}, where="x"))
        with pytest.raises(WorkbenchError, match=r"expected|lacks|has an unknown key"):
            kind(name).open(path)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_reads_as_the_same_or_is_told(name, tmp_path):
    path = new_version(name, tmp_path)
    content, whole, rng = kind(name).open(path).content, path.read_bytes(), random.Random(1)
    for _ in range(100):
        at = rng.randrange(len(whole))
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + whole[at + 1 :])
        try:
            opened = kind(name).open(path)
        except WorkbenchError:
            continue
        assert opened.origin.state == "changed" or opened.content == content


def test_verdicts_must_be_those_of_the_claims(tmp_path):
    path = new_version("reproduction", tmp_path)
    verdicts = {"holds": 7, "fails": 0, "cannot be tested here": 0}
    rewrite(path, verdicts=verdicts)
    with pytest.raises(RunError, match="verdicts says"):
        kind("reproduction").open(path)


def test_a_portrait_has_a_number_for_every_head(tmp_path):
    path = new_version("portrait", tmp_path)
    rewrite(path, n_heads=3)
    with pytest.raises(WorkbenchError, match="not 2 layers of 3 heads"):
        kind("portrait").open(path)


def test_a_table_of_heads_is_under_a_digest_too(tmp_path):
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    old = OLD / "heads.parquet"
    assert recognise(old) is kind("heads-table")
    assert kind("heads-table").open(old).origin.state == "no digest"
    path = load_portrait(OLD).to_parquet(tmp_path / "heads.parquet")
    assert recognise(path) is kind("heads-table") and own_state(path) == ("as written", "")
    table = pq.read_table(path)
    column = pc.add(table["induction"], 0.125)
    other = table.set_column(table.column_names.index("induction"), "induction", column)
    pq.write_table(other.replace_schema_metadata(table.schema.metadata), path)
    assert own_state(path)[0] == "changed"


def test_a_step_without_a_name_of_its_format_is_of_version_1(tmp_path):
    old = json.loads(FILES["reproduction-step"].read_text())
    assert set(old) == set(StepContent.__struct_fields__)
    (tmp_path / "x.json").write_text(dump({**old, "extra": 1}, where="x"))
    with pytest.raises(RunError, match="no 'format'"):
        kind("reproduction-step").load(tmp_path / "x.json")
