"""Memories that are trained while they read: a matrix that maps keys to values, one gradient step a token.

What is minimised (the bias), what is kept of the old state (the retention) and what the state is may each be chosen.
Rules that are not linear in the values have no attention pattern; they are run in a loop.

Source:
    Behrouz et al. 2025, It's All Connected (Miras); here the memory is a matrix, not the paper's MLP.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from workbench.core.errors import OptionError, unknown
from workbench.training.mixers.plugs import Content, Values, Width

State = Float[Tensor, "*stream d_value d_key"]
Key = Float[Tensor, "*stream d_key"]
Value = Float[Tensor, "*stream d_value"]
PerStream = Float[Tensor, "*stream"]
Rule = Literal["hebb", "delta", "lp", "huber", "kl"]
P, Q = 3.0, 4.0  # of Moneta: the loss is the p-th power of an l_p norm, what is kept an l_q norm


def prediction_error(state: State, key: Key, value: Value) -> Value:
    """Return what the memory says for a key, minus the value."""
    return torch.einsum("...vk,...k->...v", state, key) - value


def squared_gradient(error: Value) -> Value:
    """Slope of half the squared error."""
    return error


def lp_gradient(error: Value, *, p: float = P) -> Value:
    """Slope of ``|error|^p``, smooth at zero: ``p tanh(10 e) (e^2 + 1e-6)^((p - 1) / 2)``."""
    return p * torch.tanh(10 * error) * (error.square() + 1e-6) ** ((p - 1) / 2)


def huber_gradient(error: Value, *, delta: float = 1.0) -> Value:
    """Slope of the Huber loss: the error itself, and no longer than ``delta`` as a whole."""
    length = error.norm(dim=-1, keepdim=True)
    return error * (delta / length.clamp_min(1e-12)).clamp_max(1.0)


def start(rule: Rule, like: Key, d_value: int) -> State:
    """Return the state before the first token: nothing, or for ``kl`` rows that say each key alike."""
    shape = (*like.shape[:-1], d_value, like.shape[-1])
    whole = torch.zeros(shape, dtype=like.dtype, device=like.device)
    return whole + 1 / like.shape[-1] if rule == "kl" else whole


def step(
    rule: Rule, state: State, key: Key, value: Value, *, rate: PerStream, keep: PerStream, delta: float = 1.0
) -> State:
    """Return the state after one token.

    Args:
        rule: ``hebb`` adds ``rate v k^T``. ``delta`` is one step of squared error, ``lp`` of the third power of an l_3
            norm (Moneta, whose normalised read-out is `read_state`), ``huber`` of a Huber loss (Yaad), ``kl`` of
            squared error with rows that stay on the simplex (Memora).
        rate, keep: How far the step goes, and what share of the old state stays.
    """
    rate, keep = rate[..., None, None], keep[..., None, None]
    if rule == "hebb":
        return keep * state + rate * value[..., None] * key[..., None, :]
    slope = _SLOPES[rule]
    error = prediction_error(read_state(rule, state), key, value)
    bent = huber_gradient(error, delta=delta) if rule == "huber" else slope(error)
    gradient = bent[..., None] * key[..., None, :]
    if rule == "kl":
        return (keep * state.clamp_min(1e-30).log() - rate * gradient).softmax(-1)
    return keep * state - rate * gradient


_SLOPES: dict[str, Callable[[Tensor], Tensor]] = {
    "delta": squared_gradient,
    "lp": lp_gradient,
    "huber": huber_gradient,
    "kl": squared_gradient,
}


def read_state(rule: Rule, state: State) -> State:
    """Return the matrix that answers: the state itself, or for ``lp`` divided by its l_4 norm to the second power."""
    if rule != "lp":
        return state
    norm = (state.abs() ** Q).sum((-1, -2), keepdim=True) ** (1 / Q)
    return state / norm.clamp_min(1.0) ** (
        Q - 2
    )  # below 1 it would be blown up: an empty memory says nothing


def store(
    rule: Rule,
    keys: Float[Tensor, "stream pos d_key"],
    values: Float[Tensor, "stream pos d_value"],
    *,
    rate: float = 1.0,
    keep: float = 1.0,
    delta: float = 1.0,
) -> Float[Tensor, "stream d_value d_key"]:
    """Return what a memory is after it read whole streams of keys and values, one token after the other.

    Raises:
        OptionError: for an unknown rule.
    """
    check_rule(rule)
    state = start(rule, keys[:, 0], values.shape[-1])
    ones = torch.ones(len(keys), dtype=keys.dtype, device=keys.device)
    for i in range(keys.shape[1]):
        state = step(rule, state, keys[:, i], values[:, i], rate=rate * ones, keep=keep * ones, delta=delta)
    return read_state(rule, state)


def check_rule(rule: str) -> None:
    """Refuse a rule that there is not, with the closest spellings."""
    if rule not in get_args(Rule):
        raise unknown("rule", rule, get_args(Rule), error=OptionError)


class MatrixMemory(nn.Module):
    """A memory as a layer's plug: rate and retention of every head come from the token."""

    def __init__(self, width: Width, *, rule: Rule, delta: float = 1.0) -> None:
        super().__init__()
        check_rule(rule)
        self.rule, self.delta = rule, delta
        self.rate, self.keep = (nn.Linear(width.d_model, width.n_heads) for _ in range(2))
        nn.init.constant_(self.keep.bias, 4.0)  # at the start .98 of the state stays

    def forward(self, content: Content) -> Values:
        """Return what the memory answers to every query after it read the token at its position."""
        rate, keep = torch.sigmoid(self.rate(content.x)), torch.sigmoid(self.keep(content.x))
        state = start(self.rule, content.k[:, 0], content.v.shape[-1])
        found = []
        for i in range(content.q.shape[1]):
            token = content.k[:, i], content.v[:, i]
            state = step(self.rule, state, *token, rate=rate[:, i], keep=keep[:, i], delta=self.delta)
            found.append(torch.einsum("bhvk,bhk->bhv", read_state(self.rule, state), content.q[:, i]))
        return torch.stack(found, dim=1)
