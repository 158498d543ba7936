"""Shards of one run put together: their finished parts in one folder, and the run finished from its record alone.

Everything else (the table, the circuit, the page) is made by the very code that makes it in one process, from the
same parts; that is why it is bit-identical.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from workbench.commands.again import call
from workbench.core.lock import locked
from workbench.core.progress import Progress
from workbench.engine.run_folders.consent import Consent
from workbench.engine.run_folders.whole_run import (
    check_complete,
    found_shares,
    gather,
    target_of,
    told_apart,
    whole_arguments,
)

Note = Callable[[str], None]


def merge(
    folders: Sequence[str | Path],
    out: str | Path | None = None,
    *,
    consent: Consent | None = None,
    progress: Progress | None = None,
    note: Note = lambda text: None,
) -> tuple[Path, Any]:
    """Put the shards in some folders together; gives the folder of the whole, and its result.

    Args:
        folders: Folders of shards, or a folder that has them in it.
        out: By default the folder that all shards are in.
        consent: Which code that their records name may run; by default none.

    Raises:
        RunError: if a shard is missing, unfinished, there twice, or of another run; nothing is written then.
    """
    consent = consent or Consent()
    shares = found_shares(folders)
    record = shares[0].record
    consent.check(record.arguments, record.plugins)
    check_complete(shares)
    folder = target_of(shares, out)
    for told in told_apart(shares):
        note(told)
    with locked(folder):
        gather(shares, folder)
    note(f"{len(shares)} shards together in {folder}")
    return folder, call(
        replace(record, arguments=whole_arguments(record)),
        folder,
        resume=True,
        consent=replace(consent, tell=lambda text: None),
        progress=progress,
        note=note,
    )
