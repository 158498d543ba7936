"""What was asked, with what, and what came out: written next to every result."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("circuit-workbench", "torch", "transformers", "transformer-lens", "networkx", "numpy")


def digest_of(content: Any) -> str:
    """First 16 hex digits of the SHA-256 of canonical JSON."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide numbers; nothing is imported for it."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def code_versions() -> dict[str, str]:
    """Versions of what computes: parts of one table must not come from two of them."""
    return {
        name: versions()[name] for name in ("circuit-workbench", "torch", "transformers", "transformer-lens")
    }


def git_state(folder: Path | None = None) -> dict[str, Any]:
    """Commit and dirty flag of the checkout that the code runs from; empty outside a checkout."""
    folder = folder or Path(__file__).resolve().parent.parent
    if not (folder / ".git").exists():
        return {}

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=folder, capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return {}


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, in MB (10^6 bytes)."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


@dataclass
class RunRecord:
    """The ``run.json`` of one run. ``finish`` fills in status, duration and peak memory."""

    command: str
    arguments: Mapping[str, Any]
    model: Mapping[str, Any] = field(default_factory=dict)
    pairs: Mapping[str, Any] = field(default_factory=dict)
    status: str = "running"
    started: float = field(default_factory=time.time)
    seconds: float | None = None
    peak_memory_mb: float | None = None
    error: str = ""
    outputs: dict[str, str] = field(default_factory=dict)

    def finish(self, status: str = "done", *, error: str = "") -> RunRecord:
        """Mark it ended, now."""
        self.status, self.error = status, error
        self.seconds, self.peak_memory_mb = round(time.time() - self.started, 3), round(peak_memory_mb(), 1)
        return self

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": "circuit-workbench/run",
            "version": 1,
            "command": self.command,
            "arguments": dict(self.arguments),
            "model": dict(self.model),
            "pairs": dict(self.pairs),
            "status": self.status,
            "error": self.error,
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.started)),
            "seconds": self.seconds,
            "peak_memory_mb": self.peak_memory_mb,
            "outputs": dict(self.outputs),
            "versions": versions(),
            "git": git_state(),
            "threads": os.environ.get("OMP_NUM_THREADS", ""),
        }

    def write(self, folder: Path) -> Path:
        """Write ``run.json`` atomically."""
        from workbench.io.atomic import write_atomic

        path = Path(folder) / "run.json"
        write_atomic(path, json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n")
        return path
