"""A small sweep that can be started in a process of its own and killed at any moment; `benchmarks.crashes` does it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

Shift = Callable[[], None]


@dataclass
class Outcome:
    """What one kind of harm did: how often it was done, what was seen, what was wrong (nothing, one hopes)."""

    harm: str
    times: int = 0
    seen: Counter = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    note: str = ""

    def expect(self, claim: bool, words: str) -> None:
        if not claim:
            self.wrong.append(words)


class Sweep:
    """A small sweep on a built-in model with its undisturbed folder; ``start`` runs it in a process of its own."""

    def __init__(self, root: Path, *, pairs: int = 8, batch_tokens: int = 100, hooked: bool = False) -> None:
        """``hooked`` opens the model itself, for harms to its stacks of hooked passes."""
        from workbench.commands.forms.sweep import Ablate
        from workbench.commands.inputs import open_runs, record_of
        from workbench.engine.interventions.ablation import ablations, parts_of
        from workbench.engine.sweep import describe_plan

        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        opening = {"model": "zoo:ioi", "task": "ioi", "limit": pairs, "batch_tokens": batch_tokens}
        self.runs = open_runs(**opening)
        _ = self.runs.model if hooked else None
        self.rows = ablations(parts_of(self.runs.wiring, "heads"), "mean")
        self.kind, asked = "mean ablation", Ablate(parts="heads", ablation="mean", **opening)
        self.plan = describe_plan(self.runs, self.rows, kind=self.kind, mode="noising")
        self.record = lambda: record_of(asked, self.runs)
        _ = self.runs.clean, self.runs.corrupted  # once, for all forks
        self.whole = root / "undisturbed"
        begun = time.monotonic()
        done = self.start(self.whole).wait()
        assert done == "measured", done
        self.seconds = time.monotonic() - begun
        self.files = {p.relative_to(self.whole): p.read_bytes() for p in visible(self.whole)}

    def start(self, folder: Path, *, before: Shift = lambda: None, resume: bool = True) -> Victim:
        """Measure into a folder in a fork; ``before`` runs there first."""

        def work() -> str:
            before()
            return self.keep(folder, resume=resume)

        return Victim(work)

    def keep(self, folder: Path, *, resume: bool = True) -> str:
        from workbench.commands.sweep import keep
        from workbench.engine.sweep import sweep

        measured = []

        def measure(where: Path):
            measured.append(where)
            return sweep(self.runs, self.rows, kind=self.kind, folder=where, resume=resume)

        keep(measure, self.plan, self.record(), folder, resume=resume)
        return "measured" if measured else "already there"

    def look(self, folder: Path) -> tuple[str, list[str]]:
        """The state that a folder is in, and everything about it that must not be."""
        from workbench.core.errors import WorkbenchError
        from workbench.engine.run_folders.past_runs import look_at

        wrong = [
            f"{path.name} is not as in the undisturbed run"
            for path in visible(folder)
            if path.name != "run.json" and self.files.get(path.relative_to(folder)) != path.read_bytes()
        ]
        try:
            state = look_at(folder).state
        except WorkbenchError:  # nothing there yet
            return "nothing", wrong
        if state == "unreadable":
            wrong.append("run.json cannot be read")
        if state == "finished" and {p.relative_to(folder) for p in visible(folder)} != set(self.files):
            wrong.append("called finished without all its files")
        return state, wrong

    def fresh(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.root)) / "run"

    def copied(self, *, without: tuple[str, ...] = ("effects.parquet", "heatmap.svg", "run.json")) -> Path:
        """The undisturbed folder as it was before its table was written."""
        folder = self.fresh()
        shutil.copytree(self.whole, folder)
        for name in without:
            (folder / name).unlink()
        return folder

    def finish(self, folder: Path, outcome: Outcome) -> None:
        """Resume, undisturbed, and compare every file."""
        said = self.start(folder).wait()
        outcome.expect(said in ("measured", "already there"), f"resume said: {said}")
        state, wrong = self.look(folder)
        outcome.wrong += wrong
        outcome.expect(state == "finished", f"after resume it is {state}")
        left = [p.name for p in folder.rglob("*.tmp")]
        outcome.expect(not left, f"left behind: {left}")
        outcome.seen["resumed to the same bits"] += state == "finished" and not wrong


class Victim:
    """Work in a forked process; its last word comes back through a pipe."""

    def __init__(self, work: Callable[[], str]) -> None:
        read, write = os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(read)
            os.write(write, _last_word(work).encode()[:4000])
            os._exit(0)
        os.close(write)
        self._read = read

    def wait(self) -> str:
        """``killed``, or what it said at the end."""
        _, status = os.waitpid(self.pid, 0)
        with os.fdopen(self._read, "rb") as pipe:
            said = pipe.read().decode()
        return "killed" if os.WIFSIGNALED(status) else said

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


def _last_word(work: Callable[[], str]) -> str:
    from workbench.core.errors import WorkbenchError

    try:
        return work()
    except WorkbenchError as problem:
        return f"refused: {problem.message} | {problem.hint}"
    except BaseException as problem:
        return f"{type(problem).__name__}: {problem}"


def visible(folder: Path) -> Iterator[Path]:
    """Files that a reader would open: everything but hidden names."""
    return (p for p in sorted(folder.rglob("*")) if p.is_file() and not p.name.startswith("."))


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path | None]:
    """A small file system of our own; None where mounting is not permitted."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True, check=False).returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def die_at_write(number: int, what: str) -> None:
    """Make the process kill itself at a moment of its n-th atomic write."""
    count = [-1]

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    fdopen, fsync, replace = os.fdopen, os.fsync, os.replace

    class Half:
        def __init__(self, file) -> None:
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *exception) -> None:
            self.file.close()

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, data) -> int:
            count[0] += 1
            if count[0] == number and what == "half":
                self.file.write(data[: len(data) // 2])
                self.file.flush()
                die()
            return self.file.write(data)

    def flushed(handle) -> None:
        if count[0] == number and what == "flush":
            die()
        fsync(handle)

    def renamed(source, target) -> None:
        if count[0] == number and what == "rename":
            die()
        replace(source, target)
        if count[0] == number and what == "renamed":
            die()

    os.fdopen, os.fsync, os.replace = (lambda h, mode: Half(fdopen(h, mode))), flushed, renamed
