"""Measuring edits: against values by hand, on tasks and on text; the commands."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import workbench.circuits.files
from cli.app import app
from tests.files import rewrite
from workbench.commands.again import rerun
from workbench.commands.do import do
from workbench.core.errors import OptionError, RunError, TaskError
from workbench.core.run_file import load_record
from workbench.edits.affine import Affine
from workbench.edits.file import load_edit, save_edit
from workbench.edits.kept_measurement import load_measured
from workbench.edits.making import make_edit
from workbench.edits.measure import compare, measure_edit, on_task, on_text, windows_of
from workbench.edits.rows import Rows
from workbench.edits.sinks import (
    Quiz,
    improving,
    solo,
)
from workbench.engine.run_folders.command_line import command_line
from workbench.engine.run_folders.differences import compare_runs
from workbench.engine.run_folders.past_runs import look_at


def test_outcomes_by_hand(runs_of):
    runs = runs_of("gpt2")
    edit = Affine.of(runs.model, ["a1"], a=0.0)
    found = on_task(runs, edit)
    for i in range(runs.n_pairs):
        ids = torch.tensor(runs.pairs.clean[i])[None]
        with edit.on(runs.model), torch.no_grad():
            logits = runs.model(ids)[0, runs.pairs.positions[i]["end"]]
        correct, incorrect = (side[i][0] for side in (runs.pairs.correct, runs.pairs.incorrect))
        assert found["loss"][i] == pytest.approx(float(-logits.log_softmax(-1)[correct]), abs=1e-5)
        assert found["accuracy"][i] == float(logits.argmax() == correct)
        assert found[runs.metric.name][i] == pytest.approx(
            float(logits[correct] - logits[incorrect]), abs=1e-4
        )


def test_an_edit_that_changes_nothing_measures_zero(runs_of):
    runs = runs_of("llama")
    same = Affine.of(runs.model, ["a0"])
    windows = torch.randint(6, 100, (4, 10), generator=torch.Generator().manual_seed(2))
    found = measure_edit(same, runs, beside={"again": runs}, text=windows)
    assert len(found.rows) == 3 + 3 + 2
    assert all(row["difference"] == pytest.approx(0, abs=1e-5) for row in found.rows)
    with pytest.raises(OptionError, match="another"):
        measure_edit(same, runs, beside={"other": runs_of("gpt2")})


def test_text_by_hand(bridge_of):
    model = bridge_of("gpt2")
    windows = torch.randint(6, 100, (3, 9), generator=torch.Generator().manual_seed(2))
    edit = Rows(heads=("a0",), operation="drop", keys=(0,))
    found = on_text(model, windows, edit, skip=4)
    with edit.on(model), torch.no_grad():
        logits = model(windows[1:2])[0]
    nll = torch.nn.functional.cross_entropy(logits[4:8], windows[1, 5:9])
    assert found["loss"][1] == pytest.approx(float(nll), abs=1e-5)
    rows = windows_of(model, " ".join(f"w{i}" for i in range(6, 60)), length=9)
    assert rows.shape == (6, 9) and (rows[:, 0] == 0).all() and rows[1, 1] == 14
    with pytest.raises(OptionError, match="two windows"):
        windows_of(model, "w6 w7", length=9)


def test_rows_of_a_comparison():
    row = compare("here", {"loss": np.array([1.0, 2.0, 3.0])}, {"loss": np.array([1.0, 1.0, 2.0])})[0]
    assert row["difference"] == pytest.approx(-2 / 3) and row["changed"] == 2 and row["n"] == 3
    assert row["low"] <= row["difference"] <= row["high"] and row["unit"] == "nats"


def test_heads_are_chosen_by_what_their_calibration_does():
    """On zoo:ioi the later sinks of a2.h2 carry the docstring task; those of a1.h1 do not."""
    from workbench.engine.of_task import paired_runs
    from workbench.model.open import open_model

    runs = paired_runs(open_model("zoo:ioi"), "docstring", n=60, split="test")
    quiz, how = Quiz(name="docstring", runs=runs), {"alpha": 5.0}
    changes = solo(quiz, ("a1.h1", "a2.h2"), beta=0.4, **how)
    assert changes["a2.h2"].mean() < -0.1 < changes["a1.h1"].mean()
    assert "a2.h2" not in improving(changes)
    assert not solo(quiz, ("a2.h2",), beta=1.0, **how)["a2.h2"].any()  # nothing is taken, nothing changes


def test_edits_from_words():
    edit = make_edit(
        "rows", ["heads=a1.h0,a1.h2", "operation=set", "keys=0,end", "weights=1,3", "queries=-1"]
    )
    assert edit == Rows(
        heads=("a1.h0", "a1.h2"), operation="set", keys=(0, "end"), weights=(1, 3), queries=(-1,)
    )
    assert make_edit("pine", ["documents=[[1,4],[4,6]]"]).documents == ((1, 4), (4, 6))
    for kind, settings, match in (
        ("affine", [], "words"),
        ("rows", ["heads=a1"], "needs operation"),
        ("rows", ["heads=a1", "operation=drop", "key=0"], "no setting"),
        ("rows", ["heads"], "NAME=VALUE"),
        ("calibration", ["heads=a1", "beta=much"], "beta has 'much'"),
    ):
        with pytest.raises(OptionError, match=match):
            make_edit(kind, settings)


def test_the_commands(tmp_path, bridge_of):
    def call(*words):
        done = CliRunner().invoke(app, ["edit", *map(str, words)])
        assert done.exit_code == 0, (done.output, done.exception)
        return done.stdout

    kinds = json.loads(call("list", "--json"))
    assert {row["kind"] for row in kinds} >= {"rows", "affine", "mask", "pine", "calibration", "stack"}
    assert all(row["what"] for row in kinds)
    one, two, both = tmp_path / "one", tmp_path / "two", tmp_path / "both"
    call("make", "rows", "--set", "heads=a1", "--set", "operation=set", "-o", one, "--json")
    save_edit(Affine.of(bridge_of("gpt2"), ["a0.h0"], a=0.0), two)
    call("stack", one, two, "-o", both, "--json")
    assert len(load_edit(both).edits) == 2
    assert json.loads(call("show", two, "--json"))["tensors"] == {"a": [1, 8], "b": [1, 8]}
    words = ("measure", one, "-m", "zoo:induction", "-t", "induction", "-n", "8", "--json", "--quiet")
    rows = json.loads(call(*words))["rows"]
    assert {row["measure"] for row in rows} >= {"accuracy", "loss"} and all(row["n"] == 8 for row in rows)
    accuracy = next(row for row in rows if row["measure"] == "accuracy")
    assert accuracy["with"] < accuracy["without"]  # the induction heads look at everything alike


INDUCTION = {"model": "zoo:induction", "task": "induction", "limit": 8}


@pytest.fixture
def uniform(tmp_path):
    """A saved edit that matters to the induction heads."""
    return save_edit(Rows(heads=("a1",), operation="set"), tmp_path / "uniform")


def test_a_measurement_is_kept_with_its_record(tmp_path, uniform):
    folder, said = tmp_path / "kept", []
    loose = do("edit measure", edit=uniform, **INDUCTION)
    kept = do("edit measure", edit=uniform, **INDUCTION, out=folder, note=said.append)
    assert kept.measured == loose == load_measured(folder)
    schema = json.loads(
        (Path(workbench.circuits.files.__file__).parent / "schema" / "measured-edit.schema.json").read_text()
    )
    jsonschema.validate(json.loads((folder / "measured.json").read_text()), schema)
    record = load_record(folder)
    assert (record.command, record.status, record.outputs) == (
        "edit measure",
        "done",
        {"measured": "measured.json"},
    )
    assert record.arguments["edit"] == str(uniform) and record.pairs["n"] == 8
    before = {p.name: p.read_bytes() for p in folder.iterdir() if p.name != ".lock"}
    assert do("edit measure", edit=uniform, **INDUCTION, out=folder, note=said.append).measured == loose
    assert "already measured" in said[-1]
    for other in ({**INDUCTION, "seed": 1}, {**INDUCTION, "limit": 9}):
        with pytest.raises(RunError, match="another measurement"):
            do("edit measure", edit=uniform, **other, out=folder)
    save_edit(Rows(heads=("a0",), operation="set"), uniform, replace=True)  # the same folder, another edit
    with pytest.raises(RunError, match="another measurement"):
        do("edit measure", edit=uniform, **INDUCTION, out=folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir() if p.name != ".lock"} == before


def test_kept_measurements_are_runs(tmp_path, uniform):
    one, two = tmp_path / "one", tmp_path / "two"
    do("edit measure", edit=uniform, **INDUCTION, out=one)
    found = look_at(one)
    assert (found.state, found.what, found.files()[0]["now"]) == ("finished", "edit measure", "as written")
    do(
        "edit measure",
        edit=save_edit(Rows(heads=("a1.h0",), operation="set"), tmp_path / "less"),
        **INDUCTION,
        out=two,
    )
    line = command_line(load_record(one))
    assert line.startswith(f"workbench edit measure {uniform} -m zoo:induction -t induction ")
    again, result = rerun(one)
    assert again == tmp_path / "one-again" and compare_runs(one, again).identical
    assert result.measured == load_measured(one)
    assert compare_runs(one, one).identical and not compare_runs(one, two).within


def test_a_killed_or_changed_measurement_is_not_shown_as_finished(tmp_path, uniform):
    folder = tmp_path / "kept"
    kept = do("edit measure", edit=uniform, **INDUCTION, out=folder)
    rewrite(folder / "run.json", status="running", files={})
    (folder / "measured.json").write_text("{}")  # never ours: ours is whole or not there
    assert do("edit measure", edit=uniform, **INDUCTION, out=folder).measured == kept.measured
    assert [a["status"] for a in load_record(folder).attempts] == ["killed"]
    with (folder / "measured.json").open("a") as file:
        file.write(" ")
    with pytest.raises(RunError, match="was changed"):
        do("edit measure", edit=uniform, **INDUCTION, out=folder)
    (folder / "run.json").unlink()
    with pytest.raises(RunError, match="another measurement"):
        do("edit measure", edit=uniform, **INDUCTION, out=folder)


def test_names_are_checked_before_the_model_and_one_prompt_has_no_interval(tmp_path, uniform):
    with pytest.raises(TaskError, match="no task called 'indction'"):
        do("edit measure", edit=uniform, model="zoo:nothing", task="indction", out=tmp_path / "none")
    assert not (tmp_path / "none").exists()
    one = do("edit measure", edit=uniform, **{**INDUCTION, "limit": 1}, out=tmp_path / "one")
    assert {row["low"] for row in one.measured.rows} == {None}
