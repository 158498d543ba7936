"""Damaged files given to the real command line, each in a process of its own: exit code, output, time and memory."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fuzz.kinds import Kind
from benchmarks.fuzz.worker import GIGABYTE, Verdict

EXITS = (0, 1, 2, 3)
_START = "import sys; from cli.app import main; sys.exit(main())"
_ALLOWED = {"\n", "\t"}


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command line about one kind of file.

    Attributes:
        words: What is typed; ``{}`` in a word stands for the folder of all files.
        kind: The kind of file that is damaged before.
        share: Of all commands, how many are this one, relative to the others.
    """

    words: str
    kind: str
    share: float = 1.0

    def typed(self, root: Path) -> list[str]:
        return [word.replace("{}", str(root)) for word in self.words.split()]


COMMANDS: tuple[Command, ...] = (
    Command(words="circuit show {}/circuit", kind="circuit.json"),
    Command(words="circuit show {}/circuit --json", kind="circuit.json"),
    Command(words="circuit show {}/circuit", kind="evaluation.json"),
    Command(words="circuit summary {}/published/ioi", kind="published circuit"),
    Command(words="circuit validate {}/circuit", kind="circuit.json"),
    Command(words="circuit validate {}/circuit", kind="scores.safetensors"),
    Command(words="circuit list {}/circuit", kind="circuit.json"),
    Command(words="circuit diff {}/circuit {}/published/ioi", kind="published circuit"),
    Command(words="circuit export {}/circuit -f graphml", kind="circuit.json"),
    Command(words="circuit view {}/circuit -o {}/out/page.html", kind="circuit.json"),
    Command(words="circuit import {}/foreign/graph.json -o {}/out/imported", kind="EAP-IG graph"),
    Command(words="runs list {}", kind="run.json"),
    Command(words="runs show {}/sweep", kind="run.json"),
    Command(words="runs show {}/sweep --json", kind="run.json"),
    Command(words="runs diff {}/sweep {}/sweep", kind="effects.parquet"),
    Command(words="runs diff {}/circuit {}/circuit", kind="scores.safetensors"),
    Command(words="runs diff {}/reproduction {}/reproduction --json", kind="study.json"),
    Command(words="runs list {}/sharded", kind="shard.json"),
    Command(words="edit show {}/edit", kind="edit.json"),
    Command(words="edit show {}/edit-with-tensors", kind="edit.safetensors"),
    Command(words="task check {}/pairs/plain.jsonl", kind="pairs, plain"),
    Command(words="task check {}/pairs/header.jsonl --json", kind="pairs, with a header"),
    Command(
        words="task import eap-ig {}/foreign/greater-than.csv -o {}/out/x.jsonl",
        kind="EAP-IG csv, greater-than",
    ),
    Command(words="task import mib {}/foreign/mib.json -o {}/out/x.jsonl", kind="MIB json"),
    Command(
        words="task import auto-circuit {}/foreign/auto-circuit.json -o {}/out/x.jsonl",
        kind="auto-circuit json",
    ),
    Command(words="model show {}/model", kind="config.json", share=0.4),
    Command(words="model show {}/model", kind="model.safetensors", share=0.4),
    Command(words="model show {}/native", kind="tl_native.json", share=0.4),
    Command(words="model show {}/model-bin", kind="pytorch_model.bin", share=0.3),
    Command(
        words="model import {}/checkpoint/weights.pt --config {}/checkpoint/cfg.json -o {}/out/made",
        kind="checkpoint .pt",
        share=0.3,
    ),
    Command(
        words="ablate -m zoo:ioi -t {}/pairs/header.jsonl --dry-run", kind="pairs, with a header", share=0.3
    ),
    Command(words="evaluate {}/circuit --dry-run", kind="circuit.json", share=0.3),
    Command(words="runs resume {}/sweep", kind="plan.json", share=0.3),
)


def counts_of(commands: int) -> list[tuple[Command, int]]:
    """How often each command line is typed."""
    total, so_far, given = sum(c.share for c in COMMANDS), 0.0, []
    for command in COMMANDS:
        before, so_far = so_far, so_far + command.share
        given.append((command, round(commands * so_far / total) - round(commands * before / total)))
    return given


def run_command(
    command: Command, kind: Kind, root: Path, *, numbers: Sequence[int], seed: int, patience: float
):
    """Type a command for files with these numbers; yields number, damaged bytes and verdict."""
    path = kind.path(root)
    good = path.read_bytes()
    usual = _typed(command, root, patience=120.0).seconds
    for number in numbers:
        data = kind.damaged(good, random.Random(f"{seed}/{command.words}/{kind.name}/{number}"))
        path.write_bytes(data)
        try:
            yield number, data, _typed(command, root, patience=usual + patience)
        finally:
            path.write_bytes(good)


def _typed(command: Command, root: Path, *, patience: float) -> Verdict:
    """One process: what it said, how long it took and how much memory it had at most."""
    shutil.rmtree(root / "out", ignore_errors=True)
    out, err = root / "stdout.txt", root / "stderr.txt"
    begun = time.monotonic()
    with out.open("wb") as to, err.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", _START, *command.typed(root)],
            stdin=subprocess.DEVNULL,
            stdout=to,
            stderr=errors,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "120"},
        )
        code, memory = _wait(process, patience)
    seconds = time.monotonic() - begun
    said = out.read_text("utf-8", "replace"), err.read_text("utf-8", "replace")
    outcome, words = _judged(code, *said, memory)
    return Verdict(outcome=outcome, words=f"{command.words}: {words}", seconds=seconds, bytes=memory)


def _wait(process: subprocess.Popen, patience: float) -> tuple[int | None, int]:
    """Exit code, None if it had to be killed, and the most memory it had."""
    until = time.monotonic() + patience
    while True:
        pid, status, used = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode, used.ru_maxrss << 10
        if time.monotonic() > until:
            os.kill(process.pid, signal.SIGKILL)
            _, _, used = os.wait4(process.pid, 0)
            process.returncode = -signal.SIGKILL
            return None, used.ru_maxrss << 10
        time.sleep(0.02)


def _judged(code: int | None, out: str, err: str, memory: int) -> tuple[str, str]:
    last = (err.strip().splitlines() or [""])[-1][:160]
    if code is None:
        return "hang", last
    if memory > GIGABYTE:
        return "over 1 GB", f"{memory >> 20} MB"
    if "Traceback (most recent call last)" in err + out:
        return "another traceback", last
    if code not in EXITS:
        return "process died", f"exit code {code}: {last}"
    strange = sorted({c for c in out + err if (ord(c) < 32 or ord(c) == 127) and c not in _ALLOWED})
    if strange:
        return "read as something else", f"control characters on the terminal: {strange}"
    return f"exit {code}", last
