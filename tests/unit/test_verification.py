"""What became of every file of a run since it was written, by its own digest and by the record of the run."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.circuits import scores, small
from tests.files import rewrite
from tests.unit.test_file_kind import effects
from workbench.circuits.files import save_circuit, save_scores, write_atomic
from workbench.circuits.files.effects_file import save_effects
from workbench.core.run_file import load_record, recording
from workbench.core.run_record import RunRecord
from workbench.engine.run_folders.past_runs import find_runs, look_at
from workbench.engine.run_folders.verification import verify
from workbench.engine.store import SweepStore

ODD = [
    {"outputs": {"effects": {}}}, {"outputs": {"e": "x" * 5000}}, {"outputs": {"e": "/dev/zero"}},
    {"outputs": {"e": "a\0b"}}, {"arguments": {"method": [1]}}, {"arguments": {"method": {"a": [None]}, "shard": {}}},
    {"arguments": {"model": {"x": 1}}}, {"files": {"x": "y"}},
    {"files": {"x" * 5000: {"bytes": 1, "sha256": "0" * 64}}}, {"seconds": -(10**400)}, {"seconds": -1},
    {"seconds": True}, {"started": "0000-99-99T99:99:99Z"}, {"command": "x" * 5000}, {"command": ["ablate"]},
    {"versions": {"a": 1}}, {"model": {"name": {"deep": [{}]}}}, {"pairs": {"task": 5, "dropped": "x"}},
    {"attempts": ["x"]}, {"git": None}, {"threads": 8}, {"status": "Running"}, {"digest": None}, {"digest": 5},
    {"version": 10**30},
]  # fmt: skip


@pytest.fixture
def run(tmp_path) -> Path:
    """A finished run with a plan and two parts, a circuit with scores beside it, and a page in a folder of its own."""
    folder = tmp_path / "runs" / "good"
    record = RunRecord(command="ablate", arguments={"model": "zoo:ioi", "task": "ioi"})
    with recording(record, folder):
        with SweepStore(folder, {"of": "ablation"}, resume=False) as store:
            store.put("b0", np.ones(3))
            store.put("b1", np.zeros((2, 2)))
        save_effects(effects(), folder)
        save_circuit(small(), folder)
        save_scores(scores(), folder)
        write_atomic(folder / "pages" / "one.html", "<p>one</p>")
        record.outputs.update(
            effects="effects.parquet", circuit="circuit.json", scores="scores.safetensors", pages="pages"
        )
    return folder


def states(*roots: Path) -> dict[str, str]:
    return {file.path.name: file.state for file in verify(roots).files}


def test_a_run_that_nobody_touched_is_as_written(run):
    found = verify([run.parent])
    assert found.passed and {f.state for f in found.files} == {"as written"} and len(found.files) == 8
    assert set(load_record(run).files) == {
        "effects.parquet",
        "circuit.json",
        "scores.safetensors",
        "pages/one.html",
    }


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    "name", ["run.json", "plan.json", "circuit.json", "effects.parquet", "scores.safetensors", "pages/one.html",
             "shards/b0.safetensors"],
)  # fmt: skip
def test_a_flipped_bit_is_found_wherever_it_is(name, run):
    whole = (run / name).read_bytes()
    for at in range(0, len(whole), max(1, len(whole) // 12)):
        flip(run / name, at)
        found = verify([run])
        assert not found.passed, f"{name}: byte {at} of {len(whole)}"
        wrong = [f.path for f in found.files if f.state in ("changed", "unreadable")]
        parts = {run / "shards" / part for part in ("b0.safetensors", "b1.safetensors")}
        assert run / name in wrong
        assert set(wrong) <= {run / name} | (
            parts if name == "plan.json" else set()
        )  # their digest is over the plan
        (run / name).write_bytes(whole)


def test_missing_added_and_saved_again(run):
    (run / "pages" / "one.html").unlink()
    (run / "mine.txt").write_text("my own notes")
    save_circuit(small(task="other"), run)
    found = {f.path.name: f for f in verify([run]).files}
    assert found["one.html"].state == "missing" and found["mine.txt"].state == "not recorded"
    assert found["circuit.json"].state == "changed" and "saved again" in found["circuit.json"].reason


def test_a_part_under_another_name_is_not_as_written(run):
    shutil.copy(run / "shards" / "b0.safetensors", run / "shards" / "b9.safetensors")
    assert states(run)["b9.safetensors"] == "changed"


def test_a_file_by_itself_proves_itself(run, tmp_path):
    for name in ("circuit.json", "effects.parquet", "scores.safetensors", "run.json"):
        alone = Path(shutil.copy(run / name, tmp_path / name))
        assert states(alone) == {name: "as written"}
    for name in ("circuit.json", "run.json", "scores.safetensors"):
        flip(tmp_path / name, 200)
        assert not verify([tmp_path / name]).passed
    (tmp_path / "x.txt").write_text("")
    assert states(tmp_path / "x.txt") == {"x.txt": "not recorded"}


def test_files_of_version_1_are_named_as_without_a_digest(run):
    def first_edition(name: str, **changes) -> None:
        document = {k: v for k, v in json.loads((run / name).read_text()).items() if k != "digest"}
        (run / name).write_text(json.dumps({**document, "version": 1, **changes}))

    first_edition("circuit.json")
    (run / "plan.json").write_text(json.dumps({"of": "ablation"}))  # in version 1 the plan was the file
    first_edition("run.json", files={})
    found = states(run)
    assert {n for n, s in found.items() if s == "no digest"} == {"circuit.json", "plan.json", "run.json"}
    assert found["b0.safetensors"] == "as written" and verify([run]).passed
    assert look_at(run).state == "finished"


@pytest.mark.parametrize("change", ODD, ids=lambda c: next(iter(c)))
@pytest.mark.parametrize("signed", [False, True], ids=["changed", "with a digest"])
def test_one_bad_record_hides_no_good_one(change, signed, run):
    bad = run.parent / "bad"
    bad.mkdir()
    (bad / "run.json").write_bytes((run / "run.json").read_bytes())
    if signed and "digest" not in change:
        rewrite(bad / "run.json", **change)
    else:
        (bad / "run.json").write_text(json.dumps({**json.loads((run / "run.json").read_text()), **change}))
    rows = {Path(r.folder).name: r.row() for r in find_runs([run.parent])}
    assert rows["good"]["status"] == "finished" and len(json.dumps(rows)) < 10_000
    assert rows["bad"]["status"] in ("unreadable", "changed", "incomplete") and set(rows["bad"]) == set(
        rows["good"]
    )
    assert rows["bad"]["status"] == "incomplete" or str(bad) in rows["bad"]["problem"]
    assert json.dumps(look_at(bad).to_dict()) and look_at(bad).to_terminal()


def test_a_changed_record_is_shown_and_never_run_again(run):
    from workbench.commands.again import rerun, resume
    from workbench.core.errors import RunError

    text = (run / "run.json").read_text()
    (run / "run.json").write_text(text.replace('"task": "ioi"', '"task": "mine.py:all"'))
    assert look_at(run).state == "changed" and look_at(run).record.arguments["task"] == "mine.py:all"
    for again in (resume, rerun):
        with pytest.raises(RunError, match="was changed since it was written"):
            again(run)
