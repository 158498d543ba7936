"""The hard-concrete distribution: values by hand, and the sample against the formula it comes from."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from workbench.core.errors import OptionError
from workbench.methods import hard_concrete
from workbench.methods.edge_pruning import jaccard_of_restarts, threshold_for
from workbench.methods.options.masks import EdgePruning, SubnetworkProbing


@pytest.mark.parametrize(("m", "probability"), [(0.0, 0.8318), (math.log(9), 0.9780)])
def test_open_probability_by_hand(m, probability):
    """sigmoid(m - 2/3 log(1/11)): at 0, sigmoid(1.5986)."""
    assert float(hard_concrete.open_probability(torch.tensor(m))) == pytest.approx(probability, abs=5e-5)


def test_the_share_of_open_samples_is_the_open_probability():
    m = torch.tensor([-3.0, -1.0, 0.0, 1.0]).double()
    noise = torch.rand(200_000, 4, generator=torch.Generator().manual_seed(0)).double()
    found = (hard_concrete.sample(m, noise) > 0).double().mean(0)
    # standard error of a share of 200,000 is at most 0.0011
    assert found.numpy() == pytest.approx(hard_concrete.open_probability(m).numpy(), abs=0.005)


def test_the_noise_free_mask_by_hand():
    """0.5 at m = 0; m = 2/3 ln 3 gives s = 3/4 and 0.75 * 1.2 - 0.1 = 0.8; beyond 2/3 ln 11 = 1.6 it is clipped."""
    m = torch.tensor([0.0, 2 / 3 * math.log(3), 2.0, -2.0], dtype=torch.float64)
    assert hard_concrete.noise_free(m).tolist() == pytest.approx([0.5, 0.8, 1.0, 0.0], abs=1e-12)
    assert hard_concrete.strength(m).tolist() == pytest.approx(
        [0.5, 0.75, 1 / (1 + math.exp(-3)), 1 / (1 + math.exp(3))]
    )


def test_a_sample_at_half_is_the_noise_free_mask():
    m = torch.linspace(-4, 4, 33).double()
    half = torch.full_like(m, 0.5)
    assert hard_concrete.sample(m, half).tolist() == pytest.approx(
        hard_concrete.noise_free(m).tolist(), abs=1e-12
    )


@pytest.mark.parametrize("u", [0.0, 1e-30, 0.3, 1 - 1e-7, 1.0])
def test_gradients_are_finite_whatever_the_noise(u):
    m = torch.linspace(-30, 30, 61, requires_grad=True)
    mask = hard_concrete.sample(m, torch.full((61,), u))
    (grad,) = torch.autograd.grad(mask.sum(), m)
    assert torch.isfinite(mask).all() and torch.isfinite(grad).all()
    assert bool(((mask >= 0) & (mask <= 1)).all()) and bool((grad >= 0).all())


def test_the_gradient_of_a_sample_by_hand():
    """Inside the clip: (zeta - gamma) s (1 - s) / beta; at u = 1/2 and m = 0 that is 1.2 / 4 * 1.5 = 0.45."""
    m = torch.zeros(1, requires_grad=True)
    (grad,) = torch.autograd.grad(hard_concrete.sample(m, torch.full((1,), 0.5)).sum(), m)
    assert float(grad) == pytest.approx(0.45, abs=1e-6)


@pytest.mark.parametrize(
    ("values", "share", "kept"),
    [
        ([0.1, 0.9, 0.5, 0.7], 0.5, 2),
        ([0.1, 0.9, 0.5, 0.7], 0.75, 1),
        ([0.1, 0.9, 0.5, 0.7], 0.0, 4),
        # three are tied: pruning all three is nearer to half than pruning none, and no nearer to 0.3
        ([0.2, 0.2, 0.2, 0.8], 0.5, 1),
        ([0.2, 0.2, 0.2, 0.8], 0.3, 4),
        ([1.0, 1.0], 0.9, 2),  # all tied, and everything is never pruned
    ],
)
def test_thresholds_meet_the_share_as_nearly_as_ties_allow(values, share, kept):
    assert int((np.array(values) >= threshold_for(np.array(values), share)).sum()) == kept


def test_overlap_of_restarts_by_hand():
    """Best two of four: {0, 1} and {1, 2} share one of three."""
    masks = np.array([[0.9, 0.8, 0.1, 0.2], [0.1, 0.8, 0.9, 0.2]])
    assert jaccard_of_restarts(masks, 0.5) == pytest.approx(1 / 3)
    assert jaccard_of_restarts(masks[:1], 0.5) is None


@pytest.mark.parametrize(
    ("make", "wrong", "said"),
    [
        (EdgePruning, {"steps": 0}, "steps is 0"),
        (EdgePruning, {"warmup": 500}, "longer than the training"),
        (EdgePruning, {"target": -0.5}, "target is -0.5"),
        (EdgePruning, {"loss": "mse"}, "no loss called 'mse'"),
        (SubnetworkProbing, {"lam": -1.0}, "lam is -1.0"),
        (SubnetworkProbing, {"lr": float("nan")}, "lr is nan"),
    ],
)
def test_options_that_cannot_be_trained_with_are_refused(make, wrong, said):
    with pytest.raises(OptionError, match=said):
        make(**wrong)
