"""What ablated edges carry: the output of every source under an ablation, in the place of its own."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.circuits.graph import Graph
from workbench.core.errors import OptionError
from workbench.engine.edges import StackOutputs
from workbench.engine.interventions.ablation import value_of
from workbench.engine.interventions.means import Means
from workbench.engine.interventions.words import Ablation
from workbench.engine.paired_runs import Batch, PairedRuns
from workbench.engine.source_outputs import source_outputs, written
from workbench.model.hooks import hook_name
from workbench.model.wiring import writer_hooks

_KEPT = "_source_means"


def reference_outputs(
    runs: PairedRuns, batch: Batch, graph: Graph, ablation: Ablation = "resample"
) -> StackOutputs:
    """Compute what every source of a batch is replaced by when its edges are ablated, in the order of
    ``graph.sources``.

    ``resample`` is the corrupted partner's output, ``zero`` nothing at all, and the means are means of the source's
    own output over the clean prompts of *all* pairs, as ``workbench/engine/interventions/means.py`` defines them. They
    are taken in float64 and once for each set of runs.

    Raises:
        WorkbenchError: for an ablation that does not exist.
        TaskError: if the pairs do not define this mean.
    """
    value = value_of(ablation)
    if value == "corrupted":
        return source_outputs(runs, batch, "corrupted", graph)
    if value == "zero":
        own = source_outputs(runs, batch, "clean", graph)
        return tuple(map(torch.zeros_like, own)) if isinstance(own, tuple) else torch.zeros_like(own)
    if len(graph.parts) > 1:
        raise OptionError(
            f"{ablation} ablation is not defined for edges that cross from a tower: its positions are of another kind",
            hint="--ablation resample or zero, or leave out --with-tower",
        )
    return _mean_outputs(runs, batch, graph, value)


def _mean_outputs(
    runs: PairedRuns, batch: Batch, graph: Graph, kind: str
) -> Float[Tensor, "pair pos source d_model"]:
    means, writers = _clean_means(runs, graph), writer_hooks(graph)
    dtype = runs.resid(batch, "clean", 0).dtype
    parts = [means.of(kind, hook_name("resid", 0), batch, dtype)[:, :, None]]
    for layer, site in writers:
        mean = means.of(kind, hook_name(site, layer), batch, dtype)
        # a head's output is linear in hook_z, so the output of the mean is the mean of the outputs
        parts.append(written(runs.model, runs.wiring, layer, site, mean))
    return torch.cat(parts, dim=2)


def _clean_means(runs: PairedRuns, graph: Graph) -> Means:
    """Means of what every source writes over the clean prompts; kept with the runs."""
    kept = runs.kept
    if _KEPT not in kept:
        names = [hook_name("resid", 0), *(hook_name(site, layer) for layer, site in writer_hooks(graph))]
        with torch.no_grad():
            kept[_KEPT] = Means.over(runs, "clean", names)
    return kept[_KEPT]
