"""Three maps of where a model looks, with known answers, and the study of crops at a small size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.core.errors import ModelError, ShapeError
from workbench.heads.asked_maps import gradient_attention, pure_gradient, relative_attention
from workbench.heads.asked_pictures import ask_pictures
from workbench.papers import where_to_look
from workbench.papers.kinds import Setting
from workbench.papers.kit import Conditions
from workbench.tasks.scenes.layout import World
from workbench.tasks.scenes.questions import DESCRIBE

SMALL = where_to_look.WhereToLookSizes(choosing=6, questions=12, draws=1)


@pytest.fixture(scope="module")
def vlm():
    return wb.open_model("zoo:vlm", device="cpu")


@pytest.fixture(scope="module")
def asked(vlm):
    return ask_pictures(vlm, World(objects=(0, 1, 1)), kinds=["colour", "shape"], n=4, seed=7)


def test_relative_attention_is_1_where_the_question_changes_nothing_and_the_quotient_elsewhere(vlm, asked):
    same = relative_attention(vlm, asked.prompt, asked.prompt)
    assert same.shape == (4, 4, 6, 6) and same.max() <= 1 + 1e-9
    general = asked.asking(vlm, DESCRIBE)
    own, plain = (
        wb.patterns_of(vlm, prompt).of(1)[:, :, -1, 1:37].mean(1).double().numpy()
        for prompt in (asked.prompt, general)
    )
    found = relative_attention(vlm, asked.prompt, general)
    assert np.allclose(found[:, 1].reshape(4, -1), own / np.maximum(plain, 1e-6), rtol=1e-3)
    with pytest.raises(ShapeError, match="divided"):
        relative_attention(vlm, asked.prompt, general[:2])


def test_gradient_attention_is_at_the_one_patch_whose_value_decides(vlm, asked):
    patch = 14

    def one_value(v, hook):
        v = v.clone()
        v[:, [place for place in range(1, 37) if place != 1 + patch]] = 0
        return v

    with vlm.hooks(fwd_hooks=[("blocks.3.attn.hook_v", one_value)]):
        found = gradient_attention(vlm, asked.prompt)[:, 3].reshape(4, 36)
    others = np.delete(found, patch, axis=1)
    assert (others == 0).all() and found[:, patch].max() > 0


def test_the_slope_along_pixels_is_that_of_the_answer(vlm, asked):
    found = pure_gradient(vlm, asked.prompt, asked.prompt)
    assert found.shape == (4, 6, 6) and found.min() >= 0 and found.max() <= 1 + 1e-6  # divided by itself
    assert 0.3 < found.mean() <= 0.5 + 1e-6  # half of the pixels have more than the median of edges
    with pytest.raises(ShapeError, match="compared"):
        pure_gradient(vlm, asked.prompt, asked.prompt[:2])


def test_maps_leave_the_model_without_gradients(vlm, asked):
    gradient_attention(vlm, asked.prompt)
    assert all(parameter.grad is None for parameter in vlm.parameters()) and torch.is_grad_enabled()


def test_the_study_runs_and_its_claims_are_judged(vlm):
    found = where_to_look.REPLICATION.run(Setting(model=vlm, name="zoo:vlm", options=SMALL, seed=5))
    verdicts = dict(zip(where_to_look.CLAIMS, (claim.verdict for claim in found.claims), strict=True))
    assert verdicts["both"] == "cannot be tested here" and len(found.tables["Every map"]) == 9


def test_claims_go_both_ways():
    """Weights on the asked object and on the others, planted: more on it, or the same."""
    rng = np.random.default_rng(0)
    for more, holds in ((1.0, True), (0.0, False)):
        c = Conditions(seed=0)
        c.add(where_to_look.OWN["relative"], more + np.abs(rng.normal(size=40)))
        c.add(where_to_look.OTHER["relative"], np.abs(rng.normal(size=40)))
        assert where_to_look.CLAIMS["looks, relative"].by(c).holds is holds


def test_a_model_of_words_is_refused_with_what_to_type(bridge_of):
    with pytest.raises(ModelError, match="zoo:vlm"):
        where_to_look.REPLICATION.run(Setting(model=bridge_of("gpt2"), name="tiny", options=SMALL))
