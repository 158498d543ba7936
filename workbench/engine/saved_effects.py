"""Tables of effects that are kept: found finished, continued or measured, with a record however it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.circuits.effects import Effects
from workbench.circuits.files.effects_file import NAME, load_effects, save_effects
from workbench.circuits.files.shard_file import NAME as SHARD
from workbench.circuits.files.shard_file import ShardFile, load_shard
from workbench.core.errors import RunError
from workbench.core.job import Job, Note
from workbench.core.progress import silent
from workbench.core.run_file import digest_of_file, load_record
from workbench.core.run_record import NAME as RUN
from workbench.core.run_record import RunRecord, digest_of
from workbench.core.show import Shown, Told
from workbench.engine.distribute import ShardFinished, parse_shard
from workbench.engine.store import PLAN, check_plan, finished_parts


@dataclass(frozen=True, kw_only=True)
class Saved(Shown, shown_in="workbench.engine.show"):
    """A table of effects and the folder it was written to."""

    effects: Effects
    folder: Path

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {**self.effects.to_dict(), "folder": str(self.folder)}


@dataclass(frozen=True, kw_only=True)
class SavedShard(Told):
    """A share of a computation and the folder that it was written to."""

    shard: ShardFile
    folder: Path

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "shard": f"{self.shard.index}/{self.shard.count}",
            "parts": len(self.shard.mine),
            "of": len(self.shard.parts),
            "folder": str(self.folder),
            "next": f"when all are done: workbench runs merge {self.folder.parent}",
        }

    def to_terminal(self) -> list[Any]:
        """Return lines, rows and tables for a terminal."""
        return [self.to_dict()]


def keep(
    measure: Callable[[Path], Effects],
    plan: Mapping[str, Any],
    record: RunRecord,
    folder: Path,
    *,
    resume: bool,
    note: Note = silent,
) -> Saved | SavedShard:
    """Return the table that a plan asks for: the one in the folder, or measured now, kept with its record.

    Args:
        measure: Called with the folder, where it keeps finished parts.
        resume: Go on with what an earlier start of this very run left there.

    Raises:
        RunError: if the folder holds another run or somebody's unfinished work, or another process has it.
    """
    record.question = digest_of(plan)

    def begin(folder: Path) -> None:
        if finished_table(folder, record.question) is not None:
            return
        check_plan(folder, plan, resume=resume)
        if resume and not (folder / PLAN).exists():
            note(f"nothing to resume in {folder}: starting anew (other options have other folders)")

    def compute(folder: Path) -> Saved | SavedShard:
        before = finished_table(folder, record.question)  # its record did not come to its end
        try:
            return Saved(effects=measure(folder) if before is None else before, folder=folder)
        except ShardFinished as ended:
            return SavedShard(shard=share_of_record(ended, record), folder=folder)

    return Job(note=note).keep(
        Path(folder), record, compute, _save, finished=lambda at: _finished(at, record.question), begin=begin
    )


def _finished(folder: Path, question: str) -> Saved | SavedShard | None:
    """What an earlier, equal run left in a folder, whole and unchanged; None when there is none.

    Raises:
        RunError: if the folder holds another run, or a table that was changed.
    """
    share = finished_shard(folder, question)
    if share is not None:
        return SavedShard(shard=share, folder=folder)
    before = finished_table(folder, question)
    if before is None or not _is_done(folder):
        return None
    _refuse_changed(folder)
    return Saved(effects=before, folder=folder)


def finished_shard(folder: Path, question: str) -> ShardFile | None:
    """Return the share that an earlier, equal run left in a folder; None when there is none.

    Raises:
        RunError: if the folder holds a share of another run.
    """
    if not (folder / SHARD).exists():
        return None
    share = load_shard(folder)
    if share.question != question:
        raise RunError(f"{folder} holds a shard of another run", hint="choose another --out")
    if not (folder / RUN).exists() or load_record(folder).status != "done":
        return None
    return share if finished_parts(folder) >= set(share.mine) else None


def share_of_record(finished: ShardFinished, record: RunRecord) -> ShardFile:
    """Say which parts a share of a recorded run has computed."""
    shard = parse_shard(record.arguments["shard"])
    assert shard is not None, "a share was asked for"
    return ShardFile(
        index=shard.index,
        count=shard.count,
        question=record.question,
        parts=finished.parts,
        mine=finished.mine,
    )


def save_shard(kept: SavedShard) -> dict[str, str]:
    """Write down which parts are in the folder; returns what is where."""
    kept.shard.save(kept.folder)
    return {"shard": SHARD}


def _is_done(folder: Path) -> bool:
    """Whether the run in a folder ended well and its files are there; one of before there were records did."""
    if not (folder / RUN).exists():
        return True
    record = load_record(folder)
    return record.status == "done" and all((folder / name).exists() for name in record.outputs.values())


def _refuse_changed(folder: Path) -> None:
    """A table that is not as it was written is not shown as if it were.

    Raises:
        RunError: if its digest is not the recorded one.
    """
    was = load_record(folder).files.get(NAME) if (folder / RUN).exists() else None
    if was is not None and digest_of_file(folder / NAME) != was:
        raise RunError(
            f"{folder / NAME} was changed since it was written",
            hint=f"to measure it again: rm {folder / NAME}, then workbench runs resume {folder}",
        )


def _save(kept: Saved | SavedShard, folder: Path) -> dict[str, str]:
    """Write the table, and its heatmap where it has one; of a share, which parts there are."""
    if isinstance(kept, SavedShard):
        return save_shard(kept)
    save_effects(kept.effects, folder)
    if not kept.effects.grid()[0].size:
        return {"effects": NAME}
    kept.effects.save_picture(folder / "heatmap.svg")
    return {"effects": NAME, "heatmap": "heatmap.svg"}


def finished_table(folder: Path, plan_digest: str) -> Effects | None:
    """Return the table an earlier, equal run left in a folder; None when there is none.

    Raises:
        RunError: if the folder holds the table of another run, which is never overwritten.
    """
    if not (folder / NAME).exists():
        return None
    before = load_effects(folder)
    if before.provenance.get("plan") != plan_digest:
        raise RunError(
            f"{folder} holds the table of another run: {before.title}", hint="choose another --out"
        )
    return before
