"""`workbench circuit`: look at saved circuits, compare them, and bring them into and out of other formats."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import streams
from cli.options import CircuitPath, Json, labelled
from cli.printing import emit, note
from workbench.commands.forms.shared import KEEP, METHOD, MODEL, OUT, TASK

FORMAT_OF = "Format of another tool."

app = typer.Typer(help="Saved circuits: look, compare, export, import, check.", no_args_is_help=True)

FOLDER = Annotated[Path, typer.Argument(help="A folder with circuits in it, at any depth.")]
OTHER = Annotated[Path, typer.Argument(help="The circuit to compare with.")]
FILES = Annotated[list[Path], typer.Argument(help="Circuit files, or folders that have circuit.json.")]
FOREIGN = Annotated[Path, typer.Argument(help="A file of another tool.")]
FORMAT = Annotated[
    str | None,
    labelled("-f", "--format", claim=FORMAT_OF, more="{exports}; by default by the ending of --out."),
]
IMPORT_FORMAT = Annotated[str, labelled("-f", "--format", claim=FORMAT_OF, more="eap-ig (also MIB).")]
TARGET = Annotated[Path, labelled("-o", "--out", claim=OUT, more="A file; - is standard output.")]
SAVE = Annotated[Path, labelled("-o", "--out", claim=OUT, more="A circuit file, or a folder for it.")]
PAGE = Annotated[Path | None, labelled("-o", "--out", claim=OUT, more="A page. Default: beside the circuit.")]
OPEN = Annotated[bool, typer.Option("--open", help="Open the page in the browser.")]
CHOICE = Annotated[str | None, labelled("--keep", claim=KEEP)]
MOST = Annotated[int, typer.Option("--longest", min=0, help="Longest list to show.")]
MOST_BEFORE = Annotated[int | None, typer.Option("-n", "--limit", min=0, hidden=True)]
POSITIONS = Annotated[
    bool, typer.Option("--positions", help="Count a part once per position. Default: positions left out.")
]
WRITTEN = "Written into the circuit; such files do not say it."


@app.command("list")
def list_(folder: FOLDER = Path("circuits"), as_json: Json = False) -> None:
    """List the circuits in a folder, broken files included.

    Example: workbench circuit list circuits
    """
    from workbench.circuits.files.folder import find_circuits

    rows = [found.to_dict() for found in find_circuits(folder)]
    if as_json:
        emit(rows, as_json=True)
        return
    facts = ("task", "model", "method", "nodes", "edges", "does_task", "faithfulness")
    columns = ("path", *facts, "state", "problem")
    used = [c for c in columns if any(row.get(c) not in (None, "") for row in rows)]
    names = {"does_task": "does the task"}
    emit(
        [{names.get(c, c): row.get(c) for c in used} for row in rows] or f"no circuits in {folder}",
        as_json=False,
    )


@app.command()
def show(circuit: CircuitPath, as_json: Json = False) -> None:
    """Show a circuit: what it is, its heads with roles, its strongest edges.

    Example: workbench circuit show circuits/ioi/gpt2/eap-ig-1f3a
    """
    from workbench.circuits.files.circuit_file import has_evaluation, load_circuit

    loaded, verdicts = load_circuit(circuit), []
    if not as_json and has_evaluation(circuit):
        from workbench.circuits.files.evaluation_file import verdict_rows

        verdicts = verdict_rows(circuit, loaded)
    emit([loaded, verdicts] if verdicts else loaded, as_json=as_json)


@app.command()
def summary(
    circuit: CircuitPath, longest: MOST = 10, limit: MOST_BEFORE = None, as_json: Json = False
) -> None:
    """Count a circuit: size, layers, heads by role, strongest nodes, edges and paths; saved verdicts.

    Example: workbench circuit summary circuits/ioi/gpt2/eap-ig-1f3a --json | jq .roles
    """
    from workbench.circuits.files.circuit_file import load_circuit
    from workbench.circuits.files.evaluation_file import verdict_rows
    from workbench.circuits.summary import summarise

    loaded = load_circuit(circuit)
    emit(
        summarise(loaded, most=longest if limit is None else limit, verdicts=verdict_rows(circuit, loaded)),
        as_json=as_json,
    )


@app.command()
def diff(circuit: CircuitPath, other: OTHER, positions: POSITIONS = False, as_json: Json = False) -> None:
    """Compare two circuits: what only one has, scores that differ, overlap against chance, class by class.

    Circuits of different models are compared by layer and head number, and by the size and depth of classes.

    Example: workbench circuit diff published:ioi circuits/ioi/gpt2/eap-ig-77c0
    """
    from workbench.circuits.compare import compare
    from workbench.circuits.files.circuit_file import load_circuit

    emit(compare(load_circuit(circuit), load_circuit(other), positions=positions), as_json=as_json)


@app.command()
def published(as_json: Json = False) -> None:
    """List the circuits of papers that come with the workbench; published:NAME stands for one anywhere.

    Example: workbench circuit published
    """
    from workbench.circuits.published import list_published

    emit([record.row() for record in list_published()], as_json=as_json)


@app.command()
def export(
    circuit: CircuitPath, format: FORMAT = None, out: TARGET = Path("-"), as_json: Json = False
) -> None:
    """Write a circuit for other tools: graphml, gexf, dot, mermaid, cytoscape, csv, eap-ig, neuronpedia, ...

    Example: workbench circuit export circuits/ioi/gpt2/eap-ig-1f3a -f graphml -o ioi.graphml
    """
    from workbench.circuits.files.circuit_file import load_circuit
    from workbench.circuits.files.export import export as write
    from workbench.circuits.files.export import find_format

    file = None if str(out) == "-" else str(out)
    chosen = find_format(format, file)
    text = write(load_circuit(circuit), chosen.name, file)
    if as_json:
        written = {"text": text} if file is None else {"path": file}
        emit({"format": chosen.name, "bytes": len(text.encode()), **written}, as_json=True)
    elif file is None:
        streams.put_file(text)
    else:
        note(f"wrote {file} ({chosen.name})")


@app.command("import")
def import_(
    file: FOREIGN,
    out: SAVE,
    format: IMPORT_FORMAT = "eap-ig",
    keep: CHOICE = None,
    task: Annotated[str, labelled("--task", claim=TASK, more=WRITTEN)] = "",
    model: Annotated[str, labelled("--model", claim=MODEL, more=WRITTEN)] = "",
    method: Annotated[str, labelled("--method", claim=METHOD, more=WRITTEN)] = "imported",
    unit: Annotated[str, labelled("--unit", claim="Unit of the scores.", more=WRITTEN)] = "unknown",
    as_json: Json = False,
) -> None:
    """Read a circuit of another tool and save it as a circuit file.

    Example: workbench circuit import graph.json -f eap-ig --task ioi --model gpt2 -o circuits/ioi/gpt2/theirs
    """
    from workbench.circuits.files.circuit_file import save_circuit
    from workbench.circuits.files.importers import import_circuit

    made = import_circuit(file, format, keep=keep, task=task, model=model, method=method, unit=unit)
    path = save_circuit(made, out)
    note(f"wrote {path}")
    emit(
        {"path": str(path), "nodes": made.n_nodes, "edges": made.n_edges, "level": made.level},
        as_json=as_json,
    )


@app.command()
def validate(files: FILES, as_json: Json = False) -> None:
    """Check circuit files, and scores and evaluation beside them, strictly. Exit code 3 if one does not pass.

    A file that was changed since it was written does not pass.

    Example: workbench circuit validate circuits/*/*/*
    """
    from workbench.circuits.files.folder import check

    found = [check(file, evaluation=True) for file in files]
    names = ("path", "state", "problem", "note", "hint")
    rows = [{"valid": f.passed} | {name: f.to_dict()[name] for name in names} for f in found]
    shown = [
        {"path": r["path"], "valid": r["valid"], "state": r["state"], "problem": r["problem"] or r["note"]}
        for r in rows
    ]
    emit(rows if as_json else shown, as_json=as_json)
    if not all(row["valid"] for row in rows):
        raise typer.Exit(3)


@app.command()
def view(circuit: CircuitPath, out: PAGE = None, open_page: OPEN = False, as_json: Json = False) -> None:
    """Write the page to explore a circuit: one file, no network.

    Example: workbench circuit view circuits/ioi/gpt2/eap-ig-1f3a -o ioi.html --open
    """
    from workbench.circuits.files.circuit_file import load_circuit, page_path
    from workbench.circuits.files.export import export as write

    path = page_path(circuit) if out is None else out
    text = write(load_circuit(circuit), "html", path)
    emit({"page": str(path), "bytes": len(text.encode())}, as_json=as_json)
    if open_page:
        import webbrowser

        webbrowser.open(path.resolve().as_uri())
