"""Masks of tokens in a row: windows, far looks, neighborhoods, blocks, agents. No torch until one is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from workbench.core.errors import OptionError
from workbench.core.loading import lazily
from workbench.masks.registry import mask

with lazily():
    from workbench.masks import positions

if TYPE_CHECKING:
    from jaxtyping import Bool
    from torch import Tensor

    Allowed = Bool[Tensor, "query key"]


@mask("causal")
def causal(n: int) -> Allowed:
    """Every query sees itself and what comes before."""
    return positions.distance(n) >= 0


@mask("all")
def every_key(n: int) -> Allowed:
    """Every query sees every key, ahead too."""
    return positions.everything(n)


@mask("window")
def window(n: int, width: int, *, sinks: int = 0) -> Allowed:
    """The last ``width`` keys, and the first ``sinks``; ``n`` layers reach ``n (width - 1) + 1`` tokens."""
    distance = positions.distance(n)
    return (distance >= 0) & ((distance < width) | (positions.at(n) < sinks))


@mask("at-distances")
def at_distances(n: int, distances: Sequence[int]) -> Allowed:
    """Keys at these distances; a dilated window is ``range(0, w * d, d)``."""
    distance = positions.distance(n)
    return (distance >= 0) & positions.among(distance, distances)


@mask("dilated")
def dilated(n: int, width: int, *, step: int = 2) -> Allowed:
    """Every ``step``-th of the keys behind, ``width`` of them; other distances are never reached."""
    return at_distances(n, range(0, width * step, step))


@mask("powers-of-two")
def powers_of_two(n: int) -> Allowed:
    """Distances 0, 1, 2, 4, ...: ``m`` layers reach every distance below ``2**m`` (PowerAttention, Chen 2025)."""
    return at_distances(n, [0, *(1 << i for i in range(max(1, n).bit_length()))])


@mask("power-blocks")
def power_blocks(n: int, block: int, *, near: int = 1, sinks: int = 0) -> Allowed:
    """Blocks of tokens at distances that are powers of two, the ``near`` last ones, and the first ``sinks``.

    What is one token in ``powers-of-two`` is a block of ``block`` tokens here (PowerAttention, Chen 2025).
    """
    index = positions.at(n) // block
    apart = index[:, None] - index
    powers = [1 << i for i in range(max(1, n // block).bit_length())]
    kept = positions.among(apart, [*range(near), *powers]) | (index < sinks)
    return (positions.distance(n) >= 0) & kept


@mask("stride")
def stride(n: int, width: int, *, step: int = 8) -> Allowed:
    """The last ``width`` keys, and every ``step``-th key behind the query."""
    distance = positions.distance(n)
    return (distance >= 0) & ((distance < width) | (distance % step == 0))


@mask("neighborhood")
def neighborhood(n: int, width: int, *, step: int = 1) -> Allowed:
    """Exactly ``width`` keys around each query; at the borders the window is shifted inwards. Not causal.

    Args:
        step: Of a dilated neighborhood: the rule is that of every ``step``-th token by itself.

    Raises:
        OptionError: if so many keys are not there.
    """
    fewest = n // step
    if not 1 <= width <= fewest:
        raise OptionError(
            f"width is {width}; 1 to {fewest} fit into {n} tokens{f' at every {step}' if step > 1 else ''}",
            hint="take a smaller width",
        )
    index = positions.at(n)
    turn, place = index % step, index // step
    many = (n - turn + step - 1) // step  # tokens of the same turn
    start = (place - width // 2).clamp(min=0).minimum(many - width)[:, None]
    return (turn[:, None] == turn) & (place >= start) & (place < start + width)


@mask("blocks")
def blocks(n: int, block: int, *, halo: int = 0) -> Allowed:
    """A query sees its block of ``block`` tokens and ``halo`` tokens at both sides of it. Not causal.

    Source:
        Vaswani et al. 2021 (HaloNet), in a row.
    """
    key = positions.at(n)
    start = (key // block * block)[:, None]
    return (key >= start - halo) & (key < start + block + halo)


@mask("agents")
def agents(n: int, every: int) -> Allowed:
    """Every ``every``-th token sees all that comes before; others see such tokens, what follows the last, and itself.

    Two layers reach every key through agents, as the two softmaxes of agent attention do.
    """
    distance, key = positions.distance(n), positions.at(n)
    is_agent = key % every == every - 1
    near = distance <= (key % every)[:, None]
    return (distance >= 0) & (is_agent[:, None] | is_agent | near)
