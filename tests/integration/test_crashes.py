"""Real processes killed, starved and raced: every harm of ``benchmarks.crashes``, a few times each."""

from __future__ import annotations

import json
import sys

import pytest

from tests.forks import run

KILLS = 4
pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="forks, mounts, limits")]


@pytest.fixture(scope="module")
def harms() -> dict[str, dict]:
    """What each kind of harm did, by its name; all in one process, which opens its model once."""
    command = ["-m", "benchmarks.crashes", "--kills", str(KILLS), "--seed", "1", "--json"]
    done = run(command)
    assert done.returncode in (0, 3), done.stderr
    return {outcome["harm"]: outcome for outcome in json.loads(done.stdout)}


def test_nothing_that_was_done_to_a_run_changed_a_bit(harms):
    """Every wrong thing that was seen fails here, in its own words."""
    assert {name: outcome["wrong"] for name, outcome in harms.items()} == {name: [] for name in harms}
    assert len(harms) == 11


def test_kills_leave_what_can_be_resumed(harms):
    for name in ("random kills", "kills between write and rename", "kills while a discovery is saved"):
        assert harms[name]["times"] == KILLS
    assert harms["kills between write and rename"]["seen"]["resumed to the same bits"] == KILLS


def test_one_of_four_starts_measures(harms):
    seen = harms["four starts at one moment"]["seen"]
    assert seen["measured"] == 1 and seen["told that another has it"] + seen["found it finished"] == 3


def test_damage_and_limits_are_refused(harms):
    assert harms["flipped bits and cut-off parts"]["seen"]["refused"] == KILLS
    assert harms["limit on the size of files"]["seen"]["refused"] == 4
    if not harms["full disk"]["note"]:
        assert harms["full disk"]["seen"]["refused"] >= 1 and harms["read-only folder"]["times"] == 1


def test_memory_that_runs_out_is_halved(harms):
    """A real limit on the process's memory, so low that stacks do not fit; the table is compared as any other."""
    assert harms["little memory"]["seen"]["halved and finished"] >= 1
