"""Records of every command, as the first versions wrote them, are run again from the record alone."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.unit.test_commands import BEFORE
from workbench.core.command import COMMANDS
from workbench.core.run_file import load_record
from workbench.core.run_record import RunRecord

# What is smaller than in the record of that command, or stands where the test runs.
SMALL = {
    "ablate": {"reference": None},
    "patch": {"shard": None},
    "path-patch": {},
    "knock-out": {},
    "discover": {"options": {"steps": 1}, "random_draws": 0},
    "evaluate": {"circuit": "zoo:truth-greater", "limit": 4, "full": False, "random_draws": 1},
    "demo": {"limit": 4},
    "heads": {"corpus": [], "limit": 2},
    "edit measure": {"edit": "edit", "beside": [], "limit": 2},
    "attention replace": {"limit": 2},
    "attention mask": {"limit": 2, "controls": 1},
    "reproduce": {"limit": 4, "n_reference": 8},
    "paint": {"steps": 2},
    "bench discovery": {"methods": ["eap"], "truths": ["zoo:truth-greater"], "tasks": [], "n_truth": 4},
}


def test_every_command_is_here_but_the_one_that_takes_a_minute():
    assert {*SMALL, "replicate"} == {name for name, form in COMMANDS.items() if form.declared.keeps}


@pytest.mark.parametrize("name", SMALL)
def test_a_record_of_before_is_run_again(name, run, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # else the bench starts a process for its only model
    if name == "edit measure":
        settings = ["--set", "heads=a0.h0", "--set", "operation=drop", "--set", "keys=0"]
        assert run("edit", "make", "rows", *settings, "-o", "edit")[0] == 0
    record = RunRecord(command=name, arguments={**BEFORE[name], **SMALL[name]}, status="interrupted")
    record.write(tmp_path / "run")
    code, out, err = run("runs", "rerun", "run", "-o", "again", "--json", "-q")
    assert code == 0 and "error" not in json.loads(out), err
    made = [file for file in Path("again").rglob("run.json") if load_record(file).status == "done"]
    assert made and load_record(made[0]).command == name
    shown = json.loads(run("runs", "show", made[0].parent, "--json")[1])
    assert shown["command_line"].startswith(f"workbench {name} ")


def test_a_study_is_a_replication_too(run):
    listed = json.loads(run("replicate", "list", "--json")[1])
    assert {"ioi", "greater-than"} <= {row["name"] for row in listed}
    sizes = ["--set", "limit=4", "--set", "n_reference=8"]
    new = run("replicate", "ioi", "-m", "zoo:ioi", *sizes, "--dry-run", "--json")
    old = run("reproduce", "ioi", "-m", "zoo:ioi", "--limit", 4, "--dry-run", "--json")
    assert new[0] == 0 and json.loads(new[1]) == json.loads(old[1])
    code, _, err = run("replicate", "ioi", "-m", "zoo:ioi", "--set", "limt=4")
    assert code == 1 and "did you mean limit" in err
    code, _, err = run("replicate", "ioi")
    assert code == 2 and "-m gpt2" in err
