"""The command ``circuit details`` as a function: open the model, measure heads and edges, keep it, write the page."""

from __future__ import annotations

from typing import Any

from workbench.circuits.files.circuit_file import load_circuit
from workbench.circuits.files.details_file import FIRST, name_under, save_details
from workbench.circuits.files.scores_file import scores_beside
from workbench.commands.asked.details import opening_of
from workbench.commands.circuit import page_beside, page_of_file, scores_path
from workbench.commands.forms.details import Details
from workbench.commands.inputs import open_runs
from workbench.core.atomic import write_output
from workbench.core.job import Job
from workbench.evaluate.circuit_details import circuit_details, details_under


def details(asked: Details, job: Job) -> dict[str, Any]:
    """Measure what the page of a circuit shows of its heads and edges."""
    circuit = load_circuit(asked.circuit)
    runs = open_runs(note=job.note, **opening_of(asked))
    how: dict[str, Any] = {
        "scores": scores_beside(asked.circuit, circuit),
        "most_edges": asked.reasons,
        "progress": job.progress,
    }
    if asked.ablation == FIRST:
        found = circuit_details(circuit, runs, **how)
    else:
        found = details_under(circuit, runs, asked.ablation, **how)
    file = save_details(found, scores_path(asked.circuit).parent / name_under(asked.ablation))
    page = page_beside(asked.circuit)
    text = page_of_file(asked.circuit)
    write_output(page, text)
    with_reason = sum(edge.reason is not None for edge in found.edges.values())
    return {
        "details": str(file),
        "page": str(page),
        "bytes": len(text.encode()),
        "prompts": len(found.prompts),
        "heads": len(found.heads),
        "edges": len(found.edges),
        "reasons": with_reason,
        "n_pairs": found.n_pairs,
        "notes": list(found.notes),
    }
