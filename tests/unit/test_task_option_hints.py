"""What the hint of a wrong option says to type is an option of that task, and works."""

from __future__ import annotations

import re

import pytest

from workbench.core.errors import OptionError
from workbench.tasks.registry import get_task, list_tasks, make_pairs, parse_options

TYPED = re.compile(r"--task-option (\w+=(?:'[^']*'|[^\s),]+))")


def wrong_options():
    for name in (getattr(task, "name", task) for task in list_tasks()):
        for option, default in get_task(name).options.items():
            for value in (
                (0, 1, 1000) if type(default) is int else ("nothing",) if type(default) is str else ()
            ):
                yield from ((name, corruption, option, value) for corruption in get_task(name).corruptions)


def test_hints_name_options_that_the_task_has_and_takes():
    refused = 0
    for name, corruption, option, value in wrong_options():
        try:
            make_pairs(name, n=1, corruption=corruption, **{option: value})
        except OptionError as problem:
            refused += 1
            typed = [text.replace("'", "") for text in TYPED.findall(problem.hint)]
            assert typed, (name, corruption, option, value, problem.hint)
            given = {option: value} | parse_options(get_task(name), typed[:1])
            assert len(make_pairs(name, n=1, corruption=corruption, **given)) == 1
    assert refused > 40


def test_one_needle_has_no_other_key():
    with pytest.raises(OptionError, match="no other key") as refused:
        make_pairs("kv-retrieval", n=1, needles=1)
    assert "--corruption value" in refused.value.hint
    assert len(make_pairs("kv-retrieval", n=1, needles=1, corruption="value")) == 1
