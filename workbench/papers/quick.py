"""Fewer prompts, pictures and draws for ``replicate all --quick``: a look at every paper, never a measurement to quote.

With fewer items intervals are wider, so claims fail or cannot be tested that are decided in a default run.
Papers that take little time, or are not named here, run on their defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from workbench.core.claims import plain
from workbench.papers.kit.paper import Paper

QUICK: Mapping[str, tuple[str, ...]] = {
    "attention-calibration": ("evaluation=150",),
    "attention-spots": ("choosing=20", "walks=40"),
    "agile": ("pictures=50",),
    "bi-level-routing": ("pictures=150",),
    "carve": ("choosing=100", "questions=300"),
    "component-reuse": ("n_test=75",),
    "coordinated-prompts": ("pictures=500",),
    "efficient-probing": ("training=600", "pictures=200"),
    "flow-director": ("choosing=16", "pictures=40"),
    "imbalanced-attention": ("pictures=80", "questions=150", "draws=2"),
    "in-context-regression": ("draws=3000", "networks=2"),
    "interaction": ("questions=600", "others=300"),
    "listener-attention": ("talks=200",),
    "lofit": ("tasks=animals,cities",),
    "modality-mutual": ("questions=60", "draws=8"),
    "pine": ("conflicts=30", "majorities=60", "singles=100"),
    "preplan-anchor": ("responses=40",),
    "relevance": ("pictures=60",),
    "retrieval-heads": ("draws=16", "contexts=32,64,120"),
    "soft-injection": ("prompts=25", "seeds=1"),
    "vhd": ("questions=500", "draws=8"),
    "visual-sinks": ("questions=300", "draws=4"),
    "where-to-look": ("choosing=75", "questions=200"),
}
"""``name=value`` texts, as ``--set`` takes them."""


def unlike_default(paper: Paper, options: Mapping[str, Any]) -> tuple[str, ...]:
    """Say which options of a kept run are not those of a default run, as ``name=value`` texts.

    Example:
        >>> from workbench.papers.registry import find_paper
        >>> unlike_default(find_paper("pine"), {"conflicts": 30})
        ('conflicts=30',)
    """
    usual = plain(asdict(paper.options()))
    return tuple(f"{name}={value}" for name, value in options.items() if usual.get(name, value) != value)
