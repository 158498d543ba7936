"""``workbench circuit``: look at saved circuits, compare them, and bring them into and out of other formats."""

from __future__ import annotations

import webbrowser
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.circuits.circuit import Circuit
from workbench.circuits.compare import Comparison, compare
from workbench.circuits.details import DetailsContent
from workbench.circuits.files.annotations_file import FILE_NAME as ANNOTATIONS_NAME
from workbench.circuits.files.annotations_file import find_annotations, load_annotations, save_annotations
from workbench.circuits.files.circuit_file import (
    EVALUATION_NAME,
    FILE_NAME,
    circuit_path,
    has_evaluation,
    load_circuit,
    page_path,
    save_circuit,
)
from workbench.circuits.files.details_file import FILE_NAME as DETAILS_NAME
from workbench.circuits.files.details_file import find_details, find_other_details
from workbench.circuits.files.evaluation_file import find_evaluation, verdict_rows
from workbench.circuits.files.export import export, find_format
from workbench.circuits.files.folder import FoundCircuit, check, find_circuits
from workbench.circuits.files.importers import import_circuit
from workbench.circuits.files.neuronpedia import to_neuronpedia
from workbench.circuits.files.scores_file import scores_beside
from workbench.circuits.published import list_published
from workbench.circuits.selection.rules import Ranking, said, said_least
from workbench.circuits.show.two_circuits import two_circuits_page
from workbench.circuits.summary import Summary, summarise
from workbench.circuits.verdicts.judgement import circuit_digest
from workbench.commands.forms.shared import KEEP, METHOD, MODEL, OUT, TASK
from workbench.commands.told import STDOUT, Listing, Output, columns_used
from workbench.core.atomic import write_output
from workbench.core.command import Command, argument, command, option
from workbench.core.errors import CircuitError, OptionError
from workbench.core.job import Job
from workbench.core.show import Told
from workbench.methods.registry import get_method

FORMAT = "Format of another tool."
WRITTEN = "Written into the circuit; such files do not say it."


def circuit_named() -> Any:
    """Declare the circuit that a command is about."""
    return argument("A circuit file, or the folder that has circuit.json.")


def scores_path(circuit: Path) -> Path:
    """Say where the scores of a circuit are: beside it."""
    return (circuit if circuit.is_dir() else circuit.parent) / "scores.safetensors"


def page_beside(path: Path) -> Path:
    """Say where the page of a saved circuit goes by default.

    ``circuit.html`` is what a discovery wrote, and its record knows the bytes. A page with more than the circuit and
    its scores (details, annotations, an evaluation) is ``page.html``.
    """
    file = circuit_path(path)
    more = (DETAILS_NAME, ANNOTATIONS_NAME, EVALUATION_NAME)
    has_more = file.name == FILE_NAME and any((file.parent / name).is_file() for name in more)
    return file.with_name("page.html") if has_more else page_path(path)


def page_of_file(path: Path) -> str:
    """Return the page of a saved circuit with what lies beside it: scores, details, evaluation."""
    circuit = load_circuit(path)
    judged, details = find_evaluation(path, circuit), find_details(path, circuit)
    text: str = circuit.page(
        scores=scores_beside(path, circuit),
        path=str(path),
        details=details,
        others=[] if details is None else find_other_details(path, details),
        evidence=None if judged is None else judged.document["evidence"],
        clusters=() if judged is None else judged.document["pairs"].get("clusters") or (),
        annotations=find_annotations(path, circuit),
    )
    return text


def all_details(path: Path, circuit: Circuit) -> list[DetailsContent]:
    """Return what was measured of a circuit's heads and edges under each ablation; empty where nothing was."""
    if not circuit_path(path).is_file():
        return []
    first = find_details(path, circuit)
    return [] if first is None else [first, *find_other_details(path, first)]


@command("circuit list", offers=())
@dataclass(frozen=True, kw_only=True)
class ListCircuits(Command):
    """List the circuits in a folder, broken files included.

    Example: workbench circuit list circuits
    """

    folder: Path = argument("A folder with circuits in it, at any depth.", default=Path("circuits"))

    def run(self, job: Job) -> Listing:
        rows = [found.to_dict() for found in find_circuits(self.folder)]
        facts = ("task", "model", "method", "nodes", "edges", "does the task", "faithfulness")
        named = [{**row, "does the task": row.get("does_task")} for row in rows]
        shown = columns_used(named, ("path", *facts, "state", "problem"))
        return Listing(rows=rows, shown=shown, nothing=f"no circuits in {self.folder}")


@dataclass(frozen=True, kw_only=True)
class CircuitHere(Told):
    """A circuit of a file; a terminal shows the verdicts beside it too."""

    path: Path
    circuit: Circuit

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return self.circuit.to_dict()

    def to_terminal(self) -> list[Any]:
        """Return lines, rows and tables for a terminal."""
        rows = verdict_rows(self.path, self.circuit) if has_evaluation(self.path) else []
        return [self.circuit, *([rows] if rows else [])]


@command("circuit show", offers=())
@dataclass(frozen=True, kw_only=True)
class ShowCircuit(Command):
    """Show a circuit: what it is, its heads with roles, its strongest edges.

    Example: workbench circuit show circuits/ioi/gpt2/eap-ig-1f3a
    """

    circuit: Path = circuit_named()

    def run(self, job: Job) -> CircuitHere:
        return CircuitHere(path=self.circuit, circuit=load_circuit(self.circuit))


@command("circuit summary", offers=())
@dataclass(frozen=True, kw_only=True)
class SummariseCircuit(Command):
    """Count a circuit: size, layers, heads by role, strongest nodes, edges and paths; saved verdicts.

    Example: workbench circuit summary circuits/ioi/gpt2/eap-ig-1f3a --json | jq .roles
    """

    circuit: Path = circuit_named()
    longest: int = option(
        "--longest", help="Longest list to show.", default=10, least=0, before=("-n", "--limit")
    )

    def run(self, job: Job) -> Summary:
        loaded = load_circuit(self.circuit)
        return summarise(loaded, most=self.longest, verdicts=verdict_rows(self.circuit, loaded))


@command("circuit diff", offers=())
@dataclass(frozen=True, kw_only=True)
class CompareCircuits(Command):
    """Compare two circuits: what only one has, scores that differ, overlap against chance, class by class.

    Circuits of different models are compared by layer and head number, and by the size and depth of classes.

    Example: workbench circuit diff published:ioi circuits/ioi/gpt2/eap-ig-77c0
    """

    circuit: Path = circuit_named()
    other: Path = argument("The circuit to compare with.")
    positions: bool = option(
        "--positions", help="Count a part once per position. Default: positions left out.", default=False
    )
    out: Path | None = option(
        "-o", "--out", help=f"{OUT} A page with both circuits. Default: none.", default=None, recorded=False
    )

    def run(self, job: Job) -> Comparison:
        here, there = load_circuit(self.circuit), load_circuit(self.other)
        if self.out is not None:
            paths = str(self.circuit), str(self.other)
            details = all_details(self.circuit, here), all_details(self.other, there)
            write_output(self.out, two_circuits_page(here, there, paths=paths, details=details))
        return compare(here, there, positions=self.positions)

    def said(self, result: Comparison, job: Job) -> Iterator[str]:
        if self.out is not None:
            yield f"wrote {self.out}"


@command("circuit published", offers=())
@dataclass(frozen=True, kw_only=True)
class ListPublished(Command):
    """List the circuits of papers that come with the workbench; published:NAME stands for one anywhere.

    Example: workbench circuit published
    """

    def run(self, job: Job) -> Listing:
        return Listing(rows=[record.row() for record in list_published()])


@command("circuit export", offers=())
@dataclass(frozen=True, kw_only=True)
class ExportCircuit(Command):
    """Write a circuit for other tools: graphml, gexf, dot, mermaid, cytoscape, csv, eap-ig, neuronpedia, ...

    Example: workbench circuit export circuits/ioi/gpt2/eap-ig-1f3a -f graphml -o ioi.graphml
    """

    circuit: Path = circuit_named()
    format: str | None = option(
        "-f", "--format", help=f"{FORMAT} {{exports}}; by default by the ending of --out.", default=None
    )
    out: Path = option("-o", "--out", help=f"{OUT} A file; - is standard output.", default=STDOUT)

    def run(self, job: Job) -> Output:
        file = None if self.out == STDOUT else str(self.out)
        chosen, circuit = find_format(self.format, file).name, load_circuit(self.circuit)
        written = find_annotations(self.circuit, circuit) if chosen == "neuronpedia" else None
        if written is None:
            text = export(circuit, chosen, file)
        else:
            text = to_neuronpedia(circuit, annotations=written)
            if file is not None:
                write_output(self.out, text)
        return Output(text=text, path=self.out, facts={"format": chosen, "bytes": len(text.encode())})

    def said(self, result: Output, job: Job) -> Iterator[str]:
        if self.out != STDOUT:
            yield f"wrote {self.out} ({result.facts['format']})"


@command("circuit import", offers=())
@dataclass(frozen=True, kw_only=True)
class ImportCircuit(Command):
    """Read a circuit of another tool and save it as a circuit file.

    Example: workbench circuit import graph.json -f eap-ig --task ioi --model gpt2 -o circuits/ioi/gpt2/theirs
    """

    file: Path = argument("A file of another tool.")
    out: Path = option("-o", "--out", help=f"{OUT} A circuit file, or a folder for it.")
    format: str = option("-f", "--format", help=f"{FORMAT} {{circuit_imports}}.", default="eap-ig")
    keep: str | None = option("--keep", help=KEEP, default=None)
    task: str = option("--task", help=f"{TASK} {WRITTEN}", default="")
    model: str = option("--model", help=f"{MODEL} {WRITTEN}", default="")
    method: str = option("--method", help=f"{METHOD} {WRITTEN}", default="imported")
    unit: str = option("--unit", help=f"Unit of the scores. {WRITTEN}", default="unknown")

    def run(self, job: Job) -> dict[str, Any]:
        fields = {name: getattr(self, name) for name in ("task", "model", "method", "unit")}
        made = import_circuit(self.file, self.format, keep=self.keep, **fields)
        path = save_circuit(made, self.out)
        return {"path": str(path), "nodes": made.n_nodes, "edges": made.n_edges, "level": made.level}

    def said(self, result: dict[str, Any], job: Job) -> Iterator[str]:
        yield f"wrote {result['path']}"


@dataclass(frozen=True, kw_only=True)
class CheckedCircuits(Told):
    """Circuit files, and whether each passed."""

    found: tuple[FoundCircuit, ...]

    def to_dict(self) -> list[dict[str, Any]]:
        """Return it as JSON values."""
        names = ("path", "state", "problem", "note", "hint")
        return [{"valid": one.passed, **{name: one.to_dict()[name] for name in names}} for one in self.found]

    def to_terminal(self) -> list[Any]:
        """Return lines, rows and tables for a terminal."""
        rows = self.to_dict()
        names = ("path", "valid", "state")
        return [{**{n: row[n] for n in names}, "problem": row["problem"] or row["note"]} for row in rows]


@command("circuit validate", offers=())
@dataclass(frozen=True, kw_only=True)
class ValidateCircuits(Command):
    """Check circuit files, and scores and evaluation beside them, strictly. Exit code 3 if one does not pass.

    A file that was changed since it was written does not pass.

    Example: workbench circuit validate circuits/*/*/*
    """

    files: tuple[Path, ...] = argument("Circuit files, or folders that have circuit.json.")

    def run(self, job: Job) -> CheckedCircuits:
        return CheckedCircuits(found=tuple(check(file, evaluation=True) for file in self.files))

    def exit_code(self, result: CheckedCircuits) -> int:
        return 0 if all(one.passed for one in result.found) else 3


@dataclass(frozen=True, kw_only=True)
class Cut(Command):
    """What makes a smaller circuit of a saved one."""

    out: Path = option("-o", "--out", help=f"{OUT} A circuit file, or a folder for it.")

    def kept(self, made: Circuit, of: Circuit) -> dict[str, Any]:
        """Save the circuit, without the evaluation of the larger one; say what is in it."""
        if not made.n_edges and of.n_edges:
            raise CircuitError(
                "nothing is left between the input and the logits",
                hint="keep more, or cut less: nothing was written",
            )
        bare = made.with_fields(evaluation={}, provenance={**of.provenance, "cut_from": of.n_edges})
        path = save_circuit(bare, self.out)
        return {"path": str(path), "nodes": made.n_nodes, "edges": made.n_edges, "edges_before": of.n_edges}

    def said(self, result: dict[str, Any], job: Job) -> Iterator[str]:
        rule = str(load_circuit(Path(result["path"])).selection.get("rule", ""))
        yield f"wrote {result['path']} ({rule}); it was not judged yet: workbench evaluate {result['path']}"


@command("circuit keep", offers=())
@dataclass(frozen=True, kw_only=True)
class KeepEdges(Cut):
    """Keep more or fewer edges by the saved scores beside a circuit, chosen as it was; nothing is computed.

    Example: workbench circuit keep circuits/ioi/gpt2/eap-ig-1f3a --keep 2% -o smaller
    """

    circuit: Path = circuit_named()
    keep: str = option("--keep", help=KEEP)

    def run(self, job: Job) -> dict[str, Any]:
        circuit = load_circuit(self.circuit)
        scores = scores_beside(self.circuit, circuit)
        if scores is None:
            raise CircuitError(
                f"no scores beside {self.circuit}: {scores_path(self.circuit)} is not there",
                hint="workbench discover writes them beside its circuit; workbench circuit without cuts by name",
            )
        by, select = _as_chosen(circuit, self.keep, per_position=bool(scores.positions))
        made = scores.keep(self.keep, by=by, select=select).with_fields(
            **{n: getattr(circuit, n) for n in ("task", "model", "prompt")}
        )
        return self.kept(made, circuit)


def _as_chosen(circuit: Circuit, keep: str, *, per_position: bool) -> tuple[Ranking, str]:
    """Order and rule by which more or fewer parts are chosen: those of the circuit, else its method's own.

    Raises:
        CircuitError: for a circuit that is no choice from its scores, such as one that was cut by name.
    """
    rule = str(circuit.selection.get("rule", ""))
    by_threshold = keep.strip().startswith(">")
    if known := said(rule):
        return known[2], "top" if by_threshold else known[0]
    if least := said_least(rule):
        return least[1], "top"
    if rule not in ("", "own"):
        raise CircuitError(
            f"the circuit is no choice from the scores beside it: {rule[:200]}",
            hint="workbench circuit keep on the circuit that it was made of",
        )
    choice = get_method(circuit.method).choice(keep, None, None, per_position=per_position)
    return choice.by, choice.select


@command("circuit without", offers=())
@dataclass(frozen=True, kw_only=True)
class WithoutParts(Cut):
    """Take nodes (with their edges) or edges out of a circuit, and what is not connected without them.

    Example: workbench circuit without circuits/ioi/gpt2/eap-ig-1f3a --node a9.h9 -o without-mover
    """

    circuit: Path = circuit_named()
    node: tuple[str, ...] = option(
        "--node", help="An address such as a9.h9 or m3; may be repeated.", default=()
    )
    edge: tuple[str, ...] = option("--edge", help="An edge, in quotation marks; may be repeated.", default=())

    def run(self, job: Job) -> dict[str, Any]:
        if not self.node and not self.edge:
            raise OptionError("nothing is named", hint='--node a9.h9, or --edge "a5.h5->a9.h9<q>"')
        circuit = load_circuit(self.circuit)
        return self.kept(circuit.without(*self.node, *self.edge).prune(), circuit)


@command("circuit prune", offers=())
@dataclass(frozen=True, kw_only=True)
class PruneCircuit(Cut):
    """Drop what has no way from the input to the logits.

    Example: workbench circuit prune mine -o pruned
    """

    circuit: Path = circuit_named()

    def run(self, job: Job) -> dict[str, Any]:
        circuit = load_circuit(self.circuit)
        return self.kept(circuit.prune(), circuit)


@command("circuit view", offers=())
@dataclass(frozen=True, kw_only=True)
class ViewCircuit(Command):
    """Write the page to explore a circuit: one file, no network.

    Example: workbench circuit view circuits/ioi/gpt2/eap-ig-1f3a -o ioi.html --open
    """

    circuit: Path = circuit_named()
    out: Path | None = option("-o", "--out", help=f"{OUT} A page. Default: beside the circuit.", default=None)
    open_page: bool = option("--open", help="Open the page in the browser.", default=False)

    def run(self, job: Job) -> dict[str, Any]:
        path = page_beside(self.circuit) if self.out is None else self.out
        text = page_of_file(self.circuit)
        write_output(path, text)
        if self.open_page:
            webbrowser.open(path.resolve().as_uri())
        return {"page": str(path), "bytes": len(text.encode())}


@command("circuit annotate", offers=())
@dataclass(frozen=True, kw_only=True)
class AnnotateCircuit(Command):
    """Keep what the page saved beside a circuit: names, groups, colours, notes, places, hidden parts.

    The circuit's file stays as it is; its page, and its export for Neuronpedia, then have them.

    Example: workbench circuit annotate circuits/ioi/gpt2/eap-ig-1f3a annotations.json
    """

    circuit: Path = circuit_named()
    file: Path = argument("A file annotations.json that the page of the circuit saved.")

    def run(self, job: Job) -> dict[str, Any]:
        circuit = load_circuit(self.circuit)
        file = circuit_path(self.circuit)
        if file.name != FILE_NAME:
            raise CircuitError(
                f"{self.circuit} is not in a folder of its own, so annotations have no place beside it",
                hint=f"save it as FOLDER/{FILE_NAME}; workbench circuit prune CIRCUIT -o FOLDER writes a copy",
            )
        found = load_annotations(self.file, circuit)
        if found.circuit not in ("", circuit_digest(circuit)):
            job.note("the file was written on another circuit of this architecture; addresses mean the same")
        written = save_annotations(found, file.parent)
        page = page_beside(self.circuit)
        write_output(page, page_of_file(self.circuit))
        counts = {"nodes": len(found.nodes), "edges": len(found.edges), "groups": len(found.members)}
        return {"annotations": str(written), "page": str(page), **counts}

    def said(self, result: dict[str, Any], job: Job) -> Iterator[str]:
        yield f"wrote {result['annotations']} and {result['page']}"
