"""Files of another tool: a circuit as one edge a line, and pairs as columns."""

from workbench.circuits.addresses import parse_edge
from workbench.circuits.circuit import Circuit
from workbench.circuits.files.importers import circuit_import
from workbench.circuits.graph import GraphShape
from workbench.tasks.importers import FoundPairs, Row, pair_import


@circuit_import("edge-list")
def from_edge_list(text, *, where, **fields):
    """A circuit of a model with two layers of two heads."""
    edges = [parse_edge(line) for line in text.split()]
    shape = GraphShape(n_layers=2, n_heads=2, n_kv_heads=2)
    return Circuit.build(shape=shape, nodes={}, edges={(e.source, e.target): 1.0 for e in edges}, **fields)


@pair_import("columns", describe="tab-separated: clean, corrupted, correct, incorrect")
def read_columns(text, path, request):
    """One pair a line; answers go on with a space."""
    lines = [line.split("\t") for line in text.splitlines()]
    rows = []
    for number, (clean, corrupted, correct, incorrect) in enumerate(lines, start=1):
        told = {"correct": [f" {correct}"], "incorrect": [f" {incorrect}"]}
        rows.append(Row(line=number, data={"clean": clean, "corrupted": corrupted, **told}))
    return FoundPairs(rows=rows, task=path.stem)
