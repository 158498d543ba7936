"""Hypothesis tests on circuits: known answers, formulas written again in another way, and both verdicts."""

from __future__ import annotations

from itertools import permutations
from math import comb

import numpy as np
import pytest

from workbench.circuits.verdicts.statistics import (
    CHANGE,
    SHARE,
    at_least,
    at_most,
    beats_random,
    bonferroni,
    edge_minimality,
    equivalence,
    equivalence_p,
    holm,
    hsic,
    independence,
    mean_interval,
    ratio,
    ratio_interval,
)
from workbench.core.errors import OptionError, ShapeError


@pytest.mark.parametrize(("wins", "p"), [(125, 1.0), (150, 0.527), (165, 0.0297), (180, 5.0e-5)])
def test_equivalence_has_its_known_answers(wins, p):
    assert equivalence_p(wins, 250) == pytest.approx(p, rel=1e-2)


@pytest.mark.parametrize(("wins", "n", "epsilon"), [(7, 10, 0.1), (0, 5, 0.2), (3, 6, 0.1), (9, 11, 0.05)])
def test_equivalence_is_the_sum_of_the_formula(wins, n, epsilon):
    far = [j for j in range(n + 1) if abs(j / n - 0.5) >= abs(wins / n - 0.5) - 1e-12]
    truth = sum(comb(n, j) * (0.5 + epsilon) ** j * (0.5 - epsilon) ** (n - j) for j in far)
    assert equivalence_p(wins, n, epsilon=epsilon) == pytest.approx(truth)


def test_equivalence_goes_both_ways():
    rng = np.random.default_rng(0)
    model = rng.normal(size=200)
    near = equivalence(model + rng.normal(size=200) * 0.1, model)
    below = equivalence(model - 0.5, model)
    assert not near.rejected and near.verdict == "equivalence is not rejected"
    assert below.rejected and "below" in below.verdict and below.value == 0 and below.n == 200
    assert equivalence(model, model).value == 0.5  # all ties


def test_hsic_is_the_trace_of_its_definition():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=9), rng.normal(size=9)

    def gram(v):
        apart = [abs(a - b) for i, a in enumerate(v) for b in v[i + 1 :]]
        width = np.median(apart)
        return np.array([[np.exp(-((a - b) ** 2) / (2 * width**2)) for a in v] for b in v])

    centre = np.eye(9) - np.ones((9, 9)) / 9
    assert hsic(x, y) == pytest.approx(np.trace(gram(x) @ centre @ gram(y) @ centre) / 64)
    assert hsic(x, np.ones(9)) == pytest.approx(0, abs=1e-15)


def test_permutations_give_the_share_of_all_permutations():
    """Four values have 24 orders; the permutation p is close to the share of them, and never zero."""
    x, y = np.array([0.0, 1.0, 2.5, 4.0]), np.array([0.0, 1.1, 2.4, 4.2])
    seen = hsic(x, y)
    every = [hsic(x, y[list(order)]) >= seen * (1 - 1e-12) for order in permutations(range(4))]
    found = independence(x, y, permutations=2000)
    assert found.p == pytest.approx(np.mean(every), abs=0.02) and found.seed == 0


def test_independence_goes_both_ways():
    rng = np.random.default_rng(2)
    x = rng.normal(size=80)
    assert not independence(rng.normal(size=80), x).rejected
    curved = independence(x**2 + 0.1 * rng.normal(size=80), x)  # no linear correlation to speak of
    assert curved.rejected and "dependent" in curved.verdict and curved.p == pytest.approx(1 / 1001)
    assert not independence(np.full(80, 3.0), x).rejected  # a constant says nothing
    nearly = -7.46 + 1e-7 * rng.normal(size=80)
    assert independence(nearly, x).p == 1  # nor does one that float32 shakes
    assert independence(nearly, np.repeat([1.0, 2.0], 40)).p == 1
    assert independence(x, x, seed=3).p == independence(x, x, seed=3).p


def test_independence_rejects_as_often_as_it_says():
    """Under the null hypothesis about 5 % of tests reject at 0.05: 200 tests, binomial bounds of 1 in 10,000."""
    rng = np.random.default_rng(4)
    hits = sum(
        independence(rng.normal(size=20), rng.normal(size=20), permutations=199, seed=i).rejected
        for i in range(200)
    )
    assert 1 <= hits <= 24


def test_binomial_tails_by_counting():
    assert at_most(2, 4, 0.5) == pytest.approx((1 + 4 + 6) / 16)
    assert at_least(3, 4, 0.5) == pytest.approx(5 / 16)
    assert at_most(0, 100, 0.9) == pytest.approx(1e-100) and at_least(0, 9, 0.9) == pytest.approx(1)


def test_corrections_by_hand():
    ps = [0.01, 0.04, 0.03, 0.5]
    assert bonferroni(ps) == pytest.approx([0.04, 0.16, 0.12, 1.0])
    # sorted 0.01 * 4, 0.03 * 3, 0.04 * 2 (not below the one before), 0.5 * 1
    assert holm(ps) == pytest.approx([0.04, 0.09, 0.09, 0.5])


def test_minimality_finds_the_superfluous_edge():
    reference = np.linspace(0, 1, 100)
    found = edge_minimality({"strong": 5.0, "idle": 0.0, "middle": 0.895}, reference)
    assert [t.rejected for t in found] == [False, True, False]
    assert found[1].p == pytest.approx(1e-100) and found[1].corrected == pytest.approx(3e-100)
    assert found[2].value == pytest.approx(0.89) and found[2].p == pytest.approx(at_most(89, 100, 0.9))
    assert "not needed" in found[1].verdict and "3 edges" in found[1].correction
    with pytest.raises(OptionError, match="no correction"):
        edge_minimality({"e": 1.0}, reference, correction="none")


def test_a_circuit_can_be_sufficient_not_sufficient_or_open():
    assert beats_random("sufficiency", 100, 100).verdict == "yes"
    assert beats_random("sufficiency", 50, 100).verdict == "no"
    assert beats_random("sufficiency", 20, 20).verdict.startswith("open")  # 0.9^20 = 0.12


def test_intervals_by_the_normal_formula():
    rng = np.random.default_rng(5)
    values = rng.normal(3, 2, size=400)
    found = mean_interval(values)
    error = values.std(ddof=1) / 20
    assert found.stderr == pytest.approx(error, rel=0.1)
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.3 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.3 * error)


@pytest.mark.parametrize(("n", "unseen"), [(10, 0.3085), (40, 0.0881), (59, 0.0606), (200, 0.0183)])
def test_right_or_wrong_every_time_has_the_exact_interval(n, unseen):
    """Clopper-Pearson for 0 of n, from tables: 0 of 10 is 0 to 30.85 %, 0 of 200 is 0 to 1.83 %."""
    assert at_most(0, n, unseen) == pytest.approx(0.025, rel=1e-2)  # the tail that defines it
    for value, low, high in ((0.0, 0.0, unseen), (1.0, 1 - unseen, 1.0)):
        found = mean_interval(np.full(n, value), within=SHARE)
        assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)


def test_equal_differences_are_as_wide_as_what_was_not_seen_can_make_them():
    q = 1 - 0.025**0.05  # of 20
    for value in (0.0, 0.25, -1.0):
        found = mean_interval(np.full(20, value), within=CHANGE)
        assert found[:2] == pytest.approx((value - q * (value + 1), value + q * (1 - value)))
    some = np.array([0.0] * 19 + [1.0])
    assert mean_interval(some, within=CHANGE) == mean_interval(some)  # not equal: the bootstrap
    assert mean_interval(np.full(20, 3.0))[:2] == (3.0, 3.0)  # nothing says what else it could be


def test_values_out_of_their_range_are_refused():
    with pytest.raises(OptionError, match="not within 0 to 1"):
        mean_interval(np.array([0.0, -1.0]), within=SHARE)


def test_an_interval_of_a_ratio_covers_it_about_95_times_in_100():
    """True ratio 0.5 by construction; 300 data sets of 40 pairs."""
    rng, hits = np.random.default_rng(6), 0
    for seed in range(300):
        full, empty = 4 + rng.normal(size=40), rng.normal(size=40)
        found = ratio_interval(2 + rng.normal(size=40), full, empty, draws=300, seed=seed)
        hits += found.low <= 0.5 <= found.high
    assert 265 <= hits <= 298  # 285 expected, bounds beyond 1 in 1,000


def test_a_ratio_of_means_and_no_gap():
    assert ratio(np.array([1.0, 3.0]), np.array([4.0, 4.0]), np.array([0.0, 0.0])) == 0.5
    flat = ratio_interval(np.ones(3), np.ones(3), np.ones(3))
    assert np.isnan(flat.low) and np.isnan(ratio(np.ones(3), np.ones(3), np.ones(3)))


def test_scores_that_do_not_line_up_are_refused():
    with pytest.raises(ShapeError, match="equivalence"):
        equivalence(np.ones(3), np.ones(4))
