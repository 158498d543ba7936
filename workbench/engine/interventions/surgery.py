"""Surgery on rows of attention patterns: set, scale, drop, add to the logits. Tensors in, tensors out.

A pattern is ``(..., query, key)``; what is chosen is a boolean tensor that broadcasts to it. Every function keeps rows
non-negative, and the sum of each row where that is 1; where nobody can take the freed mass, the row stays as it was.
Rows that sum to less, because a learned sink takes a share, keep their sum when weights are set or scaled. A change of
scores (``drop_keys``, ``add_to_scores``) changes the sink's share too, as it does in the softmax.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.core.errors import OptionError
from workbench.engine.interventions.freed import Mass, Share
from workbench.model.pattern_rows import beside_sink

Pattern = Float[Tensor, "*rows key"]  # (..., query, key)
Chosen = Bool[Tensor, "*#rows #key"]  # broadcasts to the pattern


def set_rows(pattern: Pattern, target: Float[Tensor, "*#rows #key"]) -> Pattern:
    """Return rows that are ``target``'s distribution over keys, with each row's own sum."""
    return (target * pattern.sum(-1, keepdim=True)).to(pattern.dtype)


def scale_keys(
    pattern: Pattern,
    keys: Chosen,
    factor: float,
    *,
    recipients: Chosen | None = None,
    share: Share = "proportional",
    visible: Chosen | None = None,
    mass: Mass = "conserve",
) -> Pattern:
    """Multiply the weight of some keys; the mass ``(1 - factor) * sum`` goes to the recipients.

    Args:
        factor: 1 changes nothing, 0 drops the keys; above 1 mass is taken from the recipients, at most all of it.
        recipients: By default every other key.
        share: In proportion to the recipients' present weights, or equal parts to those that are visible.
        visible: Keys that a query may look at; needed for equal parts.
        mass: ``leak`` lets the freed mass go: rows then sum to less (or more) than before.

    Raises:
        OptionError: for a negative factor; for equal parts with a factor above 1 or without ``visible``.
    """
    if not factor >= 0:
        raise OptionError(f"factor is {factor}; weights cannot be negative", hint="0 drops the keys")
    if mass == "leak":
        return torch.where(keys, pattern * factor, pattern)
    recipients = ~keys if recipients is None else recipients & ~keys
    nothing = pattern.new_zeros(())
    theirs = torch.where(recipients, pattern, nothing)
    if share == "uniform":
        if visible is None or factor > 1:
            raise OptionError(
                f"the factor is {factor}; equal parts need the visible keys, and a factor of at most 1",
                hint="share='proportional', or visible=... and a factor from 0 to 1",
            )
        theirs = (recipients & visible).to(pattern.dtype).expand_as(pattern)
    total = theirs.sum(-1, keepdim=True)
    held = torch.where(keys, pattern, nothing).sum(-1, keepdim=True)
    freed = ((1 - factor) * held).clamp(min=-total)  # negative: taken, at most what is there
    taken = total > torch.finfo(pattern.dtype).tiny  # 1 / total is finite
    ratio = torch.where(taken, freed / torch.where(taken, total, 1), nothing)
    grown = torch.where(held > 0, (held - freed) / torch.where(held > 0, held, 1), nothing)
    new = torch.where(keys, pattern * (grown if factor > 1 else factor), pattern + theirs * ratio)
    return torch.where(taken, new, pattern)


def drop_keys(pattern: Pattern, keys: Chosen) -> Pattern:
    """Take keys away and give their weight to the others in proportion, a learned sink among them: a score of minus
    infinity.
    """
    wide, n = beside_sink(pattern), pattern.shape[-1]
    return scale_keys(wide, _widened(keys.expand(*keys.shape[:-1], n), wide), 0.0)[..., :n]


def add_to_scores(pattern: Pattern, addend: Float[Tensor, "*#rows #key"]) -> Pattern:
    """Return the pattern after ``addend`` was added to the scores before the softmax: ``A exp(c) / sum A exp(c)``.

    A key without weight stays without: future keys do, and keys whose weight was too small for the dtype.
    """
    wide, n = beside_sink(pattern), pattern.shape[-1]
    scores = torch.where(wide > 0, wide.clamp(min=torch.finfo(wide.dtype).tiny).log(), -torch.inf)
    scores = scores + _widened(addend.expand(*addend.shape[:-1], n), wide)
    any_left = (scores > -torch.inf).any(-1, keepdim=True)
    new = torch.where(any_left, scores, scores.new_zeros(())).softmax(-1)
    return torch.where(any_left, new * wide.sum(-1, keepdim=True), wide)[..., :n]


def _widened(keys: Tensor, wide: Tensor) -> Tensor:
    """Zeros, or false, for the learned sink's column of a pattern that has one."""
    return torch.nn.functional.pad(keys, (0, wide.shape[-1] - keys.shape[-1]))
