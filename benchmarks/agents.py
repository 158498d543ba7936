"""Two clients do the tasks of ``tests/agents``: one reads the tools' descriptions, one ``llms.txt``; a table of both.

``python -m benchmarks.agents`` prints it; ``--seeds 3`` draws every task three times, ``--client text`` asks one alone,
``--processes`` types every line in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.agents.from_text import DOES, Typist, in_a_process, in_this_process
from tests.agents.tasks import TASKS, AgentTask

Ask = Callable[[AgentTask, Mapping[str, Any], Path], Any]


def by_text(task: AgentTask, facts: Mapping[str, Any], folder: Path) -> Any:
    """What the client from ``llms.txt`` answers."""
    return DOES[task.name](Typist(in_this_process), facts)


def by_lines(task: AgentTask, facts: Mapping[str, Any], folder: Path) -> Any:
    """The same, with every line in a process of its own."""
    return DOES[task.name](Typist(in_a_process), facts)


def by_tools(task: AgentTask, facts: Mapping[str, Any], folder: Path) -> Any:
    """What the client that reads the tools' descriptions answers, through the protocol."""
    import anyio
    from mcp import Client

    from tests.agents.client import Reader
    from workbench.commands.agents.server import ToolServer, server_of

    async def ask() -> Any:
        async with Client(server_of(ToolServer(folder))) as client:
            return await task.solve(Reader(client, (await client.list_tools()).tools), dict(facts))

    return anyio.run(ask)


CLIENTS: dict[str, Ask] = {"text": by_text, "tools": by_tools}


@dataclass(frozen=True, kw_only=True)
class Done:
    """How often a client answered a task rightly, and why it did not."""

    task: str
    client: str
    right: int
    draws: int
    seconds: float
    problem: str = ""


def done(task: AgentTask, client: str, seeds: int) -> Done:
    """Draw a task from each seed, let a client answer, and check with the library."""
    right, problem, start = 0, "", time.monotonic()
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as name:
            os.chdir(name)
            folder = Path(name)
            facts = task.draw(random.Random(seed), folder)
            try:
                answer = CLIENTS[client](task, facts, folder)
                expected = task.truth(facts, folder)
                right += (good := task.accepts(answer, expected))
                problem = problem or ("" if good else f"{answer!r}, not {expected!r}")
            except Exception as found:
                problem = problem or f"{type(found).__name__}: {found}"
            finally:
                os.chdir("/")
    passed = time.monotonic() - start
    return Done(task=task.name, client=client, right=right, draws=seeds, seconds=passed, problem=problem)


def main() -> None:
    """Print a row for each task and client, and how many tasks each does in every draw."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--seeds", type=int, default=1)
    asked.add_argument("--processes", action="store_true")
    asked.add_argument("--client", choices=sorted(CLIENTS), default=None)
    given = asked.parse_args()
    if given.processes:
        CLIENTS["text"] = by_lines
    chosen = [given.client] if given.client else list(CLIENTS)
    print("| task | client | right | seconds | |\n|---|---|---|---|---|")
    rows = []
    for task in TASKS:
        for client in chosen:
            row = done(task, client, given.seeds)
            rows.append(row)
            print(
                f"| {row.task} | {client} | {row.right}/{row.draws} | {row.seconds:.0f} | {row.problem} |",
                flush=True,
            )
    for client in chosen:
        own = [row for row in rows if row.client == client]
        print(
            f"{client}: {sum(row.right == row.draws for row in own)} of {len(own)} tasks, {given.seeds} draws of each"
        )


if __name__ == "__main__":
    main()
