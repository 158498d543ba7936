"""Scores that tell positions apart: options, cost and claim. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from workbench.core.errors import OptionError, unknown
from workbench.engine.interventions.words import Ablation, SpanKind, value_named
from workbench.methods.options.gradients import ends_cost
from workbench.methods.points import At, ends
from workbench.methods.registry import declare

Together = Literal["absolute", "sum"]


@dataclass(frozen=True, kw_only=True)
class PEAP:
    """Options of PEAP.

    Attributes:
        spans: Which tokens make one score: those from one named position to the next (``spans``), named tokens and the
            ``rest`` (``positions``), or every token by itself (``tokens``).
        together: How an edge's spans make its score where positions are not told apart: the sum of sizes with the
            sign of the sum (``absolute``), so that spans do not cancel, or the ``sum``, which is EAP.
        at: Where the gradient is taken: ``clean`` as published, ``corrupted``, or the mean of ``both``.
        ablation: What activations are compared with: resample, zero, mean, ...
    """

    spans: SpanKind = "spans"
    together: Together = "absolute"
    at: At = "clean"
    ablation: Ablation = "resample"

    def __post_init__(self) -> None:
        ends(self.at), value_named(self.ablation)
        for name, kind in (("spans", SpanKind), ("together", Together)):
            if getattr(self, name) not in get_args(kind):
                raise unknown(f"value of {name}", getattr(self, name), get_args(kind), error=OptionError)


declare(
    "peap",
    claim="EAP by spans of the prompt, which do not cancel each other (position-aware EAP).",
    levels=("edge",),
    source="arXiv:2502.04577",
    options=PEAP,
    cost=ends_cost,
    per_position=True,
    in_parts=True,
    run="workbench.methods.peap:peap",
)
