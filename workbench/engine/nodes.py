"""Masks on what nodes write: any set of heads and MLPs replaced, whole or in part, at all or some positions.

``written(node) += mask * (reference(node) - written(node))`` with what the node writes *in this same run*. It needs
no sum over the residual stream, so it works wherever heads and MLPs can be edited, models without edge level too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.circuits.graph import Graph
from workbench.core.errors import ShapeError
from workbench.engine.edges import Hook
from workbench.engine.interventions.intervention import Edit, check
from workbench.engine.interventions.means import Means
from workbench.engine.interventions.words import Value
from workbench.engine.paired_runs import Batch, PairedRuns
from workbench.model.hooks import hook_name
from workbench.model.wiring import writer_hooks

NodeMasks = Bool[Tensor, "copy *label source"] | Float[Tensor, "copy *label source"]


def node_references(
    runs: PairedRuns, batch: Batch, value: Value = "corrupted", means: Means | None = None
) -> dict[str, Tensor]:
    """Say what every head and MLP is replaced by, by hook, in the shape of the activation: ``(pair, pos, ...)``.

    Args:
        means: For the mean ablations: ``mean_of_nodes``.
    """
    names = [hook_name(site, layer) for layer, site in writer_hooks(Graph(runs.wiring.node_shape()))]
    if value in ("clean", "corrupted"):
        return runs.activations(batch, value, names)
    own = runs.activations(batch, "clean", names)
    if value == "zero":
        return {name: torch.zeros_like(tensor) for name, tensor in own.items()}
    found = means or mean_of_nodes(runs)
    return {name: found.of(value, name, batch, tensor.dtype) for name, tensor in own.items()}


def mean_of_nodes(runs: PairedRuns) -> Means:
    """Return means of what every head and MLP writes on the clean prompts."""
    graph = Graph(runs.wiring.node_shape())
    with torch.no_grad():
        return Means.over(runs, "clean", [hook_name(site, layer) for layer, site in writer_hooks(graph)])


def node_hooks(
    runs: PairedRuns,
    ablated: NodeMasks,
    reference: Mapping[str, Tensor],
    labels: Int[Tensor, "pair pos"] | None = None,
) -> list[Hook]:
    """Return hooks of a forward pass over stacked copies of a batch, each with its own ablated nodes; see
    ``ablate_nodes``.
    """
    graph = Graph(runs.wiring.node_shape())
    expected = 2 if labels is None else 3
    if ablated.dim() != expected or ablated.shape[-1] != len(graph.sources):
        raise ShapeError(
            f"node masks {'without' if labels is None else 'with'} labels have {expected} axes, the last of "
            f"{len(graph.sources)} nodes; found {tuple(ablated.shape)}",
            hint=f"give masks of {expected} axes, the last of {len(graph.sources)} nodes",
        )
    at = 1
    found: list[tuple[str, Callable[..., Tensor | None]]] = []
    for layer, site in writer_hooks(graph):
        count = graph.shape.n_heads if site == "head-output" else 1
        mask = ablated[..., at : at + count]
        if mask.requires_grad or bool((mask != 0).any()):
            check(Edit(node=graph.sources[at], value="zero"), runs.wiring)
            name = hook_name(site, layer)
            found.append((name, _replace(mask, reference[name], labels, heads=site == "head-output")))
        at += count
    return found


def _replace(
    mask: Tensor, reference: Tensor, labels: Tensor | None, *, heads: bool
) -> Callable[[Tensor, object], Tensor]:
    """A hook that moves what is written to the reference, by the mask of each copy, token and head."""
    place = mask[:, None, None] if labels is None else mask[:, labels]  # (copy, pair, pos, node)
    place = place[..., None] if heads else place

    def edit(tensor: Tensor, hook: object) -> Tensor:
        own = tensor.reshape(len(mask), -1, *tensor.shape[1:])  # (copy, pair, pos, ...)
        if mask.dtype == torch.bool:
            moved = torch.where(place, reference, own)
        else:
            moved = own + place.to(own.dtype) * (reference - own)
        return moved.reshape(tensor.shape)

    return edit


def nodes_output(
    runs: PairedRuns,
    batch: Batch,
    ablated: NodeMasks,
    *,
    reference: Mapping[str, Tensor] | None = None,
    labels: Int[Tensor, "pair pos"] | None = None,
) -> Tensor:
    """Say what the metric reads with these nodes ablated, ``(copy * pair, ...)``; arguments as in ``ablate_nodes``."""
    return _replaced(runs.output, runs, batch, ablated, reference, labels)


def _replaced(
    read: Callable[..., Tensor],
    runs: PairedRuns,
    batch: Batch,
    ablated: NodeMasks,
    reference: Mapping[str, Tensor] | None,
    labels: Int[Tensor, "pair pos"] | None,
) -> Tensor:
    """What ``runs.output`` or ``runs.values`` says of a pass with these nodes ablated."""
    with torch.no_grad():
        reference = node_references(runs, batch) if reference is None else reference
    prompt = batch.prompt("clean").repeat(len(ablated))
    with torch.set_grad_enabled(torch.is_grad_enabled() and ablated.requires_grad):
        return read(batch, prompt, node_hooks(runs, ablated, reference, labels))


def ablate_nodes(
    runs: PairedRuns,
    batch: Batch,
    ablated: NodeMasks,
    *,
    reference: Mapping[str, Tensor] | None = None,
    labels: Int[Tensor, "pair pos"] | None = None,
) -> Float[Tensor, "copy pair"]:
    """Return the metric of the clean run with these nodes ablated, one row per copy.

    Args:
        ablated: ``(copy, source)`` over the sources of the node-level graph: True where a node is replaced, or the
            fraction of it that is. The input is never replaced. Fractions that require a gradient get one.
        reference: What nodes are replaced by; by default what they write on the corrupted prompts.
        labels: Each token's label, when masks are ``(copy, label, source)``.

    Raises:
        ShapeError: if masks are not of this model's nodes, or have a label axis without labels.
        ModelError: if the model ignores an edit of a node.
    """
    return _replaced(runs.values, runs, batch, ablated, reference, labels).reshape(len(ablated), len(batch))


__all__ = ["ablate_nodes", "mean_of_nodes", "node_hooks", "node_references", "nodes_output"]
