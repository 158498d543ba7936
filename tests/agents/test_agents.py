"""A client that reads only the tools' descriptions does twenty tasks; verifiers recompute, and refuse wrong answers.

A second one knows ``llms.txt`` alone. Here it does the light tasks; ``python -m benchmarks.agents`` has all of them.
"""

from __future__ import annotations

import random

import anyio
import pytest
from mcp import Client

from tests.agents.client import Reader
from tests.agents.from_text import DOES, NotInTheText, Typist
from tests.agents.tasks import TASKS, wrong
from workbench.commands.agents.server import ToolServer, server_of

LIGHT = [task for task in TASKS if not task.heavy]
HEAVY = [task for task in TASKS if task.heavy]


def answered(task, folder, seed):
    """What a client answers, and the facts it was given."""
    facts = task.draw(random.Random(seed), folder)

    async def ask():
        async with Client(server_of(ToolServer(folder))) as client:
            reader = Reader(client, (await client.list_tools()).tools)
            return await task.solve(reader, facts)

    return anyio.run(ask), facts


def verify(task, folder, seed):
    answer, facts = answered(task, folder, seed)
    expected = task.truth(facts, folder)
    assert task.accepts(answer, expected), f"{task.name} with {facts}: {answer}, not {expected}"
    assert not task.accepts(wrong(expected), expected)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("task", LIGHT, ids=lambda task: task.name)
def test_tasks_about_saved_things(task, folder):
    verify(task, folder, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("task", HEAVY, ids=lambda task: task.name)
def test_tasks_that_measure(task, folder):
    verify(task, folder, seed=2)


@pytest.mark.parametrize("task", LIGHT, ids=lambda task: task.name)
def test_tasks_done_from_the_text_alone(task, folder):
    facts = task.draw(random.Random(3), folder)
    answer, expected = DOES[task.name](Typist(), facts), task.truth(facts, folder)
    assert task.accepts(answer, expected), f"{task.name} with {facts}: {answer}, not {expected}"


def test_the_second_client_types_and_reads_only_what_the_text_names(folder):
    typist = Typist()
    assert set(DOES) == {task.name for task in TASKS}
    for command, words in (("circuit export", ("published:ioi",)), ("circuit show", ("x", "--quiet"))):
        with pytest.raises(NotInTheText):
            typist.line(command, *words)
    with pytest.raises(NotInTheText):
        typist.read({"heads": 26}, "heads")
    assert typist.read({"rows": [{"effect": 2}]}, "rows[].effect") == [2]
    with pytest.raises(RuntimeError, match="no file nofile"):
        typist.ask("circuit show", "nofile")


def test_there_are_at_least_twenty():
    assert len(TASKS) >= 20 and len({task.name for task in TASKS}) == len(TASKS)


@pytest.mark.slow
def test_the_server_over_standard_input_and_output(folder):
    """A process of its own: tools are listed, a call answers with the document, an error is one, and it ends."""
    import os
    import sys
    from pathlib import Path

    from mcp import StdioServerParameters, stdio_client

    root = str(Path(__file__).parents[2])
    started = StdioServerParameters(
        command=sys.executable,
        args=["-m", "cli.app", "mcp", "--root", str(folder)],
        env={**os.environ, "PYTHONPATH": root},
        cwd=root,
    )

    async def ask():
        async with Client(stdio_client(started)) as client:
            tools = (await client.list_tools()).tools
            good = await client.call_tool("circuit_summary", {"circuit": "published:ioi"})
            bad = await client.call_tool("circuit_summary", {"circuit": "/etc/passwd"})
            return tools, good, bad

    tools, good, bad = anyio.run(ask)
    assert len(tools) > 25 and good.structured_content["heads"] == 26 and not good.is_error
    assert bad.is_error and "outside the folder" in bad.structured_content["error"]["message"]
