"""Agent attention: queries look at a few agents, agents look at the keys.

Source:
    Han et al. 2023, Agent Attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from workbench.core.claims import Rows
from workbench.core.errors import OptionError
from workbench.engine.decode_time import processor_seconds
from workbench.heads.agent_patterns import agent_made
from workbench.heads.pattern_rank import agent_pattern, pooled
from workbench.training.mixers.plugs import Content, Scores, Values, Visible, Width

AgentVectors = Float[Tensor, "batch agent head d_head"]


def agent_outputs(q: Values, k: Values, v: Values, n: int) -> Values:
    """Return what ``n`` pooled agents hand on, without a pattern: generalised linear attention.

    Queries have the features ``softmax(q P')`` and keys ``softmax(P k')``; the state, ``n`` vectors a head, is all
    that a query reads. The work grows linearly with the number of tokens (`agent_products`).
    """
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))
    agents, scale = pooled(q, n), q.shape[-1] ** -0.5
    held = (agents @ k.mT * scale).softmax(-1) @ v
    return ((q @ agents.mT * scale).softmax(-1) @ held).transpose(1, 2)


def agent_products(tokens: int, agents: int, d_head: int) -> int:
    """Count multiply-adds of one head: four products of ``tokens x agents x d_head``.

    Example:
        >>> agent_products(100, 4, 16), attention_products(100, 16)
        (25600, 320000)
    """
    return 4 * tokens * agents * d_head


def attention_products(tokens: int, d_head: int) -> int:
    """Count multiply-adds of one head of plain attention: two products of ``tokens x tokens x d_head``."""
    return 2 * tokens * tokens * d_head


def costs_by_length(lengths: Sequence[int], *, agents: int = 16, d_head: int = 32) -> Rows:
    """Measure the processor's seconds and count multiply-adds of one head, with agents and with softmax.

    Returns:
        One row per number of tokens.
    """
    rows: Rows = []
    for n in lengths:
        q, k, v = torch.randn(3, 1, n, 1, d_head, generator=torch.Generator().manual_seed(n))
        plain = [part.transpose(1, 2) for part in (q, k, v)]
        handed, looked = partial(agent_outputs, q, k, v, agents), partial(softmax_outputs, *plain)
        rows.append({
            "tokens": n,
            "agents, seconds": processor_seconds(handed), "softmax, seconds": processor_seconds(looked),
            "agents, multiply-adds": agent_products(n, agents, d_head),
            "softmax, multiply-adds": attention_products(n, d_head),
        })  # fmt: skip
    return rows


def softmax_outputs(
    q: Float[Tensor, "*batch query d_head"],
    k: Float[Tensor, "*batch key d_head"],
    v: Float[Tensor, "*batch key d_head"],
) -> Float[Tensor, "*batch query d_head"]:
    """Return what plain attention hands on: every query looks at every key.

    Example:
        >>> one = torch.ones(1, 2, 4)
        >>> softmax_outputs(one, one, torch.tensor([[[0.0] * 4, [1.0] * 4]]))[0, 0].tolist()
        [0.5, 0.5, 0.5, 0.5]
    """
    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v


def power_of_length(rows: Rows, cost: str) -> float:
    """Fit the power of the number of tokens with which a cost grows: 1 is linear, 2 quadratic.

    Args:
        rows: Of ``costs_by_length``; ``cost`` is a column of them.

    Example:
        >>> round(power_of_length([{"tokens": n, "cost": 3 * n * n} for n in (8, 16, 32)], "cost"), 6)
        2.0
    """
    tokens, costs = ([row[name] for row in rows] for name in ("tokens", cost))
    return float(np.polyfit(np.log(tokens), np.log(costs), 1)[0])


def causal_agent_pattern(q: Values, k: Values, agents: AgentVectors) -> Scores:
    """Return the same where an agent gives a query only what does not come after it; rows sum to 1.

    The agents must not be made of queries: what is pooled over the row would let a query see ahead.
    """
    scale = q.shape[-1] ** -0.5
    to_agents = (torch.einsum("bqhe,bahe->bhqa", q, agents) * scale).softmax(-1)
    weights = torch.einsum("bahe,bkhe->bhak", agents, k) * scale
    weights = (weights - weights.amax(-1, keepdim=True)).exp()
    sums = weights.cumsum(-1).transpose(-1, -2)  # of the keys up to each query
    return ((to_agents / sums.clamp_min(1e-20)) @ weights).tril()


class PooledAgents(nn.Module):
    """A mix of ``n`` agents that are pooled from the queries; for models that see the whole row."""

    def __init__(self, width: Width, *, n: int) -> None:
        super().__init__()
        self.n = n

    def forward(self, scores: object, allowed: Visible, content: Content) -> Scores:
        """Return the pattern of the agents.

        Raises:
            OptionError: under a mask: an agent looks at every key.
        """
        if not bool(allowed.all()):
            raise OptionError(
                "pooled agents see the whole row, and a mask forbids that",
                hint="causal=False and no mask, or LearnedAgents",
            )
        return agent_pattern(content.q.transpose(1, 2), content.k.transpose(1, 2), self.n)


class FixedAgents(nn.Module):
    """A mix of ``n`` agents that are random vectors and stay so: what pooled agents are compared with."""

    agents: Tensor

    def __init__(self, width: Width, *, n: int, seed: int = 0) -> None:
        super().__init__()
        drawn = torch.Generator().manual_seed(seed)
        agents = torch.randn(width.n_heads, n, width.d_head, generator=drawn)
        self.register_buffer("agents", agents, persistent=False)

    def forward(self, scores: object, allowed: Visible, content: Content) -> Scores:
        """Return the pattern of the agents, over the keys that are allowed."""
        q, k = content.q.transpose(1, 2), content.k.transpose(1, 2)
        agents = self.agents.expand(len(q), -1, -1, -1)
        return agent_made(q, k, agents) if bool(allowed.all()) else agent_made(q, k, agents, allowed[0, 0])


class LearnedAgents(nn.Module):
    """A mix of ``n`` agents that are weights; causal."""

    def __init__(self, width: Width, *, n: int) -> None:
        super().__init__()
        if n < 1:
            raise OptionError(f"n is {n}; at least one agent is needed", hint="n=8")
        self.agents = nn.Parameter(torch.zeros(n, width.n_heads * width.d_head))
        self.width = width

    def forward(self, scores: object, allowed: Visible, content: Content) -> Scores:
        """Return the pattern of the agents."""
        agents = self.agents.unflatten(-1, (self.width.n_heads, self.width.d_head))
        return causal_agent_pattern(content.q, content.k, agents.expand(len(content.q), -1, -1, -1))
