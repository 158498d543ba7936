"""Turn stacked interventions into hooks: each block of rows of a forward pass gets its own edits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from workbench.circuits.addresses import Node
from workbench.core.errors import ModelError, TaskError
from workbench.engine.interventions.intervention import Edit, Intervention, KnockOut
from workbench.engine.interventions.means import Means
from workbench.engine.interventions.replacement import Replacement
from workbench.engine.interventions.site import site_of
from workbench.engine.paired_runs import Batch, PairedRuns
from workbench.model.hooks import Wiring, hook_name
from workbench.model.pattern_rows import sink_share
from workbench.model.probe import recompute_pattern

Hook = tuple[str, Callable[..., Tensor | None]]
Put = Callable[[Tensor, slice], None]  # writes one edit into its rows of a cloned tensor
New = Tensor | float | Replacement


def hooks_for(
    runs: PairedRuns, batch: Batch, stacked: Sequence[Intervention], means: Means | None
) -> list[Hook]:
    """Return hooks for a forward pass whose rows are ``len(stacked)`` copies of a batch, one intervention each."""
    plain: dict[str, list[tuple[slice, Put]]] = defaultdict(list)
    patterns: dict[tuple[str | None, int], list[tuple[slice, Edit | KnockOut, Put]]] = defaultdict(list)
    for i, intervention in enumerate(stacked):
        rows = slice(i * len(batch), (i + 1) * len(batch))
        for edit in intervention.edits:
            if isinstance(edit, KnockOut):
                wired = runs.wiring.of(edit.part.tower)
                causal = wired.causal and not wired.looks_ahead
                patterns[edit.part.tower, edit.layer].append((rows, edit, _knock_out(edit, batch, causal)))
            elif edit.part.slot == "pattern":
                value = value_of_edit(runs, batch, edit, means)
                put = _put_pattern(edit.part, batch, value)
                patterns[edit.part.tower, edit.layer].append((rows, edit, put))
            else:
                name = runs.wiring.hook_of(edit.part, site_of(edit.part))
                plain[name].append((rows, _put(edit.part, batch, value_of_edit(runs, batch, edit, means))))
    found: list[Hook] = []
    for (tower, layer), puts in patterns.items():
        wiring = runs.wiring.of(tower)
        if "pattern" in wiring.live:
            plain[hook_name("pattern", layer, wiring.prefix)] += [(rows, put) for rows, _, put in puts]
        else:
            _confirm_pattern(runs, batch, wiring, layer)
            found += _pattern_through_output(wiring, layer, puts)
    # On one hook point hooks run in this order: q, k, v are edited before a pattern is recomputed from them,
    # and an edit of the head output itself wins over one that a pattern edit writes there.
    early = tuple(f"hook_{slot}" for slot in "qkv")
    hooks = [(name, _editor(puts)) for name, puts in plain.items()]
    return [h for h in hooks if h[0].endswith(early)] + found + [h for h in hooks if not h[0].endswith(early)]


def _editor(puts: Sequence[tuple[slice, Put]]) -> Callable[..., Tensor]:
    def edit(tensor: Tensor, hook) -> Tensor:
        tensor = tensor.clone()
        for rows, put in puts:
            put(tensor, rows)
        return tensor

    return edit


def value_of_edit(runs: PairedRuns, batch: Batch, edit: Edit, means: Means | None) -> New:
    """Say what is put there, shaped ``(pair, pos, ...)`` like the whole activation; 0.0 for zero ablation.

    A ``Replacement`` stays what it is: it is made from what is there when it is put.
    """
    word = edit.word
    if word is None:
        return edit.replacement
    name = runs.wiring.hook_of(edit.part, site_of(edit.part))
    if word == "zero":
        return 0.0
    if word == "clean" or word == "corrupted":
        return runs.activations(batch, word, [name])[name]
    if means is None:
        raise ModelError(
            f"{edit.part}: {word} needs a reference set", hint="--reference FILE.jsonl, or reference=runs"
        )
    return means.of(word, name, batch, runs.dtype)


def _put(node: Node, batch: Batch, value: New) -> Put:
    """Write the value at one head or all, at one position or all."""
    pair, where = batch.places_of(node) or (None, None)

    def put(tensor: Tensor, rows: slice) -> None:
        part = tensor[rows]  # a view: writing to it writes to the clone
        index = (slice(None), slice(None)) if pair is None else (pair, where)
        index = index if node.index is None else (*index, node.index)
        part[index] = _new(value, part, index, batch)

    return put


def _new(value: New, part: Tensor, index: tuple, batch: Batch) -> Tensor | float:
    """What goes to ``part[index]``."""
    if isinstance(value, Replacement):
        rows = index[0].cpu().numpy() if isinstance(index[0], Tensor) else slice(None)
        return value.of(part[index], batch.index[rows])
    return value if isinstance(value, float) else value[index]


def _put_pattern(node: Node, batch: Batch, value: New) -> Put:
    """Write a pattern ``(pair, head, query, key)``, all query rows or one."""
    pair, where = batch.places_of(node) or (None, None)

    def put(tensor: Tensor, rows: slice) -> None:
        part = tensor[rows]
        heads = range(part.shape[1]) if node.index is None else (node.index,)
        for h in heads:
            index = (slice(None), h) if pair is None else (pair, h, where)
            part[index] = _new(value, part, index, batch)

    return put


def _knock_out(edit: KnockOut, batch: Batch, causal: bool) -> Put:
    """Take keys from query rows and give their weight to the others in proportion, a learned sink among them.

    Raises:
        TaskError: if the model is causal and a key comes after its query: nothing would change.
    """
    (pair, query), (key_pair, key) = (batch.places(p, edit.part.tower) for p in (edit.query, edit.key))
    first = key.new_zeros(len(batch)).scatter_reduce_(
        0, key_pair, key, "amin", include_self=False
    )  # of each pair
    if causal and bool((first[pair] > query).any()):
        raise TaskError(
            f"{edit.part}: key {edit.key} comes after query {edit.query}, which cannot see it in this model",
            hint=f"a query looks back: from {edit.key} to {edit.query}",
        )

    def put(tensor: Tensor, rows: slice) -> None:
        part = tensor[rows]
        heads = range(part.shape[1]) if edit.part.index is None else (edit.part.index,)
        for h in heads:
            row = part[pair, h, query].clone()  # (place, key)
            hidden = torch.zeros(len(batch), row.shape[-1], dtype=torch.bool, device=row.device)
            hidden[key_pair, key] = True
            sink = sink_share(row).to(row.dtype)
            row[hidden[pair]] = 0
            # The sum of the others, not 1 - A[query, key]: that has no digits left where the key takes nearly all.
            rest = row.sum(-1, keepdim=True) + sink
            part[pair, h, query] = torch.where(rest > 0, row / rest, row)

    return put


def _confirm_pattern(runs: PairedRuns, batch: Batch, wiring: Wiring, layer: int) -> None:
    """Compare the recomputed with the model's own pattern on these prompts, once per batch and layer.

    Raises:
        ModelError: if they differ, as they do beyond a sliding window that the short probe did not see.
    """
    known = "confirmed", f"pattern {wiring.prefix} {layer}"
    if known in batch.cache:
        return
    names = {slot: hook_name(slot, layer, wiring.prefix) for slot in ("q", "k", "pattern")}
    seen = runs.activations(batch, "clean", list(names.values()))
    own, made = (
        seen[names["pattern"]],
        recompute_pattern(seen[names["q"]], seen[names["k"]], wiring.causal),
    )
    error = float((made - own).abs().max())
    if error > 1e-3:  # float32 rounding is below 1e-6 here
        raise ModelError(
            f"layer {layer}: the attention pattern cannot be recomputed here (off by {error:.2g})",
            hint="--ablation resample, or a part that is no pattern",
        )
    batch.cache[known] = own


def _pattern_through_output(
    wiring: Wiring, layer: int, puts: Sequence[tuple[slice, Edit | KnockOut, Put]]
) -> list[Hook]:
    """The same edit where patterns are read-only: recompute the pattern, edit it, write ``A v`` to the output."""
    seen: dict[str, Tensor] = {}

    def keep(slot: str) -> Callable[..., None]:
        def store(tensor: Tensor, hook) -> None:
            seen[slot] = tensor

        return store

    def write(z: Tensor, hook) -> Tensor:
        pattern = recompute_pattern(seen["q"], seen["k"], wiring.causal)
        for rows, _, put in puts:
            put(pattern, rows)
        z, new = z.clone(), torch.einsum("bhqk,bkhe->bqhe", pattern, seen["v"])
        for rows, edit, _ in puts:
            heads = slice(None) if edit.part.index is None else edit.part.index
            z[rows, :, heads] = new[rows, :, heads]
        return z

    names = {site: hook_name(site, layer, wiring.prefix) for site in ("q", "k", "v", "head-output")}
    return [*((names[s], keep(s)) for s in "qkv"), (names["head-output"], write)]
