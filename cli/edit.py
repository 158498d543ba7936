"""`workbench edit`: standing changes to how a model computes: made, shown, stacked, measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import Json, Offline, labelled
from cli.printing import emit
from workbench.commands.forms.shared import MODEL, OUT, SETTING

app = typer.Typer(no_args_is_help=True, help="Standing changes to how a model computes.")
Folder = Annotated[Path, typer.Argument(help="A saved edit: the folder that has edit.json.")]
SETTINGS = (
    f"{SETTING} Lists are comma-separated. Positions (keys, queries, recipients) are names or numbers "
    "within the prompt that is run: 0 is its first token, -1 its last, whatever the query."
)
Target = Annotated[
    Path, labelled("-o", "--out", claim=OUT, more="A folder; another edit in it is never replaced.")
]


@app.command("list")
def list_kinds(as_json: Json = False) -> None:
    """Say which kinds of edits there are.

    Example: workbench edit list
    """
    from workbench.edits.making import edit_rows

    emit(edit_rows(), as_json=as_json)


@app.command()
def make(
    kind: Annotated[
        str, typer.Argument(help="{edits}; workbench edit list says which can be made from words.")
    ],
    out: Target,
    settings: Annotated[list[str] | None, typer.Option("--set", help=SETTINGS)] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "-m",
            "--model",
            envvar="WORKBENCH_MODEL",
            help=f"{MODEL} Refuse heads it does not have; no weights are read.",
        ),
    ] = None,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Make an edit from words and save it.

    Example: workbench edit make rows --set heads=a0.h0 --set operation=drop --set keys=0 -o edits/no-bos
    """
    from workbench.edits.file import save_edit
    from workbench.edits.making import make_edit

    edit = make_edit(kind, settings or (), model=model, offline=offline or None)
    emit({"kind": edit.kind, "edit": edit.describe(), "folder": str(save_edit(edit, out))}, as_json=as_json)


@app.command()
def show(folder: Folder, as_json: Json = False) -> None:
    """Show a saved edit, read strictly.

    Example: workbench edit show edits/no-bos
    """
    from workbench.edits.file import describe_edit

    emit(describe_edit(folder), as_json=as_json)


@app.command()
def stack(
    folders: Annotated[list[Path], typer.Argument(help="Saved edits, in the order in which they apply.")],
    out: Target,
    as_json: Json = False,
) -> None:
    """Put saved edits together, in this order, as one.

    Example: workbench edit stack edits/no-bos edits/calibrated -o edits/both
    """
    from workbench.edits.file import load_edit, save_edit
    from workbench.edits.stacked import stack as stacked

    edit = stacked([load_edit(folder) for folder in folders])
    emit({"kind": edit.kind, "edit": edit.describe(), "folder": str(save_edit(edit, out))}, as_json=as_json)
