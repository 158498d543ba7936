"""Spots and views by hand, the monitor by hand, drawn walks that are what they say, and steps among obstacles."""

from __future__ import annotations

import numpy as np
import pytest

import workbench as wb
from workbench.core.errors import ModelError, OptionError
from workbench.heads.attention_spots import best_views, falls_at, share_faced, spot_similarities, switch_f1
from workbench.masks.occupancy import distance_to_step, occupancy_mask, open_heading
from workbench.tasks.scenes.walks import Obstacles, draw_obstacles, draw_walks


def test_views_and_switch_from_similarities_by_hand():
    alike = np.array([[[0.1, 0.6], [0.2, 0.9], [0.4, 0.3]]])  # one walk, three steps, two views
    assert best_views(alike).tolist() == [[1, 1, 0]]
    best = alike.max(-1)  # .6, .9, .4
    assert falls_at(best, fall=0.3).tolist() == [2] and falls_at(best, fall=0.6).tolist() == [-1]
    assert switch_f1(np.array([2, 3, -1]), np.array([2, 2, 2])) == pytest.approx(0.4)  # P 1/2, R 1/3
    with pytest.raises(OptionError, match="fall is 0"):
        falls_at(best, fall=0)


def test_a_spot_is_faced_where_the_one_that_is_due_is_looked_for_and_seen():
    right = np.array([[[1.0, 1.0, np.nan, np.nan], [0.0, 0.0, 1.0, 0.0]]])  # the first is passed at step 2
    passed = np.array([2])
    assert share_faced(right, np.array([2]), passed).tolist() == [3 / 4]
    assert share_faced(right, np.array([1]), passed).tolist() == [2 / 4]  # one step too early
    assert share_faced(right, np.array([-1]), passed).tolist() == [2 / 4]


def test_a_walk_shows_each_spot_where_it_says_and_nowhere_else():
    walks = draw_walks(n=3, steps=5, seed=4, noise=0.0)
    again = draw_walks(n=3, steps=5, seed=4, noise=0.0)
    assert (walks.pixels == again.pixels).all()
    assert (walks.seen_in[:, :, 1] >= 0).all()
    for i, passed in enumerate(walks.passed):
        assert 2 <= passed <= 3
        assert (walks.seen_in[i, :passed, 0] >= 0).all() and (walks.seen_in[i, passed:, 0] == -1).all()
        turned = np.abs(np.diff(walks.seen_in[i, :, 1]))
        assert (np.minimum(turned, 12 - turned) <= 1).all()
        both = walks.seen_in[i, :passed]
        assert (both[:, 0] != both[:, 1]).all()
        # without noise a view changes from one step to the next only where a spot comes, goes or grows
        for step in range(1, 5):
            old, new = walks.seen_in[i, step - 1 : step + 1]
            changed = {
                v for v in range(12) if (walks.pixels[i, step, v] != walks.pixels[i, step - 1, v]).any()
            }
            assert changed <= {*old, *new}
    with pytest.raises(OptionError, match="4 are the least"):
        draw_walks(n=1, steps=3, seed=0)


def test_similarities_are_those_of_transformers_and_a_model_of_words_is_refused():
    model, walks = wb.open_model("zoo:clip"), draw_walks(n=1, steps=4, seed=1)
    alike = spot_similarities(model, walks.pixels[0, :2], walks.phrases[0])
    import torch

    pixels = torch.tensor(walks.pixels[0, 1, 7].transpose(2, 0, 1).astype(np.float32) / 127.5 - 1)[None]
    ids = torch.tensor(model.tokenizer(list(walks.phrases[0]))["input_ids"])
    with torch.no_grad():
        plain = model.original_model(input_ids=ids, pixel_values=pixels)
    cosine = plain.logits_per_text[:, 0] / model.original_model.logit_scale.exp()
    assert np.allclose(alike[:, 1, 7], cosine.numpy(), atol=1e-5)
    with pytest.raises(ModelError, match="pictures and captions"):
        spot_similarities(wb.open_model("zoo:truth-induction"), walks.pixels[0], walks.phrases[0])


def test_depth_mask_and_heading_by_hand():
    wall = Obstacles(
        middles=np.array([[[0.0, 1.0]]]), radii=np.array([[0.25]])
    )  # straight ahead, along the columns
    angles = np.array([0.0, 45.0, 180.0])
    assert wall.depth(angles, noise=0.0, seed=0).tolist() == [[0.75, 5.0, 5.0]]
    assert wall.hit(np.array([0.0]), step=1.0, body=0.1).tolist() == [True]
    assert wall.hit(np.array([0.0]), step=0.6, body=0.1).tolist() == [False]  # .4 away, .35 are needed
    rays = np.linspace(0, 360, 180, endpoint=False)
    mask = occupancy_mask(wall.depth(rays, noise=0.0, seed=0)[0], rays)
    heading = open_heading(mask, 0.0, step=1.0, body=0.1)
    assert heading in (20.0, 25.0, -20.0, -25.0)  # sin(20) = .34, sin(25) = .42: .35 are needed
    assert not wall.hit(np.array([heading]), step=1.0, body=0.1)[0]
    assert open_heading(mask, 180.0, step=1.0, body=0.1) == 180.0
    assert open_heading(np.ones((41, 41), bool), 0.0, step=1.0) is None
    assert distance_to_step(np.array([[0.3, -0.4]]), 0.0, 1.0)[0] == pytest.approx(0.5)
    with pytest.raises(OptionError, match="leave a mask that reaches 2"):
        open_heading(mask, 0.0, step=3.0)
    near = draw_obstacles(n=50, seed=1)
    assert 0.1 < near.hit(np.zeros(50), step=1.0, body=0.15).mean() < 0.9


def test_the_paper_runs_small(tmp_path):
    small = ("choosing=4", "walks=4", "steps=4", "crowded=1", "places=20")
    found = wb.replicate("attention-spots", options=small, out=tmp_path / "a")
    verdicts = [claim.verdict for claim in found.findings.claims]
    assert verdicts[-2:] == ["cannot be tested here"] * 2 and "cannot be tested here" not in verdicts[5:8]
    assert [row["things"] for row in found.findings.tables["Things in every view"]] == [1, 2]
