"""One cluster, one row, one column: what is not known is never shown as certain."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from workbench.circuits.verdicts.decisions import _percent, within
from workbench.core.errors import ShapeError
from workbench.core.stats.association import paired_interval, slope
from workbench.core.stats.crossed import crossed_interval
from workbench.core.stats.intervals import SHARE, mean_interval, no_interval, ratio_interval
from workbench.core.stats.student import clustered_interval
from workbench.papers.kit.conditions import Conditions
from workbench.papers.kit.criteria import above, fact
from workbench.view.bars import bars_svg

PER_CLUSTER = 5


def in_clusters(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Values whose clusters differ as much as the values of one do; the mean of all clusters there could be is 0."""
    values = np.repeat(rng.normal(size=n), PER_CLUSTER) + rng.normal(size=n * PER_CLUSTER)
    return values, np.repeat(np.arange(n), PER_CLUSTER)


def covered(n_clusters: int, *, trust: bool, draws: int = 300) -> float:
    """Share of simulated samples whose interval holds the truth; with clusters told, or taken as if there were none."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(draws):
        values, clusters = in_clusters(rng, n_clusters)
        low, high, _ = mean_interval(values, clusters=clusters if trust else (), draws=200)
        held += low <= 0 <= high
    return held / draws


def test_many_clusters_have_intervals_that_hold():
    assert covered(30, trust=True) > 0.9  # 0.95 but for the bootstrap of 30; standard error 0.013


def test_one_cluster_taken_as_independent_values_misses_the_truth_so_it_has_no_interval():
    assert covered(1, trust=False) < 0.75
    values, clusters = in_clusters(np.random.default_rng(1), 1)
    assert np.isnan(mean_interval(values, clusters=clusters)).all()
    assert "all 5 values are of one cluster" in mean_interval(values, clusters=clusters).shown()


def test_one_row_of_a_crossed_table_misses_what_rows_differ_by_so_it_has_no_interval():
    rng, held = np.random.default_rng(2), 0
    for _ in range(300):
        row = rng.normal() + 0.3 * rng.normal(size=12)  # rows differ, and the mean of all rows is 0
        low, high, _ = mean_interval(row, draws=200)
        held += low <= 0 <= high
        assert np.isnan(crossed_interval([row])).all()
    assert held / 300 < 0.3


@pytest.mark.parametrize("rows", [[np.arange(4.0)], [np.ones(1), np.zeros(1)], [np.ones(1)], []])
def test_fewer_than_two_rows_or_columns_are_told(rows):
    found = crossed_interval(rows, within=SHARE if len(rows) != 1 else None)
    assert np.isnan(found).all() and "not two rows and two columns" in found.reason


def test_a_ratio_of_one_cluster_has_no_interval_and_of_two_it_has():
    circuit, full, empty = np.array([0.4, 0.9, 0.7, 0.2]), np.ones(4), np.zeros(4)
    one, two = (ratio_interval(circuit, full, empty, clusters=names) for names in ("aaaa", "aabb"))
    assert np.isnan(one).all() and one.reason == "all 4 values are of one cluster"
    assert (two.low, two.high) == pytest.approx((0.45, 0.65))  # the means of the two clusters


def test_equal_answers_of_one_cluster_are_one_answer():
    found = mean_interval(np.ones(9), within=SHARE, clusters=["fact"] * 9)
    assert np.isnan(found).all()


@pytest.mark.parametrize(
    "found",
    [
        clustered_interval(np.arange(3.0), "aaa"),
        paired_interval(slope, np.arange(3.0), np.arange(3.0), clusters="aaa"),
        mean_interval(np.arange(3.0), clusters="aaa"),
    ],
)
def test_every_interval_gives_the_reason_and_keeps_it(found):
    assert found.reason == "all 3 values are of one cluster" and within(found, -1, 9) is None
    assert pickle.loads(pickle.dumps(found)).reason == copy.copy(found).reason == found.reason
    assert _percent(found) == f"no interval: {found.reason}"


def test_clusters_must_be_named_for_every_value():
    with pytest.raises(ShapeError, match="2 clusters are named for 3"):
        mean_interval(np.arange(3.0), clusters=["a", "b"])


def test_a_criterion_about_one_cluster_cannot_be_tested_and_says_why():
    c = Conditions(seed=0)
    c.add("gain", np.array([0.5, 0.6, 0.7]), clusters=["text"] * 3)
    asked = above("gain"), fact("it gains", lambda c: True, intervals=lambda c: [c.interval("gain")])
    for outcome in (rule(c) for rule in asked):
        assert not outcome.holds and "all 3 values are of one cluster" in outcome.lacks
    assert "(no interval: all 3 values are of one cluster)" in c.shown("gain")


def test_a_bar_without_an_interval_says_so():
    made = bars_svg([("gain", 0.5, *no_interval("one cluster")[:2], "")], x_label="share")
    assert "no interval" in made and "–" not in made
