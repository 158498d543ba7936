"""Does a head look where a rule says? Previous token, same token before, what followed it.

A rule is a boolean matrix of the keys that count for each query (``targets``). The score of a head is the mean
attention at those keys, over the queries that have one: between 0 and 1 for every rule. It is a share of what the keys
get: rows are divided by what they sum to, which is less than 1 where a learned sink takes the rest, and a row that sums
to 0 is no query. The plain share of *all* attention mass (the "mul" score of other tools) is ``score * coverage``.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.core.errors import ShapeError
from workbench.heads.indicators import Pattern, Rows, _is_row, looked

Tokens = Int[Tensor, "*batch pos"] | Int[np.ndarray, "*batch pos"]


def previous_token(A: Pattern, rows: Rows = None) -> Float[Tensor, "*batch head"]:
    """Return the mean attention from a query at the token before it: 1 for a previous-token head."""
    A = looked(A)
    return score(A, previous_targets(A.shape[-1], device=A.device), rows)


def duplicate_token(
    A: Pattern, tokens: Tokens, rows: Rows = None, *, causal: bool = True
) -> Float[Tensor, "*batch head"]:
    """Return the mean attention from a query at earlier occurrences of the same token (in encoders, at any other).

    Over the queries that have such a key; NaN where the text repeats nothing.
    """
    return score(A, duplicate_targets(tokens, causal=causal), rows)


def induction(
    A: Pattern, tokens: Tokens, rows: Rows = None, *, causal: bool = True
) -> Float[Tensor, "*batch head"]:
    """Return the mean attention from a query at what followed earlier occurrences of the same token.

    Over the queries that have such a key; NaN where the text repeats nothing.

    Source:
        Olsson et al. 2022, "In-context Learning and Induction Heads" (prefix matching).
    """
    return score(A, induction_targets(tokens, causal=causal), rows)


def score(
    A: Pattern, targets: Bool[Tensor, "*#batch query key"], rows: Rows = None
) -> Float[Tensor, "*batch head"]:
    """Return the mean over the queries that have a target of the attention at their targets; NaN where no query has
    one.

    Raises:
        ShapeError: if the targets are not of the pattern's size.
    """
    A = looked(A)
    if targets.shape[-2:] != A.shape[-2:]:
        raise ShapeError(
            f"targets cover {tuple(targets.shape[-2:])} (query, key), the pattern {tuple(A.shape[-2:])}",
            hint=f"make the targets for prompts of this length: previous_targets({A.shape[-1]})",
        )
    targets = targets.to(A.device)[..., None, :, :]  # (*batch, 1, query, key): the same for every head
    counted = targets.any(-1) & _is_row(A, rows) & ~A.isnan().any(-1)
    mass = torch.where(targets, A, A.new_zeros(())).sum(-1)  # (*batch, head, query)
    return torch.where(counted, mass, A.new_zeros(())).sum(-1) / counted.sum(-1)


def coverage(targets: Bool[Tensor, "*batch query key"]) -> Float[Tensor, "*batch"]:
    """Return the share of queries that have a target: the bound of the score over all queries."""
    return targets.any(-1).float().mean(-1)


def previous_targets(length: int, *, device: torch.device | None = None) -> Bool[Tensor, "query key"]:
    """Return key q - 1 for query q; nothing for query 0."""
    return torch.ones(length - 1, dtype=torch.bool, device=device).diag(-1)


def duplicate_targets(tokens: Tokens, *, causal: bool = True) -> Bool[Tensor, "*batch query key"]:
    """Return earlier keys with the query's token; in encoders every other key with it."""
    tokens = torch.as_tensor(tokens)
    same = tokens[..., :, None] == tokens[..., None, :]
    return (
        same.tril(-1) if causal else same & ~torch.eye(same.shape[-1], dtype=torch.bool, device=same.device)
    )


def induction_targets(tokens: Tokens, *, causal: bool = True) -> Bool[Tensor, "*batch query key"]:
    """Return keys right after such a duplicate: the matrix of duplicates shifted right by one."""
    targets = torch.zeros_like(found := duplicate_targets(tokens, causal=causal))
    targets[..., 1:] = found[..., :-1]
    return targets
