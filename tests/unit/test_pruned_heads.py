"""What pruning a head changes, and families of patterns: values by hand."""

from __future__ import annotations

from math import log

import numpy as np
import pytest

from workbench.core.errors import OptionError, ShapeError
from workbench.core.stats.association import adjusted_rand
from workbench.heads.pattern_space import PLANTED, k_means, pattern_space, planted_patterns, resized
from workbench.heads.prune_metrics import Predictions, jensen_shannon, prune_metrics


def said(*rows: tuple[float, ...], summary: np.ndarray | None = None) -> Predictions:
    return Predictions(np.array(rows), np.ones((len(rows), 2)) if summary is None else summary)


def test_four_measures_by_hand():
    full = said((0.7, 0.2, 0.1), (0.2, 0.6, 0.2), summary=np.array([[1.0, 0.0], [3.0, 4.0]]))
    pruned = said((0.3, 0.6, 0.1), (0.2, 0.6, 0.2), summary=np.array([[1.0, 1.0], [3.0, 4.0]]))
    found = prune_metrics(full, pruned, np.array([0, 0]))
    assert found.accuracy.tolist() == [1, 0]  # lost; wrong before and after
    assert found.probability.tolist() == pytest.approx([0.4, 0.0])
    first = 0.5 * (0.7 * log(0.7 / 0.5) + 0.2 * log(0.2 / 0.4)) + 0.5 * (
        0.3 * log(0.3 / 0.5) + 0.6 * log(0.6 / 0.4)
    )
    assert found.divergence.tolist() == pytest.approx([first, 0.0])
    assert found.representation.tolist() == pytest.approx([1 - 1 / 2**0.5, 0.0])


def test_an_answer_that_pruning_wins_counts_against_the_head():
    found = prune_metrics(said((0.4, 0.6)), said((0.6, 0.4)), np.array([0]))
    assert found.accuracy[0] == -1 and found.probability[0] == pytest.approx(-0.2)


def test_divergence_is_between_zero_and_ln_two():
    found = jensen_shannon(np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([[0.0, 1.0], [0.5, 0.5]]))
    assert found.tolist() == pytest.approx([log(2), 0.0])


def test_other_items_are_refused():
    with pytest.raises(ShapeError, match="item by item"):
        prune_metrics(said((1.0, 0.0)), said((1.0, 0.0), (0.0, 1.0)), np.array([0]))


def test_resizing_keeps_the_mean_of_every_area():
    pattern = np.random.default_rng(0).random((9, 9))
    assert np.allclose(resized(pattern, 3), pattern.reshape(3, 3, 3, 3).mean((1, 3)))
    assert np.allclose(resized(pattern, 9), pattern)
    assert np.allclose(resized(np.ones((9, 9)), 4), 1)  # cells that are cut in two


def test_two_clouds_are_two_groups():
    rng = np.random.default_rng(1)
    points = np.concatenate([rng.normal(0, 0.1, (8, 2)), rng.normal(5, 0.1, (5, 2))])
    groups, middles = k_means(points, 2, seed=0)
    assert adjusted_rand(groups.tolist(), [0] * 8 + [1] * 5) == 1
    assert sorted(middles.mean(1).round().tolist()) == [0, 5]


def test_planted_families_are_found_again_and_random_attention_has_none():
    patterns, planted = planted_patterns((6, 6), each=12, noise=0.5, seed=3)
    assert np.allclose(patterns.sum(-1), 1) and len(set(planted.tolist())) == len(PLANTED)
    found = pattern_space(patterns, families=len(PLANTED), seed=0)
    assert adjusted_rand(found.families.tolist(), planted.tolist()) > 0.9
    assert all(planted[own[0]] == planted[own[-1]] for own in found.exemplars)
    noise, dealt = planted_patterns((6, 6), each=12, noise=1.0, seed=3)
    assert abs(adjusted_rand(pattern_space(noise, seed=0).families.tolist(), dealt.tolist())) < 0.2


def test_exemplars_stand_nearest_to_their_middle_and_the_largest_family_comes_first():
    patterns, _ = planted_patterns((4, 4), each=6, noise=0.3, seed=0)
    found = pattern_space(patterns[: 6 + 3 + 6], families=3, seed=0)
    sizes = [len(own) for own in found.exemplars]
    assert sizes == sorted(sizes, reverse=True) == np.bincount(found.families).tolist()
    for family, own in enumerate(found.exemplars):
        middle = found.points[found.families == family].mean(0)
        away = ((found.points[list(own)] - middle) ** 2).sum(-1)
        assert away.tolist() == sorted(away.tolist())
    with pytest.raises(OptionError, match="4 families"):
        pattern_space(patterns[:3], families=4)
