"""What replacing attention patterns, or masks on them, would take."""

from __future__ import annotations

from typing import Any

from workbench.commands.forms.attention import MaskAttention, ReplaceAttention
from workbench.commands.plans.inputs import planned_runs
from workbench.core.job import Job
from workbench.edits.measured_file import RESULT
from workbench.edits.substitute import PATTERNS, PER_PROMPT, WINDOWS, places_among
from workbench.engine.cost import passes_cost
from workbench.model.outline import Outline, outline


def replace(asked: ReplaceAttention, job: Job) -> dict[str, Any]:
    """Say how many rows the table would have, and how often the prompts would be run."""
    known, lengths = _read(asked, job)
    places = places_among(asked.layers, asked.heads, asked.each, known.attention_layers, known.n_heads)
    patterns = list(dict.fromkeys(asked.patterns or PATTERNS))
    recorded = len(places) * sum(name in PER_PROMPT for name in patterns)
    beside = sum(name in ("mean", "another-text") for name in patterns)
    passes = 1 + len(places) * len(patterns) + recorded
    return {
        **_head(asked, len(lengths)),
        "patterns": patterns,
        "places": {name: list(own) for name, own in places.items()},
        "rows": len(places) * len(patterns),
        "passes_over_the_prompts": passes,
        "passes_over_other_texts": beside,
        **passes_cost(known, passes + beside, lengths).to_dict(),
        **_kept(job),
    }


def mask(asked: MaskAttention, job: Job) -> dict[str, Any]:
    """Say how many rows the table would have, and how often the prompts would be run."""
    known, lengths = _read(asked, job)
    places = places_among(asked.layers, asked.heads, asked.each, known.attention_layers, known.n_heads)
    masks = list(dict.fromkeys(asked.masks))
    cells = len(places) * len(masks)
    passes = 1 + cells * (1 + asked.controls)
    return {
        **_head(asked, len(lengths)),
        "masks": masks,
        "places": {name: list(own) for name, own in places.items()},
        "rows": cells * (2 if asked.controls else 1),
        "passes_over_the_prompts": passes,
        **passes_cost(known, passes, lengths).to_dict(),
        **_kept(job),
    }


def _head(asked: ReplaceAttention | MaskAttention, n: int) -> dict[str, Any]:
    what = f"{n} pairs" if asked.task else f"at most {n} windows"
    return {
        "dry_run": True,
        "model": asked.model,
        "on": f"{what} of {asked.task or asked.text or 'the built-in text'}",
    }


def _kept(job: Job) -> dict[str, Any]:
    return {
        "folder": None if job.out is None else str(job.out),
        "files": [] if job.out is None else [RESULT, "run.json"],
    }


def _read(asked: ReplaceAttention | MaskAttention, job: Job) -> tuple[Outline, list[int]]:
    """The model's outline, and the lengths of what is read; of a text the windows that are asked for."""
    if asked.task is None:
        known = outline(asked.model, offline=asked.offline or None, revision=asked.revision)
        return known, [asked.window] * (WINDOWS if asked.limit is None else asked.limit)
    how: dict[str, Any] = {"model": asked.model, "task": asked.task, "limit": asked.limit}
    how |= {"split": asked.split, "seed": asked.seed}
    planned = planned_runs(**{**asked.opening(), **how}, task_options=asked.task_options, note=job.note)
    return planned.wiring, [len(ids) for ids in planned.pairs.clean]
