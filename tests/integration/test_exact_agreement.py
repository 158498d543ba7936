"""Exact effects at single positions are those of one hook and one pass, and AtP is their gradient by autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.families import family_dir
from tests.integration.naive import HOOKS, Put, naive_of
from tests.mini import mini_pairs
from workbench.engine.of_task import paired_runs
from workbench.evaluate.against_exact import agreement
from workbench.model.open import open_model


@pytest.fixture(scope="module")
def runs():
    return paired_runs(open_model(family_dir("native"), device="cpu"), mini_pairs(2))


SITES = {"heads": ("head-output", (0, 1), range(4)), "residual stream": ("resid", (1,), [None])}
NAMED = ("S", "V", "end")  # positions; all other tokens together are the fourth point


def points(kind: str) -> list[tuple[str, int, int | None]]:
    """Labels, then layers, then units, as ``agreement`` orders them; the last label is left out."""
    _, layers, units = SITES[kind]
    return [(name, layer, unit) for name in NAMED for layer in layers for unit in units]


@pytest.mark.parametrize("kind", SITES)
def test_effects_at_named_positions_are_those_of_the_plain_loop(runs, kind):
    assert tuple(runs.position_names) == NAMED
    found, naive, site = agreement(runs, kinds=[kind]), naive_of("native", runs), SITES[kind][0]
    asked = points(kind)
    assert found.exact[kind].shape == (2, len(asked) * 4 // 3)
    for i in range(2):
        clean = naive.metric(i, "clean")
        exact = [
            clean - naive.patched(i, "clean", "corrupted", [Put(site, layer, unit, name)])
            for name, layer, unit in asked
        ]
        assert found.exact[kind][i, : len(asked)] == pytest.approx(exact, abs=1e-4)
    assert np.abs(found.exact[kind]).max() > 1e-3


@pytest.mark.parametrize("kind", SITES)
def test_atp_is_the_difference_times_the_gradient_by_autograd(runs, kind):
    found, naive, site = agreement(runs, kinds=[kind]), naive_of("native", runs), SITES[kind][0]
    for i in range(2):
        for n, (name, layer, unit) in enumerate(points(kind)):
            hook, at = HOOKS[site].format(layer), runs.pairs.positions[i][name]
            held = {}

            def hold(tensor, hook, held=held):
                held["x"] = tensor.detach().requires_grad_(True)
                return held["x"]

            out = naive.bridge.run_with_hooks(naive.ids(i, "clean"), fwd_hooks=[(hook, hold)])
            end, correct, incorrect = -1, runs.pairs.correct[i][0], runs.pairs.incorrect[i][0]
            (slope,) = torch.autograd.grad(out[0, end, correct] - out[0, end, incorrect], [held["x"]])
            here = (0, at) if unit is None else (0, at, unit)
            change = (naive.activation(i, "clean", hook) - naive.activation(i, "corrupted", hook))[here[1:]]
            assert found.estimates[kind]["AtP"][i, n] == pytest.approx(
                float((slope[here] * change).sum()), abs=1e-4
            )
