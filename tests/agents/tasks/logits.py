"""Tasks about logits: what parts add directly, what the stream says by layer, what comes next in one prompt."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import workbench as wb
from tests.agents.client import Reader
from tests.agents.tasks.task import AgentTask, Facts, measured, model_of, runs_of


async def _direct(reader: Reader, facts: Facts) -> Any:
    found = await reader.ask(
        "what does each head or MLP add directly to the logits", {**facts, "no_effects": True}
    )
    best = found["parts"][0]
    return best["part"], best["direct"]


async def _lens(reader: Reader, facts: Facts) -> Any:
    question = "what the stream says layer by layer, and what each part adds to the logits directly"
    found = await reader.ask(question, {**facts, "by": "layer", "no_effects": True})
    return next(row["stream"] for row in found["lens"] if row["right"] > 0.9)


def _lens_truth(facts: Facts, folder: Path) -> Any:
    lens = wb.direct_logits(runs_of(facts), by="layer", ablation=None).lens
    return next(s for s, right in zip(lens.labels, lens.right.mean(1), strict=True) if right > 0.9)


def _prompt(rng: random.Random, folder: Path) -> Facts:
    facts = measured(rng, folder)
    runs = runs_of({**facts, "limit": 4})
    pair = runs.pairs.pairs[rng.randrange(4)]
    return {"model": facts["model"], "text": pair.clean, "answers": [pair.correct[0]]}


async def _next(reader: Reader, facts: Facts) -> Any:
    found = await reader.ask("Look at one prompt: what comes next", facts)
    return found["next"][0]["token"]


async def _said(reader: Reader, facts: Facts) -> Any:
    found = await reader.ask("Look at one prompt and what comes next", facts)
    return found["answers"][0]["log_probability"]


def _logits(facts: Facts) -> Any:
    model = model_of(facts["model"])
    return model, model(wb.as_pairs and model.to_tokens(facts["text"], prepend_bos=_bos(model)))[
        0, -1
    ].double()


def _bos(model: Any) -> bool:
    return bool(wb.describe(model).prepend_bos)


def _next_truth(facts: Facts, folder: Path) -> Any:
    model, logits = _logits(facts)
    return model.tokenizer.decode([int(logits.argmax())])


def _said_truth(facts: Facts, folder: Path) -> Any:
    model, logits = _logits(facts)
    token = model.tokenizer(facts["answers"][0], add_special_tokens=False)["input_ids"][0]
    return float(logits.log_softmax(-1)[token])


LOGITS = (
    AgentTask(
        name="what adds most directly",
        draw=measured,
        solve=_direct,
        truth=lambda f, d: (lambda r: (r["part"], r["direct"]))(
            wb.direct_logits(runs_of(f), ablation=None).rows(1)[0]
        ),
    ),
    AgentTask(name="from which layer on it is right", draw=measured, solve=_lens, truth=_lens_truth),
    AgentTask(name="what comes next", draw=_prompt, solve=_next, truth=_next_truth),
    AgentTask(name="how likely an answer is", draw=_prompt, solve=_said, truth=_said_truth),
)
