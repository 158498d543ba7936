"""Rows of tokens, what is asked where, and where each answer stands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from workbench.core.errors import OptionError

NOTHING = -1  # where nothing is asked


@dataclass(frozen=True, kw_only=True)
class StreamRows:
    """Rows of token ids with exact truth.

    Attributes:
        inputs: Token ids ``(row, pos)``.
        target: The answer at every position ``(row, pos)``, -1 where nothing is asked.
        source: The position that holds the answer ``(row, pos)``, -1 where nothing is asked.
    """

    inputs: Int[np.ndarray, "row pos"]
    target: Int[np.ndarray, "row pos"]
    source: Int[np.ndarray, "row pos"]

    @property
    def asked(self) -> tuple[np.ndarray, np.ndarray]:
        """Row and position of every question, in the order of rows."""
        rows, at = np.nonzero(self.target != NOTHING)
        return rows, at

    @property
    def distance(self) -> np.ndarray:
        """How many tokens before its question each answer stands, one number a question."""
        rows, at = self.asked
        return at - self.source[rows, at]


def check_at_least(name: str, value: int, least: int) -> None:
    """Refuse a size that is too small."""
    if value < least:
        raise OptionError(f"{name} is {value}; at least {least} is needed", hint=f"{name}={least}")
