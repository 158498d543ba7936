"""Masks by name: functions that say who may look at whom, and what every one of them is held to. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, TypeVar

from workbench.core.errors import OptionError
from workbench.core.loading import lazily
from workbench.core.registry import Registry

with lazily():
    from workbench.masks import refusals

if TYPE_CHECKING:
    from jaxtyping import Bool
    from torch import Tensor

    Allowed = Bool[Tensor, "query key"]
    Chosen = Bool[Tensor, "row head query key"]

Makes = TypeVar("Makes", bound=Callable[..., Any])
MASKS: Registry[Callable[..., Allowed]] = Registry("mask", group="workbench.masks", holds=callable)
for _module in ("sequences", "grids"):
    MASKS.read(f"workbench.masks.{_module}", r'^@mask\("([\w-]+)"\)')
CONTENT_MASKS: Registry[Callable[..., Chosen]] = Registry("content mask")
CONTENT_MASKS.read("workbench.masks.choices", r'^@content_mask\("([\w-]+)"\)')


def mask(name: str) -> Callable[[Makes], Makes]:
    """Register a function ``(tokens, **options) -> (query, key)`` of truth values: who may look at whom.

    Options are counts: at least 1, or at least 0 where 0 is the default. What comes out is square, boolean, and has a
    key for every query; anything else is refused.
    """

    def register(function: Makes) -> Makes:
        @wraps(function)
        def checked(n: int, *args: Any, **options: Any) -> Any:
            given = signature(function).bind(n, *args, **options)
            check_counts(name, signature(function).parameters, given.arguments)
            return refusals.check_mask(function(n, *args, **options), n=n, what=name)

        MASKS.add(name, checked, home=function.__module__)
        return checked  # type: ignore[return-value]

    return register


def content_mask(name: str) -> Callable[[Makes], Makes]:
    """Register a function ``(q, k, v, own, **options) -> (row, head, query, key)``: who looks at whom, by content.

    ``q``, ``k`` and ``v`` are ``(row, head, pos, d_head)``; ``own`` is what a query may see at all.
    """

    def register(function: Makes) -> Makes:
        CONTENT_MASKS.add(name, function, home=function.__module__)
        return function

    return register


def check_counts(name: str, parameters: Mapping[str, Parameter], given: Mapping[str, Any]) -> None:
    """Do nothing if the numbers of a mask are at least 1, or at least 0 where 0 is the default.

    Raises:
        OptionError: for the first that is not, such as a budget of no keys.
    """
    for option, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int) or option not in parameters:
            continue
        least = 0 if parameters[option].default == 0 else 1
        if value < least:
            raise OptionError(
                f"mask {name}: {option} is {value}; at least {least} is needed", hint=f"{option}={least}"
            )
