"""The comparisons whose trained arms come with the workbench, by name."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from workbench.core.errors import ModelError, unknown

if TYPE_CHECKING:
    from workbench.training.mixers.comparison import LabComparison

COMPARISONS = {
    "agents": "agent_counts:AGENTS",
    "dynamic-needle": "chosen_by_value:BY_VALUE_NEEDLE",
    "dynamic-recall": "chosen_by_value:BY_VALUE_RECALL",
    "gates": "recurrent_gates:GATES",
    "halo": "halo_pictures:HALO",
    "memories": "memory_rules:MEMORIES",
    "power": "far_looks:FAR",
    "relaxed": "relaxed_attention:RELAXED",
    "routed": "routed_pictures:ROUTED",
}


def get_comparison(name: str) -> LabComparison:
    """Return a comparison by name.

    Raises:
        ModelError: if there is none of that name.
    """
    if name not in COMPARISONS:
        raise unknown("comparison", name, COMPARISONS, error=ModelError)
    module, attribute = COMPARISONS[name].split(":")
    return getattr(import_module(f"{__name__}.{module}"), attribute)
