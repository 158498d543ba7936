"""Random sets of heads that match a chosen one: as many heads in each layer. The control of every choice of heads."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Literal

import numpy as np

from workbench.core.errors import OptionError

Short = Literal["refuse", "own", "all"]
TRIES = 20  # for each different set that is asked for


def matched_heads(
    heads: Sequence[str],
    allowed: Collection[str],
    *,
    draws: int,
    seed: int | Sequence[int] | np.random.Generator = 0,
    short: Short = "refuse",
) -> list[tuple[str, ...]]:
    """Draw different random sets with as many heads in each layer as ``heads``, none of them among ``heads``.

    Args:
        heads: Addresses such as ``a2.h3``; layers are drawn in the order in which they are named.
        allowed: Heads that may be drawn; those of ``heads`` are left out of it.
        short: What happens where a layer has too few other heads: ``refuse`` is an error, ``own`` fills up with the
            chosen heads themselves, ``all`` draws from all allowed heads of this layer, chosen or not.

    Returns:
        At most ``draws`` sets, each sorted within its layers; fewer where there are not as many different ones.

    Raises:
        OptionError: if a layer has too few other heads and ``short`` is ``refuse``, or no set differs from ``heads``.

    Example:
        >>> matched_heads(["a0.h1"], ["a0.h0", "a0.h1"], draws=5)
        [('a0.h0',)]
    """
    wanted = Counter(map(layer_of, heads))
    pools = {layer: _pool(layer, heads, allowed, short) for layer in wanted}
    for layer, count in wanted.items():
        if len(pools[layer]) < count and short != "own":
            raise OptionError(
                f"layer {layer} has {len(pools[layer])} other heads; {count} are to be drawn from it",
                hint="choose fewer heads of each layer",
            )
    rng = seed if isinstance(seed, np.random.Generator) else np.random.default_rng(seed)
    found: dict[tuple[str, ...], None] = {}
    for _ in range(TRIES * draws):
        drawn = tuple(h for layer in wanted for h in _draw(layer, wanted[layer], pools[layer], heads, rng))
        if set(drawn) != set(heads):
            found.setdefault(drawn, None)
        if len(found) == draws:
            break
    if not found:
        raise OptionError(
            "every head of these layers is chosen, so there is nothing to compare with",
            hint="choose fewer heads of each layer",
        )
    return list(found)


def layer_of(head: str) -> int:
    """Return the layer of a head's address.

    Example:
        >>> layer_of("a10.h3")
        10
    """
    found = re.fullmatch(r"a(\d+)\.h(\d+)", head)
    if found is None:
        raise OptionError(f"{head!r} is no head", hint="heads are named like a2.h3")
    return int(found.group(1))


def _pool(layer: int, heads: Sequence[str], allowed: Collection[str], short: Short) -> list[str]:
    here = sorted((h for h in allowed if layer_of(h) == layer), key=_index)
    others = [head for head in here if head not in heads]
    enough = len(others) >= sum(layer_of(head) == layer for head in heads)
    return here if short == "all" and not enough else others


def _draw(
    layer: int, count: int, pool: Sequence[str], heads: Sequence[str], rng: np.random.Generator
) -> list[str]:
    drawn = [str(head) for head in rng.choice(pool, min(count, len(pool)), replace=False)] if pool else []
    own = [head for head in heads if layer_of(head) == layer and head not in drawn]
    return sorted([*drawn, *own[: count - len(drawn)]], key=_index)


def _index(head: str) -> int:
    return int(head.split(".h")[1])
