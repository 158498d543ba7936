"""What corrupted queries and keys do to attention patterns, one query or one key at a time, measured by the model.

All layers are asked in one pass: each layer reads the clean residual stream whatever happens before it, and only its
queries (or keys) are replaced. Patterns come out of the model's own attention, so rotary positions, masks, soft caps
and norms of queries and keys need no formula here.

A single replaced key changes one column of the scores. Half of the keys are replaced in each of two passes; the other
half tells by how much the softmax was rescaled, and so what the replaced column would be by itself. Where that half has
no weight left to tell it by (single precision loses it when scores are 100 apart) each key is replaced alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.core.errors import ModelError
from workbench.engine.paired_runs import Batch, PairedRuns, RunName
from workbench.model.hooks import TOLERANCE, hook_name
from workbench.model.pattern_rows import sink_share
from workbench.model.probe import record

Pattern = Float[Tensor, "pair head query key"]
Share = Float[Tensor, "pair head query 1"]
Places = Bool[Tensor, "pair head query key"]
# Less than this tells nothing: float32 and bfloat16 lose digits below 1e-38, so a sum above it is right to 1e-8.
LEAST = 1e-30


@dataclass(frozen=True, kw_only=True, eq=False)
class Patterns:
    """Patterns of one layer, in float64.

    Attributes:
        clean: Of the clean run.
        queries: With every query at its corrupted value and clean keys; row by row, as a query changes its row only.
        key_odds: ``exp(score of the corrupted key) / sum exp(clean scores)`` for every query and key.
        sole: Keys that have all weight of their query; ``key_odds`` cannot say what is left without them.
        without_sole: The rows of those queries with that key, alone, at its corrupted value; else 0.
        sink: What a learned sink takes of each query of the clean run; 0 where there is none.
        queries_sink: The same with every query at its corrupted value.
    """

    clean: Pattern
    queries: Pattern
    sink: Share
    queries_sink: Share
    key_odds: Pattern
    sole: Places
    without_sole: Pattern


@torch.no_grad()
def corrupted_patterns(runs: PairedRuns, batch: Batch) -> dict[int, Patterns]:
    """Return patterns of every attention layer under corrupted queries and keys.

    Five forward passes, and one for each key that has to be replaced alone.

    Raises:
        ModelError: if patterns cannot be seen, or edits of queries or keys do nothing on this model.
    """
    layers, precision = runs.wiring.attention_layers, next(iter(runs.model.parameters())).dtype
    dead = [slot for slot in "qk" if slot not in runs.wiring.live]
    if dead:
        raise ModelError(
            f"the QK fix edits queries and keys, and edits of {dead[0]} change nothing on this model",
            hint="--option qk_fix=false --option heads=output",
        )
    clean = _patterns(runs, batch, {})
    swapped = {slot: _swapped(runs, batch, slot) for slot in "qk"}
    queries = _patterns(runs, batch, swapped["q"])
    odds = {layer: torch.zeros_like(clean[layer]) for layer in layers}
    visible = _visible(runs, batch)
    alone = {layer: torch.zeros_like(visible[layer]) for layer in layers}
    at = torch.arange(batch.n_tokens, device=runs.device)
    for half in (at % 2 == 0, at % 2 == 1):
        own = _swapped(runs, batch, "k", only=half)
        for layer, pattern in _patterns(runs, batch, own).items():
            odds[layer] += _odds(clean[layer], pattern, half, precision)
            alone[layer] |= _untold(clean[layer], pattern, half) & visible[layer]
    found = {
        n: Patterns(
            clean=clean[n],
            queries=queries[n],
            sink=(taken := sink_share(clean[n], made_in=precision)),
            queries_sink=sink_share(queries[n], made_in=precision),
            key_odds=odds[n],
            sole=alone[n] & (_without_each(clean[n]) + taken < LEAST),
            without_sole=torch.zeros_like(clean[n]),
        )
        for n in layers
    }
    for key in torch.stack([places.flatten(0, 2).any(0) for places in alone.values()]).any(0).nonzero():
        own = _swapped(runs, batch, "k", only=at == key)
        for layer, pattern in _patterns(runs, batch, own).items():
            _put_alone(found[layer], pattern, alone[layer] & (at == key), at == key, precision)
    return found


def _visible(runs: PairedRuns, batch: Batch) -> dict[int, Places]:
    """The keys that a query may attend to, where it does not attend to that key only: seen with queries of zero."""
    names = [hook_name("q", layer) for layer in runs.wiring.attention_layers]
    zero = {n: torch.zeros_like(t) for n, t in runs.activations(batch, "clean", names).items()}
    seen = {layer: pattern > 0 for layer, pattern in _patterns(runs, batch, zero).items()}
    return {layer: places & (places.sum(-1, keepdim=True) > 1) for layer, places in seen.items()}


def _untold(clean: Pattern, pattern: Pattern, replaced: Bool[Tensor, " key"]) -> Places:
    """Replaced keys of rows whose other half has too little weight to tell their odds by."""
    least = torch.minimum(clean[..., ~replaced].sum(-1), pattern[..., ~replaced].sum(-1))
    return (least < LEAST)[..., None] & replaced


def _put_alone(
    at: Patterns, pattern: Pattern, where: Places, key: Bool[Tensor, " key"], precision: torch.dtype
) -> None:
    """Write down what a key replaced alone gives, at these places."""
    at.key_odds[where] = _odds(at.clean, pattern, key, precision)[where]
    rows = (where & at.sole).any(-1)
    at.without_sole[rows] = pattern[rows]


def _swapped(
    runs: PairedRuns, batch: Batch, slot: str, *, only: Bool[Tensor, " pos"] | None = None
) -> dict[str, Tensor]:
    """Corrupted queries or keys at every layer, at some positions only."""
    names = [hook_name(slot, layer) for layer in runs.wiring.attention_layers]
    corrupted = runs.activations(batch, "corrupted", names)
    if only is None:
        return corrupted
    clean = runs.activations(batch, "clean", names)
    return {n: torch.where(only[None, :, None, None], corrupted[n], clean[n]) for n in names}


def _patterns(runs: PairedRuns, batch: Batch, replaced: dict[str, Tensor]) -> dict[int, Pattern]:
    """Patterns when each layer reads the clean stream and has these queries or keys."""
    layers = runs.wiring.attention_layers
    stream = [hook_name("resid", n) for n in range(runs.wiring.n_layers)]
    put = {**runs.activations(batch, "clean", stream), **replaced}
    hooks = [(name, lambda tensor, hook, value=value: value) for name, value in put.items()]
    with runs.model.hooks(fwd_hooks=hooks):
        _, seen = record(
            runs.model,
            batch.prompt("clean"),
            [hook_name("pattern", n) for n in layers],
            last_only=runs.last_only(batch),
        )
    missing = [n for n in layers if hook_name("pattern", n) not in seen]
    if missing:
        raise ModelError(
            f"the attention pattern of layer {missing[0]} cannot be seen on this model",
            hint="open the model with eager attention, or name other nodes",
        )
    return {n: seen[hook_name("pattern", n)].double() for n in layers}


def _odds(
    clean: Pattern, pattern: Pattern, replaced: Bool[Tensor, " key"], precision: torch.dtype
) -> Pattern:
    """Weight of the replaced keys in units of the clean softmax's sum; 0 elsewhere."""
    rest, rescaled = (
        rows[..., ~replaced].sum(-1, keepdim=True) + sink_share(rows, made_in=precision)
        for rows in (clean, pattern)
    )
    # 1e-45: the smallest float32. Beyond it a replaced key has all weight, and large finite odds say so.
    rescaled = rescaled.clamp(min=1e-45)
    return torch.where(replaced, pattern * (rest / rescaled), torch.zeros_like(pattern))


def query_effect(at: Patterns, grad: Pattern) -> Float[Tensor, "pair head query"]:
    """Return estimated drop when one query alone takes its corrupted value, linear after the softmax only.

    ``sum over keys of (A - A with the corrupted query) * dF/dA``
    """
    return ((at.clean - at.queries) * grad).sum(-1)


def key_effect(at: Patterns, grad: Pattern) -> Float[Tensor, "pair head key"]:
    """Return estimated drop when one key alone takes its corrupted value, linear after the softmax only.

    For every query one column of the scores changes and its row is normalised again:
    ``sum over queries and keys j of (A[q, j] - A'[q, j]) * dF/dA[q, j]``. Sums without column k are taken from both
    sides, so a row that is all on one key loses nothing to cancellation. A learned sink is one of the others, with
    nothing to give.
    """
    weighted = at.clean * grad
    others, others_weighted = _without_each(at.clean), _without_each(weighted)
    total = others + at.sink + at.key_odds
    new = (others_weighted + at.key_odds * grad) / total.clamp(min=torch.finfo(total.dtype).tiny)
    change = weighted.sum(-1, keepdim=True) - new
    sole = ((at.clean - at.without_sole) * grad).sum(-1, keepdim=True)
    change = torch.where(at.sole, sole, change)
    # a query that sees one key only attends to it whatever the key is
    return torch.where((total > 0) | at.sole, change, torch.zeros_like(change)).sum(-2)


def _without_each(x: Pattern) -> Pattern:
    """Sum over keys without the key itself, for each key."""
    before = x.cumsum(-1) - x
    before[..., 1:] = x.cumsum(-1)[..., :-1]
    after = torch.zeros_like(x)
    after[..., :-1] = x.flip(-1).cumsum(-1).flip(-1)[..., 1:]
    return before + after


def linear_query_effect(at: Patterns, grad: Pattern) -> Float[Tensor, "pair head query"]:
    """Return the same as ``query_effect``, linear through the softmax too: plain attribution patching of queries."""
    change = _log_ratio(
        at.clean, at.queries
    )  # scores up to one number per row, which the softmax does not see
    mean = (at.clean * change).sum(-1, keepdim=True) + at.sink * _log_ratio(at.sink, at.queries_sink)
    return (at.clean * (change - mean) * grad).sum(-1)


def linear_key_effect(at: Patterns, grad: Pattern) -> Float[Tensor, "pair head key"]:
    """Return the same as ``key_effect``, linear through the softmax too: plain attribution patching of keys."""
    change = _log_ratio(at.clean, at.key_odds)
    centred = grad - (at.clean * grad).sum(-1, keepdim=True)
    return (at.clean * change * centred).sum(-2)


def _log_ratio(clean: Pattern, other: Pattern) -> Pattern:
    """``log(clean / other)``: how much higher the clean score is; 0 where either is no weight at all."""
    there = (clean > 0) & (other > 0)
    return torch.where(there, clean, 1).log() - torch.where(there, other, 1).log()


def pattern_gradient(
    runs: PairedRuns, batch: Batch, layer: int, grad_z: Float[Tensor, "pair pos head d_head"]
) -> Pattern:
    """Gradient at the pattern, ``dF/dz[q] . v[k]``: not from the pattern's own hook, which some families disconnect."""
    return torch.einsum("bqhe,bkhe->bhqk", grad_z.double(), _values(runs, batch, "clean", layer))


def value_effect(
    runs: PairedRuns, batch: Batch, layer: int, at: Patterns, grad_z: Float[Tensor, "pair pos head d_head"]
) -> Float[Tensor, "pair head key"]:
    """Return estimated drop when one value alone takes its corrupted value; values enter linearly."""
    change = _values(runs, batch, "clean", layer) - _values(runs, batch, "corrupted", layer)
    return torch.einsum("bhqk,bqhe,bkhe->bhk", at.clean, grad_z.double(), change)


def _values(
    runs: PairedRuns, batch: Batch, run: RunName, layer: int
) -> Float[Tensor, "pair pos head d_head"]:
    name = hook_name("v", layer)
    values = runs.activations(batch, run, [name])[name].double()
    return values.repeat_interleave(runs.wiring.n_heads // values.shape[2], dim=2)


def check_values(runs: PairedRuns, batch: Batch, layer: int, at: Patterns) -> None:
    """Whether pattern times values is what the heads give.

    Raises:
        ModelError: if not, so that gradients at the pattern cannot be had.
    """
    name = hook_name("head-output", layer)
    z = runs.activations(batch, "clean", [name])[name]
    product = torch.einsum("bhqk,bkhe->bqhe", at.clean, _values(runs, batch, "clean", layer))
    if not bool((product - z).abs().max() <= TOLERANCE.get(z.dtype, 2e-4) * (1 + z.abs().max())):
        raise ModelError(
            f"the heads of layer {layer} do not give pattern times values, so queries and keys cannot be scored",
            hint="--option heads=output",
        )
