"""Run records, locks and leftovers, with tables written by hand and real processes where they matter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from workbench.circuits.effects import Effects
from workbench.circuits.files.effects_file import load_effects, save_effects
from workbench.core.errors import OptionError, RunError
from workbench.core.lock import holder, locked, take
from workbench.core.run_file import load_record, recording
from workbench.core.run_record import RunRecord
from workbench.engine.run_folders.differences import compare_runs
from workbench.engine.run_folders.leftovers import leftovers, tidy
from workbench.engine.run_folders.past_runs import find_runs, look_at

ROOT = Path(__file__).resolve().parents[2]


def table(patched=((1.0, 2.0), (3.0, 5.0)), labels=("a0.h0", "a0.h1")) -> Effects:
    """Two pairs, base 4 and 6: mean effects are the drops, here 3.5 and 1.0."""
    return Effects(
        labels=labels,
        patched=np.array(patched),
        base=np.array([4.0, 6.0]),
        gap=np.array([2.0, 2.0]),
        direction=1,
        mode="noising",
        kind="zero ablation",
        metric="logit-difference",
        unit="logits",
        pair_ids=("p0", "p1"),
    )


def record(**changes) -> RunRecord:
    return RunRecord(**{"command": "ablate", "arguments": {"model": "zoo:ioi", "task": "ioi"}, **changes})


def finished(folder: Path, effects: Effects | None = None, **changes) -> Path:
    """A finished run with two parts that are no longer needed."""
    made = record(**changes)
    with recording(made, folder):
        save_effects(effects or table(), folder)
        made.outputs["effects"] = "effects.parquet"
    (folder / "shards").mkdir(exist_ok=True)
    for key in ("b00000-l000", "b00000-l001"):
        (folder / "shards" / f"{key}.safetensors").write_bytes(b"12345")
    return folder


# -- records ----------------------------------------------------------------------------------------------------


def test_a_record_says_how_a_run_ended(tmp_path):
    with recording(record(), tmp_path / "a"):
        assert load_record(tmp_path / "a").status == "running"
    with pytest.raises(RunError), recording(record(), tmp_path / "b"):
        raise RunError("no room", hint="make room")
    with pytest.raises(ZeroDivisionError), recording(record(), tmp_path / "c"):
        raise ZeroDivisionError("by hand")
    with pytest.raises(KeyboardInterrupt), recording(record(), tmp_path / "d"):
        raise KeyboardInterrupt
    a, b, c, d = (load_record(tmp_path / name) for name in "abcd")
    assert (a.status, b.status, c.status, d.status) == ("done", "failed", "failed", "interrupted")
    assert (b.error, b.hint) == ("no room", "make room") and c.error == "ZeroDivisionError: by hand"
    assert [r.state for r in find_runs([tmp_path])] == ["finished", "failed", "failed", "interrupted"]


def test_a_record_comes_back_as_it_was_written(tmp_path):
    made = record(started=1.7e9, question="abc", pairs={"n": 3}).finish("failed", error="x", hint="y")
    made.write(tmp_path)
    assert load_record(tmp_path).to_dict() == made.to_dict()
    assert made.to_dict()["started"] == "2023-11-14T22:13:20Z"  # 1.7e9 seconds after 1970


def test_records_fit_their_schema(tmp_path):
    schema = json.loads(
        (ROOT / "workbench" / "circuits" / "files" / "schema" / "run.schema.json").read_text()
    )
    record().write(tmp_path)
    finished(tmp_path)  # a second start: with an earlier attempt, outputs and digests
    with pytest.raises(RunError), recording(record(), tmp_path / "failed"):
        raise RunError("no room")
    for folder in (tmp_path, tmp_path / "failed"):
        document = json.loads((folder / "run.json").read_text())
        jsonschema.Draft202012Validator(schema).validate(document)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**document, "status": "fine"}, schema)


def test_a_second_start_remembers_the_first(tmp_path):
    with pytest.raises(RunError), recording(record(), tmp_path):
        raise RunError("first")
    record().write(tmp_path)  # a killed one: running, and nobody there
    with recording(record(), tmp_path):
        pass
    before = load_record(tmp_path).attempts
    assert [a["status"] for a in before] == ["killed"]
    with pytest.raises(RunError), recording(record(), tmp_path / "two"):
        raise RunError("first")
    with recording(record(), tmp_path / "two"):
        pass
    assert [(a["status"], a["error"]) for a in load_record(tmp_path / "two").attempts] == [
        ("failed", "first")
    ]


def test_another_runs_record_is_not_written_over(tmp_path):
    finished(tmp_path, question="one")
    before = (tmp_path / "run.json").read_bytes()
    for other in (record(question="two"), record(command="patch")):
        with pytest.raises(RunError, match="holds another run"), recording(other, tmp_path):
            pass
    assert (tmp_path / "run.json").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"status": "fine"}, "status is 'fine'"),
        ({"version": 3}, "has version 3"),
        ({"format": "x"}, "not a run record"),
        ({"version": 1}, "has a digest, which no file of that version has"),
        ({"seconds": -(10**400)}, "is too large for a number"),
        ({"files": {"x": "y"}}, "files.x is text"),
        ({"outputs": {"effects": {}}}, "outputs.effects is an object"),
        ({"outputs": {"e": "/dev/zero"}}, "neither this folder"),
        ({"seconds": "long"}, "seconds is text"),
        ({"started": "yesterday"}, "no time"),
        ({"colour": "red"}, "unknown key 'colour'"),
        ({"arguments": None}, "arguments is null"),
    ],
)
def test_a_record_that_is_not_ours_is_refused_and_listed_as_such(change, words, tmp_path):
    record().write(tmp_path)
    document = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**document, **change}))
    with pytest.raises(RunError, match=words):
        load_record(tmp_path)
    found = look_at(tmp_path)
    assert found.state == "unreadable" and words.split("'")[0].strip() in found.error
    assert found.to_dict()["record"] is None


@pytest.mark.parametrize("keep", [0, 1, 100, -3])
def test_a_record_that_is_cut_off_is_never_read(keep, tmp_path):
    path = finished(tmp_path) / "run.json"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(RunError):
        load_record(tmp_path)


def test_the_duration_does_not_follow_the_clock(tmp_path, monkeypatch):
    made = record()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 1e9)  # set back by 30 years during the run
    assert 0 <= made.finish().seconds < 100


def test_a_missing_result_is_not_called_finished(tmp_path):
    (finished(tmp_path) / "effects.parquet").unlink()
    assert look_at(tmp_path).state == "incomplete" and "resume" in look_at(tmp_path).next


def test_a_table_with_a_flipped_bit_is_not_read(tmp_path):
    """Anywhere among its values: the checksum of the page says so."""
    path = save_effects(table(np.arange(2000.0).reshape(1000, 2), tuple(map(str, range(1000)))), tmp_path)
    good = path.read_bytes()
    refused = 0
    for place in range(200, 4000, 400):
        bad = bytearray(good)
        bad[place] ^= 4
        path.write_bytes(bad)
        try:
            assert np.array_equal(load_effects(path).patched, np.arange(2000.0).reshape(1000, 2))
        except RunError as problem:
            assert "rm" in problem.hint
            refused += 1
    assert refused >= 8


# -- locks ------------------------------------------------------------------------------------------------------

HOLD = """
import sys, time
from pathlib import Path
from workbench.core.lock import locked
from workbench.core.run_file import recording
from workbench.core.run_record import RunRecord
with locked(sys.argv[1]), recording(RunRecord(command="ablate", arguments={}), sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_killed_run_is_told_from_a_running_one(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline().strip() == "held"
        found = look_at(tmp_path)
        assert (found.state, found.holder, holder(tmp_path)) == ("running", process.pid, process.pid)
        with pytest.raises(RunError, match=rf"another process \({process.pid}\)"), locked(tmp_path):
            pass
        assert leftovers([tmp_path]) == []  # not while it is being written
    finally:
        process.kill()
        process.communicate()
    found = look_at(tmp_path)
    assert found.state == "killed" and found.next == f"workbench runs resume {tmp_path}"
    with locked(tmp_path):
        assert holder(tmp_path) == os.getpid()
    assert holder(tmp_path) is None


def test_a_lock_that_was_removed_while_it_was_waited_for_is_not_a_lock(tmp_path):
    """Whoever opened the old file must not hold it while another holds the new one."""
    first = take(tmp_path)
    (tmp_path / ".lock").unlink()
    second = take(tmp_path)
    with pytest.raises(RunError, match="another process"):
        take(tmp_path)
    second()
    first()


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path):
    target = tmp_path / "precious"
    target.write_text("text")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(target)
    with pytest.raises(RunError, match="a link stands for the lock"):
        take(tmp_path / "run")
    assert target.read_text() == "text"


# -- leftovers --------------------------------------------------------------------------------------------------


def everything(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir()}


def test_clean_takes_leftovers_and_never_a_result(tmp_path):
    run = finished(tmp_path / "runs" / "a")
    (run / ".effects.parquet.a1b2c3d4.tmp").write_bytes(b"half")
    (run / ".lock").write_text("123")
    (run / "my notes.tmp").write_text("mine")
    unfinished = tmp_path / "runs" / "b"
    record().write(unfinished)
    (unfinished / "shards").mkdir()
    (unfinished / "shards" / "b0.safetensors").write_bytes(b"needed to go on")
    before = everything(tmp_path)
    shown = tidy([tmp_path])
    assert not shown.removed and everything(tmp_path) == before
    gone = {"runs/a/.effects.parquet.a1b2c3d4.tmp", "runs/a/.lock"}
    gone |= {f"runs/a/shards/b00000-l00{n}.safetensors" for n in (0, 1)}
    assert {str(x.path.relative_to(tmp_path)) for x in shown.leftovers} == gone
    assert tidy([tmp_path], remove=True).removed
    assert everything(tmp_path) == before - gone and not (run / "shards").exists()
    assert look_at(run).state == "finished" and load_effects(run).labels == ("a0.h0", "a0.h1")
    assert tidy([tmp_path]).leftovers == ()


def test_clean_keeps_the_parts_of_a_table_that_is_not_as_it_was_written(tmp_path):
    run = finished(tmp_path / "a")
    with (run / "effects.parquet").open("ab") as out:
        out.write(b"x")
    assert tidy([tmp_path]).leftovers == ()
    assert look_at(run).files()[0]["now"] == "changed since"


def test_clean_never_leaves_the_folder(tmp_path):
    """Links to folders and files elsewhere: neither followed nor removed."""
    away = tmp_path / "away" / "shards"
    away.mkdir(parents=True)
    (away / "b0.safetensors").write_bytes(b"precious")
    (away / ".x.a1b2c3d4.tmp").write_bytes(b"precious")
    run = finished(tmp_path / "runs" / "a")
    for path in (run / "shards").iterdir():
        path.unlink()
    (run / "shards").rmdir()
    (run / "shards").symlink_to(away)
    (run / ".y.a1b2c3d4.tmp").symlink_to(away / "b0.safetensors")
    (tmp_path / "runs" / "linked").symlink_to(tmp_path / "away")
    before = everything(tmp_path)
    tidy([tmp_path / "runs"], remove=True)
    assert everything(tmp_path) == before and (away / "b0.safetensors").read_bytes() == b"precious"
    assert [r.folder.name for r in find_runs([tmp_path / "runs"])] == ["a"]


# -- differences ------------------------------------------------------------------------------------------------


def test_equal_runs_are_bit_identical(tmp_path):
    a, b = finished(tmp_path / "a"), finished(tmp_path / "b")
    found = compare_runs(a, b)
    assert found.identical and found.within and "bit-identical: all 8 numbers" in found.to_terminal()[0]


def test_what_moved_and_by_how_much(tmp_path):
    """One pair of one row moves by 0.5, from 5 to 4.5: its row's mean effect by 0.25, from 1 to 1.25."""
    a = finished(tmp_path / "a")
    b = finished(tmp_path / "b", table(((1.0, 2.0), (3.0, 4.5))), threads="7")
    found = compare_runs(a, b)
    mean, pairs, base = found.parts
    assert (mean.moved, mean.beyond, mean.max_absolute, mean.max_relative) == (1, 1, 0.25, 0.25 / 1.25)
    assert mean.largest == (("a0.h1", 1.0, 1.25, 0.25),)
    assert pairs.largest == (("a0.h1, p1", 5.0, 4.5, 0.5),) and pairs.max_relative == pytest.approx(0.1)
    assert base.identical and not found.identical and not found.within
    assert ("threads", record().threads, "7") in found.setting
    # 0.5 of max(1, 5) is 0.1 and 0.25 of max(1, 1.25) is 0.2
    assert compare_runs(a, b, tolerance=0.21).within and not compare_runs(a, b, tolerance=0.19).within


def test_rows_of_one_run_only_and_lost_numbers_do_not_pass(tmp_path):
    a = finished(tmp_path / "a")
    b = finished(tmp_path / "b", table(labels=("a0.h0", "a1.h1")))
    found = compare_runs(a, b, tolerance=10)
    assert not found.within and found.parts[0].only_before == ("a0.h1",)
    c = finished(tmp_path / "c", table(((1.0, 2.0), (3.0, float("nan")))))
    moved = compare_runs(a, c, tolerance=10)
    assert not moved.within and moved.parts[1].max_absolute == float("inf")
    assert json.dumps(moved.to_dict(), allow_nan=False)
    assert compare_runs(c, c).identical  # no number is equal to no number


def test_other_results_are_compared_by_their_paths(tmp_path):
    for name, keeps, seconds in (("a", 0.5, 1.0), ("b", 0.75, 9.0)):
        (tmp_path / name).mkdir()
        document = {"faithfulness": keeps, "curve": [1, 2], "holds": True, "seconds": seconds, "role": name}
        (tmp_path / name / "own.json").write_text(json.dumps(document))
    (part,) = compare_runs(tmp_path / "a", tmp_path / "b").parts
    assert part.count == 4 and part.largest == (("faithfulness", 0.5, 0.75, 0.25),)
    assert part.words == (("role", "a", "b"),)


def test_nothing_in_common_is_said(tmp_path):
    run = finished(tmp_path / "a")
    (tmp_path / "b").mkdir()
    with pytest.raises(RunError, match="no results"):
        compare_runs(run, tmp_path / "b")
    (tmp_path / "b" / "own.json").write_text("{}")
    with pytest.raises(RunError, match="nothing to compare"):
        compare_runs(run, tmp_path / "b")
    with pytest.raises(OptionError, match="negative"):
        compare_runs(run, run, tolerance=-1)
