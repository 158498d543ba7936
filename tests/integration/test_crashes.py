"""Real processes killed, starved and raced: every harm of ``benchmarks.crashes``, a few times each."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="forks, mounts, limits")]


def harm(*names: str, kills: int, seed: int = 1) -> dict[str, dict]:
    """Outcomes by harm; every wrong thing it saw fails here, in its own words."""
    command = [
        "-m",
        "benchmarks.crashes",
        "--kills",
        str(kills),
        "--seed",
        str(seed),
        "--json",
        "--only",
        *names,
    ]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 3), done.stderr
    found = json.loads(done.stdout)
    assert [o["wrong"] for o in found] == [[] for _ in names] and done.returncode == 0
    return dict(zip(names, found, strict=True))


def test_kills_races_and_damage_change_no_bit():
    """Wherever it is killed: the rest is whole, the state is told, and a resume gives the undisturbed bits."""
    found = harm("random-kills", "writes", "race", "damage", "moved", "discovery", "clock", kills=6)
    assert found["random-kills"]["times"] == found["writes"]["times"] == found["discovery"]["times"] == 6
    assert found["writes"]["seen"]["resumed to the same bits"] == 6
    assert found["race"]["seen"] == {"measured": 1, "resumed to the same bits": 1} | {
        k: n for k, n in found["race"]["seen"].items() if k.startswith(("told", "found"))
    }
    assert found["damage"]["seen"]["refused"] == 6
    assert found["clock"]["times"] == 4


def test_full_disks_limits_and_forbidden_folders_are_explained():
    """The error says what to do; nothing half is left; with room again the run goes on to the same bits."""
    found = harm("full-disk", "file-limit", "read-only", kills=6)
    assert found["file-limit"]["seen"]["refused"] == found["file-limit"]["times"] == 4
    if not found["full-disk"]["note"]:
        assert found["full-disk"]["seen"]["refused"] >= 1 and found["read-only"]["times"] == 1


def test_memory_that_runs_out_is_halved_and_changes_no_number():
    """A real limit on the process's memory, so low that stacks do not fit."""
    assert harm("memory", kills=1)["memory"]["seen"]["halved and finished"] >= 1
