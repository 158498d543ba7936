"""Options that several commands share, as annotated types."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperCommand

ModelName = Annotated[
    str,
    typer.Option("-m", "--model", envvar="WORKBENCH_MODEL", help="zoo:NAME, a local directory or a Hub id."),
]
TaskName = Annotated[str, typer.Option("-t", "--task", help="A task ({tasks}) or a .jsonl file of pairs.")]
MetricName = Annotated[
    str | None, typer.Option("--metric", help="{metrics}, or file.py:function. Default: the task's own.")
]
Limit = Annotated[
    int | None,
    typer.Option("-n", "--limit", min=1, help="Number of pairs. Default: 64 of a task, all of a file."),
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of the pairs and of every random choice.")]
Split = Annotated[str, typer.Option("--split", help="train, validation or test.")]
Corruption = Annotated[str | None, typer.Option("--corruption", help="How the corrupted prompt is made.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Quiet = Annotated[
    bool, typer.Option("-q", "--quiet", help="No progress, no notes.", envvar="WORKBENCH_QUIET")
]
Out = Annotated[
    Path | None, typer.Option("-o", "--out", help="Where to write. Default: a folder of its own.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would run and what it costs; load no weights.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run in the same folder.")]
Device = Annotated[
    str | None, typer.Option("--device", help="cpu, cuda, cuda:1. Default: CUDA when there is one.")
]
DeviceMap = Annotated[
    str | None,
    typer.Option(
        "--device-map",
        help="One model over several devices: auto, balanced, sequential. Instead of --device.",
    ),
]
Dtype = Annotated[str, typer.Option("--dtype", help="float32, float64, bfloat16 or float16.")]
Offline = Annotated[bool, typer.Option("--offline", help="Never ask the Hub.", envvar="HF_HUB_OFFLINE")]
Batch = Annotated[
    int,
    typer.Option(
        "--batch-tokens", min=1, help="Most tokens in one forward pass; halved when memory runs out."
    ),
]
MaxMemory = Annotated[
    str | None,
    typer.Option(
        "--max-memory", help="Most memory of the whole process, e.g. 4GB: passes become as small as it needs."
    ),
]
CircuitPath = Annotated[Path, typer.Argument(help="A circuit file, or the folder that has circuit.json.")]
Shard = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="Compute the I-th of N shares, in a folder of its own; workbench runs merge puts them together.",
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="[ADDRESS]",
        help="Compute on a Ray cluster; without an address one is started on this machine.",
    ),
]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="With --ray: how many. Default: as many as have room.")
]


class Spreading(TyperCommand):
    """A command with ``--ray [ADDRESS]``: without an address it stands for a cluster on this machine."""

    def parse_args(self, ctx, args: list[str]) -> list[str]:
        given = list(args)
        for at in reversed([n for n, word in enumerate(given) if word == "--ray"]):
            if at + 1 == len(given) or given[at + 1].startswith("-"):
                given.insert(at + 1, "local")
        return super().parse_args(ctx, given)
