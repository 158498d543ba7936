"""What ``workbench discover`` is asked: the model and task, how to score, how much to keep, how to judge."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from workbench.circuits.scores import check_rule
from workbench.commands.asked.opening import check_opening
from workbench.core.errors import OptionError, unknown
from workbench.engine.cluster.spread import Spread
from workbench.methods.registry import METHODS, Level, check_level, get_method
from workbench.model.settings import BATCH_TOKENS
from workbench.tasks.registry import SPLITS

_PLAIN = ("eap", "eap-ig", "acdc", "edge-pruning")  # run by plain blocks where these are the model


def method_options(texts: Sequence[str] | None) -> dict[str, Any]:
    """``NAME=VALUE`` texts as options of a method; values are read as JSON where they can be.

    Raises:
        OptionError: for a text without ``=``.
    """
    chosen = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise OptionError(
                f"cannot read the option {text!r}", hint="write NAME=VALUE, for example steps=10"
            )
        try:
            chosen[name.strip()] = json.loads(value)
        except ValueError:
            chosen[name.strip()] = value
    return chosen


@dataclass(frozen=True, kw_only=True)
class Search:
    """What ``workbench discover`` is asked: the model and task, how to score, how much to keep, how to judge."""

    model: str
    task: str
    method: str = "eap-ig"
    keep: str | None = None
    level: Level | None = None
    per_position: bool = False
    signed: bool | None = None
    greedy: bool | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    metric: str | None = None
    limit: int | None = None
    split: str = "train"
    test_split: str = "test"
    corruption: str | None = None
    random_draws: int = 5
    seed: int = 0
    batch_tokens: int = BATCH_TOKENS
    max_memory: int | str | None = None
    device: str | None = None
    device_map: str | None = None
    dtype: str = "float32"
    offline: bool = False

    def __post_init__(self) -> None:
        method = get_method(self.method)
        method.make_options(**self.options)
        level = check_level(method, self.level, per_position=self.per_position)
        chosen = method.choice(self.keep, self.signed, self.greedy, per_position=self.per_position)
        check_rule(chosen.keep, greedy=chosen.greedy, level=level)
        if chosen.greedy and self.per_position:
            raise OptionError("greedy growth is for edges that stand for all positions", hint="drop --greedy")

    def check(self, *, shard: str | None = None, ray: str | None = None, workers: int | None = None) -> None:
        """Do nothing if the model, the task and all else that is named are there, and it can be spread so.

        Raises:
            WorkbenchError: for the first that is not, with the closest spellings.
        """
        Spread(shard=shard, ray=ray, workers=workers)
        if (shard or ray) and not get_method(self.method).in_parts:
            able = ", ".join(name for name, other in METHODS.items() if other.in_parts)
            raise OptionError(
                f"{self.method} is not a sum over parts: it runs in one process",
                hint=f"methods for --shard and --ray: {able}",
            )
        if self.test_split not in SPLITS:
            raise unknown("split", self.test_split, SPLITS, error=OptionError)
        check_opening(**self.opening())

    def opening(self) -> dict[str, Any]:
        """What opening the runs it is found on needs."""
        places = ("max_memory", "device", "device_map", "dtype", "offline")
        names = ("model", "task", "metric", "limit", "split", "corruption", "seed", "batch_tokens")
        chosen = {name: getattr(self, name) for name in (*names, *places)}
        plain = self.method in _PLAIN and dict(self.options).get("backward", "plain") == "plain"
        return {**chosen, "work": "edges", "by_model": not plain}
