"""Losses that point, by hand; a head that learns a planted place; the study of them at a small size."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.core.errors import OptionError
from workbench.heads.gaussian_target import (
    box_labels,
    gaussian_localisation,
    gaussian_targets,
    middle_of,
    outside_mass,
)
from workbench.heads.pointing_head import clicks, fit_pointing, point
from workbench.papers import suppress_and_peak as study
from workbench.papers.kinds import Setting

GRID = (4, 6)


def test_a_gaussian_stands_on_the_middle_of_its_box_and_is_as_wide_as_the_box_asks():
    [found] = gaussian_targets(
        torch.tensor([[1.0, 1.0, 4.0, 4.0]]), GRID
    )  # three patches high and wide, middle (2, 2)
    assert float(found.sum()) == pytest.approx(1, abs=1e-5) and divmod(int(found.argmax()), 6) == (2, 2)
    # one patch beside the middle: exp(-(1 / 0.75) ** 2 / 2) of it
    assert float(found[2, 3] / found[2, 2]) == pytest.approx(np.exp(-((1 / 0.75) ** 2) / 2), rel=1e-4)
    with pytest.raises(OptionError, match="above 0"):
        gaussian_targets(torch.ones(1, 4), GRID, spread=0)


def test_divergence_is_zero_for_the_target_alone_and_by_hand_for_an_even_map():
    targets = gaussian_targets(torch.tensor([[0.0, 0.0, 2.0, 3.0]]), GRID)
    assert float(gaussian_localisation(targets, targets)) == pytest.approx(0, abs=1e-5)
    inside = torch.zeros(1, *GRID, dtype=torch.bool)
    inside[0, :2, :2] = True
    even = torch.full((1, *GRID), 1 / 24)
    assert float(gaussian_localisation(even, box_labels(inside))) == pytest.approx(log(24 / 4), abs=1e-5)
    assert float(outside_mass(even, inside)) == pytest.approx(20 / 24)


def test_all_mass_on_the_middle_of_a_small_target_minimises_both_losses():
    box, inside = torch.tensor([[1.0, 2.0, 2.0, 3.0]]), torch.zeros(1, *GRID, dtype=torch.bool)
    inside[0, 1, 2] = True
    targets = gaussian_targets(box, GRID)
    scores = torch.zeros(1, 24, requires_grad=True)
    optimiser = torch.optim.Adam([scores], lr=0.3)
    for _ in range(200):
        maps = scores.softmax(-1).unflatten(1, GRID)
        loss = (outside_mass(maps, inside) + gaussian_localisation(maps, targets)).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(maps[0, 1, 2].detach()) > 0.98
    assert torch.allclose(middle_of(maps.detach()), torch.tensor([[1.5, 2.5]]), atol=0.05)


def test_clicks_by_hand():
    maps = torch.zeros(1, *GRID)
    maps[0, 0, 5], maps[0, 3, 0] = 0.75, 0.25
    inside = torch.zeros(1, *GRID, dtype=torch.bool)
    inside[0, 0, 4:] = True
    hits, apart, outside = clicks(maps, torch.tensor([[0.0, 4.0, 1.0, 6.0]]), inside)
    assert (hits[0], apart[0], outside[0]) == (1, 0.5, 0.25)  # middle of the box (0.5, 5), click (0.5, 5.5)


def test_a_head_learns_the_patch_that_is_marked_and_one_seed_gives_one_head():
    drawn = torch.Generator().manual_seed(0)
    features, at = torch.randn(120, 24, 8, generator=drawn), torch.randint(0, 24, (120,), generator=drawn)
    features[torch.arange(120), at, 0] += 6.0
    wanted = torch.nn.functional.one_hot(at, 24).unflatten(1, GRID).bool()

    def loss(maps: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        return outside_mass(maps, wanted[items])

    one, two = (fit_pointing(features, loss, grid=GRID, steps=80, seed=4) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    found = point(one, features, GRID).flatten(1).argmax(-1)
    assert float((found == at).float().mean()) > 0.95


def test_the_study_is_judged_and_says_where_there_is_no_room_to_gain():
    model = wb.open_model("zoo:marked", device="cpu")

    def verdicts(noise: float) -> dict[str, str]:
        options = study.PointingSizes(training=120, pictures=60, noise=noise, beside=(), steps=150)
        found = study.REPLICATION.run(Setting(model=model, name="zoo:marked", options=options, seed=3))
        assert len(found.tables["Every setting"]) == 5
        return dict(zip(study.CLAIMS, (claim.verdict for claim in found.claims), strict=True))

    assert verdicts(0.3)["learned"] == "holds"
    easy = verdicts(0.0)
    assert easy["hits"] == "cannot be tested here" and easy["learned"] == "holds"
