"""Reading damaged files in a process of its own, which is watched: what became of each, how long, how much memory."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import time
import traceback
import warnings
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.fuzz.kinds import OTHERS, Kind
from benchmarks.fuzz.sameness import difference

GIGABYTE = 1 << 30
GOOD = ("refused", "read as before", "said to be changed", "as the other reader")
FAULTS = ("another traceback", "read as something else", "hang", "over 1 GB", "process died")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of one damaged file: one of ``GOOD`` or ``FAULTS``, and more words about it."""

    outcome: str
    words: str = ""
    seconds: float = 0.0
    bytes: int = 0


def judge(kind: Kind, root: Path, before: Any) -> tuple[str, str]:
    """Read a file that lies damaged in its place; says what became of it."""
    from workbench.core.errors import WorkbenchError

    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            found = kind.read(root)
    except WorkbenchError as refusal:
        return "refused", refusal.message
    except BaseException as problem:
        return "another traceback", _last_lines(problem)
    try:
        _show(found)
    except BaseException as problem:
        return "another traceback", f"when shown: {_last_lines(problem)}"
    if kind.check is not None:
        try:
            wrong = kind.check(root, found)
        except Exception as problem:
            wrong = f"the other reader: {type(problem).__name__}: {problem}"[:200]
        if not wrong:
            return "as the other reader", ""
        if kind.family == OTHERS and _is_comparable(found) and not difference(before, found):
            return "read as before", wrong
        return "read as something else", wrong
    wrong = difference(before, found)
    if not wrong:
        return "read as before", ""
    if _was_told(found, [str(w.category.__name__) for w in said]):
        return "said to be changed", wrong
    return "read as something else", wrong


def _is_comparable(found: Any) -> bool:
    """A model is not compared with another object of its class; its tensors are, by the other reader."""
    return not hasattr(found, "original_model")


def _was_told(found: Any, categories: list[str]) -> bool:
    notes = getattr(found, "notes", ())
    return "ChangedFileWarning" in categories or any("digest" in str(note) for note in notes or ())


def _show(found: Any) -> None:
    """Results show themselves in terminals and notebooks; models are left out."""
    if hasattr(found, "original_model"):
        return
    for name in ("__repr__", "to_terminal", "_repr_html_"):
        if hasattr(found, name) and not isinstance(found, type):
            getattr(found, name)()


def _last_lines(problem: BaseException) -> str:
    frames = traceback.extract_tb(problem.__traceback__)[-1:]
    where = f"{Path(frames[0].filename).name}:{frames[0].lineno} {frames[0].name}" if frames else ""
    return f"{type(problem).__name__}: {problem!s:.160} ({where})"


def serve(pipe: Connection, kinds: dict[str, Kind], root: Path, quiet: bool = True) -> None:
    """Answer requests (kind, path of the damaged bytes) until the pipe is closed; runs in the watched process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if quiet:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for handle in (1, 2):
            os.dup2(nowhere, handle)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + 4 * GIGABYTE  # the machine is shared
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    before: dict[str, Any] = {}
    while True:
        try:
            name, data = pipe.recv()
        except EOFError:
            return
        kind = kinds[name]
        path = kind.path(root)
        good = path.read_bytes()
        if name not in before:
            try:
                before[name] = kind.read(root)
            except BaseException as problem:
                pipe.send(f"{name} cannot be read undamaged: {_last_lines(problem)}")
                return
            path.write_bytes(good)
        pipe.send("")
        begun, memory = time.monotonic(), _peak()
        path.write_bytes(data)
        outcome, words = judge(kind, root, before[name])
        seconds, grown = time.monotonic() - begun, _peak() - memory
        path.write_bytes(good)
        if grown > GIGABYTE:
            outcome, words = "over 1 GB", f"{grown >> 20} MB more; {outcome}: {words}"
        pipe.send(Verdict(outcome=outcome, words=words, seconds=seconds, bytes=max(grown, 0)))


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


class Watched:
    """A process that reads damaged files; killed when one takes too long, and started again.

    Args:
        root: The folder of all files, which becomes this process's own.
        patience: Seconds after which reading one file is a hang.
    """

    def __init__(self, kinds: dict[str, Kind], root: Path, *, patience: float = 10.0) -> None:
        self.kinds, self.root, self.patience = kinds, root, patience
        self._good = {name: (kind.path(root), kind.path(root).read_bytes()) for name, kind in kinds.items()}
        self._process: Any = None

    def good(self, name: str) -> bytes:
        """The bytes of the undamaged file."""
        return self._good[name][1]

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop()

    def _start(self) -> None:
        context = multiprocessing.get_context("fork")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, self.kinds, self.root), daemon=True)
        self._process.start()
        theirs.close()
        self._heavy = 0

    def _stop(self) -> None:
        if self._process is not None:
            self._pipe.close()
            self._process.kill()
            self._process.join()
            self._process = None

    def read(self, name: str, data: bytes) -> Verdict:
        """What becomes of the damaged bytes of a file of this kind."""
        if self._process is None:
            self._start()
        self._pipe.send((name, data))
        try:
            # the first time, it was read undamaged as well, and modules were imported
            if unreadable := self._pipe.recv():
                raise RuntimeError(unreadable)
            if not self._pipe.poll(self.patience):
                return self._gone(name, "hang", f"no answer within {self.patience:.0f} s")
            found = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            return self._gone(name, "process died", f"exit code {self._process.exitcode}")
        self._heavy += found.bytes
        if self._heavy > GIGABYTE // 2:  # a high peak would hide the next one
            self._stop()
        if found.outcome in GOOD and found.seconds > self.patience:
            return Verdict(outcome="hang", words=f"{found.seconds:.1f} s; {found.outcome}: {found.words}")
        return found

    def _gone(self, name: str, outcome: str, words: str) -> Verdict:
        self._stop()
        path, data = self._good[name]
        path.write_bytes(data)
        return Verdict(outcome=outcome, words=words)
