"""Errors a user can fix: what was found, what was expected, where, and something to type."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

from workbench.core.text import printable


class WorkbenchError(Exception):
    """A mistake the user can fix. The CLI shows message and hint without a traceback, exit code 1.

    Example:
        >>> import workbench as wb
        >>> try:
        ...     wb.open_model("zoo:iooi")
        ... except wb.WorkbenchError as problem:
        ...     print(problem.hint)
        did you mean zoo:ioi, zoo:truth-ioi, zoo:icl?
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        whole = f"{message}\n  hint: {hint}" if hint else message
        super().__init__(printable(whole, keep_newlines=True))  # a traceback shows it as it is
        self.message, self.hint = message, hint


class OptionError(WorkbenchError):
    """An option or argument has a value that cannot work."""


class UsageError(OptionError):
    """Options that do not go together, or one that is missing; the command line ends with 2."""

    exit_code = 2


class NameFormatError(WorkbenchError):
    """A node or edge address cannot be read."""


class ShapeError(WorkbenchError):
    """Tensors or tables that must line up do not."""


class ModelError(WorkbenchError):
    """A model cannot be opened, or cannot do what was asked."""


class TaskError(WorkbenchError):
    """A task or a file of pairs cannot be used."""


class CircuitError(WorkbenchError):
    """A circuit or a circuit file is wrong."""


class RunError(WorkbenchError):
    """A run cannot be started, resumed or written."""


class PluginError(WorkbenchError):
    """A plug-in cannot be used."""


def expect(value: object, kind: type | tuple[type, ...], *, what: str, hint: str = "") -> None:
    """Refuse a value of another type by name.

    Raises:
        OptionError: saying what it is, what is expected and what to type.

    Example:
        >>> expect(5, str, what="task", hint='task="ioi"')
        Traceback (most recent call last):
        workbench.core.errors.OptionError: task is of type int; expected str
          hint: task="ioi"
    """
    if isinstance(value, kind):
        return
    kinds = kind if isinstance(kind, tuple) else (kind,)
    expected = " or ".join(k.__name__ for k in kinds)
    raise OptionError(f"{what} is of type {type(value).__name__}; expected {expected}", hint=hint)


class ChangedFileWarning(UserWarning):
    """A file that people edit by hand was read, and is not as the workbench wrote it."""


class PluginWarning(UserWarning):
    """A plug-in cannot be used, and was left out of a list."""


# said each time; a filter of the user's own goes first
warnings.filterwarnings("always", category=ChangedFileWarning, append=True)
warnings.filterwarnings("always", category=PluginWarning, append=True)


MOST_COUNT = 1_000_000_000  # steps, pairs, tokens, draws: more than any machine does
MOST_SEED = 2**63 - 1  # what torch takes


def check_numbers(options: Mapping[str, Any], what: str = "") -> None:
    """Do nothing if every number among options is finite and no larger than can be meant.

    Raises:
        OptionError: naming the option and the bound.

    Example:
        >>> check_numbers({"steps": 10**20}, "method eap-ig")
        Traceback (most recent call last):
        workbench.core.errors.OptionError: option steps of method eap-ig is about 10^20; at most 1,000,000,000 is taken
          hint: give a smaller one: steps=100
    """
    of = f" of {what}" if what else ""
    for name, value in options.items():
        for number in value if isinstance(value, list | tuple) else (value,):
            if isinstance(number, float) and not math.isfinite(number):
                raise OptionError(
                    f"option {name}{of} is {number}; a finite number is expected",
                    hint=f"give a finite number: {name}=1",
                )
            most = MOST_SEED if "seed" in name else MOST_COUNT
            if isinstance(number, int) and abs(number) > most:
                shown = f"{number:,}" if abs(number) < 10**15 else f"about 10^{math.log10(abs(number)):.0f}"
                raise OptionError(
                    f"option {name}{of} is {shown}; at most {most:,} is taken",
                    hint=f"give a smaller one: {name}=100",
                )


def expect_path(path: object, *, what: str = "path") -> None:
    """Refuse a value that is not a path, and name its type; Python takes a whole number for a file that is open.

    Raises:
        OptionError: saying what it is.

    Example:
        >>> expect_path("circuits/mine"), expect_path(5)
        Traceback (most recent call last):
        workbench.core.errors.OptionError: path is of type int; expected str or PathLike
          hint: give a file or a folder: "circuits/mine"
    """
    expect(path, (str, os.PathLike), what=what, hint='give a file or a folder: "circuits/mine"')


def close_names(name: str, known: Iterable[str], *, n: int = 3) -> list[str]:
    """Return the known names that ``name`` is likely a slip of, closest first.

    Example:
        >>> close_names("eapig", ["eap", "eap-ig", "acdc"]), close_names("cat", ["acdc"])
        (['eap-ig', 'eap'], [])
    """
    return get_close_matches(name.lower(), list(known), n=n, cutoff=0.65)  # one wrong letter of three is 0.67


def unknown(
    kind: str, name: object, known: Iterable[str], *, error: type[WorkbenchError] = WorkbenchError
) -> WorkbenchError:
    """Return the error for a name that is not registered, with the closest spellings, or for no name at all."""
    names = sorted(set(known))
    if not isinstance(name, str):
        return error(
            f"{kind} is of type {type(name).__name__}; a name is expected", hint=", ".join(names[:12])
        )
    close = ", ".join(close_names(name, names))
    hint = (
        f"did you mean {close}?"
        if close
        else f"known: {', '.join(names[:12])}"
        if names
        else f"workbench {kind} list"
    )
    return error(f"no {kind} called {name!r}", hint=hint)


def expect_word(kind: str, word: object, known: Iterable[str]) -> None:
    """Do nothing if a word is one of those that are known: no other is taken for one of them.

    Raises:
        OptionError: with the closest spellings.

    Example:
        >>> expect_word("mode", "denoise", ("noising", "denoising"))
        Traceback (most recent call last):
        workbench.core.errors.OptionError: no mode called 'denoise'
          hint: did you mean denoising?
    """
    names = tuple(known)
    if word not in names:
        raise unknown(kind, word, names, error=OptionError)


def expect_once(name: str, seen: Container[str]) -> None:
    """Do nothing if an option was not given before: of two values one would be dropped without a word.

    Raises:
        OptionError: naming the option.

    Example:
        >>> expect_once("steps", {"steps": 3})
        Traceback (most recent call last):
        workbench.core.errors.OptionError: option steps is given twice; once is expected
          hint: leave one of the two out, or write several values with commas between them
    """
    if name in seen:
        raise OptionError(
            f"option {name} is given twice; once is expected",
            hint="leave one of the two out, or write several values with commas between them",
        )


def in_one_line(problem: BaseException, most: int = 300) -> str:
    """Say what an error of a library says, in one line: its first sentence, or its kind where it says nothing.

    Example:
        >>> in_one_line(ValueError("Class validation error:\\n    ValueError: 16 is not a multiple of 3.\\nsee ..."))
        'Class validation error: ValueError: 16 is not a multiple of 3.'
    """
    lines = [" ".join(line.split()) for line in str(problem).splitlines() if line.strip()]
    if not lines:
        return type(problem).__name__
    said = f"{lines[0]} {lines[1]}" if lines[0].endswith(":") and len(lines) > 1 else lines[0]
    return said if len(said) <= most else said[: most - 3] + "..."


@contextmanager
def explaining(what: str, *, error: type[WorkbenchError] = WorkbenchError, hint: str = "") -> Iterator[None]:
    """Put whatever a library raises inside the block into one line, after ``what``: "X cannot be read".

    For calls into libraries that parse files of others: they raise whatever their parser raises. Memory that ran out
    and interruptions stay what they are.

    Raises:
        WorkbenchError: of the type ``error``.
    """
    try:
        yield
    except (WorkbenchError, MemoryError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as problem:  # a panic of Rust code is no Exception
        if "out of memory" in str(problem).lower() or "allocate memory" in str(problem).lower():
            raise
        raise error(f"{what}: {in_one_line(problem)}", hint=hint) from problem
