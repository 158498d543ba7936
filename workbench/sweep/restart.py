"""Interventions inside one layer, by plain blocks: only what can have changed is computed.

A row is one intervention on one pair. An edit at position ``p`` of layer ``l`` leaves the positions before ``p``
and the layers before ``l`` as they were, and at ``l`` itself it changes position ``p`` alone; the last layer is
needed at the last position, for keys and values everywhere. Rows that start at one position run together.

Which pairs go this way is decided by comparing every block with the model on all prompts of a batch (``plainly``),
once for each batch; where they differ, the model itself is run with hooks. Tables say which it was.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.errors import ModelError
from workbench.interventions.apply import value_of_edit
from workbench.interventions.edits import Edit, Intervention, site_of
from workbench.interventions.means import Means
from workbench.metrics import Answers
from workbench.model.blocks import (
    ALIKE,
    Blocks,
    every_module,
    is_bare,
    plain_blocks,
    plain_end,
    read_out,
    unlike,
    with_rotary,
)
from workbench.model.hooks import component, hook_name, output_matrix
from workbench.model.memory import is_out_of_memory
from workbench.sweep.runs import Batch, PairedRuns, RunName

CHUNK_TOKENS = 2048  # matrix products are at their best and what lies between them still fits in the cache
LOGITS = 2**25  # numbers in one block of logits
_KNOWN: WeakKeyDictionary[PairedRuns, dict[Any, Any]] = WeakKeyDictionary()
_NOT_PLAIN = "the blocks are not plain attention and MLP"
_ADDS = ("head-output", "attn-out", "mlp-out")


def is_local(intervention: Intervention) -> bool:
    """Whether all edits are of what one layer writes, or of what enters it, at one position or at all."""
    edits = intervention.edits
    if not all(isinstance(e, Edit) and e.node.slot is None and e.node.kind != "neuron" for e in edits):
        return False
    sites = [site_of(e.node) for e in edits]
    same = len({(e.layer, e.node.position) for e in edits}) == 1
    if len({e.node for e in edits}) < len(edits) or not same:
        return False
    return sites == ["resid"] or set(sites) <= {"attn-out", "mlp-out"} or set(sites) == {"head-output"}


def together(interventions: Sequence[Intervention]) -> list[int]:
    """An order in which local interventions, and those at one position, follow each other."""

    def key(i: int) -> tuple[bool, str]:
        edit = interventions[i].edits[0]
        position = edit.node.position if isinstance(edit, Edit) else None
        return not is_local(interventions[i]), f"{position:06d}" if isinstance(
            position, int
        ) else f"{position}"

    return sorted(range(len(interventions)), key=key)


def how(runs: PairedRuns, interventions: Sequence[Intervention], base: RunName = "clean") -> dict[str, Any]:
    """How many rows of a table plain blocks computed and how many the hooked model, and why; for the record."""
    local = sum(map(is_local, interventions))
    plain, reasons = (
        0,
        set() if local == len(interventions) else {"edits within attention or of several layers"},
    )
    for batch in runs.batches if local else ():
        found = plainly(runs, batch, base, compare=False)  # parts of an earlier run were compared there
        if isinstance(found, str):
            reasons.add(found)
        else:
            plain += local * len(batch)
    rows = len(interventions) * runs.n_pairs
    return {"plain blocks": plain, "hooked model": rows - plain, "because": sorted(reasons)}


def plainly(runs: PairedRuns, batch: Batch, base: RunName = "clean", *, compare: bool = True) -> Blocks | str:
    """The blocks that are this model on all prompts of a run of the batch, or why the model itself must run."""
    if not runs.last_only(batch):
        return "the metric reads more than the last position"
    if not is_bare(runs.model):  # asked every time: an edit that is switched on must not be passed by
        return "something is attached to the model"
    known, layers = _KNOWN.setdefault(runs, {}), tuple(map(id, every_module(runs.model)))
    if known.get("layers") != layers:  # blocks hold the layers that were there when they were made
        known.clear()
        known["layers"] = layers
    if batch.n_tokens not in known:
        known[batch.n_tokens] = _tried(_measured, runs, batch)
    blocks, key = known[batch.n_tokens], _key(batch, base)
    if compare and not isinstance(blocks, str) and key not in known:
        known[key] = _tried(_compared, runs, batch, base, blocks)
    return blocks if isinstance(blocks, str) else known.get(key, blocks)


def without_plain_blocks(runs: PairedRuns, batch: Batch, base: RunName) -> None:
    """Memory ran out: from now on this run of the batch is measured with hooks."""
    _KNOWN.setdefault(runs, {})[_key(batch, base)] = "memory ran out with plain blocks"
    for key in [k for k in batch.cache if k[1].startswith("plain ")]:
        del batch.cache[key]


def _key(batch: Batch, base: RunName) -> tuple[int, int, str]:
    return int(batch.index[0]), len(batch), base


def _tried(make: Callable[..., Blocks | str], *args: Any) -> Blocks | str:
    """What is made, or that the blocks are not plain where they cannot even be computed."""
    try:
        return make(*args)
    except (RuntimeError, TypeError, AttributeError, IndexError) as problem:
        if is_out_of_memory(problem):
            raise
        return _NOT_PLAIN


@torch.no_grad()
def _compared(runs: PairedRuns, batch: Batch, base: RunName, blocks: Blocks) -> Blocks | str:
    """Every block on every prompt of a run, from what the sweep records of it anyway."""
    names = [*(hook_name("resid", n) for n in range(len(blocks))), last_out(runs)]
    seen = runs.activations(batch, base, kept_names(runs))
    resid = [seen[name] for name in names]
    return blocks if unlike(blocks, resid) <= ALIKE[resid[0].dtype] else _NOT_PLAIN


@torch.no_grad()
def _measured(runs: PairedRuns, batch: Batch) -> Blocks | str:
    blocks = plain_blocks(runs.model, runs.wiring)
    if isinstance(blocks, str):
        return blocks
    ids = torch.cat([batch.clean[:2], batch.corrupted[:2]])
    blocks, resid, out = with_rotary(blocks, runs.model, ids)
    limit = ALIKE[out.dtype]
    if not unlike(blocks, resid) <= limit:
        return _NOT_PLAIN
    made = read_out(runs.model, resid[-1][:, -1], ids[:, -1], in_tuple=blocks.in_tuple)
    near = limit * (1 + float(out.abs().max()))
    if not float((made - out).abs().max()) <= near:
        return "what leaves the last block does not decide the logits"
    made = plain_end(runs.model, resid[-1][:, -1])
    blocks.ends_plainly = made is not None and float((made - out).abs().max()) <= near
    blocks.by_column = _tried(_by_column, runs, batch, blocks, resid[-1][:, -1], ids[:, -1], out) is True
    return blocks


def _by_column(
    runs: PairedRuns, batch: Batch, blocks: Blocks, hidden: Tensor, ids: Tensor, out: Tensor
) -> bool:
    """Whether the logits of some tokens alone are those columns of all logits."""
    columns = torch.cat([batch.answers.correct.flatten(), batch.answers.incorrect.flatten()]).unique()
    if component(runs.model, "unembed") is None or not 0 < len(columns) < out.shape[-1]:
        return False
    form = {"in_tuple": blocks.in_tuple, "plainly": blocks.ends_plainly}
    made, own = read_out(runs.model, hidden, ids, columns, **form), out[:, columns]
    limit = ALIKE[out.dtype] * (1 + float(own.abs().max()))
    return made.shape == own.shape and float((made - own).abs().max()) <= limit


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows that start at one position: ``which`` intervention and ``pair``, in the order of interventions.

    Attributes:
        single: Only the start is edited, not everything from it on.
        adds: What the layer writes is edited, not what enters it.
    """

    start: int
    single: bool
    adds: bool
    which: np.ndarray
    pair: Int[Tensor, "row"]


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
    return _metric(runs, batch, blocks, base, final)


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

    def before(self, layer: int, rows: Rows) -> tuple[Tensor, Tensor] | None:
        """Keys and values of the positions that did not change."""
        if rows.start == 0:
            return None
        cache, keys = self.batch.cache, [(self.base, f"plain {name} {layer}") for name in "kv"]
        if keys[0] not in cache:
            cache[keys[0]], cache[keys[1]] = self.blocks.keys_values(layer, self.resid[layer])
        k, v = (cache[key][rows.pair, : rows.start] for key in keys)
        return k, v

    def rows(self, interventions: Sequence[Intervention]) -> Iterator[Rows]:
        """All rows that change anything, by where they start, in chunks."""
        groups: dict[tuple[int, bool, bool], list[tuple[int, int]]] = defaultdict(list)
        for i, intervention in enumerate(interventions):
            node = intervention.edits[0].node
            single, adds = node.position is not None, site_of(node) in _ADDS
            starts = self.batch.at(node.position).tolist() if single else [0] * len(self.batch)
            for pair, start in enumerate(starts):
                groups[start, single, adds].append((i, pair))
        for (start, single, adds), members in sorted(groups.items()):
            if self.layer == self.last and single and adds and start < self.batch.n_tokens - 1:
                continue  # the last layer reads other positions before they are edited
            most = self.runs.batch_tokens
            tokens = min(CHUNK_TOKENS, most) if self.z.device.type == "cpu" else most
            size = max(1, tokens // (self.batch.n_tokens - start))
            for k in range(0, len(members), size):
                which, pair = np.array(members[k : k + size]).T
                at = torch.as_tensor(pair, device=self.z.device)
                yield Rows(start=start, single=single, adds=adds, which=which, pair=at)

    def end(
        self, rows: Rows, interventions: Sequence[Intervention], means: Means | None
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

    def spread(self, layer: int, rows: Rows, x: Tensor) -> Tensor:
        """The residual stream from the start on, with what changed at the start."""
        whole = self.resid[layer][rows.pair, rows.start :]
        whole[:, :1] = x
        return whole

    def span(self, rows: Rows) -> slice:
        """The positions that an edit changes at its own layer, as far as they are read."""
        if rows.single:
            return slice(rows.start, rows.start + 1)
        return slice(self.batch.n_tokens - 1, None) if self.layer == self.last else slice(0, None)

    def each(self, rows: Rows) -> list[tuple[int, slice]]:
        """Interventions of these rows, and which rows are theirs."""
        ends = [0, *(np.flatnonzero(np.diff(rows.which)) + 1).tolist(), len(rows.which)]
        return [(int(rows.which[a]), slice(a, b)) for a, b in itertools.pairwise(ends)]

    def value(self, edit: Edit, rows: Rows, own: slice, span: slice, means: Means | None) -> Tensor | float:
        """What an edit puts there, for these rows and positions."""
        key = edit.value, site_of(edit.node)
        if key not in self.values:
            self.values[key] = value_of_edit(self.runs, self.batch, edit, means)
        value = self.values[key]
        return value if isinstance(value, float) else value[rows.pair[own], span]

    def entered(
        self, rows: Rows, interventions: Sequence[Intervention], means: Means | None
    ) -> Float[Tensor, "row pos d_model"]:
        """What enters the layer, edited."""
        x = self.resid[self.layer][rows.pair, rows.start :]
        span = slice(rows.start, rows.start + 1) if rows.single else slice(0, None)
        for i, own in self.each(rows):
            x[own, : 1 if rows.single else None] = self.value(
                interventions[i].edits[0], rows, own, span, means
            )
        return x

    def edited(
        self, rows: Rows, interventions: Sequence[Intervention], means: Means | None
    ) -> Float[Tensor, "row pos d_model"]:
        """What leaves the layer where it was edited."""
        span = self.span(rows)
        mid = self.mid[rows.pair, span]
        fixed: list[tuple[slice, Tensor | float]] = []  # what MLPs write, given
        matrix = output_matrix(self.runs.model, self.layer)
        for i, own in self.each(rows):
            for edit in interventions[i].edits:
                value = self.value(edit, rows, own, span, means)
                site, pair = site_of(edit.node), rows.pair[own]
                if site == "head-output":
                    heads = slice(None) if edit.node.index is None else edit.node.index
                    value = value if isinstance(value, float) else value[:, :, heads]
                    change = value - self.z[pair, span][:, :, heads]
                    mid[own] += change @ matrix[heads]
                elif site == "attn-out":
                    mid[own] = self.resid[self.layer][pair, span] + value
                else:
                    fixed.append((own, value))
        if len(fixed) == len(self.each(rows)):  # no MLP is left to compute
            for own, value in fixed:
                mid[own] += value
            return mid
        before = self.resid[self.layer][rows.pair, span] if self.blocks.parallel else mid
        written = self.blocks.mlp(self.layer, before)
        for own, value in fixed:
            written[own] = value
        return written.add_(mid)


def _metric(
    runs: PairedRuns, batch: Batch, blocks: Blocks, base: RunName, final: Float[Tensor, "times pair d_model"]
) -> Float[Tensor, "times pair"]:
    """The metric of what leaves the last block, with no more logits at once than fit."""
    columns, answers = _columns(runs, batch, blocks)
    width = runs.model.cfg.d_vocab if columns is None else len(columns)
    times = max(1, LOGITS // (len(batch) * width))
    found = []
    for part in final.split(times):
        ids = batch.ids(base)[:, -1].repeat(len(part))
        form = {"in_tuple": blocks.in_tuple, "plainly": blocks.ends_plainly}
        logits = read_out(runs.model, part.flatten(0, 1), ids, columns, **form)
        if logits.shape[-1] != width:
            raise ModelError(f"the unembedding gives {logits.shape[-1]} logits where {width} are expected")
        values = (
            runs.measure(batch, logits) if columns is None else runs.metric(logits, answers.repeat(len(part)))
        )
        found.append(values.reshape(len(part), -1))
    return torch.cat(found)


def _columns(runs: PairedRuns, batch: Batch, blocks: Blocks) -> tuple[Tensor | None, Answers]:
    """The tokens that the metric reads, and the answers as indices into them; None where it reads all."""
    answers = batch.answers
    if not (runs.metric.reads_answers_only and blocks.by_column):
        return None, answers
    columns = torch.cat([answers.correct.flatten(), answers.incorrect.flatten()]).unique()
    moved = {name: torch.searchsorted(columns, getattr(answers, name)) for name in ("correct", "incorrect")}
    masks = {f"{name}_mask": getattr(answers, f"{name}_mask") for name in moved}
    return columns, Answers(**moved, **masks)
