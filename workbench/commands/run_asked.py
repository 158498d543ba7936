"""A command is run; the pages that it writes have the line that repeats it."""

from __future__ import annotations

from typing import Any

from workbench.core.command import Command
from workbench.core.job import Job
from workbench.core.registry import load
from workbench.view.page import repeated_by


def run_asked(asked: Command, job: Job) -> Any:
    """Run a command and return its result; every page that it writes shows the line to type for the same."""
    with repeated_by(lambda: load("workbench.engine.run_folders.command_line:typed_line")(asked)):
        return asked.run(job)
