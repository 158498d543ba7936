"""How a command is carried out, and the one protocol of what is kept: lock, finished?, record, compute, save."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from workbench.core.lock import locked
from workbench.core.progress import Progress, silent
from workbench.core.run_file import recording
from workbench.core.run_record import RunRecord

Note = Callable[[str], None]
T = TypeVar("T")


def _nothing(folder: Path) -> None:
    """Find nothing, and refuse nothing."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """Where a command writes, whether it goes on with what is there, and who is told.

    None of it decides a number, and none of it is recorded.

    Attributes:
        out: The folder of the run; a folder of its own when None.
        root: Where folders of their own are made; the place that is usual for the command when None.
        resume: Go on with what an earlier start of the very same run left in the folder.
        replace: Write over the answer to another question.
        dry_run: Say what would be done.
        serving: In a worker: what it answers.
        note: Is told what is good to know, and nothing when quiet.
        warn: Is told what must be read, quiet or not.
        show: Shows on a terminal what is known of the result already.
    """

    out: Path | None = None
    root: Path | None = None
    resume: bool = False
    replace: bool = False
    dry_run: bool = False
    serving: Any = None
    progress: Progress | None = None
    note: Note = silent
    warn: Note = silent
    show: Callable[[Any], None] = silent

    def keep(
        self,
        folder: Path,
        record: RunRecord,
        compute: Callable[[Path], T],
        save: Callable[[T, Path], Mapping[str, str]],
        *,
        finished: Callable[[Path], T | None] = _nothing,
        begin: Callable[[Path], object] = _nothing,
        tidy: Callable[[Path], object] = _nothing,
    ) -> T:
        """Show what is finished in a folder, or compute and save it, with a record however it ends.

        Nobody else writes to the folder meanwhile. After a kill the record says ``running`` although nobody holds
        the folder.

        Args:
            compute: Called with the folder, where it may keep finished parts.
            save: Writes each file whole or not at all, the result last; returns what is where.
            finished: What an equal earlier run left there, None if it left nothing whole. It refuses another run's.
            begin: Looks at what else is there before anything is written. It refuses what would be thrown away.
            tidy: Removes what is not needed any more, while the folder is still locked.

        Raises:
            RunError: if the folder holds another run, or another process has it.
        """
        with locked(folder):
            found = finished(folder)
            if found is not None:
                self.note(f"already measured; showing {folder}")
                return found
            begin(folder)
            with saying_how_to_go_on(folder, self.note), recording(record, folder):
                found = compute(folder)
                record.outputs.update(save(found, folder))
            tidy(folder)
        return found


@contextmanager
def saying_how_to_go_on(folder: Path, note: Note) -> Iterator[None]:
    """After Ctrl-C, say what continues the run."""
    try:
        yield
    except KeyboardInterrupt:
        note(f"interrupted; continue with: workbench runs resume {folder}")
        raise
