"""Colours of pages: the scripts draw amounts as the library does; large values stand out on both grounds."""

from __future__ import annotations

import json
import re

import numpy as np

from workbench.view.color import AMOUNT, DARK_AMOUNT, DARK_ZERO, ZERO, ColorScale
from workbench.view.page import asset


def test_scripts_and_library_have_the_same_colours_of_amounts() -> None:
    found = {
        name: json.loads(stops)
        for name, stops in re.findall(r"(light|dark): (\[\[.*\]\]),", asset("theme.js"))
    }
    assert found == {"light": [list(c) for c in AMOUNT], "dark": [list(c) for c in DARK_AMOUNT]}


def test_a_scale_of_amounts_turns_to_signs_where_a_value_is_below_zero() -> None:
    assert ColorScale.of_amounts(np.array([0.0, 0.4]), high=1.0) == ColorScale(0.0, 1.0)
    assert ColorScale.of_amounts(np.array([-0.1, 0.4]), high=1.0) == ColorScale(-0.4, 0.4)
    assert ColorScale.of_amounts(np.array([np.nan, 2.0])) == ColorScale(0.0, 2.0)


def test_farther_from_zero_is_farther_from_the_page() -> None:
    for scale in (ColorScale(0.0, 2.0), ColorScale(-2.0, 2.0)):
        for paint, page in ((scale.color, ZERO), (scale.dark, DARK_ZERO)):
            for sign in (1, -1) if scale.low < 0 else (1,):
                far = [abs(sum(paint(sign * v)) - sum(page)) for v in (0.0, 0.5, 1.0, 1.5, 2.0)]
                assert far[0] == 0 and far == sorted(far) and len(set(far)) == 5
    assert ColorScale(-1.0, 1.0).color(float("inf")) == ColorScale(-1.0, 1.0).color(1.0)
