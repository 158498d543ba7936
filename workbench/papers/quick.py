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
    "agile": ("pictures=50",),
    "attencraft": ("choosing=8", "pictures=24"),
    "attention-calibration": ("evaluation=150",),
    "attention-spots": ("choosing=20", "walks=40"),
    "bi-level-routing": ("pictures=150",),
    "brain-encoder": ("training=750", "pictures=250"),
    "carve": ("choosing=100", "questions=300"),
    "class-semantics": ("clips=150",),
    "codebook-bottleneck": ("training=750", "pictures=400", "shifted=600"),
    "component-reuse": ("n_test=75",),
    "coordinated-prompts": ("pictures=500",),
    "deconstructing": ("windows=8",),
    "efficient-probing": ("training=600", "pictures=200"),
    "flow-director": ("choosing=16", "pictures=40"),
    "imbalanced-attention": ("pictures=80", "questions=150", "draws=2"),
    "in-context-regression": ("draws=3000", "networks=2"),
    "interaction": ("questions=600", "others=300"),
    "isolation-reposition": ("pictures=40", "references=24"),
    "joint-streams": ("pictures=12", "maps=16"),
    "listener-attention": ("talks=200",),
    "lofit": ("tasks=animals,cities",),
    "mass-in-region": ("pictures=250",),
    "mixture-of-heads": ("windows=48", "draws=10"),
    "modality-mutual": ("questions=60", "draws=8"),
    "pine": ("conflicts=30", "majorities=60", "singles=100"),
    "pointing": ("plain=600", "judged=500"),
    "preplan-anchor": ("responses=40",),
    "prompt-focus": ("choosing=50", "questions=150", "pictures=125"),
    "relevance": ("pictures=60",),
    "retrieval-heads": ("draws=16", "contexts=32,64,120"),
    "scanpath": ("training=750", "pictures=500"),
    "scene-magnifier": ("questions=200",),
    "soft-injection": ("prompts=25", "seeds=1"),
    "suppress-and-peak": ("pictures=300",),
    "target-aware": ("pictures=32", "choosing=12"),
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
