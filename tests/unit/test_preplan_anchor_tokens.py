"""Preplan and anchor tokens by hand: curves written down, no weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from workbench.core.errors import OptionError, ShapeError
from workbench.core.stats.agreement import jaccard
from workbench.core.stats.permutation import p_above, sign_flip_p
from workbench.heads.anchors import (
    chance,
    credit,
    drops,
    followed,
    peaks,
    roles,
    share_followed,
    shift_p,
    shifted_among,
    shuffled_within,
    top_share,
)
from workbench.heads.indicators import fai, waad


def sawtooth(chunk: int, n_chunks: int, far: int = 10) -> torch.Tensor:
    """Every token attends to its chunk's start; the start itself ``far`` back (to token 0 at the beginning)."""
    n = chunk * n_chunks
    A = torch.zeros(1, n, n)
    for t in range(n):
        start = t - t % chunk
        A[0, t, max(0, t - far) if t == start else start] = 1
    return A


def test_a_sawtooth_head_peaks_at_chunk_starts_and_drops_by_nine_there():
    curve = waad(sawtooth(5, 6), 10)[0].numpy()
    assert curve[10:15].tolist() == [10, 1, 2, 3, 4]
    assert drops(curve)[[10, 15, 20, 25]].tolist() == [9] * 4
    assert np.isnan(drops(curve)[-1])
    late = np.flatnonzero(peaks(curve, 0.2))
    assert late.tolist() == [5, 10, 15, 20, 25]  # token 5 has five tokens behind it, so 5; token 0 has none
    assert np.flatnonzero(top_share(drops(curve), 4 / 29)).tolist() == [10, 15, 20, 25]


def test_a_head_that_goes_back_to_chunk_starts_makes_them_anchors():
    A = torch.zeros(1, 30, 30)
    for t in range(30):
        A[0, t, max(0, (t // 10 - 1) * 10)] = 1  # the start of the chunk before
    curve = fai(A, 2, None)[0].numpy()
    # Token 10 is seen by 20..29 of the 18 queries from 12 on; token 0 by 2..19 of the 28 from 2 on.
    assert curve[[0, 10, 20, 5]].tolist() == pytest.approx([18 / 28, 10 / 18, 0, 0])
    assert np.flatnonzero(top_share(curve, 2 / 28)).tolist() == [0, 10]


def test_top_share_leaves_out_nan_and_what_is_not_eligible():
    values = np.array([5.0, 4.0, np.nan, 3.0, 3.0, 1.0])
    assert np.flatnonzero(top_share(values, 0.6)).tolist() == [
        0,
        1,
        3,
    ]  # 3 of 5; the earlier of two equal ones
    words = np.array([False, True, True, True, True, True])
    assert np.flatnonzero(top_share(values, 0.5, eligible=words)).tolist() == [1, 3]
    assert not top_share(np.full(3, np.nan), 0.4).any()
    with pytest.raises(OptionError, match="share is 0"):
        top_share(values, 0)


def test_peaks_are_local_maxima_of_the_top_share():
    curve = np.array([1.0, 4.0, 3.0, 3.5, 0.0, 9.0])
    assert np.flatnonzero(peaks(curve, 1.0)).tolist() == [1, 3, 5]
    assert np.flatnonzero(peaks(curve, 1 / 3)).tolist() == [1, 5]
    assert np.flatnonzero(peaks(np.array([2.0, 2.0, 1.0]), 1.0)).tolist() == [0]  # a plateau counts once


# WAAD falls by 8 after token 1; token 3 is an anchor that looks near; token 6 one that looks far itself.
WAAD = np.array([9.0, 10.0, 2.0, 1.0, 1.0, 1.0, 9.0, 8.0])
FAI = np.array([0.0, 0.1, 0.0, 0.9, 0.0, 0.0, 0.8, np.nan])


@pytest.mark.usefixtures("unchecked")
def test_a_dominated_anchor_is_introduced_by_the_drop_before_it():
    found = roles(WAAD, FAI, share=2 / 7)
    assert np.flatnonzero(found.anchor).tolist() == [3, 6]
    assert np.flatnonzero(found.dominated).tolist() == [3]
    assert found.introduces.tolist() == [0, 1, 0, 0, 0, 0, 0, 0]
    assert np.flatnonzero(found.preplan).tolist() == [1, 5]  # drops of 8 and 8
    alone = roles(WAAD, FAI, share=2 / 7, look_back=1)
    assert (
        not alone.dominated[6] and alone.introduces[2] == 1
    )  # only the drop of 1 is near, and it is the median
    with pytest.raises(ShapeError, match="WAAD"):
        roles(WAAD, FAI[:3])


def test_credit_moves_half_of_a_dominated_anchors_extra_to_its_introducer():
    weights = credit(roles(WAAD, FAI, share=2 / 7))
    assert weights.tolist() == [1, 1.25, 1, 1.25, 1, 1, 1.5, 1]  # g = 1.5, a = 0.5
    assert credit(roles(WAAD, FAI, share=2 / 7), gain=2, moved=0.25)[[1, 3, 6]].tolist() == [1.25, 1.75, 2]


def test_following_counts_the_same_token_and_those_before():
    late = np.array([0, 0, 1, 0, 1, 0, 1], dtype=bool)
    early = np.array([0, 1, 0, 0, 1, 0, 0], dtype=bool)
    assert [followed(late, early, within=k) for k in (0, 1, 2)] == [(1, 3), (2, 3), (3, 3)]
    assert share_followed([late, late], [early, late], within=0) == pytest.approx(4 / 6)


def test_coupling_that_is_planted_is_found_and_its_absence_is_not():
    rng = np.random.default_rng(0)
    early = [rng.random(60) < 0.2 for _ in range(20)]
    after = [np.append(False, e[:-1]) for e in early]  # always one token later
    other = [rng.random(60) < 0.2 for _ in range(20)]
    for late, coupled in ((after, True), (other, False)):
        null = chance(late, early, within=1, draws=200, seed=1)
        p = p_above(share_followed(late, early, within=1), null)
        assert (p < 0.01) is coupled


def test_dealing_anew_within_kinds_explains_coupling_that_kinds_make():
    kinds = [np.tile([0, 1, 0, 0], 15) for _ in range(10)]
    rng = np.random.default_rng(3)
    early = [(k == 1) & (rng.random(60) < 0.7) for k in kinds]
    late = [(k == 1) & (rng.random(60) < 0.7) for k in kinds]  # both only at kind 1, else independent
    value = share_followed(late, early, within=0)
    assert p_above(value, chance(late, early, within=0, draws=200)) < 0.01
    assert p_above(value, chance(late, early, within=0, groups=kinds, draws=200)) > 0.05
    dealt = shuffled_within(late[0], kinds[0], rng)
    assert dealt.sum() == late[0].sum() and not dealt[kinds[0] == 0].any()


def test_chance_moves_only_among_tokens_that_could_be_marked():
    """Both curves peak at words alone and are otherwise unrelated: what is observed is what chance gives."""
    rng = np.random.default_rng(5)
    words = [np.arange(60) % 4 == 1 for _ in range(200)]
    late = [w & (rng.random(60) < 0.5) for w in words]
    early = [w & (rng.random(60) < 0.5) for w in words]
    value = share_followed(late, early, within=0)
    matched = chance(late, early, within=0, eligible=words, draws=100)
    assert value == pytest.approx(0.5, abs=0.04) and matched.mean() == pytest.approx(0.5, abs=0.04)
    # Around all tokens three shifts of four put every mark where no early mark can be: 14 of 59 shifts keep words.
    assert chance(late, early, within=0, draws=100).mean() == pytest.approx(0.5 * 14 / 59, abs=0.03)


def test_eligible_shifts_keep_the_number_and_the_places():
    rng, eligible = np.random.default_rng(0), np.array([0, 1, 1, 0, 1, 0], dtype=bool)
    marks = np.array([0, 1, 0, 0, 0, 0], dtype=bool)
    seen = {int(np.flatnonzero(shifted_among(marks, eligible, rng))[0]) for _ in range(30)}
    assert seen == {2, 4}


def test_sign_flips_and_jaccard():
    assert sign_flip_p(np.full(12, 0.3)) < 0.01
    assert sign_flip_p(np.array([1.0, -1.0] * 6)) > 0.4
    assert jaccard([1, 2, 2, 3], [2, 3, 4]) == 0.5


def test_too_few_responses_leave_the_claim_about_swaps_open():
    from workbench.heads.token_swaps import Swap
    from workbench.papers.kit import Conditions, judge_all
    from workbench.papers.preplan_anchor import CLAIMS, of_swaps

    few = [
        Swap(response=r, token=0, kind=kind, entropy=0.0, alike=0.5)
        for r in range(9)
        for kind in ("high", "low")
    ]
    c = Conditions()
    of_swaps(c, few, few)
    (claim,) = judge_all({"perturb": CLAIMS["perturb"]}, c)
    assert claim.verdict == "cannot be tested here"
    assert claim.why == "only 9 responses have words of both kinds; 10 are needed"


def test_shifted_marks_by_hand():
    every, one = [np.ones(4, dtype=bool)], [np.array([True, False, False, False])]
    # 10 at the mark: 10 - 0; wherever else it stands: 0 - 10 / 3
    p, null = shift_p([np.array([10.0, 0, 0, 0])], one, every, draws=99, seed=0)
    assert p == pytest.approx(1 / 100) and null == pytest.approx(-10 / 3)
    assert shift_p([np.ones(4)], one, every, draws=99, seed=0) == (1.0, 0.0)  # a tie is no evidence
    assert shift_p([np.array([0, 5.0, 5, 5])], one, every, draws=99, seed=0)[0] == 1.0  # less at the mark


def test_one_of_three_shifts_of_alternating_marks_is_as_large():
    marks, every = [np.array([True, False, True, False])], [np.ones(4, dtype=bool)]
    p, null = shift_p([np.array([1.0, 0, 1, 0])], marks, every, draws=3000, seed=0)  # by 1, 2, 3: -1, 1, -1
    assert p == pytest.approx(1 / 3, abs=0.035)  # four standard errors of a third in 3,000 draws
    assert null == pytest.approx(-1 / 3, abs=0.07)


def test_a_shift_that_leaves_no_mark_among_eligible_tokens_is_left_out():
    marks, eligible = [np.array([True, False, False])], [np.array([True, True, False])]
    p, null = shift_p([np.array([5.0, 1, 100])], marks, eligible, draws=99, seed=0)
    assert null == pytest.approx(-4.0) and 1 / 100 < p < 1 / 20  # about half of 99 draws are left: 1 / 50
