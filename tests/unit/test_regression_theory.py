"""Regression in context on paper: exact risks against simulation, closed forms against loops, shapes by hand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from workbench.training.regression_theory import (
    best_debiased,
    best_gd,
    draw,
    gd_risk,
    gradient_descent,
    matrices_in_shape,
    one_head,
    ridge,
    simplified_flow,
    simplified_loss,
    softmax_pair,
)


@pytest.fixture(scope="module")
def prompts():
    return draw(np.random.default_rng(0), 40_000)


def risk(guess, prompts):
    return float(((guess - prompts.target) ** 2).mean())


def test_risks_at_the_papers_setting(prompts):
    # standard errors at this n are about 0.0025
    eta, least = best_gd()
    assert least == pytest.approx(0.2398, abs=5e-5)
    assert gd_risk(eta) == pytest.approx(least, abs=1e-12)
    assert risk(gradient_descent(prompts, eta, debiased=False), prompts) == pytest.approx(least, abs=0.008)
    eta, least = best_debiased()
    assert least == pytest.approx(0.2429, abs=5e-5)
    assert risk(gradient_descent(prompts, eta, debiased=True), prompts) == pytest.approx(least, abs=0.008)
    assert risk(ridge(prompts), prompts) == pytest.approx(0.1144, abs=0.004)
    assert risk(softmax_pair(prompts, [0.13, -0.13], [3.45, -3.45]), prompts) == pytest.approx(
        0.2438, abs=0.008
    )
    omega, mu = one_head()
    assert risk(softmax_pair(prompts, [omega], [mu]), prompts) == pytest.approx(0.405, abs=0.012)


def test_gradient_descent_is_one_step_on_the_squared_error():
    few = draw(np.random.default_rng(1), 3, d=2, length=4)
    for i in range(3):
        x, y, q = few.x[i], few.y[i], few.query[i]
        gradient = sum(-y[t] * x[t] for t in range(4)) / 4  # of half the mean squared error, at beta = 0
        assert gradient_descent(few, 0.7, debiased=False)[i] == pytest.approx(-0.7 * gradient @ q)
        centred = sum(-y[t] * (x[t] - x.mean(0)) for t in range(4)) / 4
        assert gradient_descent(few, 0.7, debiased=True)[i] == pytest.approx(-0.7 * centred @ q)


def test_a_pair_of_small_omega_is_a_debiased_step():
    few = draw(np.random.default_rng(2), 50)
    pair = softmax_pair(few, [1e-4, -1e-4], [5e3, -5e3])
    assert np.abs(pair - gradient_descent(few, 1.0, debiased=True)).max() < 1e-3
    assert np.abs(pair - gradient_descent(few, 1.0, debiased=False)).max() > 0.05


def test_the_flow_goes_downhill_and_ends_as_a_pair():
    path = simplified_flow([0.02, -0.03], [0.03, -0.02], rate=0.01, steps=4_000)
    losses = [simplified_loss(omega, mu) for omega, mu in path]
    assert all(b <= a + 1e-12 for a, b in pairwise(losses))
    omega, mu = path[-1]
    assert np.allclose(omega, -omega[::-1], atol=1e-4) and np.allclose(mu, -mu[::-1], atol=1e-4)


def test_the_flow_follows_the_slope_of_the_loss():
    omega, mu, h = np.array([0.3, -0.2]), np.array([0.9, -0.7]), 1e-6
    step = simplified_flow(omega, mu, rate=1e-3, steps=1, every=1)
    for which in range(2):
        for head in range(2):
            moved = [omega.copy(), mu.copy()]
            moved[which][head] += h
            slope = (simplified_loss(*moved) - simplified_loss(omega, mu)) / h
            assert (step[0] - step[1])[which, head] / 1e-3 == pytest.approx(slope, abs=1e-4)


def test_matrices_of_the_papers_form_have_it_and_others_do_not():
    kq, ov = np.zeros((3, 4, 4)), np.zeros((3, 4))
    for h, (omega, mu) in enumerate([(0.2, 2.0), (-0.2, -1.9), (1e-4, 1e-4)]):
        kq[h, :3, :3], ov[h, -1] = omega * np.eye(3), mu
    kq[:, :, -1] = 5.0  # never used: a query's y is 0
    found = matrices_in_shape(kq, ov)
    assert found["active"] == 2 and found["off_diagonal"] == 0 and found["leakage"] == 0
    assert found["sign_agreement"] == 1 and found["homogeneity"] == 0
    assert found["zero_sum"] == pytest.approx(0.1 / 3.9)
    kq[0, 0, 1], ov[1, 0] = 0.2, -1.9
    found = matrices_in_shape(kq, ov)
    assert found["off_diagonal"] == pytest.approx(0.5)  # 0.04 of 4 x 0.04
    assert found["leakage"] == pytest.approx(0.5**0.5)
