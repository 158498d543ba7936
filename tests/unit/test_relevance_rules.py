"""Relevance by hand: the rules, what they conserve, agreement measured against numpy, smoothing of known lines."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from workbench.core.errors import OptionError
from workbench.evaluate.against_exact import correlations, error_share, shuffled
from workbench.evaluate.relevance_rules import (
    forward_pass,
    linear_epsilon,
    linear_z_plus,
    network_input_times_gradient,
    network_relevance,
    product_rule,
    random_network,
    softmax_rule,
)
from workbench.evaluate.salient import near_foci, planted_region, saliency

X = torch.randn(4, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def test_relevance_of_a_bias_free_relu_network_sums_to_the_output_and_with_biases_it_does_not():
    for biases in (False, True):
        net = random_network((6, 9, 9, 2), seed=1, biases=biases)
        off = network_relevance(X, net, epsilon=1e-12).sum(1) - forward_pass(X, net)[-1].sum(1)
        assert (off.abs().max() < 1e-8) == (not biases)


def test_a_large_epsilon_keeps_some_of_it():
    net = random_network((6, 9, 2), seed=1)
    out = forward_pass(X, net)[-1].sum(1)
    lost = [(network_relevance(X, net, epsilon=e).sum(1) - out).abs().max().item() for e in (1e-9, 1e-2, 1.0)]
    assert lost[0] < lost[1] < lost[2]


def test_the_rule_is_a_gradient_with_secant_slopes_only():
    net, gelu = random_network((6, 9, 9, 2), seed=2), torch.nn.functional.gelu
    relevance = network_relevance(X, net, activation=gelu, epsilon=1e-12)
    assert torch.allclose(network_input_times_gradient(X, net, activation=gelu), relevance, atol=1e-8)
    plain = network_input_times_gradient(X, net, activation=gelu, secant=False)
    assert (plain - relevance).abs().max() > 0.05


def test_linear_rules_by_hand():
    x, w, r = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0], [-1.0]]), torch.tensor([[10.0]])
    # y = 1: parts 3 and -2 of it
    assert linear_epsilon(x, w, None, r).tolist()[0] == pytest.approx([30.0, -20.0])
    assert linear_epsilon(x, w, torch.tensor([4.0]), r).tolist()[0] == pytest.approx(
        [6.0, -4.0]
    )  # bias keeps 8
    assert linear_z_plus(x, w, r).tolist()[0] == pytest.approx([10.0, 0.0])
    plus = linear_z_plus(X.abs(), random_network((6, 4), seed=0)[0][0], torch.ones(4, 4, dtype=torch.float64))
    assert (plus >= 0).all() and plus.sum(1).tolist() == pytest.approx([4.0] * 4, abs=1e-6)


def test_the_softmax_rule_depends_on_the_offset_and_the_product_halves():
    x, r = torch.tensor([1.0, 2.0]), torch.tensor([0.5, 0.5])
    s = torch.tensor([1.0, 2.0]).softmax(-1)
    assert softmax_rule(x, r).tolist() == pytest.approx([0.5 - s[0].item(), 2 * (0.5 - s[1].item())])
    assert softmax_rule(x, r).sum() != pytest.approx(1.0)
    assert not torch.allclose(softmax_rule(x + 3, r), softmax_rule(x, r))
    a, v = X[:2, :3], X[:3, 3:]
    out = a @ v
    first, second = product_rule(a, v, out)
    assert first.sum().item() == pytest.approx(out.sum().item() / 2, abs=1e-6)
    assert second.sum().item() == pytest.approx(out.sum().item() / 2, abs=1e-6)


def test_correlations_are_those_of_numpy_and_points_of_zeros_do_not_count():
    rng = np.random.default_rng(0)
    exact = rng.normal(size=(6, 10))
    values = exact + rng.normal(size=(6, 10))
    exact[:, :3] = values[:, :3] = 0
    found, draws = correlations(exact, {"a": values, "same": exact})
    assert found["a"].value == pytest.approx(np.corrcoef(exact[:, 3:].ravel(), values[:, 3:].ravel())[0, 1])
    assert found["a"].n == 42 and found["same"].value == pytest.approx(1.0)
    assert (
        found["a"].around[0] < found["a"].value < found["a"].around[1] and (draws["same"] >= draws["a"]).all()
    )
    assert abs(shuffled(exact, values)) < 0.2 < found["a"].value
    assert error_share([1.0, 1.0], [2.0, 0.0]) == pytest.approx(1.0)


def test_saliency_of_known_lines():
    assert saliency(np.ones(9)).tolist() == pytest.approx([0.0] * 9)
    spike = np.zeros(9)
    spike[4] = -2.0  # the sign does not matter
    found = saliency(spike, scales=(1,), k=3, weight=0.0)
    assert found[4] == pytest.approx(1 - np.exp(-1)) and np.delete(found, 4).max() == 0
    # the distance to the focus at 4, as a share of the length
    assert near_foci(np.array([0.0, 0, 0, 0.5, 1, 0, 0, 0])).tolist() == pytest.approx(
        [0, 0, 0, 0.5 * 7 / 8, 1, 0, 0, 0]
    )
    truth, noisy = planted_region(seed=1, noise=0.0)
    assert truth.sum() == 8 and np.array_equal(truth, noisy)
    with pytest.raises(OptionError, match="8 others"):
        saliency(np.ones(9), k=9)
