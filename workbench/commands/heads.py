"""The command ``heads`` as a function: open, plan, measure, save table, page and record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.commands.forms.heads import Heads
from workbench.commands.plans.heads import PAGE, RESULT, ROOT, TABLE
from workbench.core.atomic import write_atomic
from workbench.core.bounds import read_bytes
from workbench.core.errors import ModelError, OptionError, RunError
from workbench.core.job import Job
from workbench.core.run_file import load_record
from workbench.core.run_record import RunRecord, code_versions, digest_of
from workbench.core.source_digest import source_digest
from workbench.core.text import folder_name
from workbench.heads.example_looks import example_looks
from workbench.heads.grounds import MOST_CORPUS
from workbench.heads.picture_look import PictureLook
from workbench.heads.portrait import portrait
from workbench.heads.show.atlas import atlas_page
from workbench.heads.show.portrait import terminal_parts
from workbench.heads.shown_patterns import PromptPatterns, example_patterns, prompt_patterns
from workbench.heads.table import Portrait, load_portrait
from workbench.model.identity import ModelIdentity, identity
from workbench.model.open import open_model
from workbench.model.probe import wiring
from workbench.model.sight import reads_pictures_alone, sight_of

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

OF_TOWER = "portrait of "


@dataclass(frozen=True, kw_only=True)
class HeadsRun:
    """A portrait, those of the model's towers, and where they were written; sorted as it was asked for."""

    portrait: Portrait
    folder: Path
    sort: str | None = None
    towers: tuple[Portrait, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        rows = self.portrait.rows(sort=self.sort)
        towers = {"towers": [tower.to_dict() for tower in self.towers]} if self.towers else {}
        order = [row["head"] for row in rows]
        return {**self.portrait.to_dict(), **towers, "order": order, "folder": str(self.folder)}

    def to_terminal(self) -> list[Any]:
        """Return lines, rows and tables for a terminal."""
        more = [[tower.title, *terminal_parts(tower)] for tower in self.towers]
        return [*terminal_parts(self.portrait, sort=self.sort), *(part for parts in more for part in parts)]

    def _repr_html_(self) -> str | None:
        return "".join(one._repr_html_() or "" for one in (self.portrait, *self.towers))


def heads(asked: Heads, job: Job) -> HeadsRun:
    """Portray the heads of a model and save ``portrait.json``, ``heads.parquet``, ``atlas.html``, ``run.json``.

    An equal run that is finished is shown, not repeated.

    Raises:
        OptionError: for an unknown column or a length that cannot work.
        RunError: if the folder holds something else, or another process is writing there.
    """
    opened = open_model(asked.model, **asked.opening())
    who = identity(opened)
    question = digest_of(_plan(asked, who))
    folder = job.out or ROOT / f"{folder_name(asked.model)}-{question[:8]}"
    record = RunRecord(
        command="heads", arguments=asked.arguments(), model=who.to_dict(), pairs={}, question=question
    )
    looked: list[PromptPatterns] = []
    looks: list[PictureLook] = []

    def compute(folder: Path) -> list[Portrait]:
        own = asked.prompt
        if own and reads_pictures_alone(opened):
            raise OptionError(
                "--prompt gives words, and the heads of this model are looked at on pictures",
                hint="leave it out: its heads are looked at on drawn pictures",
            )
        if own:
            looked.extend(prompt_patterns(opened, own))
        elif not reads_pictures_alone(opened):
            looked.extend(example_patterns(opened, seed=asked.seed))
        how: dict[str, Any] = {
            "n": asked.limit,
            "length": asked.length,
            "seed": asked.seed,
            "loss": not asked.no_loss,
            "structure": asked.structure,
        }
        found = portrait(opened, list(asked.corpus) or None, **how, progress=job.progress)
        record.pairs = {**record.pairs, "grounds": [dict(ground) for ground in found.grounds]}
        seen, unseen = example_looks(opened, seed=asked.seed)
        looks.extend(seen)
        notes = (*found.notes, *(p.note for p in looked if p.note), *filter(None, [unseen]))
        return [replace(found, notes=notes), *_of_towers(opened, asked, job)]

    found, *towers = job.keep(
        folder,
        record,
        compute,
        lambda made, to: _save(made, looked, looks, to),
        finished=lambda at: _finished(at, question),
    )
    sort = asked.sort
    if sort is not None and sort not in found:
        job.note(f"{sort} was not measured here; the table is in order of the heads")
        sort = None
    return HeadsRun(portrait=found, folder=folder, sort=sort, towers=tuple(towers))


def _of_towers(model: TransformerBridge, asked: Heads, job: Job) -> list[Portrait]:
    """Portraits of the towers that read the picture behind a language model; none where it is not of a drawn size."""
    sight, found = sight_of(model), []
    if sight is None or sight.token is None:
        return []
    for tower in wiring(model).towers:
        try:
            how: dict[str, Any] = {"n": asked.limit, "seed": asked.seed, "structure": asked.structure}
            found.append(portrait(model, **how, tower=tower, progress=job.progress))
        except ModelError as problem:
            job.note(f"the {tower} tower is not portrayed: {problem.message}")
    return found


def _plan(asked: Heads, who: ModelIdentity) -> dict[str, Any]:
    """What decides the numbers, as JSON values."""
    return {
        "weights": who.digest, "config": who.config_digest, "dtype": who.dtype, "device": who.device,
        "corpus": [digest_of(read_bytes(file, most_bytes=MOST_CORPUS).hex()) for file in asked.corpus],
        "prompt": list(asked.prompt), "n": asked.limit, "length": asked.length, "no_loss": asked.no_loss,
        **({"structure": True} if asked.structure else {}), "seed": asked.seed,
        "code": {
            **code_versions(),
            "sources": source_digest(
                "workbench.heads.portrait", "workbench.heads.shown_patterns", "workbench.heads.example_looks"
            ),
        },
    }  # fmt: skip


def _finished(folder: Path, question: str) -> list[Portrait] | None:
    """The portraits of an equal finished run, the model's own first.

    Raises:
        RunError: if the folder holds the answer to another question.
    """
    if not (folder / RESULT).is_file():
        return None
    record = load_record(folder)
    if record.question != question:
        raise RunError(f"{folder} holds another run: {record.command}", hint="choose another --out")
    if record.status != "done":
        return None
    towers = [name for key, name in record.outputs.items() if key.startswith(OF_TOWER)]
    return [load_portrait(folder / name) for name in (RESULT, *towers)]


def _save(
    found: Sequence[Portrait], looked: Sequence[PromptPatterns], looks: Sequence[PictureLook], folder: Path
) -> dict[str, str]:
    """Table, page and last the document, each whole or not at all; returns what is where."""
    own, *towers = found
    own.to_parquet(folder / TABLE)
    write_atomic(folder / PAGE, atlas_page(own, looked, looks, towers))
    names = {f"{OF_TOWER}{tower.tower}": f"portrait-{tower.tower}.json" for tower in towers}
    for tower, name in zip(towers, names.values(), strict=True):
        tower.to_json(folder / name)
    own.to_json(folder / RESULT)
    return {"portrait": RESULT, "table": TABLE, "page": PAGE, **names}
