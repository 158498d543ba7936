"""Tables of effects that are kept: found finished, continued or measured, with a record however it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.circuits.effects import Effects
from workbench.circuits.files.effects_file import NAME, load_effects, save_effects
from workbench.circuits.files.shard_file import NAME as SHARD
from workbench.circuits.files.shard_file import ShardFile, load_shard
from workbench.core.errors import RunError
from workbench.core.lock import locked
from workbench.core.run_folder import digest_of_file, load_record, recording
from workbench.core.run_record import NAME as RUN
from workbench.core.run_record import RunRecord, digest_of
from workbench.engine.distribute import ShardFinished, parse_shard
from workbench.engine.store import PLAN, check_plan, finished_parts

Note = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A table of effects and the folder it was written to."""

    effects: Effects
    folder: Path

    def to_dict(self) -> dict[str, Any]:
        return {**self.effects.to_dict(), "folder": str(self.folder)}

    def to_terminal(self) -> list[Any]:
        return self.effects.to_terminal()


@dataclass(frozen=True, kw_only=True)
class SavedShard:
    """A share of a computation and the folder that it was written to."""

    shard: ShardFile
    folder: Path

    def to_dict(self) -> dict[str, Any]:
        return {
            "shard": f"{self.shard.index}/{self.shard.count}",
            "parts": len(self.shard.mine),
            "of": len(self.shard.parts),
            "folder": str(self.folder),
            "next": f"when all are done: workbench runs merge {self.folder.parent}",
        }

    def to_terminal(self) -> list[Any]:
        return [self.to_dict()]


def keep(
    measure: Callable[[Path], Effects],
    plan: Mapping[str, Any],
    record: RunRecord,
    folder: Path,
    *,
    resume: bool,
    note: Note = lambda text: None,
) -> Saved | SavedShard:
    """The table that a plan asks for: the one in the folder, or measured now, kept with its record.

    Nobody else writes to the folder meanwhile. However it ends, ``run.json`` says so; after a kill it says
    ``running`` although nobody holds the folder.

    Args:
        measure: Called with the folder, where it keeps finished parts.
        resume: Go on with what an earlier start of this very run left there.

    Raises:
        RunError: if the folder holds another run or somebody's unfinished work, or another process has it.
    """
    folder, record.question = Path(folder), digest_of(plan)
    with locked(folder):
        share = finished_shard(folder, record.question)
        if share is not None:
            note(f"already measured; showing {folder}")
            return SavedShard(shard=share, folder=folder)
        before = finished_table(folder, record.question)
        if before is not None and _is_done(folder):
            _refuse_changed(folder)
            note(f"already measured; showing {folder}")
            return Saved(effects=before, folder=folder)
        if before is None:
            check_plan(folder, plan, resume=resume)
            if resume and not (folder / PLAN).exists():
                note(f"nothing to resume in {folder}: starting anew (other options have other folders)")
        with saying_how_to_go_on(folder, note), recording(record, folder):
            try:
                effects = measure(folder) if before is None else before
            except ShardFinished as finished:
                return save_shard(finished, folder, record)
            _save(effects, folder, record)
    return Saved(effects=effects, folder=folder)


def finished_shard(folder: Path, question: str) -> ShardFile | None:
    """The share that an earlier, equal run left in a folder; None when there is none.

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


def save_shard(finished: ShardFinished, folder: Path, record: RunRecord) -> SavedShard:
    """Write down which parts are in the folder."""
    shard = parse_shard(record.arguments["shard"])
    share = ShardFile(
        index=shard.index,
        count=shard.count,
        question=record.question,
        parts=finished.parts,
        mine=finished.mine,
    )
    share.save(folder)
    record.outputs["shard"] = SHARD
    return SavedShard(shard=share, folder=folder)


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


@contextmanager
def saying_how_to_go_on(folder: Path, note: Note) -> Iterator[None]:
    """After Ctrl-C, say what continues the run."""
    try:
        yield
    except KeyboardInterrupt:
        note(f"interrupted; continue with: workbench runs resume {folder}")
        raise


def _save(effects: Effects, folder: Path, record: RunRecord) -> None:
    """Write the table, and its heatmap where it has one."""
    save_effects(effects, folder)
    record.outputs["effects"] = NAME
    if effects.grid()[0].size:
        effects.save_picture(folder / "heatmap.svg")
        record.outputs["heatmap"] = "heatmap.svg"


def finished_table(folder: Path, plan_digest: str) -> Effects | None:
    """The table an earlier, equal run left in a folder; None when there is none.

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
