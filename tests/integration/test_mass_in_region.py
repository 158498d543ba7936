"""Dice and areas by hand; fields of view by hand; the study of gazes at a small size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import workbench as wb
from workbench.core.errors import OptionError, ShapeError
from workbench.heads.region_overlap import dice, map_areas
from workbench.papers import mass_in_region as study
from workbench.papers.kinds import Setting
from workbench.tasks.scenes.layout import World
from workbench.tasks.scenes.looking_arrow import in_view, point_at_first
from workbench.tasks.scenes.paint import lay_out_many, owner_map
from workbench.training.gaze_following import Gaze, GazeReader, GazeScenes, in_patches, judge_gaze
from workbench.training.side_by_side import begin_alike, step_alike


def test_dice_and_areas_by_hand(unchecked):
    said = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]], bool)
    truth = np.array([[0, 1, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1]], bool)
    assert dice(said, truth).tolist() == [pytest.approx(2 / 5), 1.0, 1.0]
    assert dice(said[:1], ~said[:1]).tolist() == [0.0]
    with pytest.raises(ShapeError, match="one shape"):
        dice(said, truth[:1])
    maps = np.array([[0.4, 0.3, 0.2, 0.1], [0.25, 0.25, 0.25, 0.25]])
    inside = np.array([[1, 0, 1, 0]] * 2, bool)
    assert map_areas(maps, inside).tolist() == [0.75, 0.5]  # three of four pairs; all ties


def test_an_arrow_looks_at_the_first_object_and_nothing_stands_between():
    laid, able = point_at_first(lay_out_many(3, range(200), World(objects=(0, 0, 1, 1, 1))), seed=3)
    assert able.mean() > 0.8
    view = in_view(laid).reshape(len(laid), 9)
    for picture in np.flatnonzero(able):
        cells, arrow = laid.cell[picture, : laid.n[picture]].tolist(), int(laid.arrow[picture])
        assert arrow // 4 not in cells and view[picture, cells[0]]
        step = {0: 1, 1: -3, 2: -1, 3: 3}[arrow % 4]  # right, up, left, down on three by three cells
        between = range(arrow // 4 + step, cells[0], step)
        assert not set(between) & set(cells)
    assert not view[~able].any()
    again, _ = point_at_first(lay_out_many(3, range(50), World(objects=(0, 0, 1, 1, 1))), seed=3)
    assert (again.arrow == laid.arrow[:50]).all()


def test_pixels_are_cut_into_patches():
    layout = lay_out_many(0, [0], World())
    pixels = owner_map(layout, World()) == 0
    cut = in_patches(pixels, (6, 6))
    assert cut.shape == (1, 36, 64) and (cut[0, 7].reshape(8, 8) == pixels[0, 8:16, 8:16]).all()


def test_a_blind_reader_does_not_use_its_field_of_view_and_another_does():
    torch.manual_seed(0)
    features, figure = torch.randn(2, 36, 8), torch.tensor([[0, 1, 6, 7], [3, 4, 9, 10]])
    for blind in (True, False):
        reader = GazeReader(8, 4, grid=(6, 6), pixels=64, blind=blind)
        reader(features, figure).heat.sum().backward()
        used = any(p.grad is not None and p.grad.abs().sum() > 0 for p in reader.view.parameters())
        assert used is not blind
        assert reader(features, figure).heat.exp().sum(-1).tolist() == pytest.approx([1, 1], abs=1e-5)


def test_what_a_reader_finds_is_judged_by_hand(unchecked):
    own = np.array([[[True, True], [False, False]]])
    mask = torch.zeros(1, 4, 2, dtype=torch.bool)
    mask[0, 0] = True  # two pixels of the first patch

    def said(features: torch.Tensor, figure: torch.Tensor) -> Gaze:
        logits = torch.full((1, 4, 2), -1.0)
        logits[0, 0, 0] = logits[0, 3, 0] = float(figure[0, 0])
        return Gaze(torch.zeros(1, 4), torch.tensor([[0.1, 0.3, 0.4, 0.2]]).log(), logits)

    scenes = GazeScenes(
        *(torch.zeros(1, 4, 3), torch.ones(1, 1, dtype=torch.int64), torch.ones(1, 4, dtype=torch.bool)),
        *(own, own[:, None], mask, np.zeros((1, 2, 2, 3), np.uint8), (2, 2)),
    )
    fit, maps = judge_gaze(said, scenes, slice(0, 1))
    assert [float(each[0]) for each in fit] == pytest.approx([0.0, 0.5, 0.25, 0.4])
    assert maps.shape == (1, 2, 2) and maps.sum() == pytest.approx(1)
    assert judge_gaze(said, scenes, slice(0, 1), figure=-scenes.figure)[0].dice.tolist() == [0.0]


def test_arms_start_alike_and_each_is_trained_as_if_alone():
    x = torch.randn(32, 3, generator=torch.Generator().manual_seed(0))

    def loss(name: str, arm: nn.Module, items: torch.Tensor) -> torch.Tensor:
        return (arm(x[items]) - (1.0 if name == "one" else -1.0)).square().mean()

    both = begin_alike({name: lambda: nn.Linear(3, 1) for name in ("one", "two")}, seed=4)
    assert torch.equal(both["one"].weight, both["two"].weight)
    alone = begin_alike({"two": lambda: nn.Linear(3, 1)}, seed=4)
    for arms in (both, alone):
        step_alike(arms, loss, items=32, steps=5, batch=8, seed=1)
    assert torch.equal(both["two"].weight, alone["two"].weight)
    assert not torch.equal(both["one"].weight, both["two"].weight)
    with pytest.raises(OptionError, match="cannot train"):
        step_alike(alone, loss, items=0, steps=1)


def test_the_study_of_gazes_is_judged_at_a_small_size():
    model = wb.open_model("zoo:marked", device="cpu")
    options = study.GazeSizes(training=40, pictures=30, steps=3)
    found = study.REPLICATION.run(Setting(model=model, name="zoo:marked", options=options, seed=5))
    assert [claim.verdict for claim in found.claims][-1] == "cannot be tested here"
    means = found.numbers["means"]
    assert 0 <= means[f"{study.HITS}, {study.FULL}"] <= 1 and len(means) == 4 * 5 * 3
