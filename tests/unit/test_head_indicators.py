"""Read-outs of hand-made patterns, values by hand."""

from __future__ import annotations

from math import factorial, log

import numpy as np
import pytest
import torch

from workbench.core.errors import OptionError, ShapeError
from workbench.heads import indicators, patterns
from workbench.model import pattern_rows


def looks_back(length: int, by: int = 1) -> torch.Tensor:
    """A head that looks ``by`` tokens back, at itself where it cannot: ``(1, query, key)``."""
    A = torch.zeros(1, length, length)
    at = torch.arange(length)
    A[0, at, torch.where(at >= by, at - by, at)] = 1
    return A


def stuck(length: int) -> torch.Tensor:
    A = torch.zeros(1, length, length)
    A[..., 0] = 1
    return A


def uniform(length: int) -> torch.Tensor:
    return indicators.uniform(length)[None].float()


REPEATED = torch.tensor([9, 1, 2, 3, 4, 1, 2, 3, 4])  # BOS, four tokens, again
SECOND = list(range(5, 9))


def test_a_previous_token_head_scores_one_zero_zero():
    A = looks_back(9)
    assert patterns.previous_token(A).item() == 1
    assert patterns.duplicate_token(A, REPEATED).item() == 0
    assert patterns.induction(A, REPEATED).item() == 0
    assert patterns.previous_token(A, SECOND).item() == 1


@pytest.mark.parametrize(("by", "duplicate", "follows"), [(4, 1.0, 0.0), (3, 0.0, 1.0), (5, 0.0, 0.0)])
def test_four_back_is_the_duplicate_and_three_back_what_followed(by, duplicate, follows):
    A = looks_back(9, by)
    assert patterns.duplicate_token(A, REPEATED).item() == duplicate
    assert patterns.induction(A, REPEATED).item() == follows


def test_a_uniform_head_scores_what_chance_gives():
    A = uniform(9)
    # one target among the q + 1 visible keys of the queries 5..8
    expected = sum(1 / (q + 1) for q in range(5, 9)) / 4
    assert patterns.induction(A, REPEATED).item() == pytest.approx(expected)
    assert patterns.duplicate_token(A, REPEATED).item() == pytest.approx(expected)
    assert patterns.previous_token(A).item() == pytest.approx(sum(1 / (q + 1) for q in range(1, 9)) / 8)


def test_the_share_of_all_mass_is_the_score_times_the_coverage():
    targets = patterns.induction_targets(REPEATED)
    A = uniform(9)
    assert patterns.coverage(targets).item() == pytest.approx(4 / 9)
    assert (A * targets).sum() / A.sum() == pytest.approx(
        (patterns.score(A, targets) * patterns.coverage(targets)).item()
    )


def test_encoders_may_look_ahead():
    A = torch.zeros(1, 9, 9)
    at = torch.arange(9)
    A[0, at, torch.where(at < 5, at + 4, at)] = 1  # 4 ahead, the second copy at itself
    targets = patterns.duplicate_targets(REPEATED, causal=False)
    assert targets.sum() == 8 and not targets.diagonal().any()
    # the first copy (queries 1..4) looks at the second, the second at itself
    assert patterns.duplicate_token(A, REPEATED, causal=False).item() == pytest.approx(0.5)


def test_nothing_repeated_is_no_score():
    assert patterns.induction(uniform(4), torch.arange(4)).isnan().all()


def test_inputs_stay_as_they_were():
    A, before = uniform(9), uniform(9)
    for measure in (patterns.induction, patterns.duplicate_token):
        measure(A, REPEATED)
    indicators.later_sinks(A)
    indicators.waad(A)
    assert torch.equal(A, before)


def test_windowed_distance_of_a_uniform_head():
    found = indicators.waad(uniform(21))[0]
    assert found[5].item() == pytest.approx(2.5)
    assert found[20].item() == pytest.approx(155 / 21)  # (0+1+...+10 + 10*10) / 21 = 7.381
    assert indicators.mean_distance(uniform(20)).item() == pytest.approx(4.75)


def test_windowed_distance_by_hand():
    assert indicators.waad(looks_back(20))[0].tolist() == [0.0] + [1.0] * 19
    assert indicators.waad(stuck(20))[0].tolist() == [min(t, 10) for t in range(20)]


def test_windowed_distance_peaks_at_the_starts_of_chunks():
    length, chunk = 25, 5
    A = torch.zeros(1, length, length)
    for t in range(length):
        start = t - t % chunk
        A[0, t, max(0, t - 10) if t == start else start] = 1
    found = indicators.waad(A)[0]
    assert found[10].item() == 10 and found[11].item() == 1
    assert (found[10] - found[11]).item() == 9  # the drop after a chunk's start


def test_future_influence_by_hand():
    length = 30
    assert indicators.fai(looks_back(length), low=2)[0, :28].abs().max() == 0
    found = indicators.fai(stuck(length))[0]
    assert found[0].item() == 1 and found[1:20].abs().max() == 0
    assert found[20:].isnan().all()  # no query is ten tokens later
    # key 3 of a uniform head: queries 5..7, weight 1 / (q + 1)
    assert indicators.fai(uniform(30), low=2, high=4)[0, 3].item() == pytest.approx(
        (1 / 6 + 1 / 7 + 1 / 8) / 3
    )
    assert indicators.fai(uniform(30), low=2, high=4, rows=[6])[0, 3].item() == pytest.approx(1 / 7)


def test_entropy_of_a_uniform_head():
    assert indicators.entropy(uniform(8)).item() == pytest.approx(1.3256, abs=1e-4)
    assert indicators.entropy(uniform(8)).item() == pytest.approx(log(factorial(8)) / 8)
    assert indicators.entropy(stuck(8)).item() == 0
    assert indicators.entropy(uniform(8), rows=[3]).item() == pytest.approx(log(4))


def test_received_is_the_mean_over_the_queries_that_can_see():
    A = torch.tensor([[[1.0, 0, 0], [0.5, 0.5, 0], [0.2, 0.3, 0.5]]])
    assert indicators.received(A)[0].tolist() == pytest.approx([1.7 / 3, 0.8 / 2, 0.5])
    assert indicators.received(A, causal=False)[0].tolist() == pytest.approx([1.7 / 3, 0.8 / 3, 0.5 / 3])


def test_sinks_are_above_alpha_over_length():
    length = 20
    A = 0.5 * stuck(length)
    A[0, 7:, 7] += 0.5
    A[0, 0, 0] = 1
    A[0, 1:7, 0] += 0.5
    assert indicators.sinks(A)[0].nonzero().flatten().tolist() == [0, 7]
    assert indicators.sinks(A, threshold=0.6)[0].nonzero().flatten().tolist() == [0]
    assert indicators.first_token(A).item() == pytest.approx((6 * 1 + 13 * 0.5) / 19)
    assert indicators.later_sinks(A).item() == pytest.approx(13 * 0.5 / 19)
    assert indicators.later_sinks(stuck(length)).item() == 0


def test_local_and_global_heads_are_the_ends_of_the_distances():
    A = torch.stack([torch.cat([looks_back(12, by) for by in row]) for row in ((1, 2, 3), (4, 5, 6))])
    assert A.shape == (2, 3, 12, 12)
    local, far = indicators.local_global(A, share=0.3)  # 1.8 of six heads: two
    assert local.tolist() == [[True, True, False], [False, False, False]]
    assert far.tolist() == [[False, False, False], [False, True, True]]
    near, away = indicators.split_by_distance(torch.tensor([1.0, float("nan"), 3.0]), 0.5)
    assert near.tolist() == [True, False, False] and away.tolist() == [False, False, True]


def test_numpy_is_taken_and_half_precision_counted_in_float32():
    A = uniform(8)
    assert indicators.entropy(A.numpy()) == pytest.approx(indicators.entropy(A))
    assert patterns.induction(uniform(9).numpy(), REPEATED.numpy()).item() > 0
    assert indicators.waad(A.bfloat16()).dtype == torch.float32
    assert isinstance(A.numpy(), np.ndarray)


READOUTS = {
    "entropy": lambda A: indicators.entropy(A),
    "distance": lambda A: indicators.mean_distance(A),
    "windowed distance": lambda A: indicators.waad(A),
    "influence": lambda A: indicators.fai(A, low=2)[..., :7],
    "received": lambda A: indicators.received(A),
    "sinks": lambda A: indicators.sinks(A, 2.0),
    "first token": lambda A: indicators.first_token(A),
    "later sinks": lambda A: indicators.later_sinks(A, 2.0),
    "previous token": lambda A: patterns.previous_token(A),
    "duplicate token": lambda A: patterns.duplicate_token(A, REPEATED),
    "induction": lambda A: patterns.induction(A, REPEATED),
}


@pytest.mark.parametrize("name", READOUTS)
def test_what_a_learned_sink_takes_changes_nothing_about_where_a_head_looks(name):
    """One head as it is, one whose every row lost another share to a sink: of what is left, all is the same."""
    A = torch.rand(1, 9, 9, generator=torch.Generator().manual_seed(0)).tril()
    A = A / A.sum(-1, keepdim=True)
    left = torch.linspace(0.05, 1, 9)[None, :, None]
    read = READOUTS[name]
    assert torch.allclose(read(A * left).double(), read(A).double(), atol=1e-6)
    if name not in ("sinks", "later sinks"):  # those of this pattern could be none
        assert read(A).abs().sum() > 0


def test_two_heads_that_look_four_back_look_four_back():
    length, rows = 20, range(8, 20)
    half = 0.5 * looks_back(length, 4)
    assert indicators.mean_distance(looks_back(length, 4), rows).item() == 4
    assert indicators.mean_distance(half, rows).item() == 4
    assert indicators.entropy(0.5 * uniform(8), rows=[7]).item() == pytest.approx(log(8))
    local, far = indicators.split_by_distance(
        indicators.mean_distance(torch.cat([half, looks_back(length, 2), looks_back(length, 6)])), 0.34
    )
    assert local.tolist() == [False, True, False] and far.tolist() == [False, False, True]


def test_the_sinks_share_is_a_number_of_its_own():
    A = 0.25 * looks_back(9)
    A[0, 0] *= 4  # row 0 keeps everything
    assert indicators.sink_share(A).item() == pytest.approx(8 / 9 * 0.75)
    assert indicators.sink_share(A, rows=[0]).item() == 0
    assert indicators.sink_share(A, rows=range(1, 9)).item() == 0.75


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_rounding_is_no_sink(dtype):
    """Rows of a softmax, rounded to the precision: bfloat16 is off by 0.002."""
    A = torch.randn(64, 300, generator=torch.Generator().manual_seed(0)).softmax(-1).to(dtype)
    if dtype == torch.float64:
        A = torch.randn(64, 300, dtype=dtype, generator=torch.Generator().manual_seed(0)).softmax(-1)
    assert not pattern_rows.sink_share(A).any()
    assert torch.equal(pattern_rows.looked(A).to(dtype), A)


def test_a_row_that_sums_to_zero_counts_for_nothing():
    A = looks_back(9)
    A[0, 4] = 0
    assert indicators.mean_distance(A).item() == pytest.approx(7 / 8)  # row 0 looks at itself, row 4 nowhere
    assert patterns.previous_token(A).item() == 1
    assert indicators.received(A)[0, 3].item() == 0 and indicators.received(A)[0, 4].item() == 1 / 4
    assert indicators.waad(A)[0].isnan().nonzero().flatten().tolist() == [4]
    assert indicators.sink_share(A).item() == pytest.approx(1 / 9)


def test_a_head_that_looks_nowhere_has_no_distance():
    nowhere = torch.zeros(1, 9, 9)
    for name, read in READOUTS.items():
        if name != "sinks":
            assert read(nowhere).isnan().all(), name
    assert not indicators.sinks(nowhere).any()
    assert indicators.sink_share(nowhere).item() == 1


def test_batches_are_rows_on_their_own():
    torch.manual_seed(0)
    A = torch.rand(3, 2, 9, 9).tril()
    A = A / A.sum(-1, keepdim=True)
    tokens = torch.stack([REPEATED, REPEATED.flip(0), torch.tensor([1, 1, 2, 2, 3, 3, 1, 2, 3])])
    together = patterns.induction(A, tokens)
    for row in range(3):
        assert torch.allclose(together[row], patterns.induction(A[row], tokens[row]))


@pytest.mark.usefixtures("unchecked")
def test_wrong_shapes_and_options_are_explained():
    with pytest.raises(ShapeError, match="equal last two"):
        indicators.entropy(torch.ones(2, 3))
    with pytest.raises(ShapeError, match="targets cover"):
        patterns.induction(uniform(9), torch.arange(4))
    with pytest.raises(OptionError, match="window is 0"):
        indicators.waad(uniform(4), window=0)
    with pytest.raises(OptionError, match="low"):
        indicators.fai(uniform(4), low=5, high=2)
    with pytest.raises(OptionError, match="share"):
        indicators.local_global(uniform(4), share=0.8)
