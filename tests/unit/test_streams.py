"""Rows of tokens with their truth: each answer stands where the truth says, and nothing else tells it."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.core.errors import OptionError
from workbench.tasks.streams.cues import cue_rows
from workbench.tasks.streams.recall import recall_rows
from workbench.tasks.streams.relay import relay_rows
from workbench.tasks.streams.repeats import repeated_rows


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


def test_every_row_repeats_with_a_period_of_its_own_and_the_next_token_is_asked():
    rows = repeated_rows(np.random.default_rng(1), 60, length=20, tokens=30, periods=(4, 9))
    at_row, at = rows.asked
    assert (rows.inputs[at_row, at + 1] == rows.target[at_row, at]).all()
    assert (rows.inputs[at_row, rows.source[at_row, at]] == rows.target[at_row, at]).all()
    periods = {int(at[at_row == row].min()) for row in range(60)}  # asked from the second round on
    assert periods == set(range(4, 10))
    for row in range(5):  # no token twice in a round: only the repeat tells what comes next
        first = rows.inputs[row, : at[at_row == row].min()]
        assert len({*first.tolist()}) == len(first)
    with pytest.raises(OptionError, match="periods 4 to 30"):
        repeated_rows(np.random.default_rng(0), 1, periods=(4, 30))


def test_the_relayed_word_stands_alone_at_its_distance():
    rows = relay_rows(np.random.default_rng(2), 80, length=12, words=5, fillers=3, distances=(3, 7))
    assert set(rows.distance.tolist()) == set(range(3, 8)) and (rows.inputs[:, -1] == 8).all()
    for row in range(80):
        [place] = np.flatnonzero(rows.inputs[row] < 5)
        assert rows.inputs[row, place] == rows.target[row, -1] and rows.source[row, -1] == place
    with pytest.raises(OptionError, match="distances 1 to 12"):
        relay_rows(np.random.default_rng(0), 1, length=12, distances=(1, 12))


def test_the_cue_says_which_word_is_asked_for():
    rows = cue_rows(np.random.default_rng(4), 80, length=10, words=6, fillers=4, cues=3)
    for row in range(80):
        places = np.flatnonzero(rows.inputs[row] < 6)
        assert len(places) == 3 and rows.source[row, -1] == places[rows.inputs[row, 0] - 10]
        assert rows.target[row, -1] == rows.inputs[row, rows.source[row, -1]]
    assert {*rows.inputs[:, 0].tolist()} == {10, 11, 12}
    with pytest.raises(OptionError, match="do not fit"):
        cue_rows(np.random.default_rng(0), 1, length=4, cues=3)
