"""Gradient methods that came after EAP-IG: their options, what they cost, what they claim. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.engine.interventions.words import Ablation, value_named
from workbench.methods.options.gradients import ends_cost
from workbench.methods.points import At, ends
from workbench.methods.registry import declare


@dataclass(frozen=True, kw_only=True)
class GIM:
    """Options of GIM.

    Attributes:
        at: Where the gradient is taken: ``clean`` as published, ``corrupted``, or the mean of ``both``.
        ablation: What activations are compared with: resample, zero, mean, ...
    """

    at: At = "clean"
    ablation: Ablation = "resample"

    def __post_init__(self) -> None:
        ends(self.at), value_named(self.ablation)


declare(
    "gim",
    claim="Difference times a gradient that a saturated softmax does not stop (gradient interaction modifications).",
    levels=("edge", "node", "neuron"),
    source="arXiv:2505.17630",
    options=GIM,
    cost=ends_cost,
    per_position=True,
    in_parts=True,
    run="workbench.methods.gim:gim",
)
