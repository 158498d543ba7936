"""A mask in words: ``window:16``, ``window:width=16,sinks=2``, ``routed:block=4,keep=2``. No torch until it is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any

from workbench.core.errors import OptionError, expect_once, unknown
from workbench.masks.registry import CONTENT_MASKS, MASKS, check_counts

if TYPE_CHECKING:
    from jaxtyping import Bool
    from torch import Tensor

    Allowed = Bool[Tensor, "query key"]


@dataclass(frozen=True, kw_only=True)
class NamedMask:
    """A mask by name with its options.

    Attributes:
        by_content: Whether who looks at whom depends on queries, keys and values.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    by_content: bool = False

    def allowed(self, n: int) -> Allowed:
        """Return the mask of ``n`` tokens; of one by content there is none."""
        if self.by_content:
            raise OptionError(f"mask {self.name} depends on content", hint="wb.edits.ContentMask")
        return MASKS.get(self.name)(n, **self.options)

    def describe(self) -> str:
        """Return it as it is written."""
        said = ",".join(f"{name}={_written(value)}" for name, value in self.options.items())
        return f"{self.name}:{said}" if said else self.name


def named_mask(text: str) -> NamedMask:
    """Read a mask from words: its name, and behind a colon its options; a number alone is the first option.

    Raises:
        OptionError: for an unknown mask or option, a value of another kind, or a budget of no keys.

    Example:
        >>> named_mask("window:16").describe(), named_mask("at-distances:0+1+4").options
        ('window:width=16', {'distances': [0, 1, 4]})
    """
    name, _, rest = text.partition(":")
    if name not in MASKS and name not in CONTENT_MASKS:
        raise unknown("mask", name, [*MASKS, *CONTENT_MASKS], error=OptionError)
    by_content = name in CONTENT_MASKS
    takes = options_of(name)
    given: dict[str, Any] = {}
    for index, part in enumerate(filter(None, rest.split(","))):
        option, equals, value = part.partition("=")
        if not equals:
            if index or not takes:
                raise OptionError(f"{text!r}: {part!r} is not NAME=VALUE", hint=_usage(name, takes))
            option, value = next(iter(takes)), part
        if option not in takes:
            raise unknown(f"option of mask {name}", option, takes, error=OptionError)
        expect_once(option, given)
        given[option] = _read(name, option, value, takes[option])
    for option, parameter in takes.items():
        if parameter.default is parameter.empty and option not in given:
            raise OptionError(f"mask {name} needs {option}", hint=_usage(name, takes))
    check_counts(name, takes, given)
    return NamedMask(name=name, options=given, by_content=by_content)


def options_of(name: str) -> dict[str, Parameter]:
    """Say what a mask takes beside what it is computed from."""
    found, first = (CONTENT_MASKS.get(name), 4) if name in CONTENT_MASKS else (MASKS.get(name), 1)
    return dict(list(signature(found).parameters.items())[first:])


def _read(mask: str, option: str, text: str, parameter: Parameter) -> Any:
    many = "Sequence" in str(parameter.annotation)
    parts = text.split("+") if many else [text]
    if not all(part.strip().removeprefix("-").isdecimal() for part in parts):
        wanted = "whole numbers, as in 0+1+4" if many else "a whole number"
        raise OptionError(f"mask {mask}: {option} is {text!r}; expected {wanted}", hint=f"{mask}:{option}=4")
    return [int(part) for part in parts] if many else int(text)


def _usage(name: str, takes: Mapping[str, Parameter]) -> str:
    said = ",".join(f"{option}=..." for option in takes)
    return f"{name}:{said}" if said else name


def _written(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
