"""`workbench reproduce`: the study behind a published circuit, re-run on one's own model."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.options import Batch, Device, DryRun, Dtype, Json, Limit, Offline, Out, Quiet, Resume, Seed, Split
from cli.output import emit, note, progress, use_quiet

STUDY = Annotated[str, typer.Argument(help="ioi; 'list' says which studies there are.")]
REFERENCE = Annotated[
    int, typer.Option("--reference-pairs", min=1, help="Prompts that means are taken over, these included.")
]
MODEL = Annotated[
    str | None,
    typer.Option("-m", "--model", envvar="WORKBENCH_MODEL", help="zoo:NAME, a local directory or a Hub id."),
]


def reproduce(
    study: STUDY,
    model: MODEL = None,
    limit: Limit = None,
    split: Split = "test",
    seed: Seed = 0,
    reference: REFERENCE = 256,
    out: Out = None,
    dry_run: DryRun = False,
    resume: Resume = False,
    batch_tokens: Batch = 8192,
    device: Device = None,
    dtype: Dtype = "float32",
    offline: Offline = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Re-run a published study on a model: its steps in order, its numbers beside yours, a verdict per claim.

    Example: workbench reproduce ioi -m gpt2
    """
    use_quiet(quiet)
    if study == "list":
        from workbench.papers.studies.registry import study_rows

        emit(study_rows(), as_json=as_json)
        return
    if model is None:
        raise typer.BadParameter("which model? -m gpt2, zoo:ioi or a directory", param_hint="--model")
    from workbench.commands.asked.papers import check_reproduction

    check_reproduction(study, model=model, split=split, device=device, dtype=dtype, offline=offline)
    from workbench.core.loading import loading

    with loading():
        from workbench.commands.reproduce import reproduce_job  # torch: after all was looked for

    with progress(f"reproduce {study}") as advance:
        result = reproduce_job(
            study,
            model=model,
            limit=limit,
            split=split,
            seed=seed,
            n_reference=reference,
            out=out,
            resume=resume,
            dry_run=dry_run,
            batch_tokens=batch_tokens,
            device=device,
            dtype=dtype,
            offline=offline,
            progress=advance,
            note=note,
        )
    emit(result, as_json=as_json)
    if not dry_run:
        note(
            f"wrote {result.folder}: run.json, study.json, report.html, tables, circuit.json if there is one"
        )
