"""Samples by strata: who is drawn, what each stands for, and correlations by weights."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.circuits.graph import Graph, GraphShape
from workbench.core.errors import OptionError
from workbench.core.stats.agreement import average_ranks, pearson, spearman
from workbench.core.stats.strata import stratified
from workbench.evaluate.sample_plan import planned_sample
from workbench.methods.registry import get_method

SIZES = np.random.default_rng(3).standard_normal(500) ** 3


def test_strata_hold_every_item_and_the_largest_are_all_drawn():
    found = stratified(SIZES, 40, seed=1)
    assert len(set(found.items.tolist())) == 40 and found.counts.sum() == 500
    assert found.drawn.tolist() == [10] * 4 and found.counts[0] == 10
    assert set(np.argsort(-np.abs(SIZES))[:10].tolist()) <= set(found.items.tolist())
    growth = found.counts[1:] / found.counts[:-1]
    assert growth == pytest.approx([growth.mean()] * 3, rel=0.05)  # 5 %: counts are whole


def test_weights_estimate_a_mean_without_bias():
    means = [
        np.average(SIZES[s.items], weights=s.weights)
        for s in (stratified(SIZES, 40, seed=k) for k in range(400))
    ]
    error = np.std(means) / 20
    assert np.mean(means) == pytest.approx(SIZES.mean(), abs=4 * error) and error < 0.02


def test_a_sample_of_everything_has_one_resample():
    found = stratified(SIZES[:30], 50)
    assert found.whole and found.weights.tolist() == [1.0] * 30
    assert (found.resampled(draws=5) == 1).all()


def test_resamples_keep_the_size_of_each_stratum_and_vary_the_rest():
    found = stratified(SIZES, 40)
    again = found.resampled(draws=50, seed=2)
    for one, count in enumerate(found.counts):
        assert again[:, found.stratum == one].sum(1) == pytest.approx([count] * 50)
    assert (again[:, found.stratum == 0] == 1).all() and again[:, found.stratum == 3].std(0).min() > 0


def test_near_ties_and_their_order_do_not_change_who_is_drawn():
    noisy = SIZES * (1 + 1e-9 * np.random.default_rng(0).standard_normal(500))
    assert stratified(noisy, 40).items.tolist() == stratified(SIZES, 40).items.tolist()


def test_weights_are_copies():
    a, b, copies = np.array([1.0, 5.0, 2.0, 5.0]), np.array([2.0, 3.0, 9.0, 1.0]), np.array([1, 3, 2, 1])
    x, y = np.repeat(a, copies), np.repeat(b, copies)
    assert pearson(a, b, copies.astype(float)) == pytest.approx(pearson(x, y))
    assert spearman(a, b, copies.astype(float)) == pytest.approx(spearman(x, y))
    assert np.repeat(average_ranks(a, copies), copies).tolist() == average_ranks(x).tolist()
    assert np.isnan(pearson(a, np.full(4, 0.1), copies.astype(float)))


def test_a_sample_is_planned_where_it_is_a_tenth_of_the_run():
    graph = Graph(GraphShape(n_layers=4, n_heads=4, n_kv_heads=4))
    how = {"sizes": 7, "random_draws": 5}
    assert planned_sample(None, get_method("eap-ig"), {}, graph, "edge", **how) == 0
    assert planned_sample(None, get_method("acdc"), {}, graph, "edge", **how) == 40
    assert planned_sample(0, get_method("acdc"), {}, graph, "edge", **how) == 0
    assert planned_sample(12, get_method("eap-ig"), {}, graph, "edge", **how) == 12
    assert planned_sample(None, get_method("exact"), {}, graph, "edge", **how) == 0
    with pytest.raises(OptionError, match="too small"):
        planned_sample(3, get_method("eap"), {}, graph, "edge", **how)
