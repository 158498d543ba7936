"""Backward rules by name: what each does with products and attention on the way back. No torch here.

How they are carried out is in ``workbench/engine/backward.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from workbench.core.errors import OptionError, unknown

Backward = Literal["plain", "relp", "attnlrp", "cp-lrp", "gim", "patterns-frozen", "norms-frozen"]
BACKWARD: tuple[str, ...] = get_args(Backward)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What is done in the backward pass.

    Attributes:
        linear: Whether the scale of a norm is a constant, and each factor of a gated product gets half.
        secant: Whether an activation has the slope ``f(x) / x`` in place of its derivative.
        qkv: What multiplies the gradients at queries, keys and values.
        temperature: Of the softmax whose derivative is taken at the scores; 1 is the model's own.
    """

    linear: bool
    secant: bool
    qkv: tuple[float, float, float]
    temperature: float = 1.0


_RULES = {
    "plain": Rule(linear=False, secant=False, qkv=(1.0, 1.0, 1.0)),
    "relp": Rule(linear=True, secant=True, qkv=(1.0, 1.0, 1.0)),
    "attnlrp": Rule(linear=True, secant=True, qkv=(0.25, 0.25, 0.5)),
    "cp-lrp": Rule(linear=True, secant=True, qkv=(0.0, 0.0, 1.0)),
    "gim": Rule(linear=True, secant=False, qkv=(0.25, 0.25, 0.5), temperature=2.0),
    "patterns-frozen": Rule(linear=False, secant=False, qkv=(0.0, 0.0, 1.0)),
    "norms-frozen": Rule(linear=True, secant=False, qkv=(1.0, 1.0, 1.0)),
}


def rule_of(name: str) -> Rule:
    """Return a rule by name.

    Raises:
        OptionError: if there is none.
    """
    if name not in _RULES:
        raise unknown("backward rule", name, _RULES, error=OptionError)
    return _RULES[name]
