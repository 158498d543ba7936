"""One flag has one meaning: the same type and the same claim in every command that has it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

import cli.app
from workbench.core.command import COMMANDS, options_of

LOCAL = {"--help"}
OPENS = ("ablate", "discover", "demo", "evaluate", "heads", "replicate", "reproduce")


def commands(node: Any = None, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every command with its whole name."""
    node = node or typer.main.get_command(cli.app.app)
    for word in node.list_commands(None):
        whole, inner = f"{name} {word}".strip(), node.get_command(None, word)
        if hasattr(inner, "list_commands"):
            yield from commands(inner, whole)
        else:
            yield whole, inner


ALL = dict(commands())


def claim(help: str) -> str:
    """The first sentence of a help text: what the flag means; what is the command's own follows."""
    return re.split(r"\. |\.$", help)[0]


def kind(parameter: Any) -> str:
    """Text, path, number or switch; once or repeated. That it may be left out is no other type."""
    return str(parameter.type_descriptor.annotation).replace(" | None", "")


def test_one_flag_has_one_type_and_one_claim():
    meanings: dict[str, dict[tuple[str, str], list[str]]] = defaultdict(lambda: defaultdict(list))
    for name, found in ALL.items():
        for parameter in found.params:
            if parameter.param_type_name == "option" and not parameter.hidden:
                for flag in (*parameter.opts, *parameter.secondary_opts):
                    meanings[flag][kind(parameter), claim(parameter.help)].append(name)
    assert len(meanings) > 80 and len(meanings["--seed"][next(iter(meanings["--seed"]))]) > 10
    assert {flag: dict(found) for flag, found in meanings.items() if len(found) > 1} == {}


def test_every_option_says_what_it_is():
    unsaid = [
        (name, p.opts)
        for name, found in ALL.items()
        for p in found.params
        if not getattr(p, "hidden", False) and not p.help
    ]
    assert unsaid == []


@pytest.mark.parametrize("name", [n for n in ALL if any(n.startswith(word) for word in OPENS)])
def test_what_opens_a_model_takes_its_revision_and_its_code(name):
    flags = {flag for parameter in ALL[name].params for flag in parameter.opts}
    assert {"--revision", "--trust-remote-code", "--offline", "--device", "--dtype"} <= flags


def test_every_command_of_options_is_mounted_with_all_of_them():
    for name in COMMANDS:
        typed = {parameter.name for parameter in ALL[name].params}
        assert {option.name for option in options_of(COMMANDS.get(name))} <= typed, name


@pytest.mark.parametrize(
    ("line", "now"),
    [
        ("task show ioi --option order=abba --limit 1", "task show ioi --task-option order=abba --limit 1"),
        ("circuit summary published:ioi -n 2", "circuit summary published:ioi --longest 2"),
        ("circuit summary published:ioi --limit 2", "circuit summary published:ioi --longest 2"),
        ("heads -m zoo:ioi -n 3 --dry-run", "heads -m zoo:ioi --sequences 3 --dry-run"),
    ],
)
def test_former_spellings_do_what_the_new_ones_do(run, line, now):
    before = run(*line.split(), "--json")
    assert before[0] == 0 and before == run(*now.split(), "--json")
    former = next(word for word in line.split() if word.startswith("-") and word not in now.split())
    shown = run(*line.split()[: 2 if line.startswith(("task", "circuit")) else 1], "--help")[1]
    assert f"{former} " not in shown and f"{former}," not in shown
