"""`workbench bench`: every method side by side."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from cli.options import Json, Quiet, Ray, Seed, Shard, Spreading
from cli.output import emit, note, progress, use_quiet

app = typer.Typer(no_args_is_help=True, help="Measure methods side by side.", rich_markup_mode=None)


@app.callback()
def root() -> None:
    """Measure methods side by side."""


@app.command("discovery", cls=Spreading)
def discovery(
    methods: Annotated[
        str | None,
        typer.Option(
            "--methods",
            help="Comma-separated, with options, all,eap-ig:steps=20: {methods}. Default: all.",
        ),
    ] = None,
    truth: Annotated[
        str | None,
        typer.Option("--truth", help="Models with known circuits, comma-separated, or none. Default: all."),
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(
            "--tasks",
            help="Trained tasks MODEL/TASK, comma-separated, or none: zoo:ioi/ioi,zoo:kv/kv-retrieval.",
        ),
    ] = None,
    levels: Annotated[str, typer.Option("--levels", help="edge, node, or both.")] = "edge,node",
    quick: Annotated[
        bool, typer.Option("--quick", help="Two tasks, few pairs, one seed: about two minutes.")
    ] = False,
    seeds: Annotated[
        int | None, typer.Option("--seeds", min=1, help="Draws of pairs, and seeds of methods. [3]")
    ] = None,
    pairs: Annotated[
        int | None, typer.Option("-n", "--limit", min=2, help="Pairs per model and task. [24, 32]")
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option(
            "--noise",
            min=0,
            help="Most noise in the weights of known circuits, so that no edge does exactly nothing. [0.01]",
        ),
    ] = None,
    seed: Seed = 0,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes. Default: 2 where there are 2 cores.")
    ] = None,
    shard: Shard = None,
    ray: Ray = None,
    out: Annotated[
        Path,
        typer.Option("-o", "--out", help="Folder; finished cells in it are kept, so a killed bench goes on."),
    ] = Path("circuits/bench-discovery"),
    docs: Annotated[
        Path | None, typer.Option("--docs", help="Also put the tables into this page, between its marks.")
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Judge every method on models with known circuits, and on trained tasks: one table, one JSON, one page.

    Example: workbench bench discovery --quick -o circuits/bench-quick
    """
    use_quiet(quiet)
    from workbench.bench.settings import settings_of

    settings = settings_of(
        methods=methods,
        truths=truth,
        tasks=tasks,
        levels=levels,
        quick=quick,
        seeds=seeds,
        pairs=pairs,
        noise=noise,
        seed=seed,
    )
    from workbench.core.loading import loading

    with loading():
        from workbench.bench.bench import bench_discovery  # torch: after the names were checked

    with progress("bench") as advance:
        result = bench_discovery(
            settings,
            out,
            workers=workers or (None if ray else min(2, os.cpu_count() or 1)),
            shard=shard,
            ray=ray,
            docs=docs,
            progress=advance,
            note=note,
        )
    emit(result, as_json=as_json)
    if shard is not None:
        note(f"wrote {result.folder}; when all shards are done: workbench runs merge {out}")
        return
    note(f"wrote {out}: bench.json, bench.html, run.json, cells/" + (f"; tables in {docs}" if docs else ""))
