"""A head as an associative memory: how many directions its keys have, and how much other pairs disturb a retrieval.

Keys stand for cues and values for what was paired with them. Linear attention adds up ``value key'``; asked with a
key, it returns that key's value and, beside it, all others in proportion to how alike the keys are. Keys in random
directions of ``d`` dimensions give the cosine ``1 / sqrt(1 + (N - 1) / d)`` with the right value.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.core.errors import OptionError, ShapeError

Keys = Float[Tensor, "*batch pair d_key"]
Values = Float[Tensor, "*batch pair d_value"]


def effective_dimension(x: Keys) -> Float[Tensor, "*batch"]:
    """Count the directions in which keys vary: the participation ratio ``(sum of eigenvalues)^2 / sum of squares``.

    Returns:
        1 for keys on a line, ``d`` for keys spread alike over d dimensions, NaN for keys that do not vary.

    Example:
        >>> float(effective_dimension(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])))
        2.0
    """
    x = x.double()
    x = x - x.mean(-2, keepdim=True)
    covariance = x.mT @ x  # (*batch, d, d)
    squares = covariance.square().sum((-2, -1))
    total = covariance.diagonal(dim1=-2, dim2=-1).sum(-1)
    return torch.where(squares > 0, total.square() / squares, torch.nan)


def predicted_fidelity(pairs: int, dimensions: float | Tensor, *, copies: int = 1) -> float | Tensor:
    """Return the cosine of what linear attention retrieves with the right value, for keys in random directions.

    Args:
        copies: Memories of the same pairs with keys of their own, whose answers are added.

    Returns:
        ``1 / sqrt(1 + (pairs - 1) / (copies dimensions))``, above 0 and at most 1.

    Raises:
        OptionError: for fewer than one pair or copy.

    Example:
        >>> round(predicted_fidelity(64, 64.0), 3)
        0.71
    """
    if pairs < 1 or copies < 1:
        raise OptionError(
            f"pairs is {pairs} and copies {copies}; expected at least 1 of each",
            hint="pairs=1, copies=1, or more",
        )
    return (1 + (pairs - 1) / (copies * dimensions)) ** -0.5


def write_pairs(keys: Keys, values: Values) -> Float[Tensor, "*batch d_key d_value"]:
    """Add up ``key value'`` over pairs: the memory of linear attention, read by ``key @ memory``.

    Raises:
        ShapeError: if there are not as many keys as values.
    """
    if keys.shape[:-1] != values.shape[:-1]:
        raise ShapeError(
            f"keys {tuple(keys.shape[:-1])} and values {tuple(values.shape[:-1])} are not in pairs",
            hint="give one value for each key",
        )
    return keys.mT @ values


def correct_pairs(
    keys: Keys, values: Values, *, sweeps: int = 1, memory: Tensor | None = None
) -> Float[Tensor, "*batch d_key d_value"]:
    """Write pairs one after the other, each as far as the memory does not give it yet (the delta rule).

    ``M += k (v - k M)'`` for unit keys, over all pairs and as often as asked.

    Returns:
        A memory that gives every value exactly, in the limit of many sweeps, if the keys are independent.
    """
    held = keys.new_zeros(*keys.shape[:-2], keys.shape[-1], values.shape[-1]) if memory is None else memory
    for _ in range(sweeps):
        for i in range(keys.shape[-2]):
            k, v = keys[..., i, :], values[..., i, :]
            missing = v - (k[..., None, :] @ held)[..., 0, :]
            held = held + k[..., :, None] * missing[..., None, :]
    return held


def fidelity(read: Values, values: Values) -> Float[Tensor, "*batch pair"]:
    """Return the cosine of what was retrieved with the value that was asked for, -1 to 1."""
    return torch.cosine_similarity(read, values, dim=-1)


def retrieval_fidelity(keys: Keys, values: Values) -> Float[Tensor, "*batch pair"]:
    """Retrieve every value by its key from a linear memory of all pairs, and compare it with the value.

    Keys and values are centred and made unit vectors first, as a head's own are neither.

    Returns:
        The cosine for every pair; near ``predicted_fidelity`` for keys and values in random directions.
    """
    keys, values = (
        torch.nn.functional.normalize(x - x.mean(-2, keepdim=True), dim=-1) for x in (keys, values)
    )
    return fidelity(keys @ write_pairs(keys, values), values)
