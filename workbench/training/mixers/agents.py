"""Agent attention: queries look at a few agents, agents look at the keys.

Source:
    Han et al. 2023, Agent Attention.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.core.errors import OptionError
from workbench.training.mixers.plugs import Content, Scores, Values, Visible, Width

AgentVectors = Float[Tensor, "batch agent head d_head"]


def pooled(q: Values, n: int) -> AgentVectors:
    """Return ``n`` agents: means of ``n`` even stretches of the queries.

    Raises:
        OptionError: for more agents than queries, or none.
    """
    if not 1 <= n <= q.shape[1]:
        raise OptionError(f"{n} agents of {q.shape[1]} queries", hint=f"1 to {q.shape[1]} agents")
    flat = q.flatten(2).transpose(1, 2)
    return F.adaptive_avg_pool1d(flat, n).transpose(1, 2).unflatten(-1, q.shape[2:])


def agent_factors(q: Values, k: Values, agents: AgentVectors) -> tuple[Tensor, Tensor]:
    """Return what every query gives to every agent, and what every agent gives to every key; rows sum to 1.

    Returns:
        ``(batch, head, query, agent)`` and ``(batch, head, agent, key)``.
    """
    scale = q.shape[-1] ** -0.5
    to_agents = torch.einsum("bqhe,bahe->bhqa", q, agents) * scale
    to_keys = torch.einsum("bahe,bkhe->bhak", agents, k) * scale
    return to_agents.softmax(-1), to_keys.softmax(-1)


def agent_pattern(q: Values, k: Values, agents: AgentVectors) -> Scores:
    """Return the pattern that agents come to: rows sum to 1, and its rank is at most the number of agents."""
    to_agents, to_keys = agent_factors(q, k, agents)
    return to_agents @ to_keys


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
        return agent_pattern(content.q, content.k, pooled(content.q, self.n))


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
