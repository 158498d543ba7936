"""What replacing attention patterns would take."""

from __future__ import annotations

from typing import Any

from workbench.commands.forms.attention import ReplaceAttention
from workbench.core.job import Job
from workbench.edits.measured_file import RESULT
from workbench.edits.substitute import PATTERNS, PER_PROMPT, WINDOWS, places_among
from workbench.model.outline import outline


def replace(asked: ReplaceAttention, job: Job) -> dict[str, Any]:
    """Say how many rows the table would have, and how often the prompts would be run."""
    known = outline(asked.model, offline=asked.offline or None, revision=asked.revision, sizes=False)
    places = places_among(asked.layers, asked.heads, asked.each, known.attention_layers, known.n_heads)
    patterns = list(dict.fromkeys(asked.patterns or PATTERNS))
    recorded = len(places) * sum(name in PER_PROMPT for name in patterns)
    beside = sum(name in ("mean", "another-text") for name in patterns)
    n = f"{asked.limit or 64} pairs" if asked.task else f"at most {asked.limit or WINDOWS} windows"
    return {
        "dry_run": True,
        "model": asked.model,
        "on": f"{n} of {asked.task or asked.text or 'the built-in text'}",
        "patterns": patterns,
        "places": {name: list(own) for name, own in places.items()},
        "rows": len(places) * len(patterns),
        "passes_over_the_prompts": 1 + len(places) * len(patterns) + recorded,
        "passes_over_other_texts": beside,
        "folder": None if job.out is None else str(job.out),
        "files": [] if job.out is None else [RESULT, "run.json"],
    }
