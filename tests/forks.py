"""Processes that begin with what others publish imported already: torch and what it brings take seconds in each.

A server of the test's own process imports them once and forks for each process that is asked for. Nothing of this
house is imported before the fork: a process loads the library anew, as any other does. Only a process whose imports,
hash seed or threads a test is about has to be started by ``subprocess``.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
import types
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import IO

import psutil

ROOT = Path(__file__).resolve().parents[1]
NOT_BEFORE = (
    "workbench",
    "cli",
    "benchmarks",
    "matplotlib",
)  # the last reads its backend from the environment
BEFORE = (
    "torch",
    "transformer_lens.model_bridge",
    "transformer_lens.model_bridge.sources.transformers_driver",
    "transformers.models.bert.modeling_bert",
    "transformers.models.gpt2.modeling_gpt2",
    "transformers.models.llama.modeling_llama",
    "transformers.models.clip.modeling_clip",
    "transformers.models.llava.modeling_llava",
    "pandas",
    "pyarrow.parquet",
    "rich.console",
    "rich.table",
    "msgspec.json",
    "ipykernel.kernelapp",
    "ipykernel.ipkernel",
)
_LONGEST = 200_000  # bytes of what is asked, with the environment


class Forked:
    """A forked process; it is asked, read and ended as one of ``subprocess`` is."""

    stdin = None

    def __init__(
        self,
        words: Sequence[str],
        *,
        cwd: Path | str = ROOT,
        env: Mapping[str, str] | None = None,
        stdout: int = subprocess.DEVNULL,
        stderr: int = subprocess.DEVNULL,
    ) -> None:
        self.returncode: int | None = None
        self.stdout, out = _end_of(stdout)
        self.stderr, err = _end_of(stderr)
        asked = [*map(str, words)], str(cwd), dict(os.environ if env is None else env)
        self.pid: int = _ask(["start", *asked], [out, err])
        os.close(out), os.close(err)

    def poll(self) -> int | None:
        """The exit code, negative after a signal, or None while it runs."""
        if self.returncode is None:
            self.returncode = _ask(["poll", self.pid])
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        end = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired(f"forked process {self.pid}", timeout or 0)
            time.sleep(0.01)
        assert self.returncode is not None
        return self.returncode

    def communicate(self) -> tuple[str, str]:
        """Read what it prints until it ends, both streams at a time: a full one would hold it up."""

        def read(stream: IO[str] | None) -> str:
            if stream is None:
                return ""
            with stream:
                return stream.read()

        with ThreadPoolExecutor(2) as both:
            out, err = both.map(read, (self.stdout, self.stderr))
        self.wait()
        return out, err

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start(
    words: Sequence[str],
    *,
    cwd: Path | str = ROOT,
    env: Mapping[str, str] | None = None,
    stdout: int = subprocess.DEVNULL,
    stderr: int = subprocess.DEVNULL,
) -> Forked | subprocess.Popen[str]:
    """Start ``python WORDS``, which are ``-m MODULE ...`` or ``-c CODE ...``, forked where that is possible.

    Args:
        stdout, stderr: ``subprocess.PIPE`` to read it as text; else nobody hears it.
    """
    if sys.platform == "linux":
        return Forked(words, cwd=cwd, env=env, stdout=stdout, stderr=stderr)
    line = [sys.executable, *map(str, words)]
    return subprocess.Popen(line, cwd=cwd, env=env, stdout=stdout, stderr=stderr, text=True)


def run(words: Sequence[str], **how) -> subprocess.CompletedProcess[str]:
    """Start ``python WORDS`` and wait until it has ended; what it prints is kept."""
    process = start(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **how)
    out, err = process.communicate()
    return subprocess.CompletedProcess([*words], process.returncode, out, err)


def _end_of(asked: int) -> tuple[IO[str] | None, int]:
    """Our end of a stream, if there is one to read, and the descriptor of theirs."""
    if asked != subprocess.PIPE:
        return None, os.open(os.devnull, os.O_WRONLY)
    ours, theirs = os.pipe()
    return os.fdopen(ours), theirs


@cache
def _server() -> tuple[socket.socket, psutil.Process]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.forks", str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        env={**os.environ, "PYTHONPATH": path},
    )
    theirs.close()
    return ours, psutil.Process(process.pid)


def _ask(asked: list, streams: Sequence[int] = ()):
    to, _ = _server()
    socket.send_fds(to, [json.dumps(asked).encode()], list(streams))
    said = to.recv(_LONGEST)
    assert said, "the server of forked processes has ended: python -m tests.forks says why"
    return json.loads(said)


def spent() -> float:
    """Processor seconds of the server and of the processes that it has seen end."""
    if not _server.cache_info().currsize:
        return 0.0
    times = _server()[1].cpu_times()
    return times.user + times.system + times.children_user + times.children_system


def _serve(to: socket.socket) -> tuple[list[str], str, dict[str, str], list[int]]:
    """Fork and tell what became of the forked ones. Returns in each of those, with what it is asked to be."""
    alive: set[int] = set()
    while True:
        said, streams, _, _ = socket.recv_fds(to, _LONGEST, 2)
        if not said:  # the tests have ended
            for pid in alive:
                os.kill(pid, signal.SIGKILL)
            os._exit(0)
        kind, *asked = json.loads(said)
        if kind == "start":
            pid = os.fork()
            if not pid:
                to.close()
                return (*asked, streams)
            for stream in streams:
                os.close(stream)
            alive.add(pid)
            to.send(json.dumps(pid).encode())
        else:
            pid, status = os.waitpid(asked[0], os.WNOHANG)
            alive.discard(pid)
            to.send(json.dumps(os.waitstatus_to_exitcode(status) if pid else None).encode())


def main() -> None:
    """Import, wait to be forked, and run what the fork is asked to run."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in BEFORE:
        importlib.import_module(name)
    assert not [name for name in sys.modules if name.partition(".")[0] in NOT_BEFORE]
    gc.freeze()
    words, folder, environment, streams = _serve(socket.socket(fileno=int(sys.argv[1])))
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, stream in enumerate([os.open(os.devnull, os.O_RDONLY), *streams]):
        os.dup2(stream, number)
        os.close(stream)
    # New ones: those of the server know of another file whether it can be rewound.
    sys.stdin = sys.__stdin__ = os.fdopen(0, closefd=False)
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", closefd=False, errors="backslashreplace", buffering=1)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[:0] = ["", *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    how, what, *more = words
    sys.argv = [how, *more]
    if how == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        sys.modules["__main__"] = program = types.ModuleType("__main__")
        exec(what, vars(program))


if __name__ == "__main__":
    main()
