"""Arms that are compared begin alike: every weight and every bias that two arms of a recipe have in common."""

from __future__ import annotations

import pytest
import torch

from workbench.training import guided_arms
from workbench.training.mixers.arms import COMPARISONS, get_comparison

# The gate of a quasi-LSTM is read with the other sign than that of a state-space model: 4 and -4 are one transition,
# .982, as another test measures. No other number of a shipped recipe may differ.
MEANT = {"gates": ("blocks.0.attn.mix.forget.bias", {4.0, -4.0})}


def unequal(arms) -> dict[str, set[float]]:
    """Name every part that two arms have in the same shape with other numbers, and which numbers these are."""
    first, found = {}, {}
    for arm in arms.values():
        for name, value in arm.state_dict().items():
            seen = first.setdefault((name, value.shape), value)
            if not torch.equal(seen, value):
                found.setdefault(name, set()).update(seen.flatten().tolist(), value.flatten().tolist())
    return found


@pytest.mark.parametrize("name", COMPARISONS)
def test_arms_of_every_shipped_recipe_begin_alike_to_the_last_bias(name):
    comparison = get_comparison(name)
    torch.rand(5)  # draws of somebody else between two arms change nothing
    found = unequal(comparison.begin(comparison.seeds[-1]))
    wanted = dict([MEANT[name]]) if name in MEANT else {}
    assert found == wanted


@pytest.mark.parametrize("task", guided_arms.TASKS)
def test_guided_networks_begin_as_the_one_without_a_guide(task):
    begun = guided_arms.begin(task, guided_arms.SEEDS[-1])
    del begun[guided_arms.GUIDE]  # of the other kind
    assert unequal(begun) == {}


def test_a_bias_that_begins_otherwise_is_found():
    arms = get_comparison("memories").begin(0)
    with torch.no_grad():
        arms["huber"].blocks[0].attn.memory.rate.bias[0] += 1e-6
    assert list(unequal(arms)) == ["blocks.0.attn.memory.rate.bias"]
