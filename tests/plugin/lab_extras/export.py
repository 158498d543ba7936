"""An export: one edge a line."""

from workbench.circuits.files.export import export_format


@export_format("edge-list", suffix=".edges", describe="one edge a line, for grep")
def to_edge_list(circuit):
    return "".join(f"{edge}\n" for edge in circuit.edges)
