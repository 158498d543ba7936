"""The record of a run: question, model, prompts, versions, files that came out. It lies beside every result."""

from __future__ import annotations

import calendar
import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from workbench.core.plugins import in_use
from workbench.core.show import Shown

PACKAGES = ("circuit-workbench", "torch", "transformers", "transformer-lens", "networkx", "numpy")
NAME = "run.json"
TIME = "%Y-%m-%dT%H:%M:%SZ"


def canonical_json(content: Any) -> str:
    """Return the one spelling of a JSON value that digests are taken of: sorted keys, no spaces, ASCII."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


# looking must neither take the lock of somebody's index nor start a program that a configuration names
_GIT = ("--no-optional-locks", "-c", "core.fsmonitor=false")


def digest_of(content: Any) -> str:
    """Return first 16 hex digits of the SHA-256 of canonical JSON."""
    return hashlib.sha256(canonical_json(content).encode("ascii")).hexdigest()[:16]


def measured_on(model: str, provenance: Mapping[str, Any]) -> str:
    """Return a model as titles name it: with what stood on it when it was measured.

    >>> measured_on("gpt2", {"standing": ["1 hook of yours at blocks.2.attn.hook_out"]})
    'gpt2 with 1 hook of yours at blocks.2.attn.hook_out'
    """
    said = with_standing(provenance)
    return f"{model or 'the model'}{said}" if said else model


def with_standing(provenance: Mapping[str, Any]) -> str:
    """Say what stood on a model when something was measured, and how prompts became tokens where that was not as
    usual, as the end of a title; empty where there is nothing to say.

    >>> with_standing({"chat": True, "bos": "off"})
    ' with prompts in its chat template; no token that starts a prompt'
    """
    said = [str(one) for one in provenance.get("standing") or ()]
    said += ["prompts in its chat template"] if provenance.get("chat") else []
    bos = {"on": "a token that starts a prompt", "off": "no token that starts a prompt"}
    said += [bos[word] for word in (provenance.get("bos"),) if word in bos]
    return f" with {'; '.join(said)}" if said else ""


def versions() -> dict[str, str]:
    """Return versions of Python and of the packages that decide numbers; nothing is imported for it."""
    found = {"python": platform.python_version()}
    return found | {package: package_version(package) for package in PACKAGES}


@cache
def package_version(package: str) -> str:
    try:
        return version(package)  # reads and parses the package's metadata: 5 ms each
    except PackageNotFoundError:
        return "not installed"


def code_versions() -> dict[str, str]:
    """Return versions of what computes: parts of one table must not come from two of them."""
    return {
        name: versions()[name] for name in ("circuit-workbench", "torch", "transformers", "transformer-lens")
    }


def git_state(folder: Path | None = None) -> dict[str, Any]:
    """Commit and dirty flag of the checkout that the code runs from; empty outside a checkout."""
    folder = folder or Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return {}

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *_GIT, *words], cwd=folder, capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return {}


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, in MB (10^6 bytes).

    On Linux from the process's own status: what getrusage says begins at the size of the process that started it.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024 / 1e6
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return psutil.Process().memory_info().peak_wset / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


@dataclass
class RunRecord(Shown, shown_in="workbench.engine.run_folders.show", saved_in="workbench.core.run_file"):
    """The ``run.json`` of one run. ``workbench.core.run_file.recording`` writes it at the start and at the end.

    Attributes:
        status: ``running``, ``done``, ``interrupted`` (Ctrl-C) or ``failed``. A record that says running of a
            folder that no process holds is that of a killed run.
        question: Digest of what decides the numbers, where that is known before they are; another question is
            another run.
        started: Seconds since 1970, for people to read; nothing depends on it.
        seconds: Duration by a clock that never jumps.
        error, hint: Why it failed, and what to do about it.
        outputs: What is where in the folder.
        files: Size and SHA-256 of each of these files, and of every file in folders that are named.
        attempts: Earlier starts in this folder that did not finish.
        behaviors: What the model itself does, by the pairs that it was looked at on; ``Behavior.to_dict``.
        plugins: Whose code ran besides ours: packages with versions, files with digests.
    """

    command: str
    arguments: Mapping[str, Any]
    model: Mapping[str, Any] = field(default_factory=dict)
    pairs: Mapping[str, Any] = field(default_factory=dict)
    status: str = "running"
    question: str = ""
    started: float = field(default_factory=time.time)
    seconds: float | None = None
    peak_memory_mb: float | None = None
    error: str = ""
    hint: str = ""
    outputs: dict[str, str] = field(default_factory=dict)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    attempts: list[dict[str, Any]] = field(default_factory=list)
    behaviors: dict[str, dict[str, Any]] = field(default_factory=dict)
    plugins: list[dict[str, str]] = field(default_factory=in_use)
    versions: dict[str, str] = field(default_factory=versions)
    git: dict[str, Any] = field(default_factory=git_state)
    threads: str = field(default_factory=lambda: os.environ.get("OMP_NUM_THREADS", ""))
    _clock: float = field(default_factory=time.monotonic, repr=False, compare=False)

    def finish(self, status: str = "done", *, error: str = "", hint: str = "") -> RunRecord:
        """Mark it ended, now."""
        self.status, self.error, self.hint = status, error, hint
        self.seconds = round(time.monotonic() - self._clock, 3)
        self.peak_memory_mb = round(peak_memory_mb(), 1)
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return the content of ``run.json``."""
        return {
            "command": self.command,
            "arguments": dict(self.arguments),
            "model": dict(self.model),
            "pairs": dict(self.pairs),
            "status": self.status,
            "question": self.question,
            "error": self.error,
            "hint": self.hint,
            "started": time.strftime(TIME, time.gmtime(self.started)),
            "seconds": self.seconds,
            "peak_memory_mb": self.peak_memory_mb,
            "outputs": dict(self.outputs),
            "files": dict(self.files),
            "attempts": list(self.attempts),
            "behaviors": dict(self.behaviors),
            **({"plugins": list(self.plugins)} if self.plugins else {}),
            "versions": dict(self.versions),
            "git": dict(self.git),
            "threads": self.threads,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RunRecord:
        """Return the record of a document that ``workbench.core.run_file`` has checked."""
        known = {name: value for name, value in data.items() if name != "started"}
        return cls(**known, started=float(calendar.timegm(time.strptime(data["started"], TIME))))

    def write(self, folder: Path) -> Path:
        """Write ``run.json`` atomically."""
        return self.save(folder)
