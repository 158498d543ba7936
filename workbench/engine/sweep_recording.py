"""What a sweep reads of the runs themselves, recorded in one pass over each run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from workbench.engine.interventions.intervention import Edit, Intervention
from workbench.engine.interventions.site import site_of
from workbench.engine.paired_runs import Batch, PairedRuns, RunName
from workbench.engine.restart import kept_names
from workbench.model.hooks import hook_name


def record_for(
    runs: PairedRuns,
    batch: Batch,
    interventions: Sequence[Intervention],
    base: RunName,
    *,
    whole: bool,
    also: Sequence[str] = (),
) -> None:
    """Keep what all parts of this batch will read, in one pass over each run instead of one for each layer.

    Args:
        whole: And what plain blocks read when they start in a layer.
        also: And these hooks of the base run.
    """
    edits = [e for i in interventions for e in i.edits if isinstance(e, Edit)]
    layers = range(runs.wiring.n_layers)
    wanted: dict[RunName, set[str]] = {"clean": set(), "corrupted": set()}
    for edit in edits:
        word = edit.word
        if word == "clean" or word == "corrupted":
            nodes = (replace(edit.part, layer=n) for n in _layers_of(runs, edit))
            wanted[word] |= {runs.wiring.hook_of(node, site_of(edit.part)) for node in nodes}
    if not runs.wiring.compares or None in {
        i.tower for i in interventions
    }:  # else the other tower is not run again
        wanted[base] |= {hook_name("resid", n) for n in layers}
    for tower in {i.tower for i in interventions} - {None}:
        found = runs.wiring.of(tower)
        wanted[base] |= {hook_name("resid", n, found.prefix) for n in range(found.n_layers)}
    if whole:
        wanted[base] |= set(kept_names(runs))
    wanted[base] |= set(also)
    for run, names in wanted.items():
        if names:
            runs.activations(batch, run, sorted(names))


def _layers_of(runs: PairedRuns, edit: Edit) -> Sequence[int]:
    """Layers that have an edit's site; of the large ones (patterns, neurons) its own layer alone is kept."""
    wiring = runs.wiring.of(edit.part.tower)
    every: dict[str, Sequence[int]] = {
        "head-output": wiring.attention_layers,
        "attn-out": wiring.attention_layers,
    }
    every |= {"mlp-out": wiring.mlp_layers, "resid": range(wiring.n_layers)}
    return every.get(site_of(edit.part), [edit.layer])
