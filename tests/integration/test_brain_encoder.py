"""Encoders on a marked place that moves, ridge by hand, and the study at a small size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.core.errors import ModelError, OptionError, ShapeError
from workbench.papers import brain_encoder as study
from workbench.papers.kinds import Setting
from workbench.training.routed_encoder import by_ridge, explained, fit_encoders, fit_ridge


def test_a_marked_place_that_moves_is_followed_by_routing_alone():
    drawn, places, n = torch.Generator().manual_seed(0), 8, 700
    features, at = torch.randn(n, places, 6, generator=drawn), torch.randint(0, places, (n,), generator=drawn)
    features[..., 0] = 0.0
    features[torch.arange(n), at, 0] = 4.0  # the mark
    targets = features[torch.arange(n), at, 1:3][:, None]
    train, test = slice(0, 500), slice(500, None)
    arms = fit_encoders(features[train], targets[train], steps=300)
    routed, static = (
        explained(arms[name](features[test]), targets[test]).mean() for name in ("routed", "static")
    )
    assert routed > 0.95
    assert static == pytest.approx(1 / places, abs=0.1)  # an even map holds an eighth of what it should
    maps = arms["routed"].maps(features[test])
    assert float((maps[:, 0].argmax(1) == at[test]).float().mean()) > 0.98
    assert torch.allclose(maps.sum(-1), torch.ones(200, 1), atol=1e-5)


def test_ridge_with_hardly_a_penalty_is_least_squares_and_finds_a_line():
    drawn = torch.Generator().manual_seed(1)
    x = torch.randn(60, 3, generator=drawn)
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]]) + 4.0
    weights = fit_ridge(x, y, penalties=(1e-6, 1e6))
    assert torch.allclose(weights[:, 0], torch.tensor([1.0, -2.0, 0.5, 4.0]), atol=1e-3)
    assert torch.allclose(by_ridge(weights, x), y, atol=1e-3)
    with pytest.raises(OptionError, match="too few"):
        fit_ridge(x[:5], y[:5])


def test_variance_that_is_explained_leaves_out_items_without_the_group():
    targets = torch.tensor([[[0.0]], [[2.0]], [[4.0]], [[90.0]]])
    there = torch.tensor([[True], [True], [True], [False]])
    said = torch.tensor([[[1.0]], [[2.0]], [[3.0]], [[-7.0]]])
    assert explained(said, targets, there).tolist() == [pytest.approx(1 - 2 / 8)]


def test_items_have_to_be_the_same(unchecked):
    with pytest.raises(ShapeError, match="features are of 4 items"):
        fit_encoders(torch.zeros(4, 2, 3), torch.zeros(5, 1, 1))


def test_the_study_is_judged_and_needs_a_model_that_sees(bridge_of):
    model = wb.open_model("zoo:marked", device="cpu")
    options = study.EncoderSizes(training=150, pictures=60, targets=2, steps=60)
    found = study.REPLICATION.run(Setting(model=model, name="zoo:marked", options=options, seed=3))
    verdicts = dict(zip(study.CLAIMS, (claim.verdict for claim in found.claims), strict=True))
    assert verdicts["units"] in ("holds", "fails") and verdicts["cortex"] == "cannot be tested here"
    assert np.isfinite(list(found.numbers["means"].values())).all()
    with pytest.raises(ModelError, match="reads no pictures"):
        study.REPLICATION.run(Setting(model=bridge_of("gpt2"), name="tiny", options=options))
