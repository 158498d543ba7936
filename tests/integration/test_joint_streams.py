"""A picture and its depth through the same weights, and maps that are drawn to each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.integration.test_painter import RED, fresh
from workbench.core.errors import ModelError, OptionError, ShapeError
from workbench.heads.concept_mask import mask_overlap
from workbench.heads.map_consistency import map_consistency
from workbench.model.flow_painter.joint import (
    joint_from,
    joint_noise,
    joint_word_maps,
    paint_joint,
    predict_joint,
)
from workbench.model.flow_painter.sample import noise, paint, predict
from workbench.tasks.canvas.captions import word_numbers
from workbench.tasks.canvas.flat_shapes import draw, draw_many, nearness
from workbench.training.joint_streams import JointTuning, loss_of, read_joint, streams_of, train_joint

WORDS, TIME = torch.from_numpy(word_numbers([RED])), torch.tensor([0.3])


@pytest.fixture(scope="module")
def bare():
    return fresh()


def test_maps_differ_by_nothing_when_equal_and_by_a_known_number_otherwise():
    looks = torch.tensor([[0.5, 0.2], [0.5, 0.8]])
    assert map_consistency(looks, looks).item() == 0.0
    even = torch.full((2, 2), 0.5)
    # the first key's maps are equal; the second's are (1/2, 1/2) and (1/5, 4/5)
    expected = (0.5 * np.log(0.5 / 0.2) + 0.5 * np.log(0.5 / 0.8)) / 2
    assert map_consistency(even, looks).item() == pytest.approx(expected, rel=1e-5)
    covered = mask_overlap(torch.tensor([True, True, False]), torch.tensor([True, False, True]))
    assert covered.item() == pytest.approx(1 / 3)


def test_maps_of_other_shapes_are_refused(unchecked):
    with pytest.raises(ShapeError, match="key by key"):
        map_consistency(torch.ones(2, 3), torch.ones(2, 4))


def test_depth_grows_down_the_picture_and_is_nothing_on_the_ground():
    drawing = draw(3, 0, objects=1)
    (top, _), mask = drawing.corners[0], drawing.masks[0]
    assert np.allclose(drawing.depth[mask], nearness(top)) and drawing.depth[~mask].max() == 0
    assert nearness(0) < nearness(7) < nearness(15) == 1


def test_cut_streams_are_two_passes_of_the_painter(bare):
    made = joint_from(bare, together=False)
    with torch.no_grad():
        made.stream.zero_()
        x = joint_noise(1, 1, side=24)
        found = predict_joint(made, x, TIME, WORDS)
        for stream in range(2):
            torch.testing.assert_close(found[:, stream], predict(bare, x[:, stream], TIME, WORDS))
        made.together = True
        assert not torch.allclose(predict_joint(made, x, TIME, WORDS), found, atol=1e-3)
        made.together = False
        assert torch.equal(x[:, 0], noise(1, range(1), side=24))
        alone = paint(bare, [RED], seed=1, steps=2)
        torch.testing.assert_close(
            paint_joint(made, [RED], seed=1, steps=2).pictures, alone.pictures, atol=1e-5, rtol=1e-4
        )
    with pytest.raises(OptionError, match="guidance"):
        paint_joint(made, [RED], guidance=-1)


def test_equal_streams_look_alike_and_the_model_is_given_back(bare):
    made = joint_from(bare)
    x = noise(0, range(1), side=24)[:, None].expand(-1, 2, -1, -1, -1)
    looks: list[torch.Tensor] = []
    with torch.no_grad():
        made.stream.zero_()
        with joint_word_maps(made, looks):
            predict_joint(made, x, TIME, WORDS)
        predict_joint(made, x, TIME, WORDS)
    picture, depth = torch.stack(looks, 1).unbind(2)
    assert picture.shape == (1, 3, 4, 64, 8) and map_consistency(picture, depth).abs().max() < 1e-5


def test_the_loss_draws_maps_together_from_one_start(bare):
    tuning = JointTuning(steps=3, batch=2, weight=5.0)
    made, cost = train_joint(bare, seed=2, tuning=tuning)
    drawn = draw_many(5, range(2))
    assert streams_of(drawn).shape == (2, 2, 3, 24, 24) and cost.steps == 3

    def apart(arm):
        pixels, both = (
            float(loss_of("consistency loss", made[arm], drawn, seed=1, weight=weight))
            for weight in (0.0, 1.0)
        )
        return both - pixels

    assert apart("consistency loss") < apart("no consistency loss")


def test_arms_of_another_recipe_are_refused():
    with pytest.raises(ModelError):
        read_joint(JointTuning(steps=1))
