"""Attention calibration on patterns, by hand."""

from __future__ import annotations

import pytest
import torch

from workbench.core.errors import OptionError
from workbench.edits.act import Calibration, calibrate, find_sinks, later_sinks, other_columns, sink_scores


def test_the_row_of_the_reference():
    """Sinks 0 and 2, the first kept: column 2 becomes 0.16, and 0.24 goes to 0.4 + 0.1 + 0.1 in the ratio 4:1:1."""
    row = torch.tensor([[0.4, 0.1, 0.4, 0.1]])
    columns = later_sinks(torch.tensor([True, False, True, False]))
    assert columns.tolist() == [False, False, True, False]
    assert calibrate(row, columns, beta=0.4)[0].tolist() == pytest.approx([0.56, 0.14, 0.16, 0.14])
    assert torch.equal(calibrate(row, columns, beta=1.0), row)


def test_scores_are_means_over_the_queries_that_see_a_key():
    pattern = torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0], [0.2, 0.2, 0.6]])
    assert sink_scores(pattern).tolist() == pytest.approx([1.7 / 3, 0.35, 0.6])
    assert find_sinks(pattern, alpha=1.5).tolist() == [True, False, True]  # 1.5 / 3 = 0.5


def test_even_attention_has_no_sinks_and_one_column_of_all_is_one():
    even = torch.ones(40, 40).tril()
    even = even / even.sum(-1, keepdim=True)
    assert not find_sinks(even).any()
    onto = torch.zeros(40, 40)
    onto[:, 0] = 1
    onto[10:] = 0
    onto[10:, 10] = 1
    assert find_sinks(onto).nonzero().flatten().tolist() == [0, 10]


def test_which_sink_is_kept():
    found = torch.tensor([[False, True, True, False], [True, False, True, True]])
    assert later_sinks(found).tolist() == [[False, False, True, False], [False, False, True, True]]
    assert later_sinks(found, keep="initial").tolist() == [
        [False, True, True, False],
        [False, False, True, True],
    ]


def test_other_columns_are_as_many_and_no_sinks():
    sinks = torch.rand(5, 3, 30, generator=torch.Generator().manual_seed(1)) > 0.8
    columns = later_sinks(sinks)
    other = other_columns(sinks, columns, seed=4)
    assert (
        torch.equal(other.sum(-1), columns.sum(-1)) and not (other & sinks).any() and not other[..., 0].any()
    )
    assert not torch.equal(other, other_columns(sinks, columns, seed=5))


def test_numbers_that_cannot_work_are_refused():
    for wrong in ({"alpha": 0.0}, {"beta": 1.5}, {"keep": "last"}, {"columns": "all"}):
        with pytest.raises(OptionError):
            Calibration(heads=("a0",), **wrong)
