"""What a model does on some pairs, from written numbers: the gap, the answers, and what may be said of them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from workbench.circuits.behavior import Behavior
from workbench.tasks.pairs import Pair, Pairs
from workbench.view.text import number


def behavior(clean, corrupted=0.0, *, right=None, guess=0.5, clusters=(), direction=1) -> Behavior:
    clean = np.array(clean, dtype=float)
    corrupted = np.broadcast_to(np.array(corrupted, dtype=float), clean.shape)
    return Behavior.of(
        clean, corrupted, metric="logit-difference", unit="logits", direction=direction,
        right=None if right is None else np.array(right, dtype=float), guess=guess, clusters=clusters,
    )  # fmt: skip


def test_the_numbers_are_means_with_students_interval():
    found = behavior([1.0, 4.0, 2.0, 8.0], [0.0, 1.0, 0.0, 2.0], right=[1, 1, 0, 1])
    assert found.clean.value == 3.75 and found.gap.value == 3.0  # gaps 1, 3, 2, 6
    error = np.std([1, 3, 2, 6], ddof=1) / 2
    assert found.gap.half == pytest.approx(3.182446 * error, rel=1e-6)
    assert found.right.value == 0.75 and (found.n, found.clusters) == (4, 4)
    assert (
        "gap 3.0 ± 3.4 logits" in found.sentence()
        and "3 of 4 pairs answered rightly, n 4" in found.sentence()
    )


def test_a_gap_within_noise_is_said_to_be_noise():
    found = behavior([0.1, -0.05, 0.02, 0.05], right=[1, 0, 0, 1])
    assert found.finding == "noise" and found.does_task is False
    assert "does not do this task (gap 0.030 ± 0.100 logits" in found.sentence()
    assert found.sentence().endswith("effects below are noise")
    assert behavior(np.tile([1.0, -1.1], 20), right=np.tile([1, 0], 20)).finding == "noise"


def test_six_pairs_without_a_miss_are_the_fewest_that_show_a_task():
    """By sign flips 2 ** -5, and a share whose exact interval excludes one half: both are above 0.05 with five."""
    assert behavior([5.0, 6.0, 4.0, 5.0, 7.0, 5.0], right=[1] * 6).finding == "yes"
    five = behavior([5.0, 6.0, 4.0, 5.0, 7.0], right=[1] * 5)
    assert five.finding == "open" and five.does_task is None and "too few" in five.sentence()
    assert behavior([5.0, 6.0, 4.0], right=[0, 0, 0]).finding == "open"  # nothing is said of three
    assert behavior([3.0], right=[1]).sentence().count("nan") == 0


def test_more_pairs_decide_what_fewer_leave_open():
    """Half of 24 or more pairs answered rightly, the gap all over the place: that is no task."""
    rng = np.random.default_rng(0)
    wild = rng.normal(0.5, 5, 40)
    assert behavior(wild[:8], right=[1, 1, 1, 1, 1, 0, 0, 1]).finding == "open"
    assert behavior(wild, right=np.tile([1, 1, 1, 0], 10)).finding == "noise"


def test_guessing_wrong_answers_and_the_opposite_are_told_apart():
    clear = np.full(40, 2.0) + np.linspace(0, 1, 40)
    assert behavior(clear, right=np.tile([1, 0], 20)).finding == "as guessing"
    assert "guessing gives 50%" in behavior(clear, right=np.tile([1, 0], 20)).sentence()
    wrong = behavior(-clear, -2 * clear, right=np.zeros(40))  # the corrupted prompt is worse still
    assert wrong.finding == "wrong" and wrong.does_task is False
    opposite = behavior(-clear, right=np.zeros(40))
    assert opposite.finding == "opposite" and "the opposite of this task" in opposite.sentence()


def test_lower_is_better_turns_the_gap_round():
    found = behavior(np.linspace(0, 1, 30), 5.0, right=np.ones(30), direction=-1)
    assert found.gap.value == pytest.approx(4.5) and found.finding == "yes"


def test_a_gap_of_rounding_is_no_gap():
    """1e-5 of the largest score is float32 in another order, however alike it is on every pair."""
    clean = np.full(30, 12.0)
    assert behavior(clean, clean - 1e-5, right=np.ones(30)).gap_p == 1.0
    assert behavior(clean, clean - 1e-3, right=np.ones(30)).finding == "yes"


def test_copies_of_one_pair_show_no_more_than_the_pair():
    found = behavior(np.full(40, 3.0), right=np.ones(40), clusters=["same"] * 40)
    assert found.clusters == 1 and found.finding == "open" and "n 40, 1 independent" in found.sentence()


def test_it_is_read_back_as_it_was_written():
    for found in (behavior([1.0, 2.0, 3.0, 5.0], right=[1, 1, 1, 0]), behavior([1.0])):
        again = Behavior.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False)))
        assert again.to_dict() == found.to_dict()


def pairs(groups, *, seed=None, cleans=None) -> Pairs:
    items = [
        Pair(
            id=str(i),
            clean=f"a {i}" if cleans is None else cleans[i],
            corrupted=f"b {i}",
            correct=("x",),
            group=g,
        )
        for i, g in enumerate(groups)
    ]
    return Pairs(items=tuple(items), task="own", seed=seed)


def test_pairs_of_a_file_belong_together_by_group_and_by_prompt():
    assert pairs(list("aabbccddeeff")).clusters == (0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5)
    assert pairs(list("aabb")).clusters == (0, 1, 2, 3)  # two groups: nothing can be said beyond them
    assert pairs(list("aabbccddeeff"), seed=0).clusters == tuple(range(12))  # drawn one by one by a generator
    assert pairs([""] * 4, cleans=["p", "q", "p", "r"]).clusters == (0, 1, 0, 2)
    assert pairs(list("abcdef"), cleans=list("ppqrst")).clusters == (0, 0, 1, 2, 3, 4)


def test_numbers_that_are_small_are_not_rounded_to_nothing():
    small = Behavior.of(np.array([2e-9, 4e-9]), np.zeros(2), metric="m", unit="p", direction=1)
    assert "clean 3.00e-09 ± 1.3e-08, corrupted 0" in small.sentence()
    near = Behavior.of(1 - np.array([2e-9, 4e-9]), np.zeros(2), metric="m", unit="p", direction=1)
    assert "clean 0.999999997 ± 0.000000013" in near.sentence()
    assert number(-0.0) == number(np.float64(-0.0)) == "0" and number(-1e-9) == "−1.00e−09"
