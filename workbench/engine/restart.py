"""Interventions inside one layer, by plain blocks: only what can have changed is computed.

A row is one intervention on one pair. An edit at position ``p`` of layer ``l`` leaves the positions before ``p``
and the layers before ``l`` as they were, and at ``l`` itself it changes position ``p`` alone; the last layer is
needed at the last position, for keys and values everywhere. Rows that start at one position run together.

Which pairs go this way is decided by comparing every block with the model on all prompts of a batch (``plainly``),
once; where they differ, the model itself is run with hooks. Tables say which it was.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.engine.interventions.apply import value_of_edit
from workbench.engine.interventions.intervention import Edit, Intervention
from workbench.engine.interventions.means import Means
from workbench.engine.interventions.replacement import Replacement
from workbench.engine.interventions.site import site_of
from workbench.engine.paired_runs import Batch, PairedRuns, RunName
from workbench.model.blocks import Blocks
from workbench.model.hooks import hook_name

CHUNK_TOKENS = 2048  # matrix products are at their best and what lies between them still fits in the cache
_ADDS = ("head-output", "attn-out", "mlp-out")


def _edits_of(intervention: Intervention) -> list[Edit]:
    """Its edits without knock-outs, of which a local one has none."""
    return [edit for edit in intervention.edits if isinstance(edit, Edit)]


def is_local(intervention: Intervention, sets: Collection[str] = ()) -> bool:
    """Whether all edits are of what one layer writes, or of what enters it, at one position (no set) or at all."""
    edits = _edits_of(intervention)
    if len(edits) < len(intervention.edits):
        return False
    if not all(e.part.slot is None and e.part.kind != "neuron" for e in edits):
        return False
    if not all(e.word for e in edits):  # made from what is there, which only hooks see
        return False
    if any(e.part.position in sets or e.part.kind == "projector" or e.part.tower for e in edits):
        return False
    sites = [site_of(e.part) for e in edits]
    same = len({(e.layer, e.part.position) for e in edits}) == 1
    if len({e.part for e in edits}) < len(edits) or not same:
        return False
    return sites == ["resid"] or set(sites) <= {"attn-out", "mlp-out"} or set(sites) == {"head-output"}


def together(interventions: Sequence[Intervention], sets: Collection[str] = ()) -> list[int]:
    """An order in which local interventions come first, then others that plain blocks make, and those at one position
    follow each other.
    """

    def key(i: int) -> tuple[bool, bool, str]:
        edit = interventions[i].edits[0]
        position = edit.part.position if isinstance(edit, Edit) else None
        place = f"{position:06d}" if isinstance(position, int) else f"{position}"
        return not is_local(interventions[i], sets), not is_walked(interventions[i]), place

    return sorted(range(len(interventions)), key=key)


def is_walked(intervention: Intervention) -> bool:
    """Whether plain blocks can make all edits, in whichever layers: all but those of attention patterns."""
    return all(
        isinstance(e, Edit) and e.part.slot != "pattern" and e.part.tower is None for e in intervention.edits
    )


def _why_not_walked(intervention: Intervention) -> str:
    return "edits in a tower" if intervention.tower else "edits of attention patterns"


def how(runs: PairedRuns, interventions: Sequence[Intervention], base: RunName = "clean") -> dict[str, Any]:
    """How many rows of a table plain blocks computed and how many the hooked model, and why; for the record."""
    walked, plain = sum(map(is_walked, interventions)), 0
    reasons = {_why_not_walked(i) for i in interventions if not is_walked(i)}
    for batch in runs.batches if walked else ():
        found = plainly(runs, batch, base) if runs.last_only(batch) else runs.blocks(batch)
        if isinstance(found, str):
            reasons.add(found)
        else:
            plain += walked * len(batch)
    rows = len(interventions) * runs.n_pairs
    return {"plain blocks": plain, "hooked model": rows - plain, "because": sorted(reasons)}


def plainly(runs: PairedRuns, batch: Batch, base: RunName = "clean") -> Blocks | str:
    """The blocks that are this model on all prompts of a run of the batch, or why the model itself must run."""
    if not runs.last_only(batch):
        return "the metric reads more than the last position"
    return runs.blocks(batch, every=base)


def without_plain_blocks(runs: PairedRuns, batch: Batch) -> str:
    """Memory ran out: from now on this batch is measured with hooks; the reason why."""
    reason = runs.not_plain[int(batch.index[0]), len(batch)] = "memory ran out with plain blocks"
    for key in [k for k in batch.cache if k[1].startswith("plain ")]:
        del batch.cache[key]
    return reason


@dataclass(frozen=True, kw_only=True)
class StartedRows:
    """Rows that start at one position: ``which`` intervention and ``pair``, in the order of interventions.

    Attributes:
        single: Only the start is edited, not everything from it on.
        adds: What the layer writes is edited, not what enters it.
    """

    start: int
    single: bool
    adds: bool
    which: np.ndarray
    pair: Int[Tensor, " row"]


def kept_names(runs: PairedRuns) -> list[str]:
    """What is read of the base run: the residual stream, what heads and what attention wrote, in every layer."""
    sites, layers = ("resid", "head-output", "attn-out"), range(runs.wiring.n_layers)
    return [*(hook_name(site, layer) for site in sites for layer in layers), last_out(runs)]


def last_out(runs: PairedRuns) -> str:
    """Hook of the residual stream that leaves the last block."""
    return f"blocks.{runs.wiring.n_layers - 1}.hook_out"


@torch.no_grad()
def restarted(
    runs: PairedRuns,
    batch: Batch,
    blocks: Blocks,
    interventions: Sequence[Intervention],
    base: RunName,
    means: Means | None,
) -> Float[Tensor, "intervention pair"]:
    """The metric of local interventions of one layer on a batch."""
    layer = interventions[0].first_layer
    found = runs.activations(batch, base, kept_names(runs))
    run = Restart(runs, batch, blocks, layer, base, found)
    final = run.base_end()[None].repeat(len(interventions), 1, 1)  # (intervention, pair, d_model)
    for rows in run.rows(interventions):
        final[torch.as_tensor(rows.which, device=final.device), rows.pair] = run.end(
            rows, interventions, means
        )
    ids = batch.prompt(base).last.repeat(len(interventions))
    return runs.value_of(batch, blocks, final.flatten(0, 1), ids).reshape(len(interventions), len(batch))


class Restart:
    """One layer of one batch, from which rows start."""

    def __init__(
        self,
        runs: PairedRuns,
        batch: Batch,
        blocks: Blocks,
        layer: int,
        base: RunName,
        seen: dict[str, Tensor],
    ) -> None:
        self.runs, self.batch, self.blocks, self.layer, self.base = runs, batch, blocks, layer, base
        self.last = len(blocks) - 1
        self.values: dict[tuple[str, str], Tensor | float] = {}
        self.resid = [seen[hook_name("resid", n)] for n in range(len(blocks))]
        self.z = seen[hook_name("head-output", layer)]
        self.mid = self.resid[layer] + seen[hook_name("attn-out", layer)]

    def base_end(self) -> Float[Tensor, "pair d_model"]:
        """What leaves the last block at the last position, untouched."""
        cache, key = self.batch.cache, (self.base, "end")
        if key not in cache:
            cache[key] = self.blocks.run(self.last, self.resid[self.last], last=True)[:, 0]
        return cache[key]

    def before(self, layer: int, rows: StartedRows) -> tuple[Tensor, Tensor] | None:
        """Keys and values of the positions that did not change."""
        if rows.start == 0:
            return None
        cache, keys = self.batch.cache, [(self.base, f"plain {name} {layer}") for name in "kv"]
        if keys[0] not in cache:
            cache[keys[0]], cache[keys[1]] = self.blocks.keys_values(layer, self.resid[layer])
        k, v = (cache[key][rows.pair, : rows.start] for key in keys)
        return k, v

    def rows(self, interventions: Sequence[Intervention]) -> Iterator[StartedRows]:
        """All rows that change anything, by where they start, in chunks."""
        groups: dict[tuple[int, bool, bool], list[np.ndarray]] = defaultdict(list)
        everywhere = np.zeros(len(self.batch), dtype=int)
        for i, intervention in enumerate(interventions):
            node = intervention.edits[0].part
            single, adds = node.position is not None, site_of(node) in _ADDS
            at_node = None if node.position is None else self.batch.at(node.position).cpu().numpy()
            starts = everywhere if at_node is None else at_node
            for start in np.unique(starts).tolist() if single else [0]:
                pairs = np.flatnonzero(starts == start)
                groups[start, single, adds].append(np.stack([np.full_like(pairs, i), pairs]))
        for (start, single, adds), members in sorted(groups.items()):
            if self.layer == self.last and single and adds and start < self.batch.n_tokens - 1:
                continue  # the last layer reads other positions before they are edited
            most = self.runs.batch_tokens
            tokens = min(CHUNK_TOKENS, most) if self.z.device.type == "cpu" else most
            size = max(1, tokens // (self.batch.n_tokens - start))
            joined = np.concatenate(members, axis=1)
            for k in range(0, joined.shape[1], size):
                which, pair = joined[:, k : k + size]
                at = torch.as_tensor(pair, device=self.z.device)
                yield StartedRows(start=start, single=single, adds=adds, which=which, pair=at)

    def end(
        self, rows: StartedRows, interventions: Sequence[Intervention], means: Means | None
    ) -> Float[Tensor, "row d_model"]:
        """What leaves the last block at the last position."""
        if rows.adds:
            x, layer = self.edited(rows, interventions, means), self.layer + 1
            if layer > self.last:
                return x[:, -1]
            x = self.spread(layer, rows, x) if rows.single else x
        else:
            x, layer = self.entered(rows, interventions, means), self.layer
        for n in range(layer, self.last + 1):
            x = self.blocks.run(n, x, start=rows.start, before=self.before(n, rows), last=n == self.last)
        return x[:, -1]

    def spread(self, layer: int, rows: StartedRows, x: Tensor) -> Tensor:
        """The residual stream from the start on, with what changed at the start."""
        whole = self.resid[layer][rows.pair, rows.start :]
        whole[:, :1] = x
        return whole

    def span(self, rows: StartedRows) -> slice:
        """The positions that an edit changes at its own layer, as far as they are read."""
        if rows.single:
            return slice(rows.start, rows.start + 1)
        return slice(self.batch.n_tokens - 1, None) if self.layer == self.last else slice(0, None)

    def each(self, rows: StartedRows) -> list[tuple[int, slice]]:
        """Interventions of these rows, and which rows are theirs."""
        ends = [0, *(np.flatnonzero(np.diff(rows.which)) + 1).tolist(), len(rows.which)]
        return [(int(rows.which[a]), slice(a, b)) for a, b in itertools.pairwise(ends)]

    def value(
        self,
        edit: Edit,
        rows: StartedRows,
        own: slice,
        span: slice,
        means: Means | None,
        heads: slice | int = slice(None),
    ) -> Tensor | float:
        """What an edit puts there, for these rows, positions and heads."""
        assert edit.word is not None, "local edits put words there"
        key = edit.word, site_of(edit.part)
        if key not in self.values:
            made = value_of_edit(self.runs, self.batch, edit, means)
            assert not isinstance(made, Replacement)
            self.values[key] = made
        value = self.values[key]
        if isinstance(value, float):
            return value
        return self._of(rows, own, value[:, span] if value.dim() == 3 else value[:, span, heads])

    def _of(
        self, rows: StartedRows, own: slice, tensor: Float[Tensor, " pair *any"]
    ) -> Float[Tensor, " row *any"]:
        """The pairs of these rows; no copy where they are all pairs in order."""
        if own.stop - own.start == len(self.batch):  # a row for every pair: they stand in order
            return tensor
        return tensor[rows.pair[own]]

    def entered(
        self, rows: StartedRows, interventions: Sequence[Intervention], means: Means | None
    ) -> Float[Tensor, "row pos d_model"]:
        """What enters the layer, edited."""
        x = self.resid[self.layer][rows.pair, rows.start :]
        span = slice(rows.start, rows.start + 1) if rows.single else slice(0, None)
        for i, own in self.each(rows):
            x[own, : 1 if rows.single else None] = self.value(
                _edits_of(interventions[i])[0], rows, own, span, means
            )
        return x

    def edited(
        self, rows: StartedRows, interventions: Sequence[Intervention], means: Means | None
    ) -> Float[Tensor, "row pos d_model"]:
        """What leaves the layer where it was edited."""
        span = self.span(rows)
        mid = self.mid[rows.pair, span]
        given: list[tuple[slice, Tensor | float]] = []  # what MLPs write
        for i, own in self.each(rows):
            for edit in _edits_of(interventions[i]):
                if site_of(edit.part) == "mlp-out":
                    given.append((own, self.value(edit, rows, own, span, means, slice(None))))
                else:
                    self._edit_attention(mid, edit, rows, own, span, means)
        if len(given) == len(self.each(rows)):  # no MLP is left to compute
            for own, value in given:
                mid[own] += value
            return mid
        before = self.resid[self.layer][rows.pair, span] if self.blocks.parallel else mid
        written = self.blocks.mlp(self.layer, before)
        for own, value in given:
            written[own] = value
        return written.add_(mid)

    def _edit_attention(
        self, mid: Tensor, edit: Edit, rows: StartedRows, own: slice, span: slice, means: Means | None
    ) -> None:
        """Change what attention has added to the stream of an intervention's own rows, in place."""
        if site_of(edit.part) == "attn-out":
            value = self.value(edit, rows, own, span, means, slice(None))
            mid[own] = self._of(rows, own, self.resid[self.layer][:, span]) + value
            return
        heads = slice(None) if edit.part.index is None else edit.part.index
        value = self.value(edit, rows, own, span, means, heads)
        change = value - self._of(rows, own, self.z[:, span, heads])
        mid[own].add_(change @ self.runs.output_matrix(self.layer)[heads])
