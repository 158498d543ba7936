"""Shares of one run on disk: found, checked to be of one run and complete, and copied together."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from workbench.circuits.files.shard_file import ShardFile, load_shard
from workbench.core.errors import RunError
from workbench.core.run_record import RunRecord, digest_of
from workbench.engine.run_folders.command_line import command_line
from workbench.engine.run_folders.past_runs import PastRun, look_at
from workbench.engine.store import PLAN, SweepStore, difference, read_plan


@dataclass(frozen=True, kw_only=True)
class Share:
    """One shard: its folder, its record, and which parts it has."""

    folder: Path
    record: RunRecord
    file: ShardFile


def whole_arguments(record: RunRecord) -> dict[str, Any]:
    """Return the arguments of the run that a shard is a share of."""
    return {name: value for name, value in record.arguments.items() if name != "shard"}


def found_shares(folders: Sequence[str | Path]) -> list[Share]:
    """Return the finished shards that are named, and those in folders that are named.

    Raises:
        RunError: if there is none, or one is not finished.
    """
    return [_share(run) for run in _shard_runs(folders)]


def check_complete(shares: Sequence[Share]) -> None:
    """Do nothing if these are all the shards of one run, each once.

    Raises:
        RunError: for one that is missing, there twice, or of another run.
    """
    _refuse_different(shares)
    _refuse_twice(shares)
    _refuse_missing(shares)


def told_apart(shares: Sequence[Share]) -> Iterator[str]:
    """Say in what shards differ that may move the last digits: threads, and the state of the code."""
    threads = sorted({share.record.threads or "all" for share in shares})
    if len(threads) > 1:
        yield (
            f"the shards were computed with {' and '.join(threads)} threads: the last digits may depend on it; "
            "set OMP_NUM_THREADS to the same number everywhere"
        )
    commits = sorted({str(share.record.git.get("commit") or "unknown")[:12] for share in shares})
    if len(commits) > 1:
        yield (
            f"the shards were computed by different states of the code, git {' and '.join(commits)}: "
            "if what computes changed in between, they do not belong together"
        )


def _shard_runs(folders: Sequence[str | Path]) -> list[PastRun]:
    """The shards that are named, and those in folders that are named."""
    found: dict[Path, PastRun] = {}
    for folder in map(Path, folders):
        inside = sorted(folder.glob("shard-*-of-*")) if os.path.isdir(folder) else []
        for path in inside or [folder]:
            found.setdefault(path.resolve(), look_at(path))
    for run in found.values():
        _record(run)
    if not found:
        raise RunError("no folders of shards are named", hint="workbench runs merge FOLDER ...")
    return list(found.values())


def _record(run: PastRun) -> RunRecord:
    """The record of a shard.

    Raises:
        RunError: if the folder holds none.
    """
    if run.record is None or "shard" not in run.record.arguments:
        raise RunError(f"{run.folder} holds no shard", hint="shards are written by --shard I/N")
    return run.record


def _share(run: PastRun) -> Share:
    """What a folder says about its shard.

    Raises:
        RunError: if it is not finished.
    """
    record = _record(run)
    name = record.arguments["shard"]
    if run.state == "running":
        raise RunError(f"shard {name} is being written in {run.folder}", hint="wait for it")
    if run.state in ("unreadable", "changed"):
        raise RunError(run.error, hint=run.hint)
    if run.state != "finished":
        raise RunError(
            f"shard {name} in {run.folder} is not finished: {run.state}",
            hint=f"workbench runs resume {run.folder}",
        )
    return Share(folder=run.folder, record=record, file=load_shard(run.folder))


def _refuse_different(shares: Sequence[Share]) -> None:
    """Shards of one run: the same plan, cut into as many.

    Raises:
        RunError: which two are not, and in what they differ.
    """
    first = shares[0]
    for other in shares[1:]:
        if other.file.question != first.file.question:
            one, two = (read_plan(s.folder) or whole_arguments(s.record) for s in (first, other))
            raise RunError(
                f"{first.folder} and {other.folder} are shards of different runs: {difference(one, two)}",
                hint="merge shards of one run: the same command but for --shard",
            )
        if other.file.count != first.file.count or other.file.parts != first.file.parts:
            raise RunError(
                f"{first.folder} is one of {first.file.count} shards, {other.folder} one of {other.file.count}",
                hint=f"run all of them with the same N: --shard {other.file.index}/{first.file.count}",
            )


def _refuse_twice(shares: Sequence[Share]) -> None:
    """No part in two shards.

    Raises:
        RunError: which shard is there twice.
    """
    seen: dict[str, Share] = {}
    for share in shares:
        for key in share.file.mine:
            other = seen.setdefault(key, share)
            if other is not share:
                what = f"part {key} is in both {other.folder} and {share.folder}"
                raise RunError(f"the shards overlap: {what}", hint="name each shard once")


def _refuse_missing(shares: Sequence[Share]) -> None:
    """Every part in one of them.

    Raises:
        RunError: which shards are missing, and what to type for the first.
    """
    first, here = shares[0], {share.file.index for share in shares}
    absent = [n for n in range(1, first.file.count + 1) if n not in here]
    if absent:
        names = ", ".join(f"{n}/{first.file.count}" for n in absent)
        missing = {**first.record.arguments, "shard": f"{absent[0]}/{first.file.count}"}
        line = command_line(replace(first.record, arguments=missing))
        raise RunError(
            f"missing: shard{'s' if len(absent) > 1 else ''} {names}",
            hint=f"{line} --out {first.folder.parent}",
        )
    held = {key for share in shares for key in share.file.mine}
    lost = [key for key, _ in first.file.parts if key not in held]
    if lost:
        raise RunError(
            f"no shard has part {lost[0]}", hint="the shards were cut in different ways: run them again"
        )


def target_of(shares: Sequence[Share], out: str | Path | None) -> Path:
    """Return the folder of the whole.

    Raises:
        RunError: if it has to be named, or holds something else.
    """
    if out is not None:
        return Path(out)
    parents = {share.folder.resolve().parent for share in shares}
    if len(parents) > 1 or not all(s.folder.name.startswith("shard-") for s in shares):
        raise RunError("the shards are in different places", hint="say where the whole goes: --out FOLDER")
    return shares[0].folder.parent


def gather(shares: Sequence[Share], folder: Path) -> None:
    """Copy every part, checked, into the folder of the whole.

    Raises:
        RunError: if a part is damaged, or the folder holds another run.
    """
    plan = read_plan(shares[0].folder)
    if plan is None or digest_of(plan) != shares[0].file.question:
        raise RunError(
            f"{shares[0].folder / PLAN} is missing or was changed",
            hint=f"workbench runs rerun {shares[0].folder}",
        )
    shapes = dict(shares[0].file.parts)
    with SweepStore(folder, plan, resume=True) as whole:
        for share in shares:
            with SweepStore(share.folder, plan, resume=True) as source:
                for key in share.file.mine:
                    values = source.get(key, shapes[key])
                    if values is None:
                        raise RunError(
                            f"{share.folder} lacks its part {key}",
                            hint=f"workbench runs resume {share.folder}",
                        )
                    whole.put(key, values)
