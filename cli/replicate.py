"""`workbench replicate`: a paper's claims measured again, on any model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import Device, DryRun, Dtype, Json, Offline, Out, Quiet, Seed
from cli.output import emit, note, progress, use_quiet

NAME = Annotated[str, typer.Argument(help="{papers}; 'list' says more, 'all' runs them all.")]
MODEL = Annotated[
    str | None,
    typer.Option(
        "-m",
        "--model",
        envvar="WORKBENCH_MODEL",
        help="zoo:NAME, a local directory or a Hub id. Default: the replication's own.",
    ),
]
SET = Annotated[
    list[str] | None, typer.Option("--set", help="A size or threshold, name=value; --dry-run shows them.")
]
DOCS = Annotated[
    Path | None,
    typer.Option(
        "--docs",
        help="With list: write this page of papers. With all: put the tables into it, between its marks.",
    ),
]


def replicate(
    name: NAME,
    model: MODEL = None,
    options: SET = None,
    seed: Seed = 0,
    out: Out = None,
    docs: DOCS = None,
    dry_run: DryRun = False,
    device: Device = None,
    dtype: Dtype = "float32",
    offline: Offline = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure a paper's claims again: its numbers beside yours, controls, a verdict per claim.

    Example: workbench replicate retrieval-heads -m zoo:kv
    """
    use_quiet(quiet)
    if name == "list":
        from workbench.papers.listing import paper_rows, write_page

        emit(paper_rows(), as_json=as_json)
        if docs is not None:
            write_page(docs)
            note(f"wrote {docs}")
        return
    if docs is not None and name != "all":
        raise typer.BadParameter("only list and all write a page of documentation", param_hint="--docs")
    from workbench.commands.asked.papers import check_replication

    if name != "all":
        check_replication(name, options or (), model=model, device=device, dtype=dtype, offline=offline)
    from workbench.core.loading import loading

    with loading():
        from workbench.commands.replicate import (  # torch: after all was looked for
            replicate_all,
            replicate_job,
        )

    common = {"model": model, "seed": seed, "out": out, "device": device, "dtype": dtype, "offline": offline}
    with progress(f"replicate {name}") as advance:
        if name == "all":
            if options or dry_run:
                raise typer.BadParameter("all runs every one on its defaults", param_hint="--set, --dry-run")
            found = replicate_all(docs=docs, progress=advance, note=note, **common)
        else:
            found = replicate_job(
                name, options=options or (), dry_run=dry_run, progress=advance, note=note, **common
            )
    emit(found, as_json=as_json)
    if not dry_run:
        page = (
            "all.html, all.json"
            if name == "all"
            else "run.json, replication.json, report.html, tables, pictures"
        )
        note(f"wrote {found.folder}: {page}")
    if name == "all" and found.failed:
        raise typer.Exit(1)
