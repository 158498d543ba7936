"""Rows of tokens with their truth: each answer stands where the truth says, and nothing else tells it."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.core.errors import OptionError
from workbench.tasks.streams.recall import recall_rows


def test_recall_asks_each_key_once_and_its_value_stands_behind_its_first_appearance():
    rows = recall_rows(np.random.default_rng(3), 50, pairs=6, queries=4, keys=9, values=5)
    assert rows.inputs.shape == (50, 16) and (rows.target[:, :12] == -1).all()
    for row, at in zip(*rows.asked, strict=True):
        told = rows.inputs[row, :12]
        [place] = np.flatnonzero(told[::2] == rows.inputs[row, at]) * 2 + 1  # the key is shown exactly once
        assert told[place] == rows.target[row, at] and rows.source[row, at] == place
    assert len(rows.distance) == 50 * 4 and rows.distance.min() >= 1
    assert (rows.target[:, 12:] >= 9).all() and len({*rows.inputs[0, 12:]}) == 4


def test_the_same_seed_gives_the_same_rows():
    one, same, other = (recall_rows(np.random.default_rng(s), 4).inputs for s in (1, 1, 2))
    assert (one == same).all() and (one != other).any()


def test_more_questions_than_pairs_are_refused():
    with pytest.raises(OptionError, match="9 of 8 pairs"):
        recall_rows(np.random.default_rng(0), 1, pairs=8, queries=9)
