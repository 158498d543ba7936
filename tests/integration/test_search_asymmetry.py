"""Steps of a search by hand; a symmetric model; skewed worlds; the study of asymmetry at a small size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.core.errors import ModelError, OptionError, ShapeError
from workbench.heads.visual_search import (
    Displays,
    cell_patches,
    full_displays,
    likeness,
    scaled,
    search_steps,
    shape_template,
    steps_to_shape,
)
from workbench.papers import search_asymmetry as study
from workbench.papers.kinds import Setting
from workbench.training.skewed_shapes import Skew, named_right, train_skewed


def test_steps_by_hand():
    alike = np.array([[0.9, 0.1, 0.5], [0.9, 0.1, 0.5], [0.2, 0.2, 0.2], [0.4, np.nan, 0.6]])
    assert search_steps(alike, np.array([0, 1, 2, 0])).tolist() == [1, 3, 2, 2]
    with pytest.raises(ShapeError, match="not among"):
        search_steps(alike[3:], np.array([1]))


def displays_of(odd: int, others: int, clear: torch.Tensor) -> Displays:
    """Displays in which a cell holds a vector of its shape, the odd one in the third cell."""
    shape = np.full((20, 9), others)
    shape[:, 2] = odd
    noise = 0.1 * torch.randn(20, 9, clear.shape[-1], generator=torch.Generator().manual_seed(0))
    return Displays(clear[torch.as_tensor(shape)] + noise, shape, np.full(20, 2))


def test_a_symmetric_model_has_no_asymmetry_and_a_planted_one_is_found():
    def steps(clear: torch.Tensor, odd: int, other: int) -> np.ndarray:
        shown = displays_of(odd, other, clear)
        return search_steps(likeness(shown.cells, clear[odd]), shown.target)

    symmetric = torch.eye(2)
    assert (steps(symmetric, 0, 1) - steps(symmetric, 1, 0)).tolist() == [0] * 20
    # the second shape is held like the first, but with less of its own: any noise turns it away from its template
    planted = torch.tensor([[1.0, 0.0, 0.0], [0.02, 0.0, 0.02]])
    assert (steps(planted, 1, 0) - steps(planted, 0, 1)).mean() > 1


def test_templates_are_means_and_scaling_is_that_of_the_others():
    shown = displays_of(0, 1, torch.eye(2))
    assert torch.allclose(shape_template(shown, 0), shown.cells[:, 2].mean(0))
    assert steps_to_shape(shown, shown, 0).tolist() == [1] * 20  # the odd one is like its own template
    even = Displays(torch.ones(20, 9, 2), shown.shape, shown.target)
    assert steps_to_shape(even, even, 0).tolist() == [5] * 20  # nine that are all alike, in random order
    with pytest.raises(ShapeError, match="no cell"):
        shape_template(shown, 4)
    own = scaled(shown, shown).cells
    assert own.mean((0, 1)).tolist() == pytest.approx([0, 0], abs=1e-5)


def test_worlds_have_the_chances_that_they_say_and_others_are_refused():
    assert Skew(2, 4, 0.1).chances().tolist() == pytest.approx([0.2, 0.2, 0.3, 0.2, 0.1])
    for wrong in (Skew(1, 1), Skew(0, 1, 0.5), Skew(0, 1, 0)):
        with pytest.raises(OptionError, match="not skewed"):
            wrong.chances()
    with pytest.raises(ModelError, match="do not divide"):
        cell_patches((7, 6))


def test_displays_of_one_seed_differ_in_shapes_alone_and_a_reader_learns_them():
    model = wb.open_model("zoo:marked", device="cpu")
    odd = full_displays(model, n=6, seed=4, layer=0, noise=0.0, odd=(1, 3))
    assert (odd.shape == 1).sum(1).tolist() == [1] * 6
    assert (odd.shape[np.arange(6), odd.target] == 1).all()
    assert (full_displays(model, n=6, seed=4, layer=0, noise=0.0).target == odd.target).all()
    seen = full_displays(model, n=60, seed=5, layer=0, noise=0.0)
    seen = scaled(seen, seen)
    arms = train_skewed(seen, {"a": Skew(0, 1, 0.2), "b": Skew(1, 0, 0.2)}, steps=80, seed=0, rate=1e-2)
    assert all(named_right(arm, seen).mean() > 0.7 for arm in arms.values())


def test_the_study_of_asymmetry_is_judged_at_a_small_size():
    model = wb.open_model("zoo:marked", device="cpu")
    options = study.SearchSizes(training=24, displays=8, own=8, steps=3)
    found = study.REPLICATION.run(Setting(model=model, name="zoo:marked", options=options, seed=5))
    assert [claim.verdict for claim in found.claims][-1] == "cannot be tested here"
    assert len(found.tables["Every pair in the model itself"]) == 10
