"""Agent attention: queries look at a few agents, agents look at the keys.

Source:
    Han et al. 2023, Agent Attention.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from workbench.core.errors import OptionError
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
            raise OptionError(f"n is {n}; at least one agent is needed")
        self.agents = nn.Parameter(torch.zeros(n, width.n_heads * width.d_head))
        self.width = width

    def forward(self, scores: object, allowed: Visible, content: Content) -> Scores:
        """Return the pattern of the agents."""
        agents = self.agents.unflatten(-1, (self.width.n_heads, self.width.d_head))
        return causal_agent_pattern(content.q, content.k, agents.expand(len(content.q), -1, -1, -1))
