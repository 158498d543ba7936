"""Metrics by name, and a user's own as ``file.py:function``: what can be checked before torch is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from workbench.core.bounds import exists, expanded
from workbench.core.errors import OptionError
from workbench.core.registry import Registry

if TYPE_CHECKING:
    from workbench.engine.metrics import Metric

EXAMPLE = "--metric my_metric.py:my_function"
METRICS: Registry[Metric] = Registry("metric")
for _name in (
    *("logit-difference", "prob-difference", "kl", "nll", "accuracy", "rank", "embedding-similarity"),
):
    METRICS.lazy(_name, "workbench.engine.metrics")


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
    """The name of a metric that a file of pairs or circuits asks for: a built-in one.

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
    """``file.py:function`` apart; the file is there, whether the function is in it shows when the file is run.

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
