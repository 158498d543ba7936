"""Commands of the command line made from their options: ``workbench/commands/forms/`` has one dataclass for each."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, replace
from pathlib import Path
from types import GenericAlias
from typing import Annotated, Any

import typer

from cli.options import HOW, Json, Quiet, Spreading
from cli.printing import emit, note, progress, show, use_quiet, warn
from workbench.core.command import (
    COMMANDS,
    JOB,
    Command,
    OptionText,
    is_required,
    item_of,
    kinds_of,
    named_values,
    options_of,
    text_of,
)

_BEFORE = "before_"  # of the name of a hidden parameter for a former spelling


def command_of(name: str) -> Any:
    """Make a command of the command line: its options, its help and what it does."""
    form = COMMANDS.get(name)

    def call(**given: Any) -> None:
        _carry_out(form, given)

    call.__doc__ = form.__doc__
    vars(call)["__signature__"] = inspect.Signature(list(_parameters(form)))  # what typer looks at
    spreads = any(option.name == "ray" for option in options_of(form))
    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    word = name.rpartition(" ")[2]
    app.command(word, hidden=form.declared.hidden, cls=Spreading if spreads else None)(call)
    return typer.main.get_command(app)


def _carry_out(form: type[Command], given: dict[str, Any]) -> None:
    """Look for all that is named, run the command, print its result."""
    from workbench.commands.run_asked import run_asked
    from workbench.core.job import Job
    from workbench.core.loading import loading

    as_json = given.pop("as_json")
    use_quiet(given.pop("quiet"))
    job = Job(**{name: given.pop(name) for name in form.declared.offers}, note=note, warn=warn)
    if not as_json:
        job = replace(job, show=show)
    asked = read(form, given)
    result = asked.answer()
    if result is None:
        asked.check(job)
        with loading():
            asked.prepare(job)  # torch: after all that is named was looked for
        with progress(form.declared.name) as advance:
            result = run_asked(asked, replace(job, progress=advance))
    emit(result, as_json=as_json)
    for said in asked.said(result, job):
        note(said)
    if code := asked.exit_code(result):
        raise typer.Exit(code)


def read(form: type[Command], given: Mapping[str, Any]) -> Command:
    """Return the options of a command from what was typed; what was not typed has its default."""
    typed = {}
    for option in options_of(form):
        name, text = option.name, text_of(option)
        value = given[name]
        before = given.get(_BEFORE + name)
        if before is not None:
            value = [*(value or ()), *before] if isinstance(before, list) else before
        kinds = {kind.__name__ for kind in kinds_of(form, name)}
        if value is None:
            continue
        if text.commas:
            words = tuple(word.strip() for word in value.split(",") if word.strip())
            value = () if words == (text.nothing,) else words
        elif "Mapping" in kinds:
            value = named_values(value)
        elif "tuple" in kinds:
            value = tuple(value)
        typed[name] = value
    return form(**typed)


def _parameters(form: type[Command]) -> Iterator[inspect.Parameter]:
    """The parameters of a command: its options in the order of its help, then how it is carried out and told."""
    job = list(_job_parameters(form))
    for option in options_of(form):
        if text_of(option).place > JOB:
            yield from job
            job = []
        yield from _parameters_of(form, option)
    yield from job
    yield _parameter("quiet", Quiet, False)
    yield _parameter("as_json", Json, False)


def _job_parameters(form: type[Command]) -> Iterator[inspect.Parameter]:
    offers = form.declared.offers
    if "out" in offers:
        told = typer.Option("-o", "--out", help=f"Where to write. {form.declared.out}")
        yield _parameter("out", Annotated[Path | None, told], None)
    for name in HOW:
        if name in offers:
            yield _parameter(name, HOW[name], False)


def _parameters_of(form: type[Command], option: Field) -> Iterator[inspect.Parameter]:
    """An option, and the hidden one for its former spellings."""
    text, kind = text_of(option), _kind(form, option)
    if not text.flags:
        told = typer.Argument(help=text.help, metavar=text.metavar or None)
        default = ... if is_required(option) else _default(option, text)
        yield _parameter(option.name, Annotated[kind if default is not None else kind | None, told], default)
        return
    default = ... if is_required(option) else _default(option, text)
    required = kind if is_required(option) or default is not None else kind | None
    yield _parameter(option.name, Annotated[required, _option(text, text.flags)], default)
    if text.before:
        told = typer.Option(*text.before, hidden=True, min=text.least)
        yield _parameter(_BEFORE + option.name, Annotated[kind | None, told], None)


def _option(text: OptionText, flags: tuple[str, ...]) -> Any:
    return typer.Option(
        *flags,
        help=text.help,
        min=text.least,
        envvar=text.env or None,
        metavar=text.metavar or None,
        hidden=text.hidden,
        show_default="/" not in flags[0],
    )


def _kind(form: type[Command], option: Field) -> Any:
    """The type that is typed: lists repeat their flag, or are one word with commas."""
    kinds = kinds_of(form, option.name)
    names = {kind.__name__ for kind in kinds}
    if text_of(option).commas or "str" in names:
        return str
    if "Mapping" in names:
        return list[str]
    if "tuple" in names:
        return GenericAlias(list, (item_of(form, option.name),))
    return kinds[0]


def _default(option: Field, text: OptionText) -> Any:
    """The default as the help shows it; None where an empty list or nothing is."""
    if option.default_factory is not MISSING:
        return None
    if isinstance(option.default, tuple):
        return ",".join(option.default) if text.commas and option.default else None
    return option.default


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    given = inspect.Parameter.empty if default is ... else default
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=given, annotation=annotation)
