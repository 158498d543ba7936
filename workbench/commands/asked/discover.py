"""What ``workbench discover`` is asked: the model and task, how to score, how much to keep, how to judge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workbench.circuits.scores import check_rule
from workbench.commands.asked.inputs import check_opening, check_tower
from workbench.core.errors import OptionError, unknown
from workbench.engine.cluster.spread import Spread
from workbench.evaluate.sample_plan import check_sample
from workbench.methods.registry import METHODS, check_level, get_method
from workbench.tasks.registry import SPLITS

if TYPE_CHECKING:
    from workbench.commands.forms.discover import Discover
    from workbench.core.job import Job

_PLAIN = ("eap", "eap-ig", "acdc", "edge-pruning")  # run by plain blocks where these are the model


def check_search(asked: Discover, job: Job) -> None:
    """Do nothing if the model, the task and all else that is named are there, and it can be spread so.

    Raises:
        WorkbenchError: for the first that is not, with the closest spellings.
    """
    method = get_method(asked.method)
    method.make_options(**asked.options)
    level = check_level(method, asked.level, per_position=asked.per_position, with_tower=asked.with_tower)
    chosen = method.choice(
        asked.keep, asked.signed, asked.greedy, asked.select, per_position=asked.per_position
    )
    if asked.select and asked.greedy is not None:
        raise OptionError(
            "--select and --greedy or --best say two rules of selection", hint="give one of them"
        )
    check_rule(chosen.keep, select=chosen.select, level=level, positions=asked.per_position)
    check_sample(asked.exact_sample, method, level)
    Spread(**asked.spreading())
    if (asked.shard or asked.ray) and not method.in_parts:
        able = ", ".join(name for name, other in METHODS.items() if other.in_parts)
        raise OptionError(
            f"{asked.method} is not a sum over parts: it runs in one process",
            hint=f"methods for --shard and --ray: {able}",
        )
    if asked.test_split not in SPLITS:
        raise unknown("split", asked.test_split, SPLITS, error=OptionError)
    check_opening(**opening_of(asked))
    if asked.with_tower:
        check_tower(asked.model, offline=asked.offline)


def opening_of(asked: Discover) -> dict[str, Any]:
    """Say what opening the runs needs that a circuit is found on."""
    plain = asked.method in _PLAIN and asked.options.get("backward", "plain") == "plain"
    known = {"model": asked.model, "task": asked.task, **asked.opening()}
    crosses = {"with_tower": True} if asked.with_tower else {}
    return {**known, "work": "edges", "by_model": not plain or asked.with_tower, **crosses}
