"""The state of the code is asked for without touching the checkout."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import workbench
from workbench.core import run_record
from workbench.core.run_record import git_state


def git(folder, *words):
    who = ("-c", "user.name=n", "-c", "user.email=e@x")
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


def test_asking_for_the_state_writes_no_index_and_runs_no_program(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "a.txt").write_text("one")
    git(tmp_path, "add", "a.txt")
    git(tmp_path, "commit", "-qm", "first")
    (tmp_path / "watch.sh").write_text(f"#!/bin/sh\ntouch {tmp_path / 'ran'}\n")
    (tmp_path / "watch.sh").chmod(0o755)
    git(tmp_path, "config", "core.fsmonitor", str(tmp_path / "watch.sh"))
    os.utime(
        tmp_path / "a.txt", (1, 1)
    )  # the index no longer knows this file's time: a plain status would refresh it
    index = tmp_path / ".git" / "index"
    before = index.read_bytes()
    (tmp_path / "ran").unlink(missing_ok=True)
    assert git_state(tmp_path)["dirty"] is False
    assert index.read_bytes() == before and not (tmp_path / "ran").exists()


def test_the_checkout_is_the_folder_that_holds_the_package(tmp_path, monkeypatch):
    """The module may move to another room: its folder is counted from where the package stands."""
    inside = Path(run_record.__file__).relative_to(Path(workbench.__file__).parents[1])
    code = tmp_path / inside
    code.parent.mkdir(parents=True)
    code.write_text("one")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    said = ["git", "rev-parse", "HEAD"]
    head = subprocess.run(said, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()
    monkeypatch.setattr(run_record, "__file__", str(code))
    assert git_state() == {"commit": head, "dirty": False} and len(head) == 40
    code.write_text("two")
    assert git_state() == {"commit": head, "dirty": True}


def test_outside_a_checkout_nothing_is_said(tmp_path):
    assert git_state(tmp_path) == {}
