"""Interaction features by hand, a planted head that points, and the study at a small size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.core.errors import ModelError, ShapeError
from workbench.heads.figure_scenes import draw_figures
from workbench.heads.span_to_all import beside_span, follow, shuffled_heads, span_to_all
from workbench.papers import interaction_features as study
from workbench.papers.kinds import Setting
from workbench.tasks.scenes.layout import World

GRID = (4, 5)


@pytest.fixture(scope="module")
def marked():
    return wb.open_model("zoo:marked", device="cpu")


def test_features_are_rows_of_patterns_averaged_over_the_part(unchecked):
    patterns = torch.rand(2, 2, 3, 6, 6, generator=torch.Generator().manual_seed(0)).softmax(-1)
    span = torch.tensor([[1, 2], [5, 5]])
    found = span_to_all(patterns, span, first=1)
    assert found.shape == (2, 5, 6)
    assert torch.allclose(found[0, 3, 4], (patterns[0, 1, 1, 1, 4] + patterns[0, 1, 1, 2, 4]) / 2)
    assert torch.allclose(found[1, :, 2], patterns[1, 0, 2, 5, 1:])
    with pytest.raises(ShapeError, match="1 pictures of 2"):
        span_to_all(patterns, span[:1])
    hidden = torch.arange(10.0).reshape(1, 5, 2)
    assert beside_span(hidden, torch.tensor([[1, 3]]))[0, 4].tolist() == [8.0, 9.0, 2.0, 3.0]


def test_a_planted_head_that_points_is_followed_always_and_not_when_heads_are_dealt():
    drawn = torch.Generator().manual_seed(1)
    n, at = 200, torch.randint(0, 20, (200,), generator=drawn)
    features = torch.rand(n, 20, 12, generator=drawn) * 2
    features[..., 7] = torch.nn.functional.one_hot(at, 20)  # no larger than what the other heads give
    own = torch.nn.functional.one_hot(at, 20).bool().unflatten(1, GRID).numpy()
    how = {"training": 120, "steps": 200, "seeds": (0,), "grid": GRID}
    assert follow(features, own, **how).hits.mean() == 1.0
    assert follow(shuffled_heads(features, seed=2), own, **how).hits.mean() < 0.5
    turned = np.concatenate([np.roll(np.arange(120), 1), np.arange(120, n)])
    assert follow(features, own, labels=turned, **how).hits.mean() < 0.5
    assert follow(features, own, **how).parameters == 12 * 32 + 32 + 33


def test_the_figure_is_the_cell_of_the_arrow(marked):
    scenes = draw_figures(marked, World(objects=(0, 1, 1), noise=0.0, texture=0.0, rings=0.0), n=12, seed=7)
    assert scenes.figure.shape == (len(scenes), 4) and scenes.patterns.shape[1:] == (3, 4, 37, 37)
    row, column = divmod(int(scenes.shown.layout.arrow[0]) // 4, 3)
    assert int(scenes.figure[0, 0]) == 1 + 12 * row + 2 * column
    assert not scenes.own[0].flatten()[scenes.figure[0] - 1].any()


def test_the_study_is_judged_and_needs_a_model_that_sees(marked, bridge_of):
    options = study.GazeFeatureSizes(training=120, pictures=60, steps=120)
    found = study.REPLICATION.run(Setting(model=marked, name="zoo:marked", options=options, seed=3))
    verdicts = dict(zip(study.CLAIMS, (claim.verdict for claim in found.claims), strict=True))
    assert verdicts["few"] == "holds" and verdicts["people"] == "cannot be tested here"
    with pytest.raises(ModelError, match="reads no pictures"):
        study.REPLICATION.run(Setting(model=bridge_of("gpt2"), name="tiny", options=options))
