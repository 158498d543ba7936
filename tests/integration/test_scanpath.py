"""Scanpaths and their distance by hand; the rule of search by hand; the study of scanpaths at a small size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.core.errors import OptionError
from workbench.heads.scanpath import GROUND, scanpath, scanpath_distance
from workbench.papers import scanpath as study
from workbench.papers.kinds import Setting
from workbench.tasks.scenes.layout import World
from workbench.tasks.scenes.paint import lay_out_many
from workbench.training.search_decoder import (
    ScanpathDecoder,
    SearchPlaces,
    decode,
    nearest_first,
    search_path,
    single_targets,
    steps_of,
)


def test_distances_by_hand():
    assert scanpath_distance((1, 2, 3), (1, 2, 3)) == 0
    assert scanpath_distance((1, 2, 3), (3, 2, 1)) == pytest.approx(2 / 3)  # both ends are exchanged
    assert scanpath_distance((1, 2), (1, 4, 2, 3)) == pytest.approx(2 / 4)  # two are left out
    assert scanpath_distance((), (1, 2)) == 1 == scanpath_distance((4, 5), (1, 2))
    assert scanpath_distance((GROUND,), (GROUND,)) == 1  # a look at the ground is right nowhere
    assert scanpath_distance((2, 3), (3,)) == scanpath_distance((3,), (2, 3))
    with pytest.raises(OptionError, match="empty"):
        scanpath_distance((), ())


def test_a_scanpath_is_where_each_row_is_largest():
    rows = np.array([[0.1, 0.9, 0.0], [0.2, 0.8, 0.0], [0.0, 0.3, 0.7]])
    assert scanpath(rows) == (1, 2) and scanpath(rows, owners=[5, GROUND, 5]) == (GROUND, 5)


def test_the_rule_takes_the_nearest_of_the_color_until_the_target():
    layout = lay_out_many(0, [0], World(objects=(0, 0, 0, 1)))
    # target in the south-east, one of its color in the middle, one north, another color between
    layout = replace(
        layout,
        n=np.array([4]),
        cell=np.array([[8, 4, 5, 1, 0, 2, 3, 6, 7]]),
        colour=np.array([[2, 2, 1, 2, 0, 0, 0, 0, 0]]),
    )
    assert search_path(layout, 0) == (
        1,
        3,
        0,
    )  # middle, then north (1 cell), then the corner (sqrt 2 from the middle)
    assert nearest_first(layout, 0) == (1, 3, 2, 0)
    assert nearest_first(layout, 0, among=[0, 2]) == (2, 0)
    twice = replace(layout, shape=np.array([[3, 3, 3, 1, 0, 0, 0, 0, 0]]))
    assert single_targets(twice)[1].tolist() == [False]  # color and shape of the first are there twice
    assert single_targets(replace(twice, shape=np.array([[3, 1, 3, 1, 0, 0, 0, 0, 0]])))[1].tolist() == [True]


def test_steps_of_a_path_end_with_the_choice_to_end_and_no_place_is_fixated_twice():
    torch.manual_seed(0)
    there = torch.tensor([[True, True, True, False]])
    places = SearchPlaces(
        torch.randn(1, 4, 6), torch.randn(1, 4, 2), there, torch.arange(4)[None], np.arange(4)[None]
    )
    steps = steps_of(places, [(2, 0)])
    assert steps.now.tolist() == [-1, 2, 0] and steps.next.tolist() == [2, 0, 4]
    assert steps.seen.tolist() == [[False] * 4, [False, False, True, False], [True, False, True, False]]
    arm, target = ScanpathDecoder(6, 3).eval(), torch.ones(1, 3)
    [path] = decode(arm, places, target, [0])
    assert 1 <= len(path) == len(set(path)) and 3 not in path
    scores = arm(places, target, steps.pictures, steps.seen, steps.now)
    alone = arm(places, target, *steps.at(torch.tensor([1]))[:3])
    assert torch.allclose(scores[1], alone[0], atol=1e-6) and scores[:, 3].isneginf().all()


def test_the_study_of_scanpaths_is_judged_at_a_small_size():
    model = wb.open_model("zoo:marked", device="cpu")
    options = study.ScanpathSizes(training=30, pictures=40, steps=3)
    found = study.REPLICATION.run(Setting(model=model, name="zoo:marked", options=options, seed=5))
    assert [claim.verdict for claim in found.claims][-1] == "cannot be tested here"
    assert len(found.numbers["means"]) == 5 * 2 * 3 and found.numbers["fixations"] >= 1
