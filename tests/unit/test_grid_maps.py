"""Maps over a grid of patches: pointing, mass beside other objects, rings, entropy, crops; values by hand."""

from __future__ import annotations

from math import log

import numpy as np
import pytest

from workbench.core.errors import OptionError, ShapeError
from workbench.heads.crops import Window, best_window, crop_around, enlarged, window_sums
from workbench.heads.grid_maps import between_patches, class_shares, map_entropy, over_grid
from workbench.heads.hops import hop_distance, hop_profile, mean_hop
from workbench.heads.localisation import lift_inside, locate, mass_inside, points_inside


def test_positions_become_rows_and_columns_and_the_class_token_stays_out():
    row = np.arange(7.0)  # class token 0, then 2 x 3 patches
    assert over_grid(row, (2, 3)).tolist() == [[1, 2, 3], [4, 5, 6]]
    assert over_grid(np.arange(6.0), (2, 3), first=0)[1, 0] == 3
    with pytest.raises(ShapeError, match="7 positions are not 1 and 2 x 2 patches"):
        over_grid(row, (2, 2))


def test_shares_of_a_class_token_by_hand():
    pattern = np.array([[0.2, 0.3, 0.5], [0.6, 0.4, 0.0], [0.2, 0.0, 0.8]])
    found = class_shares(pattern)
    assert found.to_itself == 0.2 and found.to_patches == pytest.approx(0.8)
    assert found.from_patches == pytest.approx(0.4)  # 0.6 and 0.2
    assert between_patches(pattern).tolist() == [[0.4, 0.0], [0.0, 0.8]]
    with pytest.raises(ShapeError, match="no class token"):
        class_shares(pattern, first=0)


def test_entropy_is_zero_on_one_patch_and_ln_n_on_all():
    one = np.zeros((3, 4))
    one[1, 2] = 0.25  # made to sum to 1
    assert map_entropy(np.stack([one, np.ones((3, 4))])).tolist() == pytest.approx([0.0, log(12)])
    assert np.isnan(map_entropy(np.zeros((2, 2))))


# -- objects ------------------------------------------------------------------------------------------------

OWN = np.zeros((4, 4), dtype=bool)
OWN[0, :2] = True  # two patches
OTHERS = np.zeros((2, 4, 4), dtype=bool)
OTHERS[0, 3, 3], OTHERS[1, 2:, 0] = True, True  # one patch, two patches


def test_mass_lift_and_pointing_by_hand():
    weights = np.zeros((4, 4))
    weights[0, 0], weights[0, 1], weights[3, 3], weights[2, 0], weights[1, 1] = 0.3, 0.2, 0.2, 0.1, 0.2
    found = locate(weights, OWN, OTHERS)
    assert found.mass == pytest.approx(0.5) and found.other_mass == pytest.approx((0.2 + 0.1) / 2)
    assert found.lift == pytest.approx(0.25 * 16) and found.other_lift == pytest.approx((0.2 + 0.05) / 2 * 16)
    assert found.pointing == 1 and found.other_pointing == 0


def test_a_map_that_only_prefers_objects_to_background_finds_nothing():
    weights = (OWN | OTHERS.any(0)).astype(float)
    found = locate(weights, OWN, OTHERS)
    assert found.lift == found.other_lift > 3  # far above an even map, and no more than the others
    assert found.pointing == pytest.approx(2 / 5)  # two of five patches are the largest


def test_the_background_is_no_control():
    with pytest.raises(ShapeError, match="background is no control"):
        locate(np.ones((4, 4)), OWN, np.zeros((1, 4, 4), dtype=bool))
    with pytest.raises(ShapeError, match="on no patch"):
        locate(np.ones((4, 4)), np.zeros((4, 4), dtype=bool), OTHERS)


def test_objects_that_are_not_there_do_not_count():
    padded = np.concatenate([OTHERS, np.zeros((3, 4, 4), dtype=bool)])
    weights = np.random.default_rng(0).random((5, 4, 4))
    one, other = locate(weights, OWN, OTHERS), locate(weights, OWN, padded)
    assert np.allclose(one.other_lift, other.other_lift) and np.allclose(one.other_mass, other.other_mass)


def test_an_even_map_points_as_a_random_patch_does():
    assert points_inside(np.ones((4, 4)), OWN) == 2 / 16
    assert mass_inside(np.ones((4, 4)), OWN) == pytest.approx(2 / 16)
    assert lift_inside(np.ones((4, 4)), OWN) == pytest.approx(1)


def test_an_empty_map_is_nowhere():
    assert np.isnan(mass_inside(np.zeros((4, 4)), OWN))
    assert np.isnan(points_inside(np.full((4, 4), np.nan), OWN))


# -- rings --------------------------------------------------------------------------------------------------


def test_an_even_head_has_equal_strengths_and_the_mass_of_the_rings():
    found = hop_profile(np.full((16, 16), 1 / 16), (4, 4))
    assert found.strength.tolist() == pytest.approx([1 / 16] * 4)
    assert found.mass[1] == pytest.approx(84 / 16 / 16)  # 4 corners 3, 8 edges 5, 4 inside 8: 84 neighbours
    assert found.mass.sum() == pytest.approx(1)


def test_a_head_on_its_own_patch_has_all_its_mass_at_distance_zero():
    found = hop_profile(np.eye(12), (3, 4))
    assert found.mass.tolist() == [1, 0, 0, 0] and mean_hop(found) == 0


@pytest.mark.usefixtures("unchecked")
def test_a_head_on_the_right_neighbour_is_one_hop_away_and_diamonds_are_no_squares():
    pattern = np.zeros((6, 6))
    for patch in (0, 1, 3, 4):
        pattern[patch, patch + 1] = 1  # 2 and 5 have no right neighbour
    pattern[2, 4] = pattern[5, 1] = 1  # one down and left, one up and left
    assert mean_hop(hop_profile(pattern, (2, 3))) == pytest.approx(1)
    assert mean_hop(hop_profile(pattern, (2, 3), "manhattan")) == pytest.approx((4 * 1 + 2 * 2) / 6)
    assert hop_distance((2, 2), "manhattan").tolist() == [
        [0, 1, 1, 2],
        [1, 0, 2, 1],
        [1, 2, 0, 1],
        [2, 1, 1, 0],
    ]
    with pytest.raises(OptionError, match="chebyshev or manhattan"):
        hop_distance((2, 2), "euclid")
    with pytest.raises(ShapeError, match="6 patches"):
        hop_profile(np.eye(4), (2, 3))


# -- crops --------------------------------------------------------------------------------------------------


def test_sums_of_windows_by_hand():
    assert window_sums(np.arange(9.0).reshape(3, 3), (2, 2)).tolist() == [[8, 12], [20, 24]]
    with pytest.raises(OptionError, match="does not fit"):
        window_sums(np.ones((2, 2)), (3, 1))


def test_the_window_that_stands_out_is_cut_out_and_enlarged():
    weights = np.zeros((6, 6))
    weights[2:4, 4:6] = 1
    assert best_window(weights, [(2, 2), (3, 3)]) == Window(2, 4, 2, 2)
    pixels = np.arange(12 * 12 * 3).reshape(12, 12, 3)
    cut = crop_around(pixels, weights, [(2, 2)])
    assert cut.shape == pixels.shape
    assert np.array_equal(cut[::3, ::3], pixels[4:8, 8:12])  # each pixel three times, down and across
    assert np.array_equal(enlarged(pixels, Window(0, 0, 6, 6), (6, 6)), pixels)
    with pytest.raises(ShapeError, match="a whole number of times"):
        enlarged(pixels, Window(0, 0, 4, 4), (6, 6))
