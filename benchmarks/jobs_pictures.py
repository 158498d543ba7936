"""Sweeps of heads of models that see, in the bench: beside a naive loop of hooks, and beside the counted floor."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.bench import Row, Settings
from benchmarks.pixel_sweep import sweeps


def pictures(settings: Settings) -> Iterator[Row]:
    """Resample ablation of every head of every tower and language model of the built-in models that see."""
    if settings.models and "zoo" not in settings.models:
        return
    n, share = (32, 4) if settings.quick else (128, 1)
    for found in sweeps(n, settings.rounds, share):
        least = found.least
        yield Row(
            job=f"head ablation ({found.parts}), n = {found.n}",
            model=found.model,
            ours=found.ours,
            baseline="a hook on transformers' own layer, one head at a time"
            + ("" if share == 1 else f" (1 in {share} run, scaled)"),
            theirs=found.naive,
            counted=None if least is None else settings.counted(least),
            asked="<= 1.5 x counted multiply-adds",
            notes="" if least is None else f"{found.done / least:.2f} x the multiply-adds of the floor",
            command="python -m benchmarks.bench --only pictures",
            seconds=found.seconds,
        )


JOBS = {"pictures": pictures}
