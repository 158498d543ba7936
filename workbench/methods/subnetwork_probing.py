"""Subnetwork probing: learn which nodes must keep their own output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.circuits.addresses import Node
from workbench.circuits.graph import Graph
from workbench.circuits.scores import Scores
from workbench.core.errors import OptionError
from workbench.engine.interventions.intervention import Edit, check
from workbench.engine.nodes import node_references, nodes_output
from workbench.engine.paired_runs import Batch, PairedRuns
from workbench.methods import hard_concrete
from workbench.methods.options.masks import INITIAL, SubnetworkProbing
from workbench.methods.outcome import result
from workbench.methods.registry import Level
from workbench.methods.soft_masks import check_loss, learn

_OF_LEARNING = ("steps", "lr", "batch", "draws", "seed", "loss")


def subnetwork_probing(
    runs: PairedRuns,
    options: SubnetworkProbing,
    *,
    level: Level,
    progress: Callable[..., None],
    per_position: bool = False,
) -> Scores:
    """Learn a mask for every head and MLP: keep the output or take the corrupted one; keep what stays open.

    ``loss = KL(model || masked model) + lam * mean P(mask > 0)``, masks hard-concrete. The score is the
    noise-free mask before clipping, above 0.5 exactly where the mask is; the input is always kept (score 1).

    Source:
        Cao, Sanh and Rush 2021, arXiv:2104.03514; corrupted values as in Conmy et al. 2023, arXiv:2304.14997.
    """
    check_loss(runs, options.loss, "subnetwork-probing")
    labels, n_nodes = len(runs.position_labels) if per_position else 1, len(_nodes(runs))
    start = torch.full((options.restarts, labels, n_nodes), INITIAL, device=runs.device)

    def output(batch: Batch, masks: Tensor) -> Tensor:
        ablated = torch.cat([torch.zeros_like(masks[..., :1]), 1 - masks], -1)
        if per_position:
            return nodes_output(runs, batch, ablated, labels=runs.labels_of(batch))
        return nodes_output(runs, batch, ablated[:, 0])

    def penalty(m: Tensor, step: int) -> Tensor:
        return options.lam * hard_concrete.open_probability(m).mean((1, 2))

    how: dict[str, Any] = {name: getattr(options, name) for name in _OF_LEARNING}
    prepare = partial(node_references, runs)
    learned = learn(runs, start, output, penalty, prepare=prepare, progress=progress, **how)
    kept = hard_concrete.strength(learned.m.double()).mean(0).cpu().numpy()  # (label, node)
    values = np.concatenate([np.ones((labels, 1)), kept], 1)
    return result(
        runs,
        values if per_position else values[0],
        level="node",
        method="subnetwork-probing",
        source="arXiv:2104.03514",
        options={**asdict(options), "loss_curve": learned.curve()},
        passes=2 + 2 * options.steps,
        unit="mask",
        own_rule=">=0.5",
        positions=runs.position_labels if per_position else (),
    )


def _nodes(runs: PairedRuns) -> tuple[Node, ...]:
    """Every node that gets a mask: all that write but the input.

    Raises:
        OptionError: if the model has none.
        ModelError: if one cannot be patched.
    """
    nodes = tuple(Graph(runs.wiring.node_shape()).sources[1:])
    if not nodes:
        raise OptionError("this model has no node to mask", hint="open a model with heads or MLPs: zoo:ioi")
    for node in nodes:
        check(Edit(node=node, value="corrupted"), runs.wiring)
    return nodes
