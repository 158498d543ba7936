"""`workbench heads`: a portrait of every head of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import Device, DryRun, Dtype, Json, ModelName, Offline, Out, Quiet, Seed
from cli.output import emit, note, progress, use_quiet

CORPUS = Annotated[
    list[Path] | None,
    typer.Option("--corpus", help="A text file to look at instead of the built-in text; may be repeated."),
]
PROMPT = Annotated[
    list[str] | None,
    typer.Option("--prompt", help="A text whose patterns the page shows; may be repeated."),
]
SORT = Annotated[str | None, typer.Option("--sort", help="Column that the table goes by, such as induction.")]
COUNT = Annotated[int, typer.Option("-n", "--limit", min=2, help="Sequences of each kind.")]
LENGTH = Annotated[
    int | None,
    typer.Option("--length", min=8, help="Tokens per sequence. Default: 101, or the context if shorter."),
]
NO_LOSS = Annotated[
    bool, typer.Option("--no-loss", help="Leave out the ablation of each head, the part that takes long.")
]


def heads(
    model: ModelName,
    corpus: CORPUS = None,
    prompt: PROMPT = None,
    sort: SORT = None,
    limit: COUNT = 16,
    length: LENGTH = None,
    no_loss: NO_LOSS = False,
    seed: Seed = 0,
    out: Out = None,
    dry_run: DryRun = False,
    device: Device = None,
    dtype: Dtype = "float32",
    offline: Offline = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Portray every head: where it looks, what its weights do, what the loss costs without it; one page of all.

    The columns "kind" and "loss" are about random tokens and text, not about a task.

    Example: workbench heads -m zoo:induction --sort induction
    """
    use_quiet(quiet)
    from workbench.commands.asked.heads import check_heads

    check_heads(model=model, corpus=corpus or (), sort=sort, device=device, dtype=dtype, offline=offline)
    from workbench.core.loading import loading

    with loading():
        from workbench.commands.heads import heads_job  # torch: after all that is named was looked for

    with progress("heads") as advance:
        found = heads_job(
            model=model,
            corpus=corpus or (),
            prompt=prompt or (),
            sort=sort,
            limit=limit,
            length=length,
            no_loss=no_loss,
            seed=seed,
            out=out,
            dry_run=dry_run,
            progress=advance,
            note=note,
            device=device,
            dtype=dtype,
            offline=offline,
        )
    emit(found, as_json=as_json)
    if not dry_run:
        if as_json:
            for said in found.portrait.notes:
                note(f"note: {said}")
        note(f"wrote {found.folder}: portrait.json, heads.parquet, atlas.html, run.json")
