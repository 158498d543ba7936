"""`workbench model`: built-in models, what a model is made of, whether it can be trusted, and import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.options import Device, Dtype, Json, Offline, Revision, TrustRemoteCode, labelled
from cli.printing import emit, note
from workbench.commands.forms.shared import MEMORY as MOST
from workbench.commands.forms.shared import OUT

app = typer.Typer(help="Models: list, show, check, import.", no_args_is_help=True)

NAME = Annotated[str, typer.Argument(help="zoo:NAME, a local directory or a Hub id.")]
MEMORY = Annotated[
    str | None, labelled("--max-memory", claim=MOST, more="It stands for the memory that is free.")
]


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the built-in models. Loads nothing.

    Example: workbench model list
    """
    from workbench.model.builtin import PREFIX, list_models

    cards = list_models()
    if as_json:
        emit(
            [{**card.fields, "name": PREFIX + card.name, "problem": card.problem} for card in cards],
            as_json=True,
        )
        return
    rows = [
        {
            "name": PREFIX + card.name,
            "parameters": f"{card.parameters:,}" if card.parameters else "-",
            "size": f"{card.size / 1e6:.1f} MB" if card.size else "-",
            "what": card.title,
            "problem": card.problem,
        }
        for card in cards
    ]
    used = [key for key in ("name", "parameters", "size", "what", "problem") if any(row[key] for row in rows)]
    shown = [{key: row[key] for key in used} for row in rows]
    emit(shown or "no built-in models are installed", as_json=False)


def _look_for(name: str, **opening: Any) -> None:
    """What is named is looked for before the seconds that importing torch takes."""
    from workbench.commands.asked.inputs import check_opening

    check_opening(model=name, **opening)


@app.command()
def show(
    name: NAME,
    device: Device = None,
    dtype: Dtype = "float32",
    revision: Revision = None,
    offline: Offline = False,
    trust_remote_code: TrustRemoteCode = False,
    max_memory: MEMORY = None,
    as_json: Json = False,
) -> None:
    """Show what a model is made of, which interventions work on it, and its card.

    Example: workbench model show zoo:ioi --json | jq .architecture.n_layers
    """
    _look_for(name, device=device, dtype=dtype, revision=revision, offline=offline, max_memory=max_memory)
    from workbench.core.loading import loading

    with loading():
        from workbench.model.report import show_model  # torch: after all that is named was looked for

    page = show_model(
        name,
        device=device,
        dtype=dtype,
        revision=revision,
        offline=offline or None,
        trust_remote_code=trust_remote_code,
        max_memory=max_memory,
    )
    emit(page, as_json=as_json)


@app.command()
def check(
    name: NAME,
    device: Device = None,
    dtype: Dtype = "float32",
    revision: Revision = None,
    offline: Offline = False,
    trust_remote_code: TrustRemoteCode = False,
    max_memory: MEMORY = None,
    as_json: Json = False,
) -> None:
    """Measure whether a model computes what its weights say; exit code 3 when a check does not pass.

    Example: workbench model check ./my-model
    """
    _look_for(name, device=device, dtype=dtype, revision=revision, offline=offline, max_memory=max_memory)
    from workbench.core.loading import loading

    with loading():
        from workbench.model.report import check_model

    report = check_model(
        name,
        device=device,
        dtype=dtype,
        revision=revision,
        offline=offline or None,
        trust_remote_code=trust_remote_code,
        max_memory=max_memory,
    )
    emit(report, as_json=as_json)
    if not report.passes:
        raise typer.Exit(3)


@app.command("import")
def import_(
    weights: Annotated[Path, typer.Argument(help="A HookedTransformer state dict (.pt).")],
    config: Annotated[Path, typer.Option("--config", help="Its configuration as JSON.")],
    out: Annotated[Path, labelled("-o", "--out", claim=OUT, more="A directory, which is made.")],
    vocabulary: Annotated[
        Path | None, typer.Option("--vocabulary", help="Its tokens, one a line; the line is the id.")
    ] = None,
    split_by: Annotated[
        str, typer.Option("--split-by", help="Text is split into: words or characters.")
    ] = "words",
    split: Annotated[str | None, typer.Option("--split", hidden=True)] = None,  # before --split-by
    bos: Annotated[str | None, typer.Option("--bos", help="The token that starts a prompt.")] = None,
    eos: Annotated[str | None, typer.Option("--eos", help="The token that ends a text.")] = None,
    pad: Annotated[str | None, typer.Option("--pad", help="The padding token.")] = None,
    unk: Annotated[
        str | None, typer.Option("--unk", help="The token for words not in the vocabulary.")
    ] = None,
    outputs: Annotated[
        Path | None,
        typer.Option("--outputs", help="Names of its outputs, one a line, where they are classes."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Turn an old HookedTransformer checkpoint into a directory that opens like any model.

    Example: workbench model import model.pt --config cfg.json --vocabulary vocab.txt --unk PAD -o my-model
    """
    from workbench.commands.asked.inputs import check_files

    check_files([weights, config, *([vocabulary] if vocabulary is not None else [])])
    from workbench.core.loading import loading

    with loading():
        from workbench.model.legacy import import_checkpoint  # torch: after the files were looked for
    from workbench.model.legacy_vocabulary import Vocabulary

    words = None
    if vocabulary is not None:
        words = Vocabulary(path=vocabulary, split=split or split_by, bos=bos, eos=eos, pad=pad, unk=unk)
    made = import_checkpoint(weights, out, config=config, vocabulary=words, outputs=outputs)
    for remark in made.notes:
        note(remark)
    if made.outputs:
        note(f"it puts out {made.outputs}; answers are class names (docs/pairs-format.md)")
    note(f"wrote {made.directory}; open it with -m {made.directory}")
    emit(made, as_json=as_json)
