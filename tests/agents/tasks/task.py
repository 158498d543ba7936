"""What a task of an agent is: drawn from a seed, asked in words, verified by the library without the tools."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import workbench as wb
from tests.agents.client import Reader

TINY = (("zoo:truth-induction", "induction"), ("zoo:truth-ioi", "ioi"))
Facts = dict[str, Any]
_MODELS: dict[str, Any] = {}


def model_of(name: str) -> Any:
    """A model, opened once."""
    if name not in _MODELS:
        _MODELS[name] = wb.open_model(name)
    return _MODELS[name]


def runs_of(facts: Facts, **more: Any) -> Any:
    return wb.paired_runs(
        model_of(facts["model"]), facts["task"], n=facts["limit"], seed=facts["seed"], **more
    )


@dataclass(frozen=True, kw_only=True)
class AgentTask:
    """One task.

    Attributes:
        draw: Makes what is asked about: facts by the names of arguments; may prepare files in the folder.
        solve: Asks a reader, and answers with a value.
        truth: The value, recomputed from the library.
        heavy: Whether a model is opened.
    """

    name: str
    draw: Callable[[random.Random, Path], Facts]
    solve: Callable[[Reader, Facts], Awaitable[Any]]
    truth: Callable[[Facts, Path], Any]
    heavy: bool = True
    close: float = 1e-3
    files: tuple[str, ...] = field(default=())

    def accepts(self, answer: Any, expected: Any) -> bool:
        """Whether an answer is the expected one; numbers to a thousandth."""
        if isinstance(expected, tuple):
            return (
                isinstance(answer, tuple)
                and len(answer) == len(expected)
                and all(map(self.accepts, answer, expected))
            )
        if isinstance(expected, float):
            return abs(float(answer) - expected) <= self.close * (1 + abs(expected))
        return answer == expected


def wrong(answer: Any) -> Any:
    """An answer that is not the one given."""
    if isinstance(answer, tuple):
        return (wrong(answer[0]), *answer[1:])
    if isinstance(answer, bool):
        return not answer
    if isinstance(answer, int | float):
        return answer + 1
    if isinstance(answer, set | frozenset):
        return frozenset([*answer, "input->logits", "nobody"])
    return f"{answer}x"


def measured(rng: random.Random, folder: Path) -> Facts:
    model, task = rng.choice(TINY)
    return {"model": model, "task": task, "limit": rng.choice((8, 12)), "seed": rng.randrange(100)}


def effect_truth(facts: Facts, folder: Path) -> Any:
    return wb.ablate(runs_of(facts)).top(1)[0]
