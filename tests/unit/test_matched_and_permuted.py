"""Matched heads, sign flips, permuted labels, crossed intervals: by hand, against scipy, and under the null."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from scipy import stats

from workbench.core.errors import OptionError
from workbench.core.stats.association import adjusted_rand, auroc, paired_interval, slope
from workbench.core.stats.crossed import crossed_interval
from workbench.core.stats.intervals import SHARE, mean_interval
from workbench.core.stats.matched import matched_heads
from workbench.core.stats.permutation import (
    derangement,
    groupings,
    p_above,
    permutation_p,
    sign_flip_p,
    sign_test_p,
)
from workbench.core.stats.student import clustered_interval

HEADS = [f"a{layer}.h{index}" for layer in range(3) for index in range(6)]


def test_matched_heads_are_as_many_in_each_layer_and_none_of_the_chosen():
    chosen = ("a2.h1", "a0.h3", "a2.h4")
    drawn = matched_heads(chosen, HEADS, draws=12, seed=3)
    assert len(set(drawn)) == 12 and drawn == matched_heads(chosen, HEADS, draws=12, seed=3)
    for heads in drawn:
        assert [h[:2] for h in heads] == ["a2", "a2", "a0"] and not {*heads} & {*chosen}


def test_every_set_is_drawn_about_as_often():
    drawn = [matched_heads(["a0.h0"], HEADS, draws=1, seed=seed)[0][0] for seed in range(2000)]
    counts = [drawn.count(f"a0.h{i}") for i in range(1, 6)]
    assert sum(counts) == 2000 and stats.chisquare(counts).pvalue > 0.001


def test_where_no_other_heads_are_left_it_is_said():
    chosen = ["a0.h0", "a0.h1", "a0.h2", "a0.h3"]
    with pytest.raises(OptionError, match="layer 0 has 2 other heads; 4 are to be drawn"):
        matched_heads(chosen, HEADS, draws=2)
    (own,) = matched_heads(chosen, HEADS, draws=1, short="own")
    assert {"a0.h4", "a0.h5"} < {*own} and len({*own} & {*chosen}) == 2
    assert all(len(heads) == 4 for heads in matched_heads(chosen, HEADS, draws=5, short="all"))
    with pytest.raises(OptionError, match="nothing to compare with"):
        matched_heads(HEADS[:6], HEADS, draws=2, short="all")
    with pytest.raises(OptionError, match="'m0' is no head"):
        matched_heads(["m0"], HEADS, draws=1)


def test_sign_flips_are_those_of_scipy():
    values = np.random.default_rng(1).normal(0.3, 1, 11)
    exact = stats.permutation_test((values,), np.mean, permutation_type="samples", alternative="greater")
    assert sign_flip_p(values) == pytest.approx(exact.pvalue)
    many = np.random.default_rng(2).normal(0.2, 1, 40)
    one = stats.ttest_1samp(many, 0, alternative="greater").pvalue
    assert sign_flip_p(many) == pytest.approx(one, abs=0.02)  # 5,000 draws, and t is close to it for 40


def test_flips_of_clusters_do_not_count_copies():
    values = np.repeat([1.0, 2.0, 0.5, 1.5], 10)
    assert sign_flip_p(values, np.repeat(range(4), 10).tolist()) == 1 / 16


@pytest.mark.parametrize("n", [8, 30])
def test_under_the_null_p_is_below_a_twentieth_a_twentieth_of_the_time(n):
    rng = np.random.default_rng(5)
    found = [sign_flip_p(rng.normal(size=n), draws=400, seed=i) for i in range(600)]
    assert 0.03 < np.mean(np.array(found) <= 0.05) < 0.075  # 0.05 within 3 standard errors


def test_permuted_labels_are_those_of_scipy():
    values, labels = np.array([1.0, 5.0, 2.0, 7.0, 6.0, 3.0]), np.array([0, 1, 0, 1, 1, 0])

    def gap(given: np.ndarray) -> float:
        return float(values[given == 1].mean() - values[given == 0].mean())

    assert permutation_p(gap, labels) == pytest.approx(
        1 / comb(6, 3)
    )  # the three largest together: one choice of 20
    values, labels = np.arange(12.0) % 5, np.arange(12) % 2
    sides = values[labels == 1], values[labels == 0]
    exact = stats.permutation_test(
        sides, lambda a, b: a.mean() - b.mean(), n_resamples=np.inf, alternative="greater"
    )
    assert permutation_p(gap, labels) == pytest.approx(exact.pvalue, abs=0.03)  # 4,000 of 479,001,600 orders


def test_sign_tests_are_binomial_tests_without_ties():
    values = np.array([0.5, -0.2, 0.0, 1.0, 0.3, 0.0, 0.1])
    assert sign_test_p(values) == pytest.approx(stats.binomtest(4, 5, alternative="greater").pvalue)
    assert sign_test_p(np.zeros(9)) == 1.0


def test_groups_are_counted():
    assert groupings("aabbcc") == 15 and groupings([0] * 3 + [1] * 3 + [2] * 3) == 280
    assert p_above(1.0, np.zeros(19)) == 1 / 20


def test_crossed_intervals_hold_where_tasks_and_words_both_vary():
    """Effects of tasks and of words: the crossed interval covers the mean, that of independent answers does not."""
    rng, crossed, plain = np.random.default_rng(0), 0, 0
    for seed in range(150):
        table = rng.normal(size=(12, 1)) + rng.normal(size=(1, 15)) + rng.normal(size=(12, 15))
        low, high, _ = crossed_interval(list(table), draws=300, seed=seed)
        crossed += low <= 0 <= high
        low, high, _ = mean_interval(table.ravel(), draws=300, seed=seed)
        plain += low <= 0 <= high
    assert (
        crossed >= 0.88 * 150 and plain < 0.6 * 150
    )  # 0.95 is asked; a bootstrap of 12 rows is a little narrow


def test_equal_values_are_as_many_draws_as_rows_or_columns():
    low, high, _ = crossed_interval([np.ones(11)] * 7, within=SHARE)
    assert (low, high) == (pytest.approx(0.025 ** (1 / 7)), 1.0)


def test_clustered_intervals_are_students_and_hold():
    values = np.random.default_rng(3).normal(size=20)
    low, high = stats.ttest_1samp(values, 0).confidence_interval()
    assert clustered_interval(values)[:2] == pytest.approx((low, high))
    rng, covered = np.random.default_rng(4), 0
    for _ in range(300):
        values = np.repeat(rng.normal(size=15), 6) + rng.normal(size=90)
        low, high, _ = clustered_interval(values, np.repeat(range(15), 6).tolist())
        covered += low <= 0 <= high
    assert 0.91 * 300 < covered < 0.99 * 300


def test_slopes_and_curves_are_those_of_scipy():
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=30), rng.normal(size=30)
    assert slope(x, y) == pytest.approx(stats.linregress(x, y).slope)
    scores, positive = np.round(rng.normal(size=50), 1), rng.random(50) < 0.4
    u = stats.mannwhitneyu(scores[positive], scores[~positive]).statistic
    assert auroc(scores, positive) == pytest.approx(u / (positive.sum() * (~positive).sum()))
    assert np.isnan(auroc(scores, np.ones(50))) and np.isnan(slope(np.ones(3), np.arange(3.0)))


def test_groupings_at_random_agree_by_nothing_on_average():
    rng = np.random.default_rng(7)
    found = [
        adjusted_rand(rng.integers(0, 3, 40).tolist(), rng.integers(0, 4, 40).tolist()) for _ in range(300)
    ]
    assert abs(np.mean(found)) < 0.01 and adjusted_rand([1, 1, 2], ["b", "b", "a"]) == 1.0


def test_intervals_of_slopes_hold():
    rng, covered = np.random.default_rng(8), 0
    for seed in range(150):
        x = rng.normal(size=40)
        low, high, _ = paired_interval(slope, x, 0.5 * x + rng.normal(size=40), draws=200, seed=seed)
        covered += low <= 0.5 <= high
    assert covered >= 0.88 * 150  # 0.95 is asked; a bootstrap of 40 pairs is a little narrow


def test_in_a_derangement_no_item_keeps_its_place_and_all_such_orders_come():
    rng = np.random.default_rng(0)
    drawn = [tuple(derangement(4, rng).tolist()) for _ in range(400)]
    assert all(sorted(order) == [0, 1, 2, 3] for order in drawn)
    assert not any(place == item for order in drawn for place, item in enumerate(order))
    counts = [drawn.count(order) for order in set(drawn)]
    assert len(counts) == 9 and min(counts) > 20  # 44 of each are expected
    with pytest.raises(OptionError, match="1 items cannot change places"):
        derangement(1, rng)
