"""What every source of a graph writes in a run, and by how much it differs between the two runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from workbench.circuits.graph import Graph
from workbench.engine.differences import Outputs
from workbench.engine.paired_runs import Batch, PairedRuns, RunName
from workbench.engine.sides import Side, entering_parts, pictures_in, sides_of
from workbench.model.hooks import Wiring, hook_name, output_matrix
from workbench.model.wiring import writer_hooks

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    from workbench.model.inner_towers import TowerStack

StackOutputs = Outputs | tuple[Outputs, ...]
"""What the sources of a graph write; of a graph of several stacks one tensor for each."""


def written(
    bridge: TransformerBridge | TowerStack,
    wiring: Wiring,
    layer: int,
    part: str,
    tensor: Tensor,
    *,
    heads: Int[Tensor, " head"] | None = None,
) -> Tensor:
    """Say what a layer's heads (from ``hook_z``), its post-normed attention or its MLP write: ``(row, pos, source,
    D)``.

    Args:
        heads: Only these heads, all by default.
    """
    if part == "head-output":
        matrix = output_matrix(bridge, layer)
        if heads is not None:
            tensor, matrix = tensor[:, :, heads], matrix[heads]
        return torch.einsum("bthe,hed->bthd", tensor, matrix.to(tensor.dtype))  # differences may be wider
    return tensor[:, :, None]


def source_outputs(
    runs: PairedRuns, batch: Batch, run: RunName, graph: Graph, *, before: int | None = None
) -> StackOutputs:
    """Say what every source writes in one run, in the order of ``graph.sources``; only those ``before`` a layer.

    Of a graph of several stacks: of each stack by itself, since their positions and widths differ.
    """
    sides = sides_of(runs, graph)
    if len(sides) == 1:
        return outputs_of_side(runs, batch, run, sides[0], before=before)
    return tuple(outputs_of_side(runs, batch, run, side, before=before) for side in sides)


def outputs_of_side(
    runs: PairedRuns, batch: Batch, run: RunName, side: Side, *, before: int | None = None
) -> Outputs:
    """Say what every source of one stack writes in one run; ``before`` is a layer of that stack."""
    writers = [w for w in writer_hooks(side.graph) if before is None or w[0] < before]
    names = [hook_name("resid", 0), *(hook_name(site, layer) for layer, site in writers)]
    found = runs.activations(batch, run, [side.hook(name) for name in names])
    parts = [entering_parts(side, found[side.hook(names[0])], _pictures(runs, batch, run, side))]
    for layer, site in writers:
        parts.append(written(side.model, side.wiring, layer, site, found[side.hook(hook_name(site, layer))]))
    return torch.cat(parts, dim=2)


def _pictures(runs: PairedRuns, batch: Batch, run: RunName, side: Side) -> Tensor | None:
    """Where the picture's rows are, where they have a source of their own."""
    return pictures_in(runs.model, batch.prompt(run)) if len(side.graph.entering) > 1 else None


@torch.no_grad()
def changing(
    runs: PairedRuns, batch: Batch, graph: Graph, reference: StackOutputs, *, per_position: bool = False
) -> Bool[np.ndarray, "label source"]:
    """Say where a source's ablation changes anything at all, at any token or at those of each label."""
    own = source_outputs(runs, batch, "clean", graph)
    if isinstance(own, tuple) or isinstance(reference, tuple):
        moved = [torch.ne(a, b).any(-1).flatten(0, 1).any(0) for a, b in zip(own, reference, strict=True)]
        return torch.cat(moved)[None].cpu().numpy()
    changed = (own != reference).any(-1)  # (pair, pos, source)
    if not per_position:
        return changed.flatten(0, 1).any(0)[None].cpu().numpy()
    where = runs.labels_of(batch)
    found = [changed[where == label].any(0) for label in range(len(runs.position_labels))]
    return torch.stack(found).cpu().numpy()
