"""``workbench show``: any saved result, by the format that its file names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from workbench.circuits.files.any_result import load
from workbench.core.command import Command, argument, command
from workbench.core.errors import OptionError
from workbench.core.job import Job
from workbench.core.show import Told


@dataclass(frozen=True, kw_only=True)
class LoadedResult(Told):
    """What a file holds."""

    file: Path
    found: Any

    def to_dict(self) -> Any:
        if hasattr(self.found, "to_dict"):
            return self.found.to_dict()
        if isinstance(self.found, msgspec.Struct):
            return msgspec.to_builtins(self.found)
        raise OptionError(
            f"{self.file} holds {type(self.found).__name__}, of which there is no JSON document",
            hint="without --json it is shown; in Python: workbench.load(path)",
        )

    def to_terminal(self) -> list[Any]:
        return [self.to_dict() if isinstance(self.found, msgspec.Struct) else self.found]


@command("show", offers=())
@dataclass(frozen=True, kw_only=True)
class ShowResult(Command):
    """Show any saved result by its file: a circuit, effects, a judgement, a portrait, replications, a run record ...

    Example: workbench show runs/replicate/all.json
    """

    file: Path = argument("A file that says its format, such as all.json of replicate all.")

    def run(self, job: Job) -> LoadedResult:
        return LoadedResult(file=self.file, found=load(self.file))
