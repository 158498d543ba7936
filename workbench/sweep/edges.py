"""Edits of single edges, exactly: each input of each part gets its own copy of the residual stream.

``input(target) = sum of what the sources before it wrote``. Ablating an edge replaces one summand at one
target: ``input(target) += reference(source) - current(source)``, with the source's output *in this same run*,
so what was ablated upstream propagates (Wang et al. 2023; Hanna et al. 2024, arXiv:2403.17806).

Attention inputs are edited at ``hook_q``, ``hook_k``, ``hook_v``: the edited copy goes through the layer's norm
and projection, and the difference is added. That is exact, needs none of TransformerLens' split-input flags,
and so works on native, delegated-attention and grouped-query models alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from workbench.graph import Graph
from workbench.model import hooks
from workbench.model.hooks import Wiring, hook_name, norm_before, output_matrix, projection, resume_from
from workbench.sweep.runs import Batch, PairedRuns, RunName

Outputs = Float[Tensor, "pair pos source d_model"]


def written(bridge: TransformerBridge, wiring: Wiring, layer: int, part: str, tensor: Tensor) -> Tensor:
    """What a layer's heads (from ``hook_z``), its post-normed attention or its MLP write: ``(row, pos, source, D)``."""
    if part == "head-output":
        return torch.einsum("bthe,hed->bthd", tensor, output_matrix(bridge, layer))
    return tensor[:, :, None]


def writer_hooks(graph: Graph) -> list[tuple[int, str]]:
    """(layer, site) of every group of sources after the input, in the order of ``graph.sources``."""
    shape, found = graph.shape, []
    for layer in range(shape.n_layers):
        if shape.has_attention(layer):
            found.append((layer, "head-output" if shape.head_writes else "attn-out"))
        if shape.has_mlp(layer):
            found.append((layer, "mlp-out"))
    return found


def source_outputs(runs: PairedRuns, batch: Batch, run: RunName, graph: Graph) -> Outputs:
    """What every source writes in one run, in the order of ``graph.sources``."""
    writers = writer_hooks(graph)
    names = [hook_name("resid", 0), *(hook_name(site, layer) for layer, site in writers)]
    found = runs.activations(batch, run, names)
    parts = [found[names[0]][:, :, None]]
    for layer, site in writers:
        parts.append(written(runs.model, runs.wiring, layer, site, found[hook_name(site, layer)]))
    return torch.cat(parts, dim=2)


@dataclass(eq=False)
class EdgeEditor:
    """Hooks of one forward pass whose rows are stacked copies of a batch, each with its own ablated edges.

    Args:
        ablated: ``(copy, source, target)``, True where the edge is replaced by the reference.
        reference: What each source is replaced by, ``(pair, pos, source, d_model)``.
        start: First layer that is run; the sources before it have the base run's outputs ``base``.
    """

    bridge: TransformerBridge
    wiring: Wiring
    graph: Graph
    ablated: Bool[Tensor, "copy source target"]
    reference: Outputs
    base: Outputs | None = None
    start: int = 0
    _delta: Tensor | None = field(
        default=None, repr=False
    )  # reference - current, (copy, pair, pos, source, D)
    _resid: Tensor | None = field(default=None, repr=False)
    _attn: Tensor | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        copies, n = len(self.ablated), len(self.graph.sources)
        pairs, pos, _, width = self.reference.shape
        self._delta = self.reference.new_zeros(copies, pairs, pos, n, width)
        if self.base is not None:
            self._delta[:] = (self.reference - self.base)[None]
        self._targets = {t: i for i, t in enumerate(self.graph.targets)}

    def hooks(self) -> list[tuple[str, object]]:
        """Forward hooks, from the first layer that is run to the logits."""
        found, shape = [], self.graph.shape
        last = shape.n_layers - 1
        for layer in range(self.start, shape.n_layers):
            found.append((hook_name("resid", layer), self._enter(layer)))
            if shape.has_attention(layer):
                found += [(hook_name(slot, layer), self._read(layer, slot)) for slot in "qkv"]
                site = "head-output" if shape.head_writes else "attn-out"
                if site != "attn-out":
                    found.append((hook_name(site, layer), self._wrote(layer, site)))
                found.append((hook_name("attn-out", layer), self._attended(layer, site)))
            if shape.has_mlp(layer):
                found.append((f"blocks.{layer}.mlp.hook_in", self._read_mlp(layer)))
                found.append((hook_name("mlp-out", layer), self._wrote(layer, "mlp-out")))
        return [*found, (f"blocks.{last}.hook_out", self._read_logits)]

    def _rows(self, tensor: Tensor) -> Tensor:
        """``(copy * pair, ...)`` -> ``(copy, pair, ...)``."""
        return tensor.reshape(len(self.ablated), -1, *tensor.shape[1:])

    def _missing(self, targets: Sequence[int]) -> Float[Tensor, "row pos target d_model"] | None:
        """What the ablated edges change at these targets, or None when no edge into them is ablated."""
        seen = int(self.graph.n_visible[targets[0]])
        mask = self.ablated[:, :seen, targets[0] : targets[-1] + 1]
        if not bool(mask.any()):
            return None
        change = torch.einsum("cbtsd,csv->cbtvd", self._delta[:, :, :, :seen], mask.to(self._delta.dtype))
        return change.flatten(0, 1)

    def _enter(self, layer: int):
        def keep(tensor: Tensor, hook) -> None:
            self._resid = tensor
            if layer == 0:
                self._store(0, 1, tensor[:, :, None])

        return keep

    def _store(self, first: int, n: int, current: Tensor) -> None:
        self._delta[:, :, :, first : first + n] = self.reference[None, :, :, first : first + n] - self._rows(
            current
        )

    def _wrote(self, layer: int, site: str):
        first = self._first_source(layer, site)

        def keep(tensor: Tensor, hook) -> None:
            current = written(self.bridge, self.wiring, layer, site, tensor)
            self._store(first, current.shape[2], current)

        return keep

    def _attended(self, layer: int, site: str):
        keep = self._wrote(layer, "attn-out") if site == "attn-out" else None

        def store(tensor: Tensor, hook) -> None:
            self._attn = tensor
            if keep is not None:
                keep(tensor, hook)

        return store

    def _first_source(self, layer: int, site: str) -> int:
        kinds = {"head-output": "head", "attn-out": "attn", "mlp-out": "mlp"}
        index = self.graph.source_index
        return min(i for node, i in index.items() if node.kind == kinds[site] and node.layer == layer)

    def _read(self, layer: int, slot: str):
        targets = [i for t, i in self._targets.items() if t.layer == layer and t.slot == slot]
        norm = norm_before(self.bridge, layer, "ln1")
        matrix = projection(self.bridge, layer, slot)

        def edit(tensor: Tensor, hook) -> Tensor | None:
            change = self._missing(targets)
            if change is None:
                return None
            x = self._resid[:, :, None]
            moved = norm(x + change) - norm(x)  # (row, pos, target, D), each through its own norm
            return tensor + torch.einsum("bthd,hde->bthe", moved, matrix)

        return edit

    def _read_mlp(self, layer: int):
        target = [i for t, i in self._targets.items() if t.kind == "mlp" and t.layer == layer]
        norm = norm_before(self.bridge, layer, "ln2")
        after_attention = self.graph.shape.has_attention(layer) and not self.graph.shape.parallel

        def edit(tensor: Tensor, hook) -> Tensor | None:
            change = self._missing(target)
            if change is None:
                return None
            x = self._resid + self._attn if after_attention else self._resid
            return norm(x + change[:, :, 0])

        return edit

    def _read_logits(self, tensor: Tensor, hook) -> Tensor | None:
        change = self._missing([len(self.graph.targets) - 1])
        return None if change is None else tensor + change[:, :, 0]


@torch.no_grad()
def ablate_edges(
    runs: PairedRuns,
    batch: Batch,
    graph: Graph,
    ablated: Bool[Tensor, "copy source target"],
    *,
    base: RunName = "clean",
    reference: Outputs | None = None,
    start: int = 0,
) -> Float[Tensor, "copy pair"]:
    """The metric with these edges ablated, one row per copy: by default replaced by the other run's values.

    Args:
        ablated: Masks over the whole graph, one per copy; stacked in one forward pass.
        reference: Replacement values; by default the corrupted run's (resample ablation) when base is clean.
        start: Skip the layers before it. Only right when no edge into them is ablated.
    """
    if reference is None:
        reference = source_outputs(runs, batch, "corrupted" if base == "clean" else "clean", graph)
    own = source_outputs(runs, batch, base, graph) if start else None
    editor = EdgeEditor(runs.model, runs.wiring, graph, ablated, reference, own, start)
    copies = len(ablated)
    resid = runs.resid(batch, base, start).repeat(copies, 1, 1)
    ids = batch.ids(base).repeat(copies, 1)
    with resume_from(runs.model, start, resid), runs.model.hooks(fwd_hooks=editor.hooks()):
        output = runs.output(batch, ids)
    return runs.measure(batch, output).reshape(copies, len(batch))


def copies_that_fit(runs: PairedRuns, batch: Batch, graph: Graph) -> int:
    """How many masks to stack: the edited copies of the residual stream dominate memory."""
    tokens = max(1, runs.batch_tokens // (len(batch) * batch.n_tokens))
    floats = len(batch) * batch.n_tokens * len(graph.sources) * runs.wiring.d_model
    return max(1, min(tokens, int(1.5e8 // max(1, floats))))  # 1.5e8 floats: 0.6 GB in float32


__all__ = ["EdgeEditor", "ablate_edges", "copies_that_fit", "hooks", "source_outputs", "writer_hooks"]
