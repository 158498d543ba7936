"""Backward rules by name: what each does with products and attention on the way back. No torch here.

How they are carried out is in ``workbench/engine/backward.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from workbench.core.errors import OptionError, unknown

Backward = Literal["plain", "relp", "attnlrp", "cp-lrp"]
BACKWARD: tuple[str, ...] = get_args(Backward)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What is done on the way back. ``qkv`` multiplies the gradients at queries, keys and values."""

    linear: bool
    qkv: tuple[float, float, float]


_RULES = {
    "plain": Rule(linear=False, qkv=(1.0, 1.0, 1.0)),
    "relp": Rule(linear=True, qkv=(1.0, 1.0, 1.0)),
    "attnlrp": Rule(linear=True, qkv=(0.25, 0.25, 0.5)),
    "cp-lrp": Rule(linear=True, qkv=(0.0, 0.0, 1.0)),
}


def rule_of(name: str) -> Rule:
    """Return a rule by name.

    Raises:
        OptionError: if there is none.
    """
    if name not in _RULES:
        raise unknown("backward rule", name, _RULES, error=OptionError)
    return _RULES[name]
