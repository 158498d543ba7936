"""`workbench evaluate`: judge a saved circuit, by its faithfulness alone or by everything there is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import (
    Batch,
    Corruption,
    Device,
    DryRun,
    Dtype,
    Json,
    Limit,
    MaxMemory,
    MetricName,
    Offline,
    Quiet,
    Seed,
    Split,
)
from cli.output import emit, note, progress, use_quiet

CIRCUIT = Annotated[
    Path,
    typer.Argument(
        help="A circuit file, the folder that has circuit.json, or zoo:NAME for a model's known circuit."
    ),
]
MODEL = Annotated[str | None, typer.Option("-m", "--model", help="Default: the circuit's own model.")]
TASK = Annotated[str | None, typer.Option("-t", "--task", help="Default: the circuit's own task.")]
RANDOM = Annotated[
    int | None,
    typer.Option("--random", min=0, help="Random circuits of the same size. Default: 20; with --full 100."),
]
FULL = Annotated[
    bool,
    typer.Option(
        "--full",
        help="Everything: complete, minimal, tests, robust, stable; writes evaluation.json and a page.",
    ),
]
ABLATION = Annotated[
    str,
    typer.Option(
        "--ablation", help="resample, mean, mean-per-position, mean-per-name, mean-per-template or zero."
    ),
]
EDGES = Annotated[int, typer.Option("--edges", min=1, help="With --full: most edges tested one by one.")]
BOOTSTRAPS = Annotated[
    int, typer.Option("--bootstraps", min=2, help="With --full: circuits found on resampled pairs.")
]
REFITS = Annotated[
    int,
    typer.Option("--refits", min=2, help="The same, for methods that must be run again on each resample."),
]
OUT = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--out",
        help="Folder for faithfulness.json, or with --full for evaluation.json. Default: printed only; "
        "with --full beside the circuit.",
    ),
]


def evaluate(
    circuit: CIRCUIT,
    model: MODEL = None,
    task: TASK = None,
    full: FULL = False,
    ablation: ABLATION = "resample",
    metric: MetricName = None,
    limit: Limit = None,
    split: Split = "test",
    corruption: Corruption = None,
    random_draws: RANDOM = None,
    edges: EDGES = 100,
    bootstraps: BOOTSTRAPS = 100,
    refits: REFITS = 10,
    seed: Seed = 0,
    out: OUT = None,
    dry_run: DryRun = False,
    batch_tokens: Batch = 8192,
    max_memory: MaxMemory = None,
    device: Device = None,
    dtype: Dtype = "float32",
    offline: Offline = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure how much of the behavior a saved circuit keeps; with --full, every verdict with its evidence.

    Example: workbench evaluate circuits/ioi/zoo-ioi/eap-ig-1f3a --full
    """
    from workbench.commands.asked.evaluation import Question

    use_quiet(quiet)
    asked = Question(
        circuit=circuit,
        model=model,
        task=task,
        metric=metric,
        limit=limit,
        split=split,
        corruption=corruption,
        ablation=ablation,
        random_draws=random_draws,
        seed=seed,
    )
    opening = {"batch_tokens": batch_tokens, "max_memory": max_memory, "work": "edges"}
    opening |= {"device": device, "dtype": dtype, "offline": offline}
    asked.check(out=out, full=full, **opening)
    from workbench.core.loading import loading

    with loading():
        from workbench.commands.evaluate import (  # torch: after all was looked for
            evaluation_job,
            judging_job,
            plan_of,
        )

    with progress("evaluate") as advance:
        if full or dry_run:
            plan = plan_of(asked, edges=edges, bootstraps=bootstraps, refits=refits)
            result = judging_job(
                asked, plan=plan, out=out, dry_run=dry_run, progress=advance, note=note, **opening
            )
        else:
            result = evaluation_job(asked, out=out, progress=advance, note=note, **opening)
    emit(result, as_json=as_json)
    if full and not dry_run:
        note(f"wrote {' and '.join(result.files.values())}")
    elif out is not None and not dry_run:
        note(f"wrote {out}/faithfulness.json")
