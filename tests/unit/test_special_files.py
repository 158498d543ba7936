"""Pipes, devices, sockets, links and names that no file can have: named, never waited for, never replaced."""

from __future__ import annotations

import io
import os
import select
import socket
import stat
import threading
import tracemalloc
from pathlib import Path

import pytest

from workbench.circuits.files import load_circuit, load_scores
from workbench.circuits.files.effects_file import load_effects
from workbench.circuits.files.evaluation_file import load_evaluation
from workbench.circuits.files.folder import find_circuits
from workbench.core.atomic import write_atomic, write_output
from workbench.core.bounds import expanded, open_regular, read_bytes, require_regular
from workbench.core.errors import CircuitError, OptionError, RunError, TaskError, WorkbenchError
from workbench.core.lock import holder, locked
from workbench.core.run_file import load_record, recording
from workbench.core.run_record import RunRecord
from workbench.engine.metrics import get_metric
from workbench.engine.store import SweepStore, drop_parts
from workbench.tasks import pairs_file
from workbench.tasks.importers import import_pairs
from workbench.tasks.pairs_file import load_pairs

READERS = {
    "circuit.json": load_circuit,
    "scores.safetensors": load_scores,
    "effects.parquet": load_effects,
    "run.json": load_record,
    "evaluation.json": load_evaluation,
    "pairs.jsonl": load_pairs,
    "pairs.csv": lambda path: import_pairs("eap-ig", path),
    "metric.py": lambda path: get_metric(f"{path}:f"),
}


@pytest.fixture(params=["a pipe", "a socket", "a device"])
def special(request, tmp_path, monkeypatch):
    """Puts something that is no file under a name in an empty folder; gives its kind and its path."""
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    kept = []

    def put(name):
        if request.param == "a pipe":
            os.mkfifo(name)
        elif request.param == "a socket":
            kept.append(socket.socket(socket.AF_UNIX))
            kept[-1].bind(name)
        else:
            try:
                os.mknod(name, stat.S_IFCHR | 0o666, os.makedev(1, 3))
            except PermissionError:
                pytest.skip("only root makes devices")
        return request.param, Path(name)

    yield put
    for opened in kept:
        opened.close()


@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_is_refused_by_its_kind(name, special):
    kind, path = special(name)
    with pytest.raises(WorkbenchError, match=f"is {kind}; a regular file is expected"):
        READERS[name](path)


def test_a_folder_with_a_special_file_is_listed_with_the_reason(special, tmp_path):
    kind, _ = special("circuit.json")
    (found,) = find_circuits(tmp_path)
    assert f"is {kind}" in found.problem


def test_no_file_of_a_run_takes_the_place_of_a_device(special):
    kind, path = special("run.json")
    before = path.lstat()
    with pytest.raises(RunError, match=f"is {kind}; a regular file belongs there"):
        write_atomic(path, "text")
    assert os.path.samestat(path.lstat(), before)


def test_a_lock_that_is_no_file_is_refused_and_held_by_nobody(special, tmp_path):
    kind, _ = special(".lock")
    assert holder(tmp_path) is None
    with pytest.raises(RunError, match=f"is {kind}"), locked(tmp_path):
        pass


def test_a_device_takes_what_is_written_and_stays():
    before = os.stat("/dev/null")
    write_output("/dev/null", "text")
    assert os.path.samestat(os.stat("/dev/null"), before)


def test_a_pipe_takes_what_is_written_if_somebody_reads(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(RunError, match="a pipe that nobody reads"):
        write_output(path, "text")
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    text = "x" * 300_000  # more than a pipe holds
    writer = threading.Thread(target=write_output, args=(path, text), daemon=True)
    writer.start()
    got = b""
    while len(got) < len(text):
        if select.select([handle], [], [], 20)[0]:
            got += os.read(handle, 1 << 16)  # empty until the writer has opened it
    writer.join(20)
    os.close(handle)
    assert got.decode() == text and stat.S_ISFIFO(path.lstat().st_mode)


def test_nothing_is_written_to_a_socket(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind("s")
        with pytest.raises(RunError, match="is a socket"):
            write_output("s", "text")


def test_a_link_that_the_user_names_is_followed_and_stays(tmp_path):
    target, link = tmp_path / "target.txt", tmp_path / "link.txt"
    target.write_text("old")
    link.symlink_to(target.name)
    write_output(link, "new")
    assert link.is_symlink() and target.read_text() == "new" and not target.is_symlink()
    (tmp_path / "new.txt").symlink_to("made.txt")
    write_output(tmp_path / "new.txt", "first")
    assert (tmp_path / "made.txt").read_text() == "first"
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(RunError, match="cannot write"):
        write_output(tmp_path / "loop", "x")


def test_a_link_in_the_folder_of_a_run_is_not_followed(tmp_path):
    """Somebody else's folder must not lead what we write to the user's own files."""
    own = tmp_path / "own.txt"
    own.write_text("mine")
    (tmp_path / "run.json").symlink_to(own)
    write_atomic(tmp_path / "run.json", "{}")
    assert own.read_text() == "mine" and not (tmp_path / "run.json").is_symlink()


@pytest.mark.parametrize("part", ["shards", "tables", "cells"])
def test_parts_of_a_run_are_not_somewhere_else(part, tmp_path):
    own, run = tmp_path / "own", tmp_path / "run"
    own.mkdir()
    (own / "thesis.txt").write_text("mine")
    run.mkdir()
    (run / part).symlink_to(own)
    with pytest.raises(RunError, match="is a link to"), recording(RunRecord(command="x", arguments={}), run):
        pass
    if part == "shards":
        with pytest.raises(RunError, match="is a link to"), SweepStore(run, {}, resume=True):
            pass
        with pytest.raises(RunError, match="is a link to"):
            drop_parts(run)
    assert [p.name for p in own.iterdir()] == ["thesis.txt"]


LONG = "n" * 300


@pytest.mark.parametrize("name", [LONG, f"{LONG}/x.json", "a\0b", f"{LONG}.jsonl"])
def test_names_that_no_file_can_have_are_explained(name, tmp_path):
    for read in READERS.values():
        with pytest.raises(WorkbenchError):
            read(tmp_path / name)
    for writer in (write_atomic, write_output):
        with pytest.raises(RunError, match="cannot write"):
            writer(tmp_path / name, "x")


def test_a_name_of_255_bytes_can_be_written(tmp_path):
    name = "é" * 127 + "x"  # 255 bytes
    assert write_atomic(tmp_path / name, "text").read_text() == "text"


def test_a_user_that_does_not_exist_is_named():
    with pytest.raises(RunError, match="there is no user 'nosuchuser'"):
        expanded("~nosuchuser/x")
    with pytest.raises(OptionError, match="there is no user 'nosuchuser'"):
        get_metric("~nosuchuser/metric.py:f")


def test_sizes_are_known_before_anything_is_read(tmp_path):
    path = tmp_path / "large"
    with path.open("wb") as sparse:
        sparse.truncate(10**12)
    for read in (require_regular, read_bytes):
        with pytest.raises(TaskError, match="has 1000 GB, more than the 5 MB that are read"):
            read(path, most_bytes=5_000_000, error=TaskError)
    with pytest.raises(CircuitError, match="1000 GB"):
        load_circuit(path)
    with pytest.raises(RunError), open_regular(tmp_path / "missing"):
        pass


def test_reading_sets_aside_what_a_file_has_and_not_what_it_may_have(tmp_path):
    """On a cluster with ``ulimit -v`` the most that is read, 16 GB, may be more than there is."""
    path = tmp_path / "small"
    path.write_bytes(b"x" * 1000)
    tracemalloc.start()
    assert read_bytes(path, most_bytes=16_000_000_000) == b"x" * 1000
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    assert read_bytes(Path("/proc/self/status"), most_bytes=1_000_000).startswith(b"Name:")  # it has no size


def test_what_a_killed_run_was_writing_is_removed_when_it_starts_again(tmp_path):
    for name in (
        ".run.json.abcdefgh.tmp",
        "cells/.c.json.abcdefgh.tmp",
        "pictures/.p.svg.abcdefgh.tmp",
        "cells/c.json",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("half")
    with recording(RunRecord(command="bench discovery", arguments={}), tmp_path):
        assert [p.name for p in tmp_path.rglob("*.tmp")] == []
    assert (tmp_path / "cells" / "c.json").read_text() == "half"


def test_standard_output_is_no_folder_and_no_file_by_accident(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match="a folder is expected"), locked("-"):
        pass
    with pytest.raises(RunError, match="a file is expected here"):
        write_output("-", "text")
    assert not list(tmp_path.iterdir())


def test_what_stands_where_a_folder_is_needed_is_named(special):
    kind, path = special("out")
    with pytest.raises(RunError, match=f"out is {kind}; a folder is expected"), locked(path):
        pass


def endless(line):
    """A stream that never ends, as of a pipe."""

    class Endless(io.RawIOBase):
        def readable(self):
            return True

        def readinto(self, into):
            block = (line * (len(into) // len(line) + 1))[: len(into)]
            into[:] = block
            return len(into)

    return io.BufferedReader(Endless())


@pytest.mark.parametrize("line", [b"1\n", b"\0" * 64, b'{"clean": "a"}\n', b"\n"])
def test_a_stream_that_never_ends_is_given_up(line, monkeypatch):
    monkeypatch.setattr(pairs_file, "MAX_BYTES", 3_000_000)
    found = pairs_file.scan_stream(endless(line), "-")
    assert not len(found.pairs) and 0 < len(found.problems) <= pairs_file.MAX_PROBLEMS + 10


def test_short_rows_of_a_wide_table_do_not_become_gigabytes(tmp_path):
    path = tmp_path / "wide.csv"
    path.write_text(",".join(f"c{i}" for i in range(50_000)) + "\n" + "1\n" * 50_000)
    with pytest.raises(TaskError, match="50,000 columns, and rows of fewer cells"):
        import_pairs("eap-ig", path)
