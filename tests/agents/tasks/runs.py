"""Tasks about runs: one that was killed and is resumed, and what was run."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

from tests.agents.client import Reader
from tests.agents.tasks.task import AgentTask, Facts, effect_truth, measured


def _killed(rng: random.Random, folder: Path) -> Facts:
    """A run that was killed in the middle: its record says running, and half of its parts are missing."""
    return {**measured(rng, folder), "out": f"killed-{rng.randrange(1000)}"}


async def _resumed(reader: Reader, facts: Facts) -> Any:
    job = await reader.ask(
        "Begin long work in a process of its own and return at once",
        {"command": "ablate", "options": {k: v for k, v in facts.items()}},
    )
    await reader.ask("End a job as Ctrl-C does", {"job": job["job"]})
    await asyncio.sleep(0.1)
    run = Path(job["folder"])
    command, options = (
        ("runs resume", {"folder": str(run)}) if (run / "run.json").exists() else ("ablate", facts)
    )
    again = await reader.ask(
        "Begin long work in a process of its own: start", {"command": command, "options": dict(options)}
    )
    for _ in range(600):
        said = await reader.ask("Say what became of a job: state, result or error", {"job": again["job"]})
        if said["state"] != "running":
            break
        await asyncio.sleep(0.5)
    found = await reader.ask("Show any saved result by its file", {"file": str(run / "effects.parquet")})
    best = max(found["rows"], key=lambda row: abs(row["effect"]))
    return best["label"], best["effect"]


async def _runs(reader: Reader, facts: Facts) -> Any:
    await reader.ask("Ablate heads one by one and measure what the metric loses", facts)
    found = await reader.ask(
        "List the runs in some folders: what, finished or not", {"folders": [facts["out"]]}
    )
    return found[0]["status"], found[0]["task"]


RUNS = (
    AgentTask(name="the killed run, resumed", draw=_killed, solve=_resumed, truth=effect_truth),
    AgentTask(
        name="what was run",
        draw=lambda r, d: {**measured(r, d), "out": f"ran-{r.randrange(1000)}"},
        solve=_runs,
        truth=lambda f, d: ("finished", f["task"]),
    ),
)
