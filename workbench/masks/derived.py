"""Masks made of others: a rectangle opened, roles that see each other, as many entries drawn at random."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from workbench.core.errors import OptionError, unknown
from workbench.masks.reachable import degree
from workbench.masks.refusals import check_mask

Allowed = Bool[Tensor, "query key"]
Rows = Bool[Tensor, "*rows query key"]
Span = tuple[int, int]


def unlock(allowed: Allowed, queries: Span, keys: Span) -> Allowed:
    """Return the mask with one more rectangle: tokens of ``queries`` may look at tokens of ``keys``, ahead too.

    Args:
        queries: First token and the one behind the last; ``keys`` likewise.

    Raises:
        OptionError: for a span that is not in the prompt.

    Example:
        >>> from workbench.masks.sequences import causal
        >>> unlock(causal(3), (0, 1), (1, 3)).int().tolist()
        [[1, 1, 1], [1, 1, 0], [1, 1, 1]]
    """
    new = allowed.clone()
    for what, span in (("queries", queries), ("keys", keys)):
        check_span(span, len(allowed), what)
    new[queries[0] : queries[1], keys[0] : keys[1]] = True
    return new


def check_span(span: Span, n: int, what: str = "the span") -> Span:
    """Return a span of tokens if it is in a prompt of ``n`` tokens.

    Raises:
        OptionError: if it is not, or is empty.
    """
    if span[0] >= span[1]:
        raise OptionError(
            f"{what}: ({span[0]}, {span[1]}) has no token", hint="span=(3, 5) has the tokens 3 and 4"
        )
    if not 0 <= span[0] < span[1] <= n:
        raise OptionError(
            f"{what}: tokens {span[0]} to {span[1] - 1} are not in the prompt, which has 0 to {n - 1}",
            hint=f"span=(0, {n}): the first token, and the one behind the last",
        )
    return span


def unlock_at_random(allowed: Allowed, entries: int, *, seed: int, queries: Span | None = None) -> Allowed:
    """Return the mask with so many more entries, drawn among those that it closes: what `unlock` is compared with.

    Args:
        queries: Rows in which they are drawn, those of `unlock` for a fair comparison; by default all.

    Raises:
        OptionError: if it does not close so many.

    Example:
        >>> from workbench.masks.sequences import causal
        >>> more = unlock_at_random(causal(4), 2, seed=0)
        >>> int(more.sum()) - int(causal(4).sum()), bool((more | ~causal(4)).all())
        (2, True)
    """
    first, end = queries or (0, len(allowed))
    rows = torch.arange(len(allowed))[:, None]
    closed = (~allowed & (rows >= first) & (rows < end)).flatten().nonzero().flatten()
    if not 0 <= entries <= len(closed):
        where = f" in rows {first} to {end - 1}" if queries else ""
        raise OptionError(
            f"{entries} entries are to be opened; the mask closes {len(closed)}{where}",
            hint=f"entries={len(closed)}, or fewer",
        )
    drawn = torch.randperm(len(closed), generator=torch.Generator().manual_seed(seed))[:entries]
    new = allowed.flatten().clone()
    new[closed[drawn]] = True
    return new.view_as(allowed)


def visible_to(roles: Sequence[str], sees: Mapping[str, Collection[str]]) -> Allowed:
    """Return the mask in which tokens see those of the roles that their own role may see.

    Args:
        roles: Of each token.
        sees: Role of a query -> roles of the keys that it sees. A role that is not named sees all.

    Returns:
        True where a query may look.

    Raises:
        OptionError: for a role that no token has, or one that sees nobody.

    Example:
        >>> visible_to(["class", "prompt", "patch"], {"patch": ["patch"], "class": ["class", "prompt"]}).int().tolist()
        [[1, 1, 0], [1, 1, 1], [0, 0, 1]]
    """
    there = set(roles)
    for role in dict.fromkeys([*sees, *(key for keys in sees.values() for key in keys)]):
        if role not in there:
            raise unknown("role of a token", role, sorted(there), error=OptionError)
    rows = [[key in sees.get(query, there) for key in roles] for query in roles]
    return check_mask(torch.tensor(rows, dtype=torch.bool), what="of roles")


def same_degree(allowed: Rows, *, seed: int, among: Bool[Tensor, "*#rows query key"] | None = None) -> Rows:
    """Return a random mask in which each query has as many keys, its own place if it had it: the control of a mask.

    Args:
        among: The entries that may be drawn; by default those at or before the query where the mask never looks
            ahead, and all otherwise.

    Returns:
        True where a query may look; each row has as many true entries as in ``allowed``.

    Raises:
        OptionError: if a query may not have so many.

    Example:
        >>> from workbench.masks.sequences import window
        >>> drawn = same_degree(window(9, 3), seed=0)
        >>> degree(drawn).tolist(), bool(drawn.triu(1).any())
        ([1, 2, 3, 3, 3, 3, 3, 3, 3], False)
    """
    wanted, whole = degree(allowed), torch.ones_like(allowed)
    if among is None:
        among = whole if bool(allowed.triu(1).any()) else whole.tril()
    own = torch.eye(allowed.shape[-1], dtype=torch.bool, device=allowed.device) & allowed
    among = among | own
    if bool((degree(among) < wanted).any()):
        raise OptionError(
            "a query has more keys than may be drawn for it", hint="give among= more entries, or leave it out"
        )
    drawn = torch.rand(allowed.shape, generator=torch.Generator().manual_seed(seed)).to(allowed.device)
    rank = drawn.masked_fill(~among, 2.0).masked_fill(own, -1.0).argsort(-1).argsort(-1)
    return rank < wanted[..., None]
