"""A user's function as a metric: what it says of itself, what it takes, and that it gives one number for each pair."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor

from workbench.core.errors import OptionError, ShapeError
from workbench.engine.answers import Answers

MetricFunction = Callable[[Tensor, Answers, Tensor | None], Tensor]


def attributes_of(fn: Callable[..., object], address: str) -> dict[str, Any]:
    """Return what a user's function says of itself: unit, direction, what it reads and needs.

    Raises:
        OptionError: for an attribute of another type.
    """
    found = {
        "unit": getattr(fn, "unit", "unknown unit"),
        "direction": getattr(fn, "direction", 1),
        "reads": getattr(fn, "reads", "answer"),
        "needs_clean": getattr(fn, "needs_clean", False),
        "differentiable": getattr(fn, "differentiable", True),
    }
    fits = {
        "unit": isinstance(found["unit"], str),
        "direction": found["direction"] in (1, -1),
        "reads": found["reads"] in ("answer", "all"),
        "needs_clean": isinstance(found["needs_clean"], bool),
        "differentiable": isinstance(found["differentiable"], bool),
    }
    wrong = [f"{name} = {found[name]!r}" for name, right in fits.items() if not right]
    if wrong:
        expected = (
            "unit: text, direction: 1 or -1, reads: 'answer' or 'all', needs_clean and differentiable: bool"
        )
        raise OptionError(f"metric {address!r} cannot use {', '.join(wrong)}", hint=expected)
    return found


def checked(fn: Callable[..., object], address: str) -> MetricFunction:
    """Return a user's function that takes ``(logits, answers, clean)`` and gives one number for each pair.

    Raises:
        OptionError: for a function that takes something else. A result of another form is a ShapeError when it runs.
    """
    takes_clean = takes(fn, address) == 3

    def run(logits: Tensor, answers: Answers, clean: Tensor | None) -> Tensor:
        value = fn(logits, answers, clean) if takes_clean else fn(logits, answers)
        if not isinstance(value, Tensor):
            kind = type(value).__name__
            raise ShapeError(
                f"metric {address} returned {kind}; expected a tensor ({len(logits)},)",
                hint="return one number for each pair: tensor of shape (pair,)",
            )
        if value.shape != (len(logits),):
            found = f"metric {address} returned shape {tuple(value.shape)}"
            hint = "return one value per pair: do not average inside the metric"
            raise ShapeError(f"{found}; expected ({len(logits)},)", hint=hint)
        return value if value.is_floating_point() else value.to(logits.dtype)

    return run


def takes(fn: Callable[..., object], address: str) -> int:
    """How many of logits, answers and clean logits a function takes: three if it can, else two.

    Raises:
        OptionError: if it takes neither.
    """
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):  # a builtin that does not tell
        return 3
    for count in (3, 2):
        try:
            signature.bind(*range(count))
        except TypeError:
            continue
        return count
    raise OptionError(
        f"metric {address!r} takes {signature}; (logits, answers) or (logits, answers, clean) are expected",
        hint="def my_metric(logits, answers): return logits.max(-1).values",
    )
