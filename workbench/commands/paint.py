"""The command ``paint`` as a function: open, paint part by part, save pictures, page and record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from workbench.commands.forms.paint import Paint
from workbench.core.atomic import write_atomic
from workbench.core.errors import RunError
from workbench.core.job import Job
from workbench.core.run_file import load_record
from workbench.core.run_record import RunRecord, code_versions, digest_of
from workbench.core.show import Told
from workbench.core.source_digest import source_digest
from workbench.core.text import folder_name
from workbench.edits.edit import ModelEdit
from workbench.edits.file import content_digest, open_edit
from workbench.engine.store import SweepStore, drop_parts
from workbench.heads.painted_captions import RESULT, Painting, load_painting, painting_of, save_painting
from workbench.heads.show.painted_captions import painting_page
from workbench.heads.word_maps import WordMaps, word_maps
from workbench.model.flow_painter.sample import Painted, require_painter
from workbench.model.identity import ModelIdentity, identity
from workbench.model.open import open_model
from workbench.tasks.canvas.captions import read_caption

ROOT, PAGE = Path("runs") / "paint", "page.html"
PART = 8
"""Captions that are painted together: a killed run loses at most these."""


@dataclass(frozen=True, kw_only=True)
class PaintRun(Told):
    """A painting, and where it was written."""

    painting: Painting
    folder: Path

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {**self.painting.to_dict(), "folder": str(self.folder)}

    def to_terminal(self) -> list[Any]:
        """Return lines, rows and tables for a terminal."""
        return self.painting.to_terminal()


@dataclass(frozen=True, kw_only=True)
class PaintPlan(Told):
    """What a painting would take."""

    asked: Paint
    folder: Path

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        halves = 1 if self.asked.guidance == 1 else 2
        times = 1 if self.asked.edit is None else 2
        return {
            "dry_run": True,
            "model": self.asked.model,
            "pictures": len(self.asked.captions),
            "passes": len(self.asked.captions) * self.asked.steps * halves * times,
            "files": [RESULT, PAGE, "run.json"],
            "folder": str(self.folder),
        }

    def to_terminal(self) -> list[Any]:
        """Return lines, rows and tables for a terminal."""
        return ["dry run: nothing was painted; no weights were loaded", self.to_dict()]


def paint(asked: Paint, job: Job) -> PaintRun | PaintPlan:
    """Paint pictures and save ``painting.json``, ``page.html`` and ``run.json``; an equal finished run is shown.

    Raises:
        ModelError: if the model does not paint, or the edit cannot hold on it.
        RunError: if the folder holds something else, or another process is writing there.
    """
    if job.dry_run:
        return PaintPlan(asked=asked, folder=job.out or ROOT)
    edit = None
    if asked.edit is not None:
        edit, origin = open_edit(asked.edit)
        for said in origin.notes:
            job.note(said)
    opened = open_model(asked.model, **asked.opening())
    require_painter(opened)
    if edit is not None:
        with edit.on(opened):  # refused before anything is painted
            pass
    who = identity(opened)
    plan = _plan(asked, who, edit)
    question = digest_of(plan)
    record = RunRecord(
        command="paint", arguments=asked.arguments(), model=who.to_dict(), pairs={}, question=question
    )
    pages: list[str] = []

    def compute(folder: Path) -> Painting:
        with SweepStore(folder, plan, resume=job.resume) as store:
            plain, plain_maps = _painted(opened, asked, None, store, "plain", job)
            made, maps = (
                (plain, plain_maps) if edit is None else _painted(opened, asked, edit, store, "edited", job)
            )
        found = painting_of(
            made,
            model=asked.model,
            seed=asked.seed,
            guidance=asked.guidance,
            edit=None if edit is None else edit.describe(),
            plain=None if edit is None else plain,
        )
        before = () if edit is None else (plain, plain_maps)
        pages.append(painting_page(found, made, maps, *before))
        return found

    def save(found: Painting, folder: Path) -> Mapping[str, str]:
        write_atomic(folder / PAGE, pages[0])
        save_painting(found, folder)
        return {"painting": RESULT, "page": PAGE}

    folder = job.out or ROOT / f"{folder_name(asked.model)}-{question[:8]}"
    found = job.keep(
        folder, record, compute, save, finished=lambda at: _finished(at, question), tidy=drop_parts
    )
    return PaintRun(painting=found, folder=folder)


def _painted(
    model: Any, asked: Paint, edit: ModelEdit | None, store: SweepStore, name: str, job: Job
) -> tuple[Painted, WordMaps]:
    """All captions, part by part; finished parts come from the folder."""
    captions = [read_caption(text) for text in asked.captions]
    pictures, maps = [], []
    for first in range(0, len(captions), PART):
        own = range(first, min(first + PART, len(captions)))
        keys = [f"{name}-{kind}-{first}" for kind in ("pictures", "maps")]
        there = [values for key in keys if (values := store.get(key, None)) is not None]
        if len(there) < len(keys):
            made, looked = word_maps(
                model,
                [captions[i] for i in own],
                seed=asked.seed,
                steps=asked.steps,
                guidance=asked.guidance,
                under=None if edit is None else lambda step: edit.on(model),
                numbers=own,
            )
            there = [torch.cat([made.predictions, made.pictures[None]]).numpy(), looked.weights.numpy()]
            for key, values in zip(keys, there, strict=True):
                store.put(key, values)
        pictures.append(torch.as_tensor(there[0]))
        maps.append(torch.as_tensor(there[1]))
        if job.progress is not None:
            job.progress(own[-1] + 1, len(captions), f"pictures, {name}")
    whole, all_captions = torch.cat(pictures, 1), tuple(captions)
    painted = Painted(captions=all_captions, pictures=whole[-1], predictions=whole[:-1])
    return painted, WordMaps(captions=all_captions, weights=torch.cat(maps, 1))


def _plan(asked: Paint, who: ModelIdentity, edit: ModelEdit | None) -> dict[str, Any]:
    """What decides the pictures, as JSON values."""
    return {
        "weights": who.digest,
        "config": who.config_digest,
        "dtype": who.dtype,
        "device": who.device,
        "captions": list(asked.captions),
        "seed": asked.seed,
        "steps": asked.steps,
        "guidance": asked.guidance,
        "edit": None if edit is None else content_digest(edit),
        "code": {
            **code_versions(),
            "sources": source_digest("workbench.heads.word_maps", "workbench.heads.painted_captions"),
        },
    }


def _finished(folder: Path, question: str) -> Painting | None:
    """What an equal finished run left in a folder.

    Raises:
        RunError: if the folder holds the answer to another question.
    """
    if not (folder / RESULT).is_file():
        return None
    record = load_record(folder)
    if record.question != question:
        raise RunError(f"{folder} holds another run: {record.command}", hint="choose another --out")
    return load_painting(folder / RESULT) if record.status == "done" else None
