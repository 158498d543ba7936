"""A few hundred damaged files of the kinds that are quickly read; all kinds: ``python -m benchmarks.fuzz``."""

from __future__ import annotations

import sys

import pytest

from benchmarks.fuzz.__main__ import line, made, read_all
from benchmarks.fuzz.kinds import KINDS, Kind
from benchmarks.fuzz.sameness import difference
from benchmarks.fuzz.worker import Watched
from workbench.core.errors import WorkbenchError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, limits")
NAMES = (
    *(
        "pairs, with a header",
        "pairs, plain",
        "EAP-IG csv, greater-than",
        "EAP-IG csv, sva",
        "EAP-IG csv, hypernymy",
    ),
    *("auto-circuit json", "MIB json", "MIB jsonl", "EAP-IG graph", "text for heads"),
)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Some kinds of files, and a folder with one of each."""
    kinds = [kind for kind in KINDS if kind.name in NAMES]
    return kinds, made(tmp_path_factory.mktemp("fuzz") / "files", kinds)


def test_damaged_files_are_refused_or_read_as_another_reader_reads_them(small):
    kinds, root = small
    tallies = read_all(kinds, root, files=400, seed=0, keep=None, patience=10, say=lambda tally: None)
    assert [line(tally) for tally in tallies if tally.wrong] == []
    assert sum(sum(tally.counts.values()) for tally in tallies) == 400
    assert sum(tally.counts["refused"] for tally in tallies) > 100


def _reading(read) -> Kind:
    return Kind(name="text", family="test", file="foreign/corpus.txt", maker="foreign", read=read)


def test_faults_are_seen(small):
    """Readers with a fault each, so that a count of none means something."""
    _, root = small

    def wrong_type(folder):
        return int((folder / "foreign/corpus.txt").read_bytes().startswith(b"The"))

    def fails(folder):
        if not (folder / "foreign/corpus.txt").read_bytes().startswith(b"The"):
            raise KeyError("no")

    def explains(folder):
        if not (folder / "foreign/corpus.txt").read_bytes().startswith(b"The"):
            raise WorkbenchError("it begins with something else")

    def hangs(folder):
        while not (folder / "foreign/corpus.txt").read_bytes().startswith(b"The"):
            pass

    seen = {}
    for read in (wrong_type, fails, explains, hangs):
        with Watched({"text": _reading(read)}, root, patience=2) as watched:
            seen[read.__name__] = watched.read("text", b"something else").outcome
    assert seen == {
        "wrong_type": "read as something else",
        "fails": "another traceback",
        "explains": "refused",
        "hangs": "hang",
    }


def test_sameness_is_strict_about_truth_values_and_not_about_nan():
    assert difference({"a": [1.0, float("nan")]}, {"a": [1, float("nan")]}) == ""
    assert difference({"a": 1}, {"a": True}) == ".a: 1 and True"
    assert difference({"a": 1}, {"b": 1}) == ": keys ['a', 'b']"
