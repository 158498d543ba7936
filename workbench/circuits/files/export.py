"""Every format a circuit can be written to, behind one name each."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from workbench.circuits.circuit import Circuit
from workbench.circuits.files.circuit_file import to_document
from workbench.core.atomic import write_output
from workbench.core.errors import OptionError
from workbench.core.registry import Registry, load
from workbench.core.strict_json import dump


@dataclass(frozen=True)
class ExportFormat:
    """A format: its file ending, what it is for, and what makes its text: a function, or ``module:function``."""

    name: str
    suffix: str
    describe: str
    made_by: str | Callable[[Circuit], str]

    @property
    def write(self) -> Callable[[Circuit], str]:
        return load(self.made_by) if isinstance(self.made_by, str) else self.made_by


_ALL = (
    ExportFormat(
        "json",
        ".json",
        "our own circuit file, read back by every command",
        "workbench.circuits.files.export:to_json",
    ),
    ExportFormat(
        "graphml", ".graphml", "yEd, Cytoscape, networkx", "workbench.circuits.files.graphml:to_graphml"
    ),
    ExportFormat("gexf", ".gexf", "Gephi, with colours and layout", "workbench.circuits.files.gexf:to_gexf"),
    ExportFormat("dot", ".dot", "Graphviz", "workbench.circuits.files.dot:to_dot"),
    ExportFormat(
        "mermaid", ".mmd", "Markdown pages, for small circuits", "workbench.circuits.files.mermaid:to_mermaid"
    ),
    ExportFormat(
        "cytoscape", ".cyjs", "Cytoscape and cytoscape.js", "workbench.circuits.files.cytoscape:to_cytoscape"
    ),
    ExportFormat(
        "csv",
        ".csv",
        "spreadsheets and data frames: one edge a line",
        "workbench.circuits.files.edge_csv:to_csv",
    ),
    ExportFormat(
        "eap-ig", ".json", "EAP-IG and the MIB circuit track", "workbench.circuits.files.eap_ig:to_eap_ig"
    ),
    ExportFormat(
        "neuronpedia",
        ".json",
        "Neuronpedia's graph view",
        "workbench.circuits.files.neuronpedia:to_neuronpedia",
    ),
    ExportFormat(
        "svg", ".svg", "a picture, layers bottom to top", "workbench.circuits.show.circuit_svg:circuit_svg"
    ),
    ExportFormat(
        "html",
        ".html",
        "a page to explore, self-contained",
        "workbench.circuits.show.circuit_page:circuit_page",
    ),
)
FORMATS: Registry[ExportFormat] = Registry(
    "export format", group="workbench.exports", holds=lambda made: isinstance(made, ExportFormat)
)
for _ours in _ALL:
    FORMATS.add(_ours.name, _ours, home=__name__)
FORMATS.read("workbench.circuits.files", r'^@export_format\(\s*"([\w-]+)"')
_OTHER_SUFFIXES = {".gv": "dot", ".mermaid": "mermaid", ".htm": "html"}


Text = TypeVar("Text", bound=Callable[[Circuit], str])


def export_format(name: str, *, suffix: str, describe: str) -> Callable[[Text], Text]:
    """Register a function that makes the text of a circuit in a format."""

    def register(function: Text) -> Text:
        made = ExportFormat(name, suffix, describe, function)
        FORMATS.add(name, made, home=function.__module__)
        return function

    return register


def export(circuit: Circuit, format: str | None = None, path: str | os.PathLike[str] | None = None) -> str:
    """Write the circuit in a foreign format, and to ``path`` if there is one (whole or not at all).

    Without ``format`` the ending of ``path`` says it. Returns the text.

    Returns:
        The text of the file.

    Raises:
        CircuitError: if the format is unknown, or cannot say what the circuit is.
        RunError: if the file cannot be written.

    Example:
        >>> import workbench as wb
        >>> wb.export(wb.load_circuit("published:ioi"), "dot").splitlines()[0]
        'digraph circuit {'
    """
    text = find_format(format, path).write(circuit)
    if path is not None:
        write_output(path, text)
    return text


def find_format(format: str | None, path: str | os.PathLike[str] | None = None) -> ExportFormat:
    """Return the format of that name, or of the ending of ``path``; ``.json`` alone is our own."""
    if format is not None:
        return FORMATS.get(format)
    suffix = Path(path).suffix.lower() if path is not None else ""
    if suffix in _OTHER_SUFFIXES:
        return FORMATS.get(_OTHER_SUFFIXES[suffix])
    for _, candidate in FORMATS.items() if suffix else ():
        if candidate.suffix == suffix:
            return candidate
    raise OptionError(
        f"no export format ends in {suffix!r}" if suffix else "no export format was given",
        hint=f"-f with one of {', '.join(FORMATS)}",
    )


def to_json(circuit: Circuit) -> str:
    """Return the circuit as the text of our own file."""
    return dump(to_document(circuit), where="circuit", indent=1)
