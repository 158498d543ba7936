"""`workbench task`: what tasks there are, what their prompts look like, and whether a file of pairs works."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import streams
from cli.options import (
    Corruption,
    Json,
    Offline,
    Revision,
    Seed,
    Split,
    TaskOptions,
    TrustRemoteCode,
    labelled,
)
from cli.printing import emit, note
from workbench.commands.forms.shared import LIMIT, MODEL, OUT

if TYPE_CHECKING:
    from workbench.tasks.pairs import Pairs
    from workbench.tasks.reading import Reading

app = typer.Typer(help="Tasks: prompt pairs, built in or your own.", no_args_is_help=True)

NAME = Annotated[str, typer.Argument(help="A task (workbench task list).")]
TASK = Annotated[str, typer.Argument(help="A task (workbench task list), or a .jsonl file of pairs.")]
FILE = Annotated[Path, typer.Argument(help="A .jsonl file of pairs; - is standard input.")]
COUNT = Annotated[int, typer.Option("-n", "--limit", min=1, help=LIMIT)]
READER = Annotated[
    str | None,
    labelled("-m", "--model", claim=MODEL, more="Also show what its tokenizer makes of them."),
]
OPTION = Annotated[list[str] | None, typer.Option("--option", hidden=True)]  # before --task-option
OUT_FILE = Annotated[Path, labelled("-o", "--out", claim=OUT, more="A .jsonl file; - is standard output.")]


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the tasks that can be made.

    Example: workbench task list
    """
    from workbench.tasks.registry import list_tasks

    tasks = [task.to_dict() for task in list_tasks()]
    if as_json:
        emit(tasks, as_json=True)
        return
    columns = ("name", "describe", "metric", "corruptions", "positions")
    emit([{key: task[key] for key in columns} for task in tasks], as_json=False)


@app.command()
def show(
    name: TASK,
    model: READER = None,
    limit: COUNT = 3,
    seed: Seed = 0,
    split: Split = "test",
    corruption: Corruption = None,
    task_option: TaskOptions = None,
    option: OPTION = None,
    revision: Revision = None,
    offline: Offline = False,
    trust_remote_code: TrustRemoteCode = False,
    as_json: Json = False,
) -> None:
    """Show what a task is and some of its pairs, positions in brackets.

    Example: workbench task show ioi -m zoo:ioi --task-option order=abba
    """
    from workbench.tasks.task_page import task_page

    reading = None
    if model is not None:
        from workbench.commands.asked.inputs import check_opening

        check_opening(
            model=model, offline=offline, revision=revision, task=name, split=split, corruption=corruption
        )
        reading = _reading(model, revision, offline, trust_remote_code)
    asked: dict[str, Any] = {"n": limit, "seed": seed, "split": split, "corruption": corruption}
    emit(
        task_page(name, reading=reading, options=[*(task_option or ()), *(option or ())], **asked),
        as_json=as_json,
    )


@app.command()
def make(
    name: NAME,
    out: OUT_FILE,
    limit: COUNT = 100,
    seed: Seed = 0,
    split: Split = "test",
    corruption: Corruption = None,
    task_option: TaskOptions = None,
    option: OPTION = None,
) -> None:
    """Write pairs of a task to a file, to look at, edit or hand on.

    Example: workbench task make ioi -n 200 -o ioi.jsonl
    """
    from workbench.tasks.registry import get_task, make_pairs, parse_options

    options: dict[str, Any] = parse_options(get_task(name), [*(task_option or ()), *(option or ())])
    pairs = make_pairs(name, n=limit, seed=seed, split=split, corruption=corruption, **options)
    note(f"wrote {len(pairs)} pairs to {_written(pairs, out)}")


@app.command()
def check(
    file: FILE,
    model: Annotated[
        str | None, labelled("-m", "--model", claim=MODEL, more="Check against its tokenizer too.")
    ] = None,
    revision: Revision = None,
    offline: Offline = False,
    trust_remote_code: TrustRemoteCode = False,
    as_json: Json = False,
) -> None:
    """Check a file of pairs line by line; exit code 3 when a line does not pass.

    Example: workbench task check my-pairs.jsonl -m zoo:ioi
    """
    from workbench.tasks.check import check_pairs

    reading = None
    if model is not None:
        from workbench.commands.asked.inputs import check_opening

        check_opening(
            model=model, offline=offline, revision=revision, task=None if str(file) == "-" else str(file)
        )
        reading = _reading(model, revision, offline, trust_remote_code)
    report = check_pairs(file, reading=reading)
    emit(report, as_json=as_json)
    if not report.passes:
        raise typer.Exit(3)


@app.command("import")
def import_(
    format_: Annotated[str, typer.Argument(metavar="FORMAT", help="eap-ig, auto-circuit or mib.")],
    file: Annotated[Path, typer.Argument(help="The file to read.")],
    out: OUT_FILE,
    model: Annotated[
        str | None, labelled("-m", "--model", claim=MODEL, more="The one whose token ids the file holds.")
    ] = None,
    layout: Annotated[str, typer.Option("--layout", help="Column layout of an EAP-IG csv.")] = "",
    counterfactual: Annotated[str, typer.Option("--counterfactual", help="Which one of a MIB row.")] = "",
    corrupted: Annotated[str, typer.Option("--corrupted", help="Column with the corrupted prompt.")] = "",
    skip: Annotated[
        bool, typer.Option("--skip", help="Leave out rows that cannot be used, and say so.")
    ] = False,
    revision: Revision = None,
    offline: Offline = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Turn another tool's file of pairs into a .jsonl file.

    Example: workbench task import eap-ig ioi/gpt2.csv -m gpt2 -o ioi.jsonl
    """
    from workbench.tasks.importers import Request, import_pairs
    from workbench.tasks.pairs_file import refuse

    tokenizer = None
    if model is not None:
        from workbench.commands.asked.inputs import check_files, check_opening

        check_files([file])
        check_opening(model=model, offline=offline, revision=revision)
        tokenizer = _reading(model, revision, offline, trust_remote_code).tokenizer
    request = Request(tokenizer=tokenizer, layout=layout, counterfactual=counterfactual, corrupted=corrupted)
    found = import_pairs(format_, file, request=request)
    if not skip or not len(found.pairs):
        refuse(found.problems, str(file))
    for problem in found.problems[:20]:
        note(f"left out: {problem}")
    said = f"; left out {found.n_rows - len(found.pairs)} rows" if found.problems else ""
    note(f"wrote {len(found.pairs)} pairs to {_written(found.pairs, out)}{said}")


def _written(pairs: Pairs, out: Path) -> str:
    """Where pairs went: to a file, or to standard output."""
    if str(out) != "-":
        return str(pairs.save(out))
    streams.put_file(pairs.to_jsonl())
    return "standard output"


def _reading(model: str, revision: str | None, offline: bool, trust: bool) -> Reading:
    """How a model reads text; torch is loaded after all that is named was looked for."""
    from workbench.model.from_files import reading_of

    return reading_of(model, revision=revision, offline=offline or None, trust_remote_code=trust)
