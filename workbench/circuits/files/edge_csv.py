"""A CSV edge list, for spreadsheets and data frames."""

from __future__ import annotations

import csv
import io

from workbench.circuits.circuit import Circuit
from workbench.circuits.files.csv_text import inert
from workbench.circuits.rows import edge_rows, node_rows
from workbench.view.text import printable

COLUMNS = ("source", "target", "input", "score", "unit", "source_role", "target_role")


def to_csv(circuit: Circuit) -> str:
    """Return one line per edge (per node in a node-level circuit: source only), structural links left out.

    Text that a spreadsheet would run as a formula gets an apostrophe in front.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")  # RFC 4180
    writer.writerow(COLUMNS)
    roles = {row.id: row.role for row in node_rows(circuit)}
    unit = inert(printable(circuit.unit))
    if circuit.level == "node":
        for row in node_rows(circuit):
            writer.writerow(
                [row.id, "", "", "" if row.score is None else repr(row.score), unit, inert(row.role), ""]
            )
        return out.getvalue()
    for edge in edge_rows(circuit):
        if edge.score is not None:
            ends = inert(roles[edge.source]), inert(roles[edge.target])
            writer.writerow([edge.source, edge.target, edge.input, repr(edge.score), unit, *ends])
    return out.getvalue()
