"""What a model puts out at a position: a number for each token of its tokenizer, or for each of its own classes."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

MOST_NAMED = 8


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """How an answer is found among what a model puts out.

    Args:
        size: How many outputs there are; None where that is not known (an encoder's hidden state).
        classes: Names of the outputs, the i-th for output i. Empty where output i stands for token i.
    """

    size: int | None = None
    classes: tuple[str, ...] = ()

    def index(self, answer: str) -> int | None:
        """Say which output a class name stands for, spelt exactly; None where there is no such class.

        >>> Outputs(size=2, classes=("class-0", "class-1")).index("class-1")
        1
        """
        return self.classes.index(answer) if answer in self.classes else None

    def describe(self) -> str:
        """Return the classes in words.

        >>> Outputs(size=2, classes=("odd", "even")).describe()
        '2 classes: odd, even'
        """
        named = ", ".join(self.classes[:MOST_NAMED])
        more = f" and {len(self.classes) - MOST_NAMED} more" if len(self.classes) > MOST_NAMED else ""
        return f"{len(self.classes)} classes: {named}{more}"

    def closest(self, answer: str) -> str:
        """Return the class whose name is most like an answer; empty where none is."""
        near = get_close_matches(answer.strip(), self.classes, n=1)
        return near[0] if near else ""


ANY_TOKEN = Outputs()
"""Outputs of which nothing is known but that they stand for tokens."""


def numbered(size: int) -> tuple[str, ...]:
    """Return names for classes that nobody named: ``class-0``, ``class-1`` ..."""
    return tuple(f"class-{i}" for i in range(size))
