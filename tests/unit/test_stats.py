"""Chance in formulas: against scipy, by hand, and under simulated nulls with fixed seeds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from workbench.core.errors import ShapeError
from workbench.core.stats.agreement import average_ranks, spearman
from workbench.core.stats.association import auroc, paired_interval, slope
from workbench.core.stats.binomial import share_interval
from workbench.core.stats.crossed import crossed_interval
from workbench.core.stats.intervals import SHARE, mean_interval, resampled_interval, resamples
from workbench.core.stats.multiplicity import benjamini_hochberg, benjamini_yekutieli, holm, survivors_needed
from workbench.core.stats.permutation import p_above, permutation_p, sign_flip_p, sign_test_p
from workbench.core.stats.sign_flips import Resolution, sign_flips
from workbench.core.stats.student import clustered_interval, student_quantile


def test_false_discovery_corrections_are_scipys():
    rng = np.random.default_rng(0)
    for ps in (rng.random(30), rng.random(30) ** 6, np.repeat([0.01, 0.3], 5), np.ones(4)):
        assert benjamini_hochberg(ps) == pytest.approx(stats.false_discovery_control(ps), abs=1e-12)
        expected = stats.false_discovery_control(ps, method="by")
        assert benjamini_yekutieli(ps) == pytest.approx(expected, abs=1e-12)


def test_students_t_and_the_exact_share_are_scipys():
    for df in (1, 2, 3, 4, 7, 10, 23, 63, 500):
        assert student_quantile(df) == pytest.approx(stats.t.ppf(0.975, df), rel=1e-12)
    for count, n in ((0, 1), (0, 4), (2, 4), (6, 6), (33, 64)):
        low, high = stats.binomtest(count, n).proportion_ci()
        assert share_interval(count, n) == pytest.approx((low, high), abs=1e-12)


def test_without_clusters_the_interval_is_students():
    values = np.array([1.0, 4.0, 2.0, 8.0])
    low, high, error = clustered_interval(values)
    assert error == pytest.approx(values.std(ddof=1) / 2)
    assert (low, high) == pytest.approx(stats.t.interval(0.95, 3, loc=values.mean(), scale=error))


def test_copies_of_a_pair_in_one_cluster_tell_nothing_new():
    values = np.array([1.0, 4.0, 2.0])
    copied, clusters = np.repeat(values, 5), np.repeat(["a", "b", "c"], 5)
    assert clustered_interval(copied, clusters) == pytest.approx(clustered_interval(values))
    assert clustered_interval(copied).stderr < clustered_interval(values).stderr / 2
    one, two = sign_flips(values[None]), sign_flips(copied[None], clusters)
    assert one.p == two.p == pytest.approx([0.25])
    assert two.resolution.grouped and two.resolution.clusters == 3
    with pytest.raises(ShapeError, match="2 clusters"):
        clustered_interval(values, ["a", "b"])


def test_the_clustered_interval_covers_where_pairs_come_in_groups():
    """12 groups of 5 pairs, most of the variance between groups: t over groups covers, t over pairs does not."""
    rng, covered = np.random.default_rng(1), np.zeros(2)
    clusters = np.repeat(np.arange(12), 5)
    for _ in range(400):
        values = np.repeat(rng.normal(0, 1, 12), 5) + rng.normal(0, 0.5, 60)
        intervals = clustered_interval(values, clusters), clustered_interval(values)
        covered += [low < 0 < high for low, high, _ in intervals]
    # 400 draws: a share of 0.95 has a standard error of 0.011
    assert 0.92 < covered[0] / 400 < 0.98 and covered[1] / 400 < 0.75


@pytest.mark.parametrize("n", [3, 9])
def test_sign_flips_go_through_every_turn_of_a_few_pairs(n):
    values = np.random.default_rng(n).normal(0.6, 1, (4, n))
    expected = [
        stats.permutation_test(
            (row,),
            lambda x, axis: np.abs(x.mean(axis)),
            permutation_type="samples",
            vectorized=True,
            alternative="greater",
        ).pvalue
        for row in values
    ]
    found = sign_flips(values)
    assert found.p == pytest.approx(expected) and found.q == pytest.approx(benjamini_hochberg(expected))
    assert found.resolution.smallest == 2.0 ** (1 - n)


def test_the_family_wise_p_is_that_of_the_largest_by_hand():
    """Two rows and their four turns, gone through one by one."""
    values = np.array([[3.0, 4.0, 5.0], [1.0, -1.0, 4.0]])
    turns = np.array([[1, 1, 1], [1, -1, 1], [1, 1, -1], [1, -1, -1]])
    each = np.abs(turns @ values.T) / np.sqrt((values**2).sum(1))  # (turn, row)
    family = [(each.max(1) >= each[0, row] - 1e-9).mean() for row in (0, 1)]
    assert sign_flips(values).family == pytest.approx(family)


def test_a_row_that_does_nothing_is_never_marked_and_a_clear_one_is():
    values = np.random.default_rng(3).normal(0, 1, (20, 40))
    values[0], values[1] = 0.0, values[1] + 2
    found = sign_flips(values, draws=999)
    assert found.p[0] == found.q[0] == found.family[0] == 1
    assert found.survives[1] and found.family[1] == pytest.approx(0.001)


def test_under_the_null_marks_are_no_more_than_nominal():
    """30 effects that share pairs and do nothing: any mark at all in at most 5 % of sweeps, by q and by max-T."""
    rng, any_q, any_family = np.random.default_rng(4), 0, 0
    for seed in range(300):
        shared = rng.normal(0, 1, (1, 16))
        found = sign_flips(rng.normal(0, 1, (30, 16)) + shared, draws=299, seed=seed)
        any_q += found.survives.any()
        any_family += (found.family <= 0.05).any()
    # 300 sweeps: 0.05 has a standard error of 0.0126; two of them above
    assert any_q / 300 < 0.075 and 0.02 < any_family / 300 < 0.075


def test_false_discoveries_are_the_promised_share():
    """10 of 50 effects are real: of what is marked, at most 5 % on average is not, and most real ones are found."""
    rng, wrong, found_real = np.random.default_rng(5), [], []
    for seed in range(60):
        values = rng.normal(0, 1, (50, 24))
        values[:10] += 1.0
        marked = sign_flips(values, draws=1999, seed=seed).survives
        wrong.append(marked[10:].sum() / max(1, marked.sum()))
        found_real.append(marked[:10].mean())
    assert np.mean(wrong) < 0.05 + 2 * np.std(wrong) / np.sqrt(60) and np.mean(found_real) > 0.8


def test_what_can_survive_is_known_before_the_run():
    few = Resolution(tests=8, clusters=4)
    assert few.exact and few.smallest == 0.125 and few.needed == 20 and "none of 8" in few.words
    many = Resolution(tests=144, clusters=64)
    assert (
        not many.exact and many.smallest == 1e-4 and many.needed == 1 and "a single one of 144" in many.words
    )
    assert (
        survivors_needed(2**-12, 144) == 1 and survivors_needed(2**-11, 144) == 2
    )  # 13 pairs are enough for one
    assert "12 groups of pairs" in Resolution(tests=144, clusters=12, grouped=True).words


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_never_significant(bad):
    values = np.array([1.0, bad, 3.0])
    assert np.isnan(p_above(bad, np.zeros(99))) and np.isnan(p_above(1.0, values))
    assert np.isnan(sign_flip_p(values)) and np.isnan(sign_flip_p(np.repeat(values, 9)))
    assert np.isnan(permutation_p(lambda labels: bad, range(4)))
    assert np.isnan(permutation_p(lambda labels: bad if labels[0] == 1 else 0.0, range(9)))
    assert np.isnan(mean_interval(values)).all() and np.isnan(mean_interval(values, within=SHARE)).all()
    assert np.isnan(paired_interval(slope, values, np.arange(3.0))).all()
    assert np.isnan(crossed_interval([values, np.ones(3)])).all()


def test_ranks_of_nan_are_scipys():
    values, other = np.array([np.nan, 1.0, 2.0]), np.array([3.0, 1.0, 2.0])
    assert np.isnan(stats.spearmanr(values, other).statistic) and np.isnan(spearman(values, other))
    assert np.isnan(stats.rankdata(values)).all() and np.isnan(average_ranks(values)).all()
    far = np.array([np.inf, 1.0, 2.0])  # has a place: after all others
    assert spearman(far, other) == pytest.approx(stats.spearmanr(far, other).statistic)
    assert np.isnan(auroc(np.array([np.nan, 1.0]), np.array([True, False])))
    assert np.isnan(sign_test_p(values)) and np.isnan(holm([np.nan, 0.01])).tolist() == [True, False]


def test_a_resample_of_a_crossed_table_without_a_value_is_left_out():
    low, high, error = crossed_interval([np.full(3, 5.0), np.full(1, 5.0)])
    assert (low, high, error) == (5.0, 5.0, 0.0)  # while 0 stood for no value: from 0
    assert np.isnan(crossed_interval([np.array([]), np.array([])])).all()


def test_clusters_of_paired_lists_are_drawn_together():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=8), rng.normal(size=8)
    names = [("cluster", i) for i in range(8)]
    assert paired_interval(slope, x, y, clusters=names) == paired_interval(slope, x, y)
    copied = paired_interval(slope, np.repeat(x, 5), np.repeat(y, 5), clusters=np.repeat(range(8), 5))
    assert copied == pytest.approx(paired_interval(slope, x, y))
    assert np.isnan(paired_interval(slope, x, y, clusters=["one"] * 8)).all()


def test_a_correlation_of_means_near_one_is_held_with_the_mirror_image_of_its_resamples():
    rng, held, holds = np.random.default_rng(3), np.zeros(2), np.zeros(2)
    rates = np.where(
        rng.random(20) < 0.2, rng.random(20), 0.03
    )  # few heads copy much: both models' truth, r = 1

    def correlated(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        a, b = (side - side.mean(-1, keepdims=True) for side in (a, b))
        return (a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1))

    for seed in range(40):
        sides = [(rng.random((40, 20)) < rates).astype(float) for _ in range(2)]
        r = float(correlated(*(side.mean(0) for side in sides)))
        index = [resamples(40, draws=200, seed=2 * seed + i) for i in range(2)]
        found = correlated(*(side[at].mean(1) for side, at in zip(sides, index, strict=True)))
        for i, mirrored in enumerate((False, True)):
            low, high, _ = resampled_interval(found, r, mirrored=mirrored, within=(-1.0, 1.0))
            held[i] += low <= 1 <= high
            holds[i] += low <= r <= high
    assert holds.tolist() == [40, 40] and held[0] < 10 and held[1] > 36  # of the truth, 95 % is 38 of 40
