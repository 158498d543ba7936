"""Tasks about effects of heads and positions: what is lost without them, what comes back, what it would cost."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import workbench as wb
from tests.agents.client import Reader
from tests.agents.tasks.task import TINY, AgentTask, Facts, effect_truth, measured, model_of, runs_of
from workbench.tasks.registry import get_task


def _head(rng: random.Random, folder: Path) -> Facts:
    facts = measured(rng, folder)
    return {**facts, "node": [f"a{rng.randrange(2)}.h{rng.randrange(2)}"]}


async def _most(reader: Reader, facts: Facts) -> Any:
    found = await reader.ask("Ablate heads one by one and measure what the metric loses", facts)
    best = max(found["rows"], key=lambda row: abs(row["effect"]))
    return best["label"], best["effect"]


async def _one_head(reader: Reader, facts: Facts) -> Any:
    found = await reader.ask("Ablate a head and measure what the metric loses without it", facts)
    return found["rows"][0]["effect"]


async def _does(reader: Reader, facts: Facts) -> Any:
    found = await reader.ask("Ablate heads: measure what the metric loses", facts)
    return found["behavior"]["finding"]


async def _cost(reader: Reader, facts: Facts) -> Any:
    found = await reader.ask("Ablate heads and measure what the metric loses", {**facts, "dry_run": True})
    return found["interventions"], found["pairs"]


async def _heads_there(reader: Reader, facts: Facts) -> Any:
    found = await reader.ask("Show what a model is made of", facts)
    made = found.get("architecture", found)
    return made["n_layers"] * made["n_heads"]


async def _positions(reader: Reader, facts: Facts) -> Any:
    found = await reader.ask("Show what a task is, and some of its pairs and positions", facts)
    return frozenset(found["task"]["positions"])


async def _patched(reader: Reader, facts: Facts) -> Any:
    found = await reader.ask("Patch activations of one run into the other, site by site", facts)
    best = max(found["rows"], key=lambda row: row["effect"])
    return best["label"], best["effect"]


def _patch_truth(facts: Facts, folder: Path) -> Any:
    runs = runs_of(facts)
    found = wb.patch(runs, "resid", positions=runs.position_names)
    label, effect = found.top(1, by="signed")[0]
    return label, effect


async def _knocked(reader: Reader, facts: Facts) -> Any:
    found = await reader.ask("Forbid heads to look from one position at another", facts)
    return found["rows"][0]["effect"]


def _knock(rng: random.Random, folder: Path) -> Facts:
    facts = {**measured(rng, folder), "model": "zoo:truth-induction", "task": "induction"}
    return {**facts, "query": "end", "key": rng.choice(("A1", "B1")), "together": True}


EFFECTS = (
    AgentTask(name="which head matters most", draw=measured, solve=_most, truth=effect_truth),
    AgentTask(
        name="what one head costs",
        draw=_head,
        solve=_one_head,
        truth=lambda f, d: float(wb.ablate(runs_of(f), f["node"]).mean[0]),
    ),
    AgentTask(
        name="does it do the task",
        draw=measured,
        solve=_does,
        truth=lambda f, d: runs_of(f).behavior.finding,
    ),
    AgentTask(
        name="what a sweep would cost",
        draw=measured,
        solve=_cost,
        truth=lambda f, d: (len(wb.parts_of(runs_of(f).wiring, "heads")), f["limit"]),
    ),
    AgentTask(
        name="how many heads there are",
        draw=lambda r, d: {"name": r.choice(TINY)[0]},
        solve=_heads_there,
        truth=lambda f, d: (
            wb.describe(model_of(f["name"])).n_layers * wb.describe(model_of(f["name"])).n_heads
        ),
    ),
    AgentTask(
        name="which positions a task names",
        draw=lambda r, d: {"name": r.choice(("ioi", "induction", "greater-than")), "limit": 2},
        solve=_positions,
        truth=lambda f, d: frozenset({*get_task(f["name"]).positions, "end"}),
        heavy=False,
    ),
    AgentTask(
        name="where patching brings the answer back",
        draw=lambda r, d: {**measured(r, d), "site": "resid", "positions": ["each"]},
        solve=_patched,
        truth=_patch_truth,
    ),
    AgentTask(
        name="what not looking costs",
        draw=_knock,
        solve=_knocked,
        truth=lambda f, d: float(wb.knock_out(runs_of(f), f["query"], f["key"], together=True).mean[0]),
    ),
)
