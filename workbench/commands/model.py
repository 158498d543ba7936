"""``workbench model``: built-in models, what a model is made of, whether it can be trusted, and import."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.commands.asked.inputs import check_files, check_opening
from workbench.commands.forms.shared import MEMORY, OUT, OnModel
from workbench.commands.told import Listing, columns_used
from workbench.core.command import SIZE, Command, argument, command, option
from workbench.core.job import Job
from workbench.core.registry import load
from workbench.model.builtin import PREFIX, list_models

if TYPE_CHECKING:
    from workbench.model.legacy import ImportedModel


@command("model list", offers=())
@dataclass(frozen=True, kw_only=True)
class ListModels(Command):
    """List the built-in models. Loads nothing.

    Example: workbench model list
    """

    def run(self, job: Job) -> Listing:
        cards = list_models()
        told = [
            {
                "name": PREFIX + card.name,
                "parameters": f"{card.parameters:,}" if card.parameters else "-",
                "size": f"{card.size / 1e6:.1f} MB" if card.size else "-",
                "what": card.title,
                "problem": card.problem,
            }
            for card in cards
        ]
        return Listing(
            rows=[{**card.fields, "name": PREFIX + card.name, "problem": card.problem} for card in cards],
            shown=columns_used(told, ("name", "parameters", "size", "what", "problem")),
            nothing="no built-in models are installed",
        )


@dataclass(frozen=True, kw_only=True)
class OneModel(OnModel):
    """Options of a command about one model."""

    name: str = argument("zoo:NAME, a local directory or a Hub id.")
    max_memory: int | str | None = option(
        "--max-memory", help=f"{MEMORY} It stands for the memory that is free.", default=None, place=SIZE
    )

    def opening(self) -> dict[str, Any]:
        own = {f.name: getattr(self, f.name) for f in fields(OneModel) if f.name != "name"}
        return {**own, "offline": self.offline or None}

    def check(self, job: Job) -> None:
        opening = {name: value for name, value in self.opening().items() if name != "trust_remote_code"}
        check_opening(model=self.name, **opening)

    def run(self, job: Job) -> Any:
        return load(self.declared.run)(self.name, **self.opening())


@command("model show", run="workbench.model.report:show_model", offers=())
@dataclass(frozen=True, kw_only=True)
class ShowModel(OneModel):
    """Show what a model is made of, which interventions work on it, and its card.

    Example: workbench model show zoo:ioi --json | jq .architecture.n_layers
    """


@command("model check", run="workbench.model.report:check_model", offers=())
@dataclass(frozen=True, kw_only=True)
class CheckModel(OneModel):
    """Measure whether a model computes what its weights say; exit code 3 when a check does not pass.

    Example: workbench model check ./my-model
    """

    def exit_code(self, result: Any) -> int:
        return 0 if result.passes else 3


@command("model import", run="workbench.model.legacy:import_checkpoint", offers=())
@dataclass(frozen=True, kw_only=True)
class ImportModel(Command):
    """Turn an old HookedTransformer checkpoint into a directory that opens like any model.

    Example: workbench model import model.pt --config cfg.json --vocabulary vocab.txt --unk PAD -o my-model
    """

    weights: Path = argument("A HookedTransformer state dict (.pt).")
    config: Path = option("--config", help="Its configuration as JSON.")
    out: Path = option("-o", "--out", help=f"{OUT} A directory, which is made.")
    vocabulary: Path | None = option(
        "--vocabulary", help="Its tokens, one a line; the line is the id.", default=None
    )
    split_by: str = option(
        "--split-by", help="Text is split into: words or characters.", default="words", before=("--split",)
    )
    bos: str | None = option("--bos", help="The token that starts a prompt.", default=None)
    eos: str | None = option("--eos", help="The token that ends a text.", default=None)
    pad: str | None = option("--pad", help="The padding token.", default=None)
    unk: str | None = option("--unk", help="The token for words not in the vocabulary.", default=None)
    outputs: Path | None = option(
        "--outputs", help="Names of its outputs, one a line, where they are classes.", default=None
    )

    def check(self, job: Job) -> None:
        check_files([self.weights, self.config, *([self.vocabulary] if self.vocabulary is not None else [])])

    def run(self, job: Job) -> ImportedModel:
        words = None
        if self.vocabulary is not None:
            special = {name: getattr(self, name) for name in ("bos", "eos", "pad", "unk")}
            vocabulary = load("workbench.model.legacy_vocabulary:Vocabulary")
            words = vocabulary(path=self.vocabulary, split=self.split_by, **special)
        how = {"config": self.config, "vocabulary": words, "outputs": self.outputs}
        return load(self.declared.run)(self.weights, self.out, **how)

    def said(self, result: ImportedModel, job: Job) -> Iterator[str]:
        yield from result.notes
        if result.outputs:
            yield f"it puts out {result.outputs}; answers are class names (docs/pairs-format.md)"
        yield f"wrote {result.directory}; open it with -m {result.directory}"
