"""The atlas of a painter over time: numbers by hand, a page, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import workbench as wb
from tests.integration.test_painter import fresh
from workbench.commands.do import do
from workbench.core.errors import OptionError, WorkbenchError
from workbench.heads.atlas_over_time import AMONG, PainterAtlas
from workbench.heads.painter_atlas import _stays, painter_atlas
from workbench.heads.show.painter_atlas import atlas_heatmaps

TWO = "a red disc left, a blue square right"


def test_looks_that_stay_on_an_object_by_hand():
    looks = torch.zeros(1, 1, 1, 1, 4, 4)
    looks[..., 0, 1] = 1.0  # patch 0 looks at patch 1
    looks[..., 1, 0], looks[..., 1, 3] = 0.5, 0.5  # patch 1 half inside, half at the other object
    looks[..., 3, :] = 0.25  # patch 3 everywhere
    places = np.array([[[True, True, False, False], [False, False, False, True]]])
    own, other = _stays(looks, places, places), _stays(looks, places, places[:, ::-1])
    assert own.shape == (1, 1) and own[0, 0] == pytest.approx(((1 + 0.5) / 2 + 0.25) / 2)
    assert other[0, 0] == pytest.approx(((0 + 0.5) / 2 + 0.5) / 2)


def test_an_atlas_shows_itself_and_a_picture_without_both_objects_is_left_out():
    values = np.linspace(0, 1, 6).reshape(2, 3)
    atlas = PainterAtlas(
        model="made",
        heads=("a0.h0", "a0.h1"),
        cross_heads=("cross:a0.h0", "cross:a0.h1"),
        own={"colour": values, AMONG: values},
        other={"colour": values * 0, AMONG: values * 0},
        chance=0.1,
        n=4,
        left_out=1,
    )
    shown = atlas_heatmaps(atlas)["Maps of the colour fit the object"]
    assert shown.rows == ("cross:a0.h0", "cross:a0.h1") and shown.values[1] == pytest.approx((0.6, 0.8, 1.0))
    assert atlas.rows()[1]["best step"] == 3 and "cross:a0.h1" in atlas.page()
    with pytest.raises(OptionError, match="no picture shows both"):
        painter_atlas(wb.open_model(fresh()), [TWO], steps=1)


def test_an_atlas_of_one_object_is_refused_before_anything_is_loaded():
    with pytest.raises(WorkbenchError, match="has one object"):
        do("paint-atlas", captions=("a red disc left",), model="zoo:painter")
