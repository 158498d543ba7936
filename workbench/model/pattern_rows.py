"""What rows of attention patterns sum to: 1, or less where a learned sink takes a share and gives nothing for it.

Models with learned sinks (GPT-OSS) have one more score in every softmax, which stands for no key. Their rows over keys
sum to 1 less the sink's share. Where a head looks is then what each key gets of what keys get in all.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}
"""How far from 1 the rows of a softmax may be by rounding: five times what was seen over 16 to 16,384 keys, or more."""

Pattern = Float[Tensor, "*batch query key"]


def row_sums(A: Pattern, *, made_in: torch.dtype | None = None) -> Float[Tensor, "*batch query 1"]:
    """Return the sum of each row, in at least float32; exactly 1 where it is 1 but for rounding.

    Args:
        made_in: The precision in which the pattern was computed, if it was converted since.
    """
    total = A.sum(-1, keepdim=True, dtype=A.dtype if A.dtype == torch.float64 else torch.float32)
    rounding = ROUNDING.get(made_in or A.dtype, 1e-5)
    return torch.where((total - 1).abs() <= rounding, torch.ones_like(total), total)


def sink_share(A: Pattern, *, made_in: torch.dtype | None = None) -> Float[Tensor, "*batch query 1"]:
    """Return the share of each query's attention that goes to no key; 0 without a learned sink."""
    return (1 - row_sums(A, made_in=made_in)).clamp(min=0)


def looked(A: Pattern) -> Float[Tensor, "*batch query key"]:
    """Say where each query looks: its weights divided by what they sum to, in at least float32.

    NaN in a row that sums to 0: a query that looks at no key looks nowhere.
    """
    total = row_sums(A)
    return A.to(total.dtype) / torch.where(total > 0, total, torch.nan)


def beside_sink(A: Pattern) -> Float[Tensor, "*batch query key_or_sink"]:
    """Return the pattern with the learned sink's share as one more key, the last; as it is where there is none."""
    share = sink_share(A)
    return torch.cat([A, share.to(A.dtype)], -1) if bool((share > 0).any()) else A
