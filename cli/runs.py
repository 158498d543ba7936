"""`workbench runs`: what has been run, what became of it, again, compared, tidied."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import Json, Quiet, labelled
from cli.printing import emit, note, progress, use_quiet, warn
from workbench.commands.forms.shared import METRIC, OUT

if TYPE_CHECKING:
    from workbench.engine.run_folders.consent import Consent

app = typer.Typer(help="Runs on disk: look, continue, repeat, compare, tidy.", no_args_is_help=True)

ROOTS = Annotated[
    list[Path] | None, typer.Argument(help="Folders with runs, at any depth. Default: runs and circuits.")
]
FOLDER = Annotated[Path, typer.Argument(help="The folder of a run: the one with run.json.")]
OTHER = Annotated[Path, typer.Argument(help="The folder to compare with.")]
CODE = Annotated[
    str | None,
    labelled("--metric", claim=METRIC, more="The one that the run names, to let its code run again."),
]
TRUST = Annotated[
    bool,
    typer.Option("--trust-code", help="Run all code that the run's record names; says first what that is."),
]
TO = Annotated[
    Path | None, labelled("-o", "--out", claim=OUT, more="A new or empty folder. Default: FOLDER-again.")
]


def _consent(metric: str | None, trust_code: bool) -> Consent:
    """What this command line lets run; what is trusted is told also when quiet."""
    from workbench.engine.run_folders.consent import Consent

    return Consent(metric=metric, trust_code=trust_code, tell=warn)


@app.command("list")
def list_(folders: ROOTS = None, as_json: Json = False) -> None:
    """List the runs in some folders: what, on what, finished or not, when, how long, how large.

    Example: workbench runs list
    """
    from workbench.engine.run_folders.past_runs import ROOTS as USUAL
    from workbench.engine.run_folders.past_runs import duration, find_runs, roots_of, size, unmerged

    runs = find_runs(folders)
    rows = [run.row() for run in runs]
    if as_json:
        emit(rows, as_json=True)
        return
    shown = [
        {
            **{name: row[name] for name in ("folder", "what", "model", "task")},
            "does the task": row["does_task"],
            **{name: row[name] for name in ("status", "when")},
            "took": duration(row["seconds"]),
            "size": size(row["bytes"]),
        }
        for row in rows
    ]
    emit(shown or "no runs here", as_json=False)
    for folder in unmerged(runs):
        note(f"shards of {folder} are not put together yet: workbench runs merge {folder}")
    looked = roots_of(folders)
    where = (
        f"looked in {', '.join(map(str, looked))}"
        if looked
        else f"no folder {' or '.join(map(str, USUAL))} here"
    )
    note(f"{where}; runs written elsewhere: workbench runs list FOLDER")


@app.command()
def show(folder: FOLDER, as_json: Json = False) -> None:
    """Show everything recorded of a run, and the line to type for the same.

    Example: workbench runs show runs/ablate/ioi/zoo-ioi-1f3a77c0
    """
    from workbench.engine.run_folders.past_runs import look_at

    emit(look_at(folder), as_json=as_json)


@app.command()
def resume(
    folder: FOLDER,
    metric: CODE = None,
    trust_code: TRUST = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Continue an interrupted or killed run from its record alone.

    Code that the record names, such as a metric of one's own, runs only with --metric or --trust-code.

    Example: workbench runs resume runs/ablate/ioi/zoo-ioi-1f3a77c0
    """
    from workbench.commands.again import resume as again
    from workbench.engine.run_folders.past_runs import look_at

    use_quiet(quiet)
    with progress("resume") as advance:
        result = again(folder, consent=_consent(metric, trust_code), progress=advance, note=note)
    emit(look_at(folder) if result is None else result, as_json=as_json)


@app.command()
def rerun(
    folder: FOLDER,
    out: TO = None,
    metric: CODE = None,
    trust_code: TRUST = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Repeat a run from its record into another folder; nothing is ever overwritten.

    Code that the record names, such as a metric of one's own, runs only with --metric or --trust-code.

    Example: workbench runs rerun runs/ablate/ioi/zoo-ioi-1f3a77c0 -o again
    """
    from workbench.commands.again import rerun as repeat

    use_quiet(quiet)
    with progress("rerun") as advance:
        to, result = repeat(folder, out, consent=_consent(metric, trust_code), progress=advance, note=note)
    emit(result, as_json=as_json)
    note(f"wrote {to}; which numbers moved: workbench runs diff {folder} {to}")


@app.command()
def merge(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders of shards, or the folder that has them all in it.")
    ],
    out: Annotated[
        Path | None,
        labelled("-o", "--out", claim=OUT, more="Default: the folder that the shards are in."),
    ] = None,
    metric: CODE = None,
    trust_code: TRUST = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Put the shards of one run together: the same result, to the last bit, as one process would have written.

    Example: workbench runs merge runs/ablate/ioi/zoo-ioi-1f3a77c0
    """
    from workbench.commands.merge import merge as put_together

    use_quiet(quiet)
    with progress("merge") as advance:
        folder, result = put_together(
            folders, out, consent=_consent(metric, trust_code), progress=advance, note=note
        )
    emit(result, as_json=as_json)
    note(f"wrote {folder}")


@app.command()
def diff(
    folder: FOLDER,
    other: OTHER,
    tolerance: Annotated[
        float, typer.Option("--tolerance", help="Largest move that passes, over the number and over 1.")
    ] = 0.0,
    as_json: Json = False,
) -> None:
    """Say which numbers moved between two runs, and by how much. Exit code 3 if one moved beyond the tolerance.

    Example: workbench runs diff runs/ablate/ioi/zoo-ioi-1f3a77c0 again --tolerance 1e-6
    """
    from workbench.engine.run_folders.differences import compare_runs

    found = compare_runs(folder, other, tolerance=tolerance)
    emit(found, as_json=as_json)
    if not found.within:
        raise typer.Exit(3)


@app.command()
def clean(
    folders: ROOTS = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it. Without this it is only shown.")] = False,
    as_json: Json = False,
) -> None:
    """Show what runs left behind and nobody needs, and remove it with --yes; never a result.

    Half-written files, parts of finished tables, locks that nobody holds. Results, records and shards stay,
    and runs that are going on are left alone.

    Example: workbench runs clean --yes
    """
    from workbench.engine.run_folders.leftovers import tidy

    emit(tidy(folders, remove=yes), as_json=as_json)


@app.command()
def verify(
    places: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders with runs, at any depth, or single files. Default: runs and circuits."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say of every file whether it is as it was written. Exit code 3 if one was changed, is missing or unreadable.

    Each file has a digest over its content, and the record of a run has one of every file of its results.

    Example: workbench runs verify runs circuits
    """
    from workbench.engine.run_folders.verification import verify as check

    found = check(places)
    emit(found, as_json=as_json)
    if not found.passed:
        raise typer.Exit(3)
