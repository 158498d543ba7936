"""`workbench discover`: find a circuit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import (
    Batch,
    Corruption,
    Device,
    DeviceMap,
    DryRun,
    Dtype,
    Json,
    Limit,
    MaxMemory,
    MetricName,
    ModelName,
    Offline,
    Out,
    Quiet,
    Ray,
    Resume,
    Seed,
    Shard,
    Split,
    TaskName,
    Workers,
)
from cli.output import emit, note, progress, use_quiet

Level = Annotated[
    str | None, typer.Option("--level", help="edge, node or neuron. Default: the method's first.")
]


def discover(
    model: ModelName,
    task: TaskName,
    method: Annotated[
        str, typer.Option("--method", help="{methods}; workbench methods says more.")
    ] = "eap-ig",
    keep: Annotated[
        str | None,
        typer.Option(
            "--keep",
            help="5%, 200, '>=0.01' or own (as the method decides). Default: own where it does, else 5%.",
        ),
    ] = None,
    level: Level = None,
    per_position: Annotated[
        bool, typer.Option("--per-position", help="Score every named position by itself.")
    ] = False,
    signed: Annotated[
        bool | None,
        typer.Option(
            "--signed/--absolute",
            help="Rank by what helps, or by size. Default: as the method does.",
            show_default=False,
        ),
    ] = None,
    greedy: Annotated[
        bool | None,
        typer.Option(
            "--greedy/--best",
            help="Grow from the logits, always connected, or take the best wherever they are.",
            show_default=False,
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", help="An option of the method, such as steps=10; may be repeated."),
    ] = None,
    metric: MetricName = None,
    limit: Limit = None,
    split: Split = "train",
    test_split: Annotated[str, typer.Option("--test-split", help="Pairs the circuit is judged on.")] = "test",
    corruption: Corruption = None,
    random_draws: Annotated[int, typer.Option("--random", min=0, help="Random circuits per size.")] = 5,
    seed: Seed = 0,
    out: Out = None,
    dry_run: DryRun = False,
    resume: Resume = False,
    shard: Shard = None,
    ray: Ray = None,
    workers: Workers = None,
    batch_tokens: Batch = 8192,
    max_memory: MaxMemory = None,
    device: Device = None,
    device_map: DeviceMap = None,
    dtype: Dtype = "float32",
    offline: Offline = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Find a circuit: score every edge (or node), keep the best, judge it on other prompts, save it.

    Example: workbench discover -m zoo:ioi -t ioi --method eap-ig --keep 5%
    """
    from workbench.commands.asked.search import Search, method_options

    use_quiet(quiet)
    asked = Search(
        model=model,
        task=task,
        method=method,
        keep=keep,
        level=level,
        per_position=per_position,
        signed=signed,
        greedy=greedy,
        options=method_options(option),
        metric=metric,
        limit=limit,
        split=split,
        test_split=test_split,
        corruption=corruption,
        random_draws=random_draws,
        seed=seed,
        batch_tokens=batch_tokens,
        max_memory=max_memory,
        device=device,
        device_map=device_map,
        dtype=dtype,
        offline=offline,
    )
    asked.check(shard=shard, ray=ray, workers=workers)
    from workbench.core.loading import loading

    with loading():
        from workbench.commands.discover import discovery_job  # torch: after all that is named was looked for

    with progress("discover") as advance:
        result = discovery_job(
            asked,
            out=out,
            dry_run=dry_run,
            resume=resume,
            shard=shard,
            ray=ray,
            workers=workers,
            progress=advance,
            note=note,
        )
    emit(result, as_json=as_json)
    if shard is not None and not dry_run:
        note(f"wrote {result.folder}; when all shards are done: workbench runs merge {result.folder.parent}")
    elif not dry_run:
        note(f"wrote {result.folder}: circuit.json, scores.safetensors, circuit.html, report.html, run.json")


def methods(as_json: Json = False) -> None:
    """List the methods that score nodes or edges.

    Example: workbench methods
    """
    from workbench.methods.registry import METHODS

    rows = []
    for name, found in METHODS.items():
        rows.append(
            {
                "method": name,
                "levels": ", ".join(found.levels),
                "options": ", ".join(
                    f"{o}={_short(getattr(found.options(), o))}" for o in found.option_names()
                )
                or "-",
                "claim": found.claim,
                "source": found.source,
            }
        )
    emit(rows, as_json=as_json)


def _short(value: object) -> str:
    """An option's default as one would type it; 2.1972245773362196 is 2.2."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def demo(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for circuits.")] = Path("circuits"),
    model: Annotated[
        str, typer.Option("-m", "--model", help="zoo:NAME, a directory or a Hub id.")
    ] = "zoo:ioi",
    limit: Limit = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """The main job, start to end: ablate all heads on IOI, discover a circuit, judge it, save and show it.

    Example: workbench demo
    """
    use_quiet(quiet)
    from workbench.commands.asked.opening import check_model

    check_model(model)
    from workbench.core.loading import loading

    with loading():
        from workbench.commands.discover import demo_job  # torch: after the model was looked for

    with progress("demo") as advance:
        result = demo_job(model=model, root=out, limit=limit, seed=seed, progress=advance, note=note)
    emit(result, as_json=as_json)
