"""Where heads look, in numbers: how spread, how far, how much at the first token, who receives.

Every function takes post-softmax patterns ``(..., head, query, key)`` (torch tensors or NumPy arrays) and answers per
head, or per head and position. Entries that a query cannot see are 0. Distances are absolute, so the same functions
serve causal models and encoders; where the two differ there is ``causal``.

Where a head looks is a share of what its keys get: rows are divided by what they sum to. That is 1, or less where a
learned sink takes the rest, which is a number of its own (``sink_share``). A row that sums to 0 looks nowhere and
counts for nothing; where no row is left the answer is NaN.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.core.errors import OptionError, ShapeError
from workbench.model import pattern_rows

Pattern = Float[Tensor, "*head query key"] | Float[np.ndarray, "*head query key"]
Rows = Sequence[int] | Tensor | slice | None
"""Query positions to average over; None for all."""


def entropy(A: Pattern, rows: Rows = None) -> Float[Tensor, "*head"]:
    """Mean entropy of the rows, in nats: 0 where one key gets everything, ``ln n`` where n keys share alike."""
    weights = _pick(looked(A), rows)
    return -torch.special.xlogy(weights, weights).sum(-1).nanmean(-1)


def mean_distance(A: Pattern, rows: Rows = None) -> Float[Tensor, "*head"]:
    """Mean distance looked, in tokens: ``sum_k A[q, k] |q - k|`` averaged over the rows (the paper's span ``d``).

    Source:
        Li et al. 2025, "Attention Illuminates LLM Reasoning", section 2.
    """
    A = looked(A)
    return _pick(A * distances(A), rows).sum(-1).nanmean(-1)


def waad(A: Pattern, window: int = 10) -> Float[Tensor, "*head query"]:
    """Return the windowed average attention distance of each row, in tokens: ``sum_k A[q, k] min(|q - k|, window)``.

    NaN for a row that looks nowhere. Linear in what the rows look at: the value of ``looked`` patterns' mean over heads
    is the mean of the heads' values.

    Raises:
        OptionError: if the window is below 1.

    Source:
        Li et al. 2025, "Attention Illuminates LLM Reasoning"; ``window`` 10.
    """
    if window < 1:
        raise OptionError(f"window is {window}; at least 1 is needed", hint="window=10")
    A = looked(A)
    return (A * distances(A).clamp(max=window)).sum(-1)


def fai(A: Pattern, low: int = 10, high: int | None = 50, rows: Rows = None) -> Float[Tensor, "*head key"]:
    """Future attention influence of each key: mean attention from the queries ``low`` to ``high`` tokens later.

    NaN where no such query exists (the last ``low`` keys).

    Args:
        high: None for every later query, as in the paper's plots.
        rows: The queries that count (the response); None for all.

    Raises:
        OptionError: unless ``0 <= low <= high``.

    Source:
        Li et al. 2025, "Attention Illuminates LLM Reasoning"; 10 and 50 as in its training.
    """
    if low < 0 or (high is not None and high < low):
        raise OptionError(f"low is {low} and high {high}; expected 0 <= low <= high", hint="low=10, high=50")
    A = looked(A)
    at = torch.arange(A.shape[-1], device=A.device)
    later = at[:, None] - at[None, :]  # (query, key)
    counted = (later >= low) & (later <= (A.shape[-1] if high is None else high))
    counted &= _is_row(A, rows)[:, None]
    return _mean_over_queries(A, counted)


def received(A: Pattern, *, causal: bool = True) -> Float[Tensor, "*head key"]:
    """Mean attention each key gets from the queries that can see it (all later ones and itself, if causal).

    Source:
        Yu et al. 2024, "Unveiling and Harnessing Hidden Attention Sinks": ``sum_q A[q, k] / (T - k)``.
    """
    A = looked(A)
    return _mean_over_queries(A, visible(A.shape[-1], causal=causal, device=A.device))


def sinks(
    A: Pattern, alpha: float = 5.0, *, threshold: float | None = None, causal: bool = True
) -> Bool[Tensor, "*head key"]:
    """Say which keys are attention sinks: what they receive is above ``alpha / T``.

    Args:
        threshold: A fixed threshold in place of ``alpha / T`` (the paper's code has 0.1, right at T = 50 alone).

    Source:
        Yu et al. 2024, "Unveiling and Harnessing Hidden Attention Sinks"; alpha 5, tried 3, 5 and 7.
    """
    got = received(A, causal=causal)
    return got > (alpha / got.shape[-1] if threshold is None else threshold)


def first_token(A: Pattern, rows: Rows = None) -> Float[Tensor, "*head"]:
    """Return the mean attention at position 0, over the queries after it unless ``rows`` says otherwise.

    Row 0 of a causal model has no choice.
    """
    A = looked(A)
    return _pick(A, slice(1, None) if rows is None else rows)[..., 0].nanmean(-1)


def sink_share(A: Pattern, rows: Rows = None) -> Float[Tensor, "*head"]:
    """Mean share of attention that goes to no key, because a learned sink takes it; 0 where rows sum to 1."""
    return _pick(pattern_rows.sink_share(patterns(A)), rows)[..., 0].mean(-1)


def later_sinks(A: Pattern, alpha: float = 5.0, *, causal: bool = True) -> Float[Tensor, "*head"]:
    """Return the mean attention per query at the sinks other than position 0; 0 where there are none."""
    A = looked(A)
    found = sinks(A, alpha, causal=causal)
    found[..., 0] = False
    return (A * found[..., None, :]).sum(-1)[..., 1:].nanmean(-1)


def local_global(
    A: Pattern, share: float = 0.3, rows: Rows = None
) -> tuple[Bool[Tensor, "*head"], Bool[Tensor, "*head"]]:
    """Return local heads (the share with the smallest mean distance) and global heads (the share with the largest).

    All leading axes are pooled: give ``(layer, head, query, key)`` for groups over the whole model.

    Source:
        Li et al. 2025, "Attention Illuminates LLM Reasoning"; share 0.3.
    """
    return split_by_distance(mean_distance(A, rows), share)


def split_by_distance(
    distance: Float[Tensor, "*heads"], share: float = 0.3
) -> tuple[Bool[Tensor, "*heads"], Bool[Tensor, "*heads"]]:
    """Return the ``round(share * n)`` (at least one) smallest and largest distances; NaN is in neither group.

    Of equal distances the earlier head goes to the local group first.

    Raises:
        OptionError: unless ``0 < share <= 0.5`` (the groups would overlap).
    """
    if not 0 < share <= 0.5:
        raise OptionError(f"share is {share}; expected above 0 and at most 0.5", hint="share=0.3")
    flat = torch.as_tensor(distance).flatten()
    known = (~flat.isnan()).nonzero()[:, 0]
    order = known[flat[known].argsort(stable=True)]
    n = min(max(1, round(share * len(order))), len(order) // 2)
    groups = []
    for chosen in (order[:n], order[len(order) - n :]):
        mask = torch.zeros_like(flat, dtype=torch.bool)
        mask[chosen] = True
        groups.append(mask.reshape(torch.as_tensor(distance).shape))
    return groups[0], groups[1]


def uniform(length: int, *, causal: bool = True) -> Float[Tensor, "query key"]:
    """Return the pattern of a head that looks at everything alike: the null of every read-out."""
    seen = visible(length, causal=causal).double()
    return seen / seen.sum(-1, keepdim=True)


def visible(
    length: int, *, causal: bool = True, device: torch.device | None = None
) -> Bool[Tensor, "query key"]:
    """Say which keys each query can see."""
    every = torch.ones(length, length, dtype=torch.bool, device=device)
    return every.tril() if causal else every


def distances(A: Float[Tensor, "*batch query key"]) -> Float[Tensor, "query key"]:
    """Return ``|q - k|`` for the last two axes, in A's dtype."""
    at = torch.arange(A.shape[-1], device=A.device)
    return (at[:, None] - at[None, :]).abs().to(A.dtype)


def patterns(A: Pattern) -> Float[Tensor, "*head query key"]:
    """Return the pattern as a tensor, square in its last two axes.

    Raises:
        ShapeError: if it is not square.
    """
    A = torch.as_tensor(A)
    if A.ndim < 2 or A.shape[-1] != A.shape[-2]:
        raise ShapeError(
            f"a pattern has shape {tuple(A.shape)}; expected (..., head, query, key) with equal last two",
            hint="give model attention: hook_pattern of a layer, as it is",
        )
    return A


def looked(A: Pattern) -> Float[Tensor, "*head query key"]:
    """Return each row divided by what it sums to, in at least float32; NaN in a row that sums to 0.

    Raises:
        ShapeError: if the pattern is not square.
    """
    return pattern_rows.looked(patterns(A))


def _pick(A: Tensor, rows: Rows) -> Tensor:
    """``(..., row, key)``: the chosen queries."""
    if rows is None or isinstance(rows, slice):
        return A if rows is None else A[..., rows, :]
    return A[..., torch.as_tensor(rows, device=A.device), :]


def _is_row(A: Tensor, rows: Rows) -> Bool[Tensor, " query"]:
    chosen = torch.zeros(A.shape[-2], dtype=torch.bool, device=A.device)
    chosen[slice(None) if rows is None else rows if isinstance(rows, slice) else torch.as_tensor(rows)] = True
    return chosen


def _mean_over_queries(A: Tensor, counted: Bool[Tensor, "query key"]) -> Tensor:
    """Per key, the mean over the counted queries that look somewhere; NaN where there is none (0 / 0)."""
    somewhere = ~A.isnan().any(-1, keepdim=True)  # (*batch, head, query, 1)
    share = (A.nan_to_num() * counted).sum(-2)
    return share / (counted & somewhere).sum(-2).to(A.dtype)
