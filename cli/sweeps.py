"""`workbench ablate`, `patch` and `path-patch`: exact effects, in tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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
    Spreading,
    TaskName,
    Workers,
)
from cli.output import emit, note, progress, use_quiet

Nodes = Annotated[
    list[str] | None, typer.Option("--node", help="An address such as a9.h9 or m3; may be repeated.")
]
Plot = Annotated[Path | None, typer.Option("--plot", help="Also draw the heatmap: a .svg or .png file.")]
Positions = Annotated[
    list[str] | None,
    typer.Option("--position", help="A named or numbered position; may be repeated; 'each' for all names."),
]

_TITLES = {
    "ablate": "ablation",
    "patch": "patching",
    "path-patch": "path patching",
    "knock-out": "knock out",
}


def ablate(
    model: ModelName,
    task: TaskName,
    parts: Annotated[str, typer.Option("--parts", help="heads, mlps, attention or layers.")] = "heads",
    node: Nodes = None,
    together: Annotated[bool, typer.Option("--together", help="Ablate all --node at once: one row.")] = False,
    ablation: Annotated[
        str,
        typer.Option(
            "--ablation", help="resample, mean, mean-per-position, mean-per-name, mean-per-template or zero."
        ),
    ] = "resample",
    reference: Annotated[
        Path | None, typer.Option("--reference", help="Pairs (.jsonl) whose clean prompts give the means.")
    ] = None,
    position: Positions = None,
    metric: MetricName = None,
    limit: Limit = None,
    split: Split = "test",
    corruption: Corruption = None,
    seed: Seed = 0,
    out: Out = None,
    plot: Plot = None,
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
    """Ablate heads, MLPs or layers one by one and measure what the metric loses.

    Example: workbench ablate -m zoo:ioi -t ioi --ablation mean
    """
    _do("ablate", locals())


def patch(
    model: ModelName,
    task: TaskName,
    site: Annotated[
        str,
        typer.Option("--site", help="resid, attn-out, mlp-out, head-output, q, k, v or pattern."),
    ] = "head-output",
    node: Nodes = None,
    mode: Annotated[
        str,
        typer.Option("--mode", help="denoising: clean into corrupted. noising: corrupted into clean."),
    ] = "denoising",
    position: Positions = None,
    metric: MetricName = None,
    limit: Limit = None,
    split: Split = "test",
    corruption: Corruption = None,
    seed: Seed = 0,
    out: Out = None,
    plot: Plot = None,
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
    """Patch activations of one run into the other, site by site.

    Example: workbench patch -m zoo:ioi -t ioi --site resid --position each
    """
    _do("patch", locals())


def path_patch(
    model: ModelName,
    task: TaskName,
    receiver: Annotated[
        list[str], typer.Option("--receiver", help="a9.h9<q>, a9.g1<k>, m3 or logits; may be repeated.")
    ],
    sender: Annotated[
        list[str] | None,
        typer.Option("--sender", help="a5.h5, m3 or input; may be repeated. Default: all heads."),
    ] = None,
    together: Annotated[bool, typer.Option("--together", help="All senders at once: one row.")] = False,
    mlps: Annotated[
        str, typer.Option("--mlps", help="recomputed (as for IOI) or frozen (direct paths).")
    ] = "recomputed",
    mode: Annotated[str, typer.Option("--mode", help="noising or denoising.")] = "noising",
    position: Positions = None,
    metric: MetricName = None,
    limit: Limit = None,
    split: Split = "test",
    corruption: Corruption = None,
    seed: Seed = 0,
    out: Out = None,
    plot: Plot = None,
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
    """Patch the paths from senders to receivers; other heads are held fixed, MLPs recomputed or frozen.

    Example: workbench path-patch -m zoo:ioi -t ioi --receiver logits
    """
    _do("path-patch", locals())


def knock_out(
    model: ModelName,
    task: TaskName,
    query: Annotated[str, typer.Option("--query", help="Position that looks: a name or a number.")],
    key: Annotated[str, typer.Option("--key", help="Position that may not be looked at.")],
    node: Nodes = None,
    together: Annotated[bool, typer.Option("--together", help="All of them at once: one row.")] = False,
    metric: MetricName = None,
    limit: Limit = None,
    split: Split = "test",
    corruption: Corruption = None,
    seed: Seed = 0,
    out: Out = None,
    plot: Plot = None,
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
    """Forbid heads to look from one position at another.

    Example: workbench knock-out -m zoo:ioi -t ioi --query end --key IO
    """
    _do("knock-out", locals())


def _do(command: str, given: dict[str, Any]) -> None:
    """Run a job with the command's options and print its table, or its plan with ``--dry-run``."""
    from workbench.commands.asked.sweep import check_sweep
    from workbench.core.errors import OptionError

    as_json, quiet = given.pop("as_json"), given.pop("quiet")
    use_quiet(quiet)
    plot = given.pop("plot")
    if plot is not None and plot.suffix.lower() not in (".svg", ".png"):
        raise OptionError(f"cannot draw {plot}", hint="use a file that ends in .svg or .png")
    given["positions"] = tuple(given.pop("position", None) or ())
    check_sweep(**given)
    from workbench.core.loading import loading

    with loading():
        from workbench.commands.sweeps import JOBS  # torch: after all that is named was looked for

    with progress(_TITLES[command]) as advance:
        result = JOBS[command](progress=advance, note=note, **given)
    emit(result, as_json=as_json)
    if given["dry_run"]:
        note(
            "prompt_passes: one prompt once through all layers; an edit at a later layer counts as the share it runs. "
            "seconds: matrix products alone; importing, opening the model and saving come on top, a few seconds"
        )
    folder: Path | None = getattr(result, "folder", None)
    if folder is None:
        return
    if given["shard"] is not None:
        note(f"wrote {folder}; when all shards are done: workbench runs merge {folder.parent}")
        return
    if plot is not None:
        note(f"drew {result.effects.save_picture(plot)}")
    note(f"wrote {folder}/effects.parquet and run.json")


def mount(app: typer.Typer) -> None:
    """Put the commands on the app."""
    for name, command in (
        ("ablate", ablate),
        ("patch", patch),
        ("path-patch", path_patch),
        ("knock-out", knock_out),
    ):
        app.command(name, cls=Spreading)(command)
