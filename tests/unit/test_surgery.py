"""Row surgery on patterns, by hand."""

from __future__ import annotations

import pytest
import torch

from workbench.core.errors import OptionError
from workbench.engine.interventions.surgery import add_to_scores, drop_keys, scale_keys, set_rows

ROW = torch.tensor([[0.4, 0.1, 0.4, 0.1]])


def _keys(*which: int, n: int = 4) -> torch.Tensor:
    mask = torch.zeros(n, dtype=torch.bool)
    mask[list(which)] = True
    return mask


def _random(seed: int = 0, n: int = 6) -> torch.Tensor:
    scores = torch.randn(2, 3, n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return scores.masked_fill(torch.ones(n, n, dtype=torch.bool).triu(1), -torch.inf).softmax(-1)


def test_scaling_by_hand():
    # 0.6 of 0.4 is freed and goes to 0.4 + 0.1 + 0.1 in the ratio 4:1:1
    assert scale_keys(ROW, _keys(2), 0.4)[0].tolist() == pytest.approx([0.56, 0.14, 0.16, 0.14])
    assert scale_keys(ROW, _keys(2), 0.4, recipients=_keys(1, 3))[0].tolist() == pytest.approx(
        [0.4, 0.22, 0.16, 0.22]
    )
    to_all = scale_keys(
        ROW, _keys(0, 2), 0.0, recipients=_keys(1, 3), share="uniform", visible=_keys(0, 1, 2)
    )
    assert to_all[0].tolist() == pytest.approx([0, 0.9, 0, 0.1])  # only key 1 is visible among the recipients
    assert scale_keys(ROW, _keys(2), 0.5, mass="leak")[0].tolist() == pytest.approx([0.4, 0.1, 0.2, 0.1])


def test_growing_takes_from_the_others_at_most_all():
    assert scale_keys(ROW, _keys(2), 1.5)[0].tolist() == pytest.approx([0.8 / 3, 0.2 / 3, 0.6, 0.2 / 3])
    assert scale_keys(ROW, _keys(2), 4.0)[0].tolist() == pytest.approx([0, 0, 1, 0])


def test_factor_one_is_the_identity_to_the_bit():
    pattern = _random()
    assert torch.equal(scale_keys(pattern, _keys(0, 3, n=6), 1.0), pattern)


def test_rows_keep_their_sum_and_stay_causal():
    pattern = _random()
    for factor in (0.0, 0.3, 2.0):
        new = scale_keys(pattern, _keys(1, 4, n=6), factor)
        assert torch.allclose(new.sum(-1), pattern.sum(-1)) and (new >= 0).all()
        assert not new.triu(1).any()
        assert (factor == 1) == torch.equal(new, pattern)


def test_a_row_that_nobody_else_can_take_stays():
    first = torch.tensor([[1.0, 0.0, 0.0]])
    assert torch.equal(drop_keys(first, _keys(0, n=3)), first)


def test_dropping_is_a_score_of_minus_infinity():
    pattern, keys = _random(), _keys(2, n=6)
    by_scores = add_to_scores(pattern, torch.where(keys, -torch.inf, 0.0))
    rows = slice(3, None)  # those that see something else
    assert torch.allclose(drop_keys(pattern, keys)[..., rows, :], by_scores[..., rows, :])


def test_dropping_keeps_digits_where_one_key_had_nearly_all():
    row = torch.tensor([[1.0, 1e-12, 3e-12]])
    assert drop_keys(row, _keys(0, n=3))[0].tolist() == pytest.approx([0, 0.25, 0.75])


def test_adding_to_scores_is_the_softmax_of_the_sum():
    scores = torch.tensor([[0.3, -1.0, 2.0]], dtype=torch.float64)
    addend = torch.tensor([0.0, 2.5, 0.0])
    assert torch.allclose(add_to_scores(scores.softmax(-1), addend), (scores + addend).softmax(-1))
    assert torch.allclose(add_to_scores(scores.softmax(-1), addend * 0), scores.softmax(-1))


def test_set_rows_keeps_the_sum_of_a_row_that_leaks():
    assert set_rows(ROW * 0.5, torch.tensor([[0.0, 1.0, 0.0, 0.0]]))[0].tolist() == pytest.approx(
        [0, 0.5, 0, 0]
    )


def test_impossible_factors_are_refused():
    with pytest.raises(OptionError, match="negative"):
        scale_keys(ROW, _keys(0), -0.1)
    with pytest.raises(OptionError, match="equal parts"):
        scale_keys(ROW, _keys(0), 0.5, share="uniform")


SINK = torch.tensor([[0.1, 0.2, 0.3]])  # 0.4 goes to a learned sink


def test_a_score_of_minus_infinity_gives_the_sink_its_part():
    """exp(scores) are 1, 2, 3 and 4 for the sink: without the last key 1/7 and 2/7, and 4/7 for the sink."""
    assert drop_keys(SINK, _keys(2, n=3))[0].tolist() == pytest.approx([1 / 7, 2 / 7, 0])
    assert torch.equal(drop_keys(ROW, _keys(2)), scale_keys(ROW, _keys(2), 0.0))  # where there is no sink


def test_adding_to_scores_changes_the_sinks_part():
    found = add_to_scores(SINK, torch.tensor([0.0, 0.0, 2.0]).log().nan_to_num(neginf=0.0))  # 1, 2, 6 and 4
    assert found[0].tolist() == pytest.approx([1 / 13, 2 / 13, 6 / 13])


def test_set_and_scaled_rows_keep_what_the_sink_has():
    assert set_rows(SINK, torch.tensor([[0.0, 0.5, 0.5]]))[0].tolist() == pytest.approx([0, 0.3, 0.3])
    assert scale_keys(SINK, _keys(2, n=3), 0.5)[0].tolist() == pytest.approx([0.15, 0.3, 0.15])
