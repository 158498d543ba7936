"""Greedy reveal by hand, beside plain transformers, and the study of it at a small size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.core.errors import ModelError, OptionError, ShapeError
from workbench.heads.greedy_reveal import (
    at_random,
    caption_score,
    first_inside,
    greedy_reveal,
    seen_score,
    shared_parts,
)
from workbench.papers import greedy_reveal as study
from workbench.papers.kinds import Setting
from workbench.tasks.scenes import draw


@pytest.fixture(scope="module")
def clip():
    return wb.open_model("zoo:clip", device="cpu")


def test_a_linear_score_gives_the_order_of_its_weights_and_items_do_not_mix():
    weights = torch.rand(3, 7, generator=torch.Generator().manual_seed(0))
    order = greedy_reveal(lambda seen: (seen * weights).sum(1), items=3, parts=7, steps=7)
    assert (order == weights.argsort(1, descending=True).numpy()).all()
    one = greedy_reveal(lambda seen: (seen * weights[1:2]).sum(1), items=1, parts=7, steps=4)
    assert (one[0] == order[1, :4]).all()


def test_what_was_revealed_changes_what_comes_next():
    def score(seen):  # the second part is worth something once the first is there
        return 0.3 * seen[:, 0] + seen[:, 0] * seen[:, 1] + 0.1 * seen[:, 2]

    assert greedy_reveal(score, items=1, parts=3, steps=3).tolist() == [[0, 1, 2]]


def test_steps_and_scores_that_make_no_sense_are_refused():
    with pytest.raises(OptionError, match="1 to 3"):
        greedy_reveal(lambda seen: seen.sum(1), items=1, parts=3, steps=4)
    with pytest.raises(ShapeError, match="one number for each of 2 items"):
        greedy_reveal(lambda seen: seen, items=2, parts=3, steps=1)


def test_steps_by_hand():
    order, inside = np.array([[3, 1, 0], [0, 1, 2]]), np.zeros((2, 4), dtype=bool)
    inside[0, 1] = inside[1, 3] = True
    assert first_inside(order, inside).tolist() == [2.0, 4.0]  # the second mask is never reached
    assert shared_parts(order, np.array([[0, 1, 3], [3, 2, 2]])).tolist() == pytest.approx([1.0, 1 / 3])
    drawn = at_random(5, 9, 9, np.random.default_rng(0))
    assert (np.sort(drawn, axis=1) == np.arange(9)).all()


@torch.no_grad()
def test_all_seen_is_the_picture_itself_and_nothing_seen_its_mean_colour(clip):
    scene, original = draw(7, 12), clip.original_model
    score = caption_score(clip, scene.pixels[None], [scene.asked.phrase])
    pixels = torch.tensor(scene.pixels).permute(2, 0, 1)[None] / 127.5 - 1
    ids = torch.tensor(clip.tokenizer([scene.asked.phrase])["input_ids"])
    for seen, shown in ((1.0, pixels), (0.0, pixels.mean((2, 3), keepdim=True).expand_as(pixels))):
        out = original(input_ids=ids, pixel_values=shown)
        wanted = float((out.image_embeds * out.text_embeds).sum())
        assert float(score(torch.full((1, 36), seen))) == pytest.approx(wanted, abs=1e-4)
    order = np.arange(36)[None]
    assert seen_score(score, order, parts=36)[0] == pytest.approx(float(score(torch.ones(1, 36))), abs=1e-6)
    with pytest.raises(ShapeError, match="2 captions are given for 1"):
        caption_score(clip, scene.pixels[None], ["red star"] * 2)


def test_the_study_runs_and_needs_a_space_for_both(clip, bridge_of):
    options = study.RevealSizes(pictures=24, steps=4, few=3)
    found = study.REPLICATION.run(Setting(model=clip, name="zoo:clip", options=options, seed=3))
    verdicts = dict(zip(study.CLAIMS, (claim.verdict for claim in found.claims), strict=True))
    assert verdicts["random"] == "holds" and verdicts["humans"] == "cannot be tested here"
    assert {verdict for name, verdict in verdicts.items() if name != "humans"} <= {"holds", "fails"}
    with pytest.raises(ModelError, match="pictures and captions in one space"):
        study.REPLICATION.run(Setting(model=bridge_of("gpt2"), name="tiny", options=options))
