"""What a replication is asked in ``name=value`` texts, in the types of its options."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from workbench.core.errors import OptionError, check_numbers, expect_once, unknown


def size(
    default: Any,
    what: str,
    *,
    least: float | None = None,
    most: float | None = None,
    several: int | None = None,
) -> Any:
    """Give an option its default, what it is in words, and the least and most that it may be; of several values, each.

    Args:
        several: How many different values there have to be, at least; none may be there twice.
    """
    limits = {"least": least, "most": most, "several": several}
    return field(default=default, metadata={"what": what, **limits})


def words_of(options: Any) -> dict[str, str]:
    """Say what every option is, where it has words.

    Example:
        >>> @dataclass(frozen=True, kw_only=True)
        ... class Questions(Sizes):
        ...     questions: int = size(600, "questions that are reported", least=4)
        >>> words_of(Questions())
        {'questions': 'questions that are reported'}
    """
    return {one.name: one.metadata["what"] for one in fields(options) if "what" in one.metadata}


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Options of a paper that are checked when they are made.

    A number has the least and most that ``size`` says; a word is one of those of its ``Literal``.

    Raises:
        OptionError: for an option that is neither, with what was expected and what to type.

    Example:
        >>> @dataclass(frozen=True, kw_only=True)
        ... class Questions(Sizes):
        ...     questions: int = size(600, "questions that are reported", least=4)
        >>> Questions(questions=2)
        Traceback (most recent call last):
            ...
        workbench.core.errors.OptionError: questions is 2; 4 is the least that can be measured
          hint: --set questions=600
    """

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for option in fields(self):
            value, least = getattr(self, option.name), option.metadata.get("least")
            numbers = value if isinstance(value, tuple) else (value,)
            if least is not None and (not numbers or min(numbers) < least):
                raise OptionError(
                    f"{option.name} is {value}; {least} is the least that can be measured",
                    hint=f"--set {option.name}={option.default}",
                )
            default: Any = option.default
            most, several = option.metadata.get("most"), option.metadata.get("several")
            if most is not None and max(numbers, default=most) > most:
                raise OptionError(
                    f"{option.name} is {value}; there are {most} at most",
                    hint=f"--set {option.name}={most}",
                )
            if several is not None and len(set(numbers)) < max(several, len(numbers)):
                raise OptionError(
                    f"{option.name} is {', '.join(map(str, numbers))}; {several} or more different ones are needed",
                    hint=f"--set {option.name}={','.join(map(str, default[:several]))}",
                )
            words = get_args(hints[option.name]) if get_origin(hints[option.name]) is Literal else (value,)
            if value not in words:
                expected = ", ".join(map(str, words[:-1])) + f" or {words[-1]}"
                raise OptionError(
                    f"{option.name} is {value!r}; {expected} is expected",
                    hint=f"--set {option.name}={words[0]}",
                )


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
    made, seen = kind(), set[str]()
    for text in texts:
        option, equals, value = text.partition("=")
        if not equals:
            defaults = ", ".join(f"{k}={v}" for k, v in asdict(made).items()) or "none"
            raise OptionError(f"option {text!r} is not NAME=VALUE", hint=f"options: {defaults}")
        known = [f.name for f in fields(kind)]
        if option not in known:
            raise unknown(f"option of {name}", option, known, error=OptionError)
        expect_once(option, seen)
        seen.add(option)
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
        raise OptionError(
            f"option {name} is {text!r}; expected {words[type(default)]}", hint=f"--set {name}={default}"
        ) from None
