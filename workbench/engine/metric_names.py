"""Metrics by name, and a user's own as ``file.py:function``: what can be checked before torch is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from workbench.core.bounds import exists, expanded
from workbench.core.errors import OptionError
from workbench.core.registry import Registry

if TYPE_CHECKING:
    from workbench.engine.metrics import Metric

Function = TypeVar("Function", bound=Callable[..., Any])
EXAMPLE = "--metric my_metric.py:my_function"
# of ours a Metric, of others the function itself, with its unit and direction as attributes
METRICS: Registry[Metric | Callable[..., Any]] = Registry("metric", group="workbench.metrics", holds=callable)
METRICS.read("workbench.engine.metrics", r'^    _metric\("([\w-]+)"')


def metric(
    name: str,
    *,
    unit: str,
    direction: Literal[1, -1] = 1,
    reads: Literal["answer", "all"] = "answer",
    needs_clean: bool = False,
    differentiable: bool = True,
) -> Callable[[Function], Function]:
    """Register a function of logits and answers (and the clean run's logits) that gives one value per pair.

    Args:
        direction: +1 when higher means more of the behavior, -1 when lower does.
        reads: ``answer``: logits (pair, d_vocab) at the answer position; ``all``: (pair, pos, d_vocab).
    """

    def register(function: Function) -> Function:
        given = {"unit": unit, "direction": direction, "reads": reads}
        for key, value in {**given, "needs_clean": needs_clean, "differentiable": differentiable}.items():
            setattr(function, key, value)
        METRICS.add(name, function, home=function.__module__)
        return function

    return register


def check_metric(name: str | None) -> None:
    """Do nothing if there is such a metric, or the file that is to hold it. Nothing is run.

    Raises:
        OptionError: if not, with the closest spellings.
    """
    if name is None:
        return
    if ":" in name:
        file_and_function(name)
    else:
        METRICS.check(name)


def named_in_a_file(name: str) -> str:
    """Return the name of a metric that a file of pairs or circuits asks for: a built-in one, or one of a plug-in in
    use.

    Raises:
        OptionError: if the file names a function, which only the user may choose.
    """
    if ":" in name:
        raise OptionError(
            f"the file asks for the metric {name!r}, which is code; files may only name built-in metrics",
            hint=f"if you trust it: --metric {name}",
        )
    return METRICS.check(name)


def file_and_function(address: str) -> tuple[Path, str]:
    """Return ``file.py:function`` apart; the file is there, whether the function is in it shows when the file is
    run.

    Raises:
        OptionError: for another form, or a file that is not there.
    """
    file, _, function = address.rpartition(":")
    path = expanded(file, error=OptionError)
    if path.suffix != ".py" or not function.isidentifier():
        raise OptionError(f"metric {address!r} is not a file and a function in it", hint=EXAMPLE)
    if not exists(path):
        raise OptionError(f"metric {address!r}: there is no file {path}", hint=EXAMPLE)
    return path, function
