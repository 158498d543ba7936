"""How low-rank is a head's pattern? What the best few agents would miss, and what pooled queries as agents make of it.

Agents stand between queries and keys: queries look at agents, and agents look at keys. A pattern made so has at most
as high a rank as there are agents, so the best approximation of that rank bounds from below what any agents miss.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.core.errors import OptionError
from workbench.heads.indicators import looked


def rank_error(A: Float[Tensor, "*batch query key"], agents: int) -> Float[Tensor, "*batch"]:
    """Say what the best pattern of rank ``agents`` misses of a pattern: the norm of the rest over the norm of all.

    Returns:
        0 where so many agents can be the pattern exactly, at most ``sqrt(1 - agents / n)``, that of the identity.

    Raises:
        OptionError: for fewer than one agent.

    Example:
        >>> float(rank_error(torch.eye(4), 1).square())
        0.75
    """
    if agents < 1:
        raise OptionError(f"agents is {agents}; at least 1 is needed", hint="agents=8")
    size = torch.linalg.svdvals(looked(A).nan_to_num().float()).square()  # (*batch, min(query, key))
    return (size[..., agents:].sum(-1) / size.sum(-1)).clamp(0, 1).sqrt()


def pooled(q: Float[Tensor, "*batch query d_head"], agents: int) -> Float[Tensor, "*batch agent d_head"]:
    """Average the queries of as many stretches of equal length (but for one) as there are agents.

    Raises:
        OptionError: unless there are 1 to as many agents as queries.
    """
    n = q.shape[-2]
    if not 1 <= agents <= n:
        raise OptionError(
            f"agents is {agents}; 1 to {n}, the number of queries, is expected", hint=f"agents={n}, or less"
        )
    return torch.stack([part.mean(-2) for part in torch.tensor_split(q, agents, dim=-2)], -2)


def agent_pattern(
    q: Float[Tensor, "*batch query d_head"],
    k: Float[Tensor, "*batch key d_head"],
    agents: int,
    *,
    visible: Bool[Tensor, "query key"] | None = None,
) -> Float[Tensor, "*batch query key"]:
    """Return the pattern of attention through agents that are pooled queries: ``softmax(q P') softmax(P k')``.

    Args:
        visible: Keys that each query may see. Others are taken from the product, and rows are divided by what is left;
            the rank is then no longer bounded.

    Returns:
        Rows that sum to 1, of rank at most ``agents`` where every key is visible.

    Source:
        Han et al. 2023, Agent Attention.
    """
    scale = q.shape[-1] ** -0.5
    middle = pooled(q, agents)
    made = (q @ middle.mT * scale).softmax(-1) @ (middle @ k.mT * scale).softmax(-1)
    if visible is None:
        return made
    kept = made * visible
    return kept / kept.sum(-1, keepdim=True)
