"""What agents miss of the patterns of a model's heads: pooled queries, random agents, the best of that rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.heads.pattern_rank import pooled, rank_error
from workbench.model.hooks import hook_name

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Missed = Float[np.ndarray, "count head text"]
SAME = 1e-3  # largest difference of a pattern made again from queries and keys


@dataclass(frozen=True, kw_only=True)
class HeadAgents:
    """What agents miss, as the norm of the difference over the norm of the pattern.

    Attributes:
        heads: Whose queries and keys make the pattern again, as addresses.
        why: Why there are none; then nothing else is measured.
    """

    heads: list[str]
    pooled: Missed
    random: Missed
    best: Missed
    why: str = ""


def agent_made(
    q: Float[Tensor, "*batch query d_head"],
    k: Float[Tensor, "*batch key d_head"],
    agents: Float[Tensor, "*batch agent d_head"],
    visible: Bool[Tensor, "query key"] | None = None,
) -> Float[Tensor, "*batch query key"]:
    """Return ``softmax(q P') softmax(P k')`` for any agents ``P``, over what each query may see; rows sum to 1."""
    scale = q.shape[-1] ** -0.5
    made = (q @ agents.mT * scale).softmax(-1) @ (agents @ k.mT * scale).softmax(-1)
    if visible is None:
        return made
    kept = made * visible
    return kept / kept.sum(-1, keepdim=True).clamp_min(1e-30)


def missed(pattern: Float[Tensor, "*batch query key"], made: Tensor) -> Float[Tensor, "*batch"]:
    """Return the norm of the difference over the norm of the pattern; 0 where they are equal."""
    return (pattern - made).flatten(-2).norm(dim=-1) / pattern.flatten(-2).norm(dim=-1)


@torch.no_grad()
def head_agents(
    model: TransformerBridge, *, texts: int, tokens: int, counts: Sequence[int], seed: int = 0
) -> HeadAgents:
    """Read every head of a causal model on random texts.

    Heads whose pattern is not made again by their queries and keys, as those with rotary positions, are left out.
    """
    drawn = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, model.cfg.d_vocab, (texts, tokens), generator=drawn)
    visible = torch.ones(tokens, tokens, dtype=torch.bool).tril()
    found: dict[str, list[np.ndarray]] = {"pooled": [], "random": [], "best": []}
    heads: list[str] = []
    for layer in range(model.cfg.n_layers):
        names = [hook_name(part, layer) for part in ("q", "k", "pattern")]
        _, seen = model.run_with_cache(ids, names_filter=names)
        if not all(name in seen for name in names):
            continue
        q, k, pattern = (seen[name] for name in names)
        q, k = (part.transpose(1, 2) for part in (q, k))
        k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
        own = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~visible, -torch.inf).softmax(-1)
        same = [i for i in range(q.shape[1]) if float((own - pattern)[:, i].abs().max()) < SAME]
        heads += [f"a{layer}.h{i}" for i in same]
        q, k, pattern = q[:, same], k[:, same], pattern[:, same]
        for name in found:
            found[name].append(
                np.stack([_of(name, q, k, pattern, n, visible, drawn).T.cpu().numpy() for n in counts])
            )
    if not heads:
        nothing = np.zeros((len(counts), 0, texts))
        why = "no head's pattern is made again by its queries and keys alone"
        return HeadAgents(heads=[], pooled=nothing, random=nothing, best=nothing, why=why)
    parts: dict[str, Any] = {name: np.concatenate(each, axis=1) for name, each in found.items()}
    return HeadAgents(heads=heads, **parts)


def _of(
    name: str, q: Tensor, k: Tensor, pattern: Tensor, n: int, visible: Tensor, drawn: torch.Generator
) -> Float[Tensor, "text head"]:
    """What one kind of agents misses of every head."""
    if name == "best":
        return rank_error(pattern, n)
    agents = pooled(q, n)
    if name == "random":
        other = torch.randn(agents.shape, generator=drawn).to(agents)
        agents = other * (agents.norm(dim=-1, keepdim=True) / other.norm(dim=-1, keepdim=True))
    return missed(pattern, agent_made(q, k, agents, visible))
