"""The ratchet of type errors: counted by room, more are refused, fewer are told."""

from __future__ import annotations

import json
import sys

import pytest

from tests.type_errors import KNOWN, better, found_errors, per_room, worse

CLEAN = (
    *("core", "view", "circuits", "tasks", "commands", "cli"),
    *("edits", "heads", "methods", "evaluate", "bench"),
)
LINES = [
    "workbench/engine/sweep.py:3: error: wrong  [misc]",
    "workbench/engine/cluster/worker.py:9: error: wrong  [misc]",
    "workbench/__init__.py:1: error: wrong  [misc]",
    "cli/app.py:2: error: wrong  [misc]",
    "cli/app.py:2: note: because",
    "Found 4 errors in 4 files (checked 500 source files)",
]


def test_errors_are_counted_by_room():
    assert per_room(LINES) == {"cli": 1, "engine": 2, "workbench": 1}


def test_more_errors_than_known_are_refused_and_fewer_are_told():
    known = {"engine": 1, "heads": 2}
    assert worse({"engine": 2, "heads": 1}, known) == ["engine: 2 type errors, 1 are known; mend what is new"]
    assert better({"engine": 1}, known) == [
        "heads: 0 type errors, 2 are known; python -m tests.type_errors --write lowers it"
    ]


def test_a_room_that_is_not_written_down_has_none():
    assert worse({"core": 1}, {}) == ["core: 1 type errors, 0 are known; mend what is new"]


def test_rooms_that_are_clean_stay_so():
    known = json.loads(KNOWN.read_text(encoding="utf-8"))
    assert not set(CLEAN) & set(known)


@pytest.mark.slow
@pytest.mark.skipif(
    sys.version_info[:2] != (3, 11), reason="types are checked on the Python of pyproject.toml"
)
def test_no_room_has_more_type_errors_than_are_known():
    assert worse(per_room(found_errors()), json.loads(KNOWN.read_text(encoding="utf-8"))) == []
