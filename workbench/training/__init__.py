"""The recipes that made the built-in models, runnable again: `python -m workbench.training NAME`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from workbench.core.errors import ModelError, unknown

if TYPE_CHECKING:
    from workbench.training.recipe import TrainingRecipe

RECIPES = {
    "clip": "clip:RECIPE",
    "elimination": "elimination:RECIPE",
    "induction": "induction:RECIPE",
    "icl": "few_shot:RECIPE",
    "ioi": "ioi:RECIPE",
    "kv": "retrieval:RECIPE",
    "marked": "marked:RECIPE",
    "painter": "flow_painter:RECIPE",
    "painter-leaky": "flow_painter:LEAKY_RECIPE",
    "regression": "regression:RECIPE",
    "needle": "needles:LONGER",
    "needle-base": "needles:BASE",
    "needle-other": "needles:OTHER",
    "stdlib": "language:RECIPE",
    "trained-addition": "trained_addition:RECIPE",
    "trained-majority": "trained_majority:RECIPE",
    "truth-addition": "truth_addition:RECIPE",
    "truth-brackets": "truth_brackets:RECIPE",
    "truth-cancelling": "truth_majority:CANCELLING",
    "truth-count": "truth_count:RECIPE",
    "truth-greater": "truth_greater:RECIPE",
    "truth-induction": "truth_induction:RECIPE",
    "truth-induction-rotated": "truth_induction:ROTATED",
    "truth-ioi": "truth_ioi:RECIPE",
    "truth-ioi-grouped": "truth_ioi:GROUPED",
    "truth-majority": "truth_majority:RECIPE",
    "truth-redundant": "truth_addition:REDUNDANT",
    "truth-reverse": "truth_reverse:RECIPE",
    "vlm": "vlm:RECIPE",
    "vlm-causal": "vlm_mutual:CAUSAL",
    "vlm-causal-other": "vlm_mutual:CAUSAL_OTHER",
    "vlm-mutual": "vlm_mutual:RECIPE",
    "vlm-mutual-other": "vlm_mutual:OTHER",
}


def get_recipe(name: str) -> TrainingRecipe:
    """Return the recipe of a built-in model.

    Raises:
        ModelError: if there is none of that name.
    """
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES, error=ModelError)
    module, attribute = RECIPES[name].split(":")
    return getattr(import_module(f"workbench.training.{module}"), attribute)
