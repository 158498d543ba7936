"""Layers that keep a state: their patterns in parallel, and the same numbers step by step.

``state_i = transition_i * state_(i-1) + gain_i * v_i k_i^T`` and ``z_i = state_i q_i`` is the form that linear
attention, state-space models and gated recurrent networks share; the delta rule first takes away what is stored.

Source:
    Sieber et al. 2024, the dynamical systems framework; Yang et al. 2024 for the delta rule in parallel.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.core.errors import OptionError
from workbench.training.mixers.plugs import Content, Scores, Values, Visible, Width

PerStep = Float[Tensor, "batch head pos"]


def decayed_pattern(scores: Scores, transition: PerStep, gain: PerStep) -> Scores:
    """Return ``scores[q, k] * transition[k + 1] * ... * transition[q] * gain[k]``, zero ahead of the query.

    Args:
        transition: What a step leaves of the state, above 0.
        gain: What a step adds its key and value with.
    """
    logs = transition.log().cumsum(-1)
    kept = (
        logs[..., :, None] - logs[..., None, :]
    ).tril()  # ahead of the query the sum would grow without bound
    return (scores * kept.exp() * gain[..., None, :]).tril()


def recurrent_outputs(q: Values, k: Values, v: Values, transition: PerStep, gain: PerStep) -> Values:
    """Compute step by step what `decayed_pattern` of ``q . k`` gives at once."""
    state = torch.zeros(*q.shape[:1], *q.shape[2:], v.shape[-1], dtype=q.dtype, device=q.device)
    found = []
    for i in range(q.shape[1]):
        added = torch.einsum("bhk,bhv->bhkv", k[:, i], v[:, i]) * gain[:, :, i, None, None]
        state = state * transition[:, :, i, None, None] + added
        found.append(torch.einsum("bhkv,bhk->bhv", state, q[:, i]))
    return torch.stack(found, dim=1)


def delta_pattern(scores: Scores, keys: Scores, beta: PerStep) -> Scores:
    """Return the pattern of the delta rule: ``tril(q k^T) (1 + diag(beta) tril(k k^T, -1))^-1 diag(beta)``.

    One triangular solve in place of a loop over steps.

    Args:
        scores: ``q . k``.
        keys: ``k . k`` of every two keys.
        beta: The rate at which each step writes, 0 to 1.
    """
    one = torch.eye(keys.shape[-1], dtype=keys.dtype, device=keys.device)
    lower = one + beta[..., None] * keys.tril(-1)
    written = torch.linalg.solve_triangular(lower, torch.diag_embed(beta), upper=False, unitriangular=True)
    return scores.tril() @ written


def recurrent_delta(q: Values, k: Values, v: Values, beta: PerStep) -> Values:
    """Compute step by step: what the state holds for a key is taken away by ``beta``, then the value is written."""
    state = torch.zeros(*q.shape[:1], *q.shape[2:], v.shape[-1], dtype=q.dtype, device=q.device)
    found = []
    for i in range(q.shape[1]):
        held = torch.einsum("bhkv,bhk->bhv", state, k[:, i])
        error = (v[:, i] - held) * beta[:, :, i, None]
        state = state + torch.einsum("bhk,bhv->bhkv", k[:, i], error)
        found.append(torch.einsum("bhkv,bhk->bhv", state, q[:, i]))
    return torch.stack(found, dim=1)


class Decayed(nn.Module):
    """A state with a scalar transition a head: a gated recurrent network, or a state-space model.

    Attributes:
        kind: ``lstm``: forget and input gate are two sigmoids. ``reversed``: the transition is that of a state-space
            model, ``exp(-a softplus(x))``, which is a sigmoid of ``-x`` to the power ``a``; the input gate stays.
            ``tied``: the gain is the same ``softplus(x)`` too, as a state-space model has it.
    """

    def __init__(self, width: Width, *, kind: Literal["lstm", "reversed", "tied"] = "tied") -> None:
        super().__init__()
        if kind not in ("lstm", "reversed", "tied"):
            raise OptionError(f"kind is {kind!r}", hint="lstm, reversed or tied")
        self.kind = kind
        self.forget = nn.Linear(width.d_model, width.n_heads)
        self.enter = nn.Linear(width.d_model, width.n_heads) if kind != "tied" else None
        self.rate = nn.Parameter(torch.zeros(width.n_heads)) if kind != "lstm" else None
        # At the start .982 of the state stays at every step, whatever the kind: with .5 nothing is left of a row.
        nn.init.constant_(self.forget.bias, 4.0 if kind == "lstm" else -4.0)

    def gates(self, x: Float[Tensor, "batch pos d_model"]) -> tuple[PerStep, PerStep]:
        """Return transition and gain of every step."""
        forget = self.forget(x).transpose(1, 2)
        if self.rate is None:  # lstm
            transition = torch.sigmoid(forget)
        else:
            transition = torch.exp(-F.softplus(forget) * self.rate.exp()[:, None])
        gain = F.softplus(forget) if self.enter is None else torch.sigmoid(self.enter(x).transpose(1, 2))
        return transition.clamp_min(1e-6), gain

    def forward(self, scores: Scores, allowed: Visible, content: Content) -> Scores:
        """Return the pattern; what a mask closes is not read, but still stored."""
        return decayed_pattern(scores, *self.gates(content.x)) * allowed


class Delta(nn.Module):
    """The delta rule; keys should have length 1 (``Plugs(unit=True)``), or the state may grow without bound."""

    def __init__(self, width: Width) -> None:
        super().__init__()
        self.beta = nn.Linear(width.d_model, width.n_heads)

    def forward(self, scores: Scores, allowed: Visible, content: Content) -> Scores:
        """Return the pattern of the delta rule."""
        keys = torch.einsum("bqhe,bkhe->bhqk", content.k, content.k)
        beta = torch.sigmoid(self.beta(content.x)).transpose(1, 2)
        return delta_pattern(scores, keys, beta) * allowed
