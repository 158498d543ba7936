"""Read-outs of all heads on one ground: every score per sequence, then mean and standard error over sequences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.core.errors import ModelError
from workbench.core.progress import Progress
from workbench.heads import indicators, patterns
from workbench.heads.every_head import Measurement
from workbench.heads.grounds import BATCH_TOKENS, Ground
from workbench.heads.observe import patterns_of
from workbench.model.probe import wiring

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

ALPHA, WINDOW, SHARE = 5.0, 10, 0.3  # as the papers have them
PATTERN_FLOATS = 5 * 10**7  # 0.2 GB of patterns in float32 at a time


@dataclass(frozen=True, kw_only=True, eq=False)
class Look:
    """What a read-out is told besides the pattern."""

    ids: Int[Tensor, "row pos"]
    rows: slice | None
    causal: bool
    special: tuple[int, ...]  # special tokens that end or part texts


@dataclass(frozen=True, kw_only=True)
class ReadOut:
    """A number per sequence and head from a pattern; ``most`` is the largest value a causal pattern can have."""

    name: str
    unit: str
    about: str
    source: str
    of: Callable[[Tensor, Look], Float[Tensor, "row head"]]
    most: Callable[[int, bool], float] = lambda length, causal: 1.0


_DETECT = "detection of attention patterns; repeated random tokens as in Olsson et al. 2022, arXiv:2209.11895"
_RHYTHM = "Li et al. 2025, Attention Illuminates LLM Reasoning"
_SINKS = "Yu et al. 2024, Unveiling and Harnessing Hidden Attention Sinks"

READOUTS: tuple[ReadOut, ...] = (
    ReadOut(
        name="previous-token", unit="attention", source=_DETECT,
        about="mean attention at the token before",
        of=lambda A, look: patterns.previous_token(A),
    ),
    ReadOut(
        name="duplicate-token", unit="attention", source=_DETECT,
        about="mean attention at earlier occurrences of the same token, over queries that have one",
        of=lambda A, look: patterns.duplicate_token(A, look.ids, look.rows, causal=look.causal),
    ),
    ReadOut(
        name="induction", unit="attention", source=_DETECT,
        about="mean attention at what followed earlier occurrences of the same token, over queries that have one",
        of=lambda A, look: patterns.induction(A, look.ids, look.rows, causal=look.causal),
    ),
    ReadOut(
        name="first-token", unit="attention", source="Xiao et al. 2023, arXiv:2309.17453",
        about="mean attention at position 0, over the queries after it",
        of=lambda A, look: indicators.first_token(A),
    ),
    ReadOut(
        name="later-sinks", unit="attention", source=_SINKS,
        about=f"mean attention at keys after the first that receive more than {ALPHA:g} / length",
        of=lambda A, look: indicators.later_sinks(A, ALPHA, causal=look.causal),
    ),
    ReadOut(
        name="entropy", unit="nats", source="",
        about="mean entropy of the rows; 0 looks at one key",
        of=lambda A, look: indicators.entropy(A),
        most=lambda length, causal: float(indicators.entropy(indicators.uniform(length, causal=causal))),
    ),
    ReadOut(
        name="distance", unit="tokens", source=_RHYTHM,
        about="mean distance looked",
        of=lambda A, look: indicators.mean_distance(A),
        most=lambda length, causal: _farthest(length, causal),
    ),
    ReadOut(
        name="waad", unit="tokens", source=_RHYTHM,
        about=f"mean distance looked, every distance counted as at most {WINDOW}",
        of=lambda A, look: indicators.waad(A, WINDOW).nanmean(-1),
        most=lambda length, causal: _farthest(length, causal, WINDOW),
    ),
)  # fmt: skip

SINK_SHARE = ReadOut(
    name="sink-share",
    unit="attention",
    about="mean share of attention that goes to no key, because a learned sink takes it; the other columns are "
    "shares of what is left",
    source="Xiao et al. 2023, arXiv:2309.17453",
    of=lambda A, look: indicators.sink_share(A),
)

SEPARATOR = ReadOut(
    name="separator",
    unit="attention",
    about="mean attention at the token that ends or parts texts ([SEP])",
    source="Clark et al. 2019, arXiv:1906.04341",
    of=lambda A, look: _at_special(A, look),
)


def _farthest(length: int, causal: bool, window: int | None = None) -> float:
    """Mean over queries of the distance of the farthest key."""
    at = torch.arange(length).float()
    far = at if causal else torch.maximum(at, length - 1 - at)
    return float((far if window is None else far.clamp(max=window)).mean())


def _at_special(A: Tensor, look: Look) -> Tensor:
    there = torch.isin(look.ids, torch.tensor(look.special, device=look.ids.device))
    there[:, 0] = False  # BOS or [CLS]: the first token has a column of its own
    return (indicators.looked(A) * there[:, None, None, :]).sum(-1).nanmean(-1)


def read_outs(
    model: TransformerBridge,
    ground: Ground,
    *,
    batch_tokens: int = BATCH_TOKENS,
    progress: Progress | None = None,
) -> tuple[list[Measurement], tuple[str, ...]]:
    """Return every read-out of every head on a ground, and what must be said about the patterns.

    The share of a learned sink is among them where there is one.

    Raises:
        ModelError: if no layer shows a pattern.
    """
    wires, special = wiring(model), separators(model)
    chosen = (SINK_SHARE, *READOUTS, *((SEPARATOR,) if special and ground.period is None else ()))
    values = np.full((len(chosen), len(ground.sequences), wires.n_layers, wires.n_heads), np.nan)
    nulls = np.full((len(chosen), len(ground.sequences)), np.nan)
    most = np.zeros((len(chosen), len(ground.sequences)))
    refused: dict[int, str] = {}
    recomputed: set[int] = set()
    done = 0
    for where, ids in _chunks(ground, batch_tokens, wires.n_layers * wires.n_heads):
        seen = patterns_of(model, ids)
        refused |= dict(seen.refused)
        recomputed |= set(seen.recomputed)
        look = Look(ids=ids, rows=ground.rows, causal=wires.causal, special=special)
        even = indicators.uniform(ids.shape[1], causal=wires.causal).to(ids.device)[None, None]
        for r, read in enumerate(chosen):
            for layer, pattern in seen.patterns.items():
                found = read.of(pattern, look)
                values[r, where, layer] = found.double().cpu().numpy()
            nulls[r, where] = read.of(even.expand(len(ids), 1, -1, -1), look)[:, 0].cpu().numpy()
            most[r, where] = read.most(ids.shape[1], wires.causal)
        done += len(where)
        if progress is not None:
            progress(done, len(ground.sequences), f"looking at {ground.name} sequences")
    if not np.isfinite(values).any():
        why = next(iter(refused.values()), "nothing was seen")
        raise ModelError(
            f"no layer shows an attention pattern: {why}",
            hint="open the model with eager attention, or choose another one",
        )
    missing = _missing(wires.n_layers, wires.attention_layers, refused)
    has_sinks = bool(np.nanmax(values[0]) > 0)
    found = [
        _measurement(read, ground, values[r], nulls[r], most[r], missing)
        for r, read in enumerate(chosen)
        if read is not SINK_SHARE or has_sinks
    ]
    notes: tuple[str, ...] = ()
    if recomputed:
        layers = ", ".join(map(str, sorted(recomputed)))
        notes = (f"layers {layers}: attention is fused; patterns were recomputed from q and k and checked",)
    return [*found, locality(found, ground)], notes


def separators(model: TransformerBridge) -> tuple[int, ...]:
    """Return ids of tokens that end or part texts, in encoders."""
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None or wiring(model).causal or not len(tokenizer):
        return ()
    return tuple(i for i in {tokenizer.sep_token_id, tokenizer.eos_token_id} if i is not None)


def _chunks(ground: Ground, batch_tokens: int, n_heads: int) -> Iterator[tuple[list[int], Tensor]]:
    """Batches whose patterns fit in memory."""
    for where, ids in ground.batches(batch_tokens):
        size = max(1, PATTERN_FLOATS // (n_heads * ids.shape[1] ** 2))
        for start in range(0, len(where), size):
            yield where[start : start + size], ids[start : start + size]


def _missing(n_layers: int, attention: Sequence[int], refused: dict[int, str]) -> dict[str, tuple[int, ...]]:
    found: dict[str, list[int]] = {}
    for layer, why in refused.items():
        found.setdefault(why, []).append(layer)
    without = tuple(n for n in range(n_layers) if n not in attention)
    if without:
        found["no attention"] = list(without)
    return {why: tuple(sorted(layers)) for why, layers in found.items()}


def _measurement(
    read: ReadOut,
    ground: Ground,
    values: Float[np.ndarray, "row layer head"],
    nulls: Float[np.ndarray, " row"],
    most: Float[np.ndarray, " row"],
    missing: dict[str, tuple[int, ...]],
) -> Measurement:
    known = np.isfinite(nulls)  # sequences in which the rule has a target
    missing = dict(missing) if known.any() else {**missing, "no token comes twice in any sequence": ()}
    missing |= _nowhere(values[known], {layer for layers in missing.values() for layer in layers})
    mean, error = mean_and_error(values[known])
    return Measurement(
        name=read.name,
        on=ground.name,
        evidence="read-out",
        values=mean,
        stderr=error,
        null=np.full(mean.shape, nulls[known].mean() if known.any() else np.nan),
        low=0.0,
        high=float(most.mean()),
        unit=read.unit,
        about=read.about + (", from the second copy" if ground.rows and read.name in _REPEATED else ""),
        null_about="a head that looks at every key alike",
        source=read.source,
        n=int(known.sum()),
        missing=missing,
    )


def _nowhere(values: Float[np.ndarray, "row layer head"], refused: set[int]) -> dict[str, tuple[int, ...]]:
    """Heads that look at no key in some sequence, so that their mean is not known."""
    lost = [f"a{n}.h{h}" for n, h in np.argwhere(np.isnan(values).any(0)).tolist() if n not in refused]
    if not lost:
        return {}
    shown = ", ".join(lost[:8]) + (f" and {len(lost) - 8} more" if len(lost) > 8 else "")
    layers = tuple(sorted({int(name[1:].split(".")[0]) for name in lost}))
    return {f"{shown}: all rows of a pattern sum to 0, so the head looks nowhere": layers}


_REPEATED = ("duplicate-token", "induction")


def mean_and_error(
    values: Float[np.ndarray, "row layer head"],
) -> tuple[Float[np.ndarray, "layer head"], Float[np.ndarray, "layer head"]]:
    """Return the mean over sequences and its standard error; NaN where there are too few."""
    shape = values.shape[1:]
    if not len(values):
        return np.full(shape, np.nan), np.full(shape, np.nan)
    error = values.std(0, ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.full(shape, np.nan)
    return values.mean(0), error


def locality(found: Sequence[Measurement], ground: Ground) -> Measurement:
    """-1 for the local heads, +1 for the global ones: the ends of the mean distances over the whole model."""
    distance = next(m for m in found if m.name == "distance")
    near, far = indicators.split_by_distance(torch.as_tensor(distance.values), SHARE)
    values = far.numpy().astype(float) - near.numpy().astype(float)
    values[np.isnan(distance.values)] = np.nan
    return Measurement(
        name="locality",
        on=ground.name,
        evidence="read-out",
        values=values,
        null=np.zeros_like(values),
        low=-1.0,
        high=1.0,
        unit="group",
        about=f"-1: among the {SHARE:.0%} of heads that look least far (local); +1: among the {SHARE:.0%} that look "
        "farthest (global)",
        null_about="neither; by chance as many heads are in each group",
        source=_RHYTHM,
        n=distance.n,
        missing=distance.missing,
    )


__all__ = [
    "READOUTS",
    "SEPARATOR",
    "SINK_SHARE",
    "ReadOut",
    "locality",
    "mean_and_error",
    "read_outs",
    "separators",
]
