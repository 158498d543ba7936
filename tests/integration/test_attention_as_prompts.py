"""Attention rolled out through layers and points of maps, by hand; the study, and an effect planted in a model."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.core.errors import ModelError, OptionError, ShapeError
from workbench.heads.localisation import best_iou
from workbench.heads.map_points import points_of
from workbench.heads.weighted_rollout import early_mass, regularise, sharpness, weighted_rollout
from workbench.papers import attention_as_prompts as paper
from workbench.papers.kinds import Setting

SMALL = paper.PromptSizes(questions=12, draws=2)


@pytest.fixture(scope="module")
def vlm():
    return wb.open_model("zoo:vlm", device="cpu")


def even(n, layers=4):
    """Patterns of one head that looks at all it may see alike."""
    return [torch.ones(n, n).tril().div(torch.arange(1, n + 1)[:, None])[None, None]] * layers


def test_identity_patterns_roll_out_to_identity():
    for regularised in (True, False):
        found = weighted_rollout([torch.eye(5).expand(2, 3, 5, 5)] * 3, regularised=regularised)
        assert torch.equal(found, torch.eye(5).expand(2, 5, 5))


def test_two_layers_by_hand():
    A = torch.tensor([[1.0, 0.0], [0.5, 0.5]])[None, None]  # sharpness (1 + 0.5) / 2
    assert sharpness(A).item() == 0.75
    step = np.array([[1.75, 0.0], [0.375, 1.375]]) / 1.75  # I + 0.75 A
    found = weighted_rollout([A, A], regularised=False)[0].numpy()
    assert np.allclose(found, step @ step)
    less = (
        np.array([[1.75, 0.0], [0.25, 1.5]]) / 1.75
    )  # the second row's weights, 1/2 and 1/2, become 1/3 and 2/3
    assert np.allclose(weighted_rollout([A, A])[0].numpy(), less @ less)


def test_rollout_of_even_causal_attention_gathers_early_and_the_regulariser_keeps_it_off():
    alike = [torch.ones(1, 1)] * 4
    flows = [weighted_rollout(even(40), regularised=r, weights=alike) for r in (False, True)]
    plain, kept = (flow[0, -1].numpy() for flow in flows)
    assert early_mass(plain) > 0.5 > 0.3 > early_mass(kept)  # a quarter would be even
    assert plain.sum() == pytest.approx(1) and kept.sum() == pytest.approx(1)


def test_where_all_see_all_the_regulariser_changes_nothing():
    A = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0)).softmax(-1)
    assert torch.allclose(regularise(A[:, 0], causal=False), A[:, 0])
    both = [weighted_rollout([A] * 2, regularised=r, causal=False) for r in (True, False)]
    assert torch.allclose(*both)
    with pytest.raises(ShapeError, match="layers of weights"):
        weighted_rollout([A], weights=[])


def test_points_lie_where_the_map_is_high_and_the_others_where_it_is_not():
    map_ = np.zeros((4, 4))
    map_[1, 2], map_[3, 3], map_[0, 0] = 1.0, 0.6, 0.4
    found = points_of(map_, 200, seed=0)
    high = {tuple(place) for place in found.positive.tolist()}
    assert high == {(1, 2), (3, 3)} and not high & {tuple(place) for place in found.negative.tolist()}
    assert (found.positive == [1, 2]).all(1).mean() == pytest.approx(
        1 / 1.6, abs=0.1
    )  # 0.1: three errors of 200
    assert len(points_of(np.ones((2, 2)), 3, seed=0).negative) == 0
    for wrong, error in ((np.zeros((2, 2)), ShapeError), (np.array([[np.nan, 1.0]]), ShapeError)):
        with pytest.raises(error):
            points_of(wrong, 1, seed=0)
    with pytest.raises(OptionError):
        points_of(map_, 0, seed=0)


def test_the_best_overlap_by_hand():
    own = np.array([[True, True], [False, False]])
    maps = np.array([[[4.0, 3], [2, 1]], [[4, 1], [3, 2]], [[1, 1], [1, 1]]])
    assert best_iou(maps, own).tolist() == [1.0, 0.5, 0.5]


@contextmanager
def looking(model, make):
    """Inside, all heads of the model look as a function of the number of positions says."""
    hooks = [
        (f"blocks.{layer}.attn.hook_pattern", lambda A, hook: make(A.shape[-1]).expand_as(A))
        for layer in range(4)
    ]
    with model.hooks(fwd_hooks=hooks):
        yield


def verdicts(model):
    found = paper.REPLICATION.run(Setting(model=model, name="zoo:vlm", options=SMALL, seed=5))
    return dict(zip(paper.CLAIMS, (claim.verdict for claim in found.claims), strict=True))


def test_the_collapse_is_found_where_it_is_planted_and_not_where_it_is_taken_away(vlm):
    as_it_is = verdicts(vlm)
    assert as_it_is["photographs"] == "cannot be tested here"
    with looking(
        vlm, lambda n: (even(n)[0] + torch.eye(n)[0]) / 2
    ):  # half of all weight on the first position
        planted = verdicts(vlm)
    with looking(vlm, torch.eye):  # everyone looks at itself: nothing flows, and nothing can gather early
        removed = verdicts(vlm)
    assert planted["collapse"] == planted["repaired"] == "holds"
    assert removed["collapse"] == removed["repaired"] == "fails"


def test_a_model_of_words_is_refused_with_what_to_type(bridge_of):
    with pytest.raises(ModelError, match="zoo:vlm"):
        paper.REPLICATION.run(Setting(model=bridge_of("gpt2"), name="tiny", options=SMALL))
