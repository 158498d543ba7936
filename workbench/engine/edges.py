"""Edits of single edges, exactly: each input of each part gets its own copy of the residual stream.

``input(target) = sum of what the sources before it wrote``. Ablating an edge replaces one summand at one
target: ``input(target) += reference(source) - current(source)``, with the source's output *in this same run*,
so what was ablated upstream propagates (Wang et al. 2023; Hanna et al. 2024, arXiv:2403.17806).

Attention inputs are edited at ``hook_q``, ``hook_k``, ``hook_v``: the edited copy goes through the layer's norm
and projection, and the difference is added. That is exact, needs none of TransformerLens' split-input flags,
and so works on native, delegated-attention and grouped-query models alike.

Masks may differ from position to position (one mask per position label) and may be fractions, through which the
metric can be differentiated. Only sources that some mask touches are computed and kept, and sources below the
first layer that is run are kept once for all copies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.circuits.addresses import Node
from workbench.circuits.graph import Graph
from workbench.core.errors import ShapeError
from workbench.engine.differences import Differences, Masks, Outputs
from workbench.engine.paired_runs import Batch, PairedRuns, RunName
from workbench.engine.sides import Side, entering_parts, sides_of
from workbench.engine.source_outputs import StackOutputs, _pictures, outputs_of_side, source_outputs, written
from workbench.model.blocks import Hook
from workbench.model.hooks import hook_name, norm_before, projection
from workbench.model.inner_towers import Begun


@dataclass(
    eq=False, repr=False
)  # TransformerLens asks every hook for its repr, which would print the tensors
class EdgeEditor:
    """Hooks of one forward pass whose rows are stacked copies of a batch, each with its own ablated edges.

    Args:
        ablated: ``(copy, source, target)``, True where the edge is replaced by the reference, or the fraction of
            it that is; ``(copy, label, source, target)`` with ``labels``. Gradients flow to fractions that ask.
        reference: What each source is replaced by, ``(pair, pos, source, d_model)``.
        start: First layer that is run; the sources before it have the base run's outputs ``base``.
        labels: Which mask each token has, an index into the label axis.
        pictures: Where the picture's rows are in one copy, where a projector is a source.
    """

    side: Side
    ablated: Masks
    reference: Outputs
    base: Float[Tensor, "pair pos early d_model"] | None = None
    start: int = 0
    labels: Int[Tensor, "pair pos"] | None = None
    pictures: Bool[Tensor, "pair pos"] | None = None

    def __post_init__(self) -> None:
        self.bridge, self.wiring, self.graph = self.side.model, self.side.wiring, self.side.graph
        expected = (3, "without") if self.labels is None else (4, "with")
        if self.ablated.dim() != expected[0]:
            raise ShapeError(
                f"masks {expected[1]} labels have {expected[0]} axes; found {tuple(self.ablated.shape)}",
                hint=f"give masks of {expected[0]} axes, the last two (source, target)",
            )
        # (label, copy, source, target)
        masks = self.ablated[None] if self.labels is None else self.ablated.movedim(1, 0)
        early = 0 if self.base is None else sum(_layer_of(node) < self.start for node in self.graph.sources)
        self._columns = {t: i for i, t in enumerate(self.graph.targets)}
        self._all = Differences(
            graph=self.graph,
            masks=masks,
            reference=self.reference,
            base=self.base,
            n_early=early,
            labels=self.labels,
        )
        self._end: Differences | None = None  # at the last position alone

    def _at(self, tensor: Tensor) -> Differences:
        """The differences at the positions of a tensor: all, or in the last layer the last one alone."""
        if tensor.shape[1] == self._resid.shape[1]:
            return self._all
        self._end = self._end or self._all.at_last()
        return self._end

    @property
    def is_idle(self) -> bool:
        """Whether no mask touches any edge of this stack."""
        return not len(self._all.used)

    def hooks(self) -> list[Hook]:
        """Forward hooks, from the first layer that is run to the logits, by the model's own names."""
        return [(self.side.hook(name), hook) for name, hook in self._hooks()]

    def _hooks(self) -> list[Hook]:
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

    def _copies(self, tensor: Tensor) -> Tensor:
        """``(copy * pair, pos, ...)`` -> ``(copy, token, ...)``."""
        return tensor.reshape(len(self.ablated), -1, *tensor.shape[2:])

    # -- what was written ---------------------------------------------------------------------------------

    def _enter(self, layer: int):
        def keep(tensor: Tensor, hook) -> None:
            self._resid = tensor
            used = self._all.used
            rows = used[used < len(self.graph.entering)]
            if layer == 0 and len(rows) and self._all.n_early == 0:
                where = None if self.pictures is None else self.pictures.repeat(len(self.ablated), 1)
                parts = entering_parts(self.side, tensor, where)
                self._all.store(rows, self._copies(parts[:, :, torch.as_tensor(rows, device=tensor.device)]))

        return keep

    def _wrote(self, layer: int, site: str):
        first = self._first_source(layer, site)
        count = self.graph.shape.n_heads if site == "head-output" else 1
        used = self._all.used
        rows = used[(used >= first) & (used < first + count)]
        some = site == "head-output" and len(rows) < count

        def keep(tensor: Tensor, hook) -> None:
            if len(rows):
                heads = torch.as_tensor(rows - first, device=tensor.device) if some else None
                current = written(self.bridge, self.wiring, layer, site, tensor, heads=heads)
                self._at(tensor).store(rows, self._copies(current))

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

    # -- what is read -------------------------------------------------------------------------------------

    def _read(self, layer: int, slot: str):
        targets = [i for t, i in self._columns.items() if t.layer == layer and t.slot == slot]
        norm = norm_before(self.bridge, layer, "ln1")
        matrix = projection(self.bridge, layer, slot)

        def edit(tensor: Tensor, hook) -> Tensor | None:
            found = self._at(tensor).change_at(targets)
            if found is None:
                return None
            heads, change = torch.as_tensor(found[0], device=tensor.device), found[1]
            x = self._copies(self._resid[:, -tensor.shape[1] :])[:, None]
            moved = _plus(
                norm(_plus(change, x)), -norm(x)
            )  # (copy, head, token, D), each through its own norm
            added = torch.einsum("chnd,hde->cnhe", moved, matrix[heads]).reshape(
                *tensor.shape[:2], len(heads), -1
            )
            return tensor + added if len(heads) == tensor.shape[2] else tensor.index_add(2, heads, added)

        return edit

    def _read_mlp(self, layer: int):
        target = [i for t, i in self._columns.items() if t.kind == "mlp" and t.layer == layer]
        norm = norm_before(self.bridge, layer, "ln2")
        after_attention = self.graph.shape.has_attention(layer) and not self.graph.shape.parallel

        def edit(tensor: Tensor, hook) -> Tensor | None:
            found = self._at(tensor).change_at(target)
            if found is None:
                return None
            x = self._resid[:, -tensor.shape[1] :]
            x = x + self._attn if after_attention else x
            return norm(x + found[1][:, 0].reshape(x.shape))

        return edit

    def _read_logits(self, tensor: Tensor, hook) -> Tensor | None:
        target = [len(self.graph.targets) - 1]
        if self.side.hand_over is None:
            found = self._at(tensor).change_at(target)
            return None if found is None else tensor + found[1][:, 0].reshape(tensor.shape)
        found = self._all.change_at(target)
        if found is None:
            return None
        return tensor + found[1][:, 0].reshape(self._resid.shape)[:, self.side.hand_over.first :]


def _plus(fresh: Tensor, other: Tensor) -> Tensor:
    """The sum, written over ``fresh``, which nobody else reads, unless it is to be differentiated."""
    return fresh + other if fresh.requires_grad else fresh.add_(other)


def _layer_of(source: Node) -> int:
    return -1 if source.layer is None else source.layer


def edited_output(
    runs: PairedRuns,
    batch: Batch,
    graph: Graph,
    ablated: Masks,
    *,
    base: RunName = "clean",
    reference: StackOutputs | None = None,
    start: int = 0,
    labels: Int[Tensor, "pair pos"] | None = None,
) -> Tensor:
    """Say what the metric reads with these edges ablated, ``(copy * pair, ...)``; arguments as in ``ablate_edges``."""
    return _edited(runs.output, runs, batch, graph, ablated, base, reference, start, labels)


def _edited(
    read: Callable[..., Tensor],
    runs: PairedRuns,
    batch: Batch,
    graph: Graph,
    ablated: Masks,
    base: RunName,
    reference: StackOutputs | None,
    start: int,
    labels: Int[Tensor, "pair pos"] | None,
) -> Tensor:
    """What ``runs.output`` or ``runs.values`` says of a pass with these edges ablated."""
    sides = sides_of(runs, graph)
    if reference is None:
        with torch.no_grad():
            reference = source_outputs(runs, batch, "corrupted" if base == "clean" else "clean", graph)
    references = reference if isinstance(reference, tuple) else (reference,)
    # what is before the first layer that is run is not run, and no edge into it is ablated
    at = max(n for n, side in enumerate(sides) if start >= side.first)
    copies = len(ablated)
    with torch.set_grad_enabled(torch.is_grad_enabled() and ablated.requires_grad):
        hooks: list[Hook] = []
        beside: list[Begun] = []
        for n, side in enumerate(sides):
            if n < at and not side.meets:
                continue
            first = _first_layer(side, start)
            masks = ablated[..., side.rows, side.places]
            editor = _editor(runs, batch, side, masks, references[n], base, first, labels)
            if side.meets and n != at:
                if editor.is_idle:  # the other tower as it is: it runs once for all copies
                    continue
                entering = _entering(runs, batch, base, side, first).repeat(copies, 1, 1)
                beside.append(Begun(side.tower, first, entering))
            hooks += editor.hooks()
        side, first = sides[at], start - sides[at].first
        resid = _entering(runs, batch, base, side, first).repeat(copies, 1, 1)
        prompt, begin = batch.prompt(base).repeat(copies), {"start": first, "resid": resid}
        return read(batch, prompt, hooks, **begin, at_last=True, tower=side.tower, beside=beside)


def _first_layer(side: Side, start: int) -> int:
    """The first layer of a stack that is run; of one beside that in which a pass starts, its last or its first one."""
    return min(max(start - side.first, 0), side.graph.shape.n_layers - 1)


def _editor(
    runs: PairedRuns,
    batch: Batch,
    side: Side,
    masks: Masks,
    reference: Outputs,
    base: RunName,
    start: int,
    labels: Int[Tensor, "pair pos"] | None,
) -> EdgeEditor:
    """The hooks of one stack, from one of its layers on."""
    with torch.no_grad():
        own = outputs_of_side(runs, batch, base, side, before=start) if start else None
    return EdgeEditor(side, masks, reference, own, start, labels, _pictures(runs, batch, base, side))


def _entering(
    runs: PairedRuns, batch: Batch, run: RunName, side: Side, layer: int
) -> Float[Tensor, "pair pos d_model"]:
    """What enters a layer; of the first one without keeping what enters the others."""
    if layer:
        return runs.resid(batch, run, layer, tower=side.tower)
    name = side.hook(hook_name("resid", 0))
    return runs.activations(batch, run, [name])[name]


def ablate_edges(
    runs: PairedRuns,
    batch: Batch,
    graph: Graph,
    ablated: Masks,
    *,
    base: RunName = "clean",
    reference: StackOutputs | None = None,
    start: int = 0,
    labels: Int[Tensor, "pair pos"] | None = None,
) -> Float[Tensor, "copy pair"]:
    """Return the metric with these edges ablated, one row per copy: by default replaced by the other run's values.

    Args:
        ablated: Masks over the whole graph, one per copy, stacked in one forward pass: True or the fraction
            that is replaced. Fractions that require a gradient get one, otherwise nothing is differentiated.
        reference: Replacement values; by default the corrupted run's (resample ablation) when base is clean.
        start: Skip the layers before it. Only right when no edge into them is ablated.
        labels: Each token's label, when masks are ``(copy, label, source, target)``: ``runs.labels_of(batch)``.

    Raises:
        ShapeError: if masks have a label axis and no labels are given, or the other way round.
    """
    values = _edited(runs.values, runs, batch, graph, ablated, base, reference, start, labels)
    return values.reshape(len(ablated), len(batch))


def copies_that_fit(runs: PairedRuns, batch: Batch, graph: Graph, *, start: int = 0) -> int:
    """Say how many masks to stack: differences of the sources from ``start`` on, and the readers' copies, take
    memory.
    """
    tokens, floats, longest = len(batch) * batch.n_tokens, 0, len(batch) * batch.n_tokens
    for side in sides_of(runs, graph):
        if side.first + side.graph.shape.n_layers <= start and not side.meets:
            continue
        own = tokens if side.tower is None else len(batch) * n_positions(runs, batch, side)
        late = sum(node.layer is None or side.first + node.layer >= start for node in side.graph.sources)
        floats += own * (late + 3 * max(1, side.graph.shape.n_heads)) * side.wiring.d_model
        longest = max(longest, own)
    most = int(1.5e8 // max(1, floats))  # 1.5e8 floats: 0.6 GB in float32
    return max(1, min(runs.batch_tokens // longest, most))


def n_positions(runs: PairedRuns, batch: Batch, side: Side) -> int:
    """Say how many positions a stack has on these prompts."""
    return _entering(runs, batch, "clean", side, 0).shape[1]


__all__ = ["EdgeEditor", "ablate_edges", "copies_that_fit", "edited_output", "source_outputs"]
