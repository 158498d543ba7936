"""What a replication is asked in ``name=value`` texts, in the types of its options."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, fields, replace
from typing import Any

from workbench.core.errors import OptionError, check_numbers, unknown


def options_from(texts: Iterable[str], kind: type, name: str) -> Any:
    """Options of a replication from ``name=value`` texts, each in the type of its default; a list is comma-separated.

    Raises:
        OptionError: for an unknown name, or a value of another type.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Sizes:
        ...     pairs: int = 24
        >>> options_from(["pairs=4"], Sizes, "name-decides").pairs
        4
    """
    made = kind()
    for text in texts:
        option, equals, value = text.partition("=")
        if not equals:
            defaults = ", ".join(f"{k}={v}" for k, v in asdict(made).items()) or "none"
            raise OptionError(f"option {text!r} is not NAME=VALUE", hint=f"options: {defaults}")
        known = [f.name for f in fields(kind)]
        if option not in known:
            raise unknown(f"option of {name}", option, known, error=OptionError)
        typed = _typed(option, value, getattr(made, option))
        check_numbers({option: typed}, name)
        made = replace(made, **{option: typed})
    return made


def _typed(name: str, text: str, default: Any) -> Any:
    """A value from text, of the type of the default; a tuple has the type of its first item."""
    if isinstance(default, tuple):
        return tuple(_typed(name, part.strip(), default[0]) for part in text.split(",") if part.strip())
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False}[text.lower()]
        return type(default)(text)
    except (KeyError, ValueError):
        words = {bool: "true or false", int: "a whole number", float: "a number"}
        raise OptionError(f"option {name} is {text!r}; expected {words[type(default)]}") from None
