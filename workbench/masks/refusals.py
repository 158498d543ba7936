"""What a mask is refused for: another shape, a query without a key, a look ahead where there must be none."""

from __future__ import annotations

from jaxtyping import Bool
from torch import Tensor

from workbench.core.errors import OptionError, ShapeError

SHOWN = 3  # positions that an error names


def leaks_of(allowed: Bool[Tensor, "query key"]) -> list[tuple[int, int]]:
    """Return the entries that let a query see a key ahead of it, as ``(query, key)``; none for a causal mask.

    Example:
        >>> from workbench.masks.sequences import blocks, causal
        >>> leaks_of(causal(4)), leaks_of(blocks(4, 2))
        ([], [(0, 1), (2, 3)])
    """
    return [(query, key) for query, key in allowed.triu(1).nonzero().tolist()]


def check_mask(
    allowed: Tensor, *, n: int | None = None, causal: bool = False, what: str = ""
) -> Bool[Tensor, "query key"]:
    """Return the mask if it can be used.

    Args:
        n: Tokens that it must be for.
        causal: No query may see ahead.
        what: Its name, for errors.

    Raises:
        ShapeError: if it is not square and boolean, or for another number of tokens.
        OptionError: if a query has no key, or sees ahead where it must not; positions are named.

    Example:
        >>> import torch
        >>> check_mask(torch.ones(2, 2, dtype=torch.bool), causal=True)
        Traceback (most recent call last):
        workbench.core.errors.OptionError: the mask leaks: query 0 sees key 1, which is ahead of it
          hint: keys that a query may see stand at or before it; for a model that may look ahead, causal=False
    """
    name = f"mask {what}" if what else "the mask"
    if allowed.ndim != 2 or allowed.shape[0] != allowed.shape[1] or not str(allowed.dtype).endswith("bool"):
        raise ShapeError(
            f"{name} is {tuple(allowed.shape)} of {allowed.dtype}; expected (query, key), square and boolean",
            hint="masks.window(n_tokens, 16)",
        )
    if n is not None and len(allowed) != n:
        raise ShapeError(
            f"{name} is for {len(allowed)} tokens; {n} are there", hint=f"make it for {n} tokens"
        )
    if empty := (~allowed.any(-1)).nonzero().flatten().tolist():
        raise OptionError(
            f"{name} leaves {_some('query', empty)} without any key",
            hint="let every token see itself: allowed | torch.eye(n, dtype=torch.bool)",
        )
    if causal and (found := leaks_of(allowed)):
        said = ", ".join(f"query {query} sees key {key}" for query, key in found[:SHOWN])
        rest = f" and {len(found) - SHOWN} more entries" if len(found) > SHOWN else ""
        raise OptionError(
            f"{name} leaks: {said}{rest}, which {'is' if len(found) == 1 else 'are'} ahead of it",
            hint="keys that a query may see stand at or before it; for a model that may look ahead, causal=False",
        )
    return allowed


def _some(what: str, found: list[int]) -> str:
    rest = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return f"{what} {', '.join(map(str, found[:SHOWN]))}{rest}"
