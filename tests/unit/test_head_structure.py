"""Rank by agents, bias of keys, CKA, crosstalk: values by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from workbench.core.errors import OptionError, ShapeError
from workbench.heads import crosstalk, kernel_alignment, key_bias, memory_capacity, pattern_rank


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# -- rank -------------------------------------------------------------------------------------------------


def test_a_pattern_of_rank_one_misses_nothing_and_the_identity_all_but_one():
    even = torch.full((1, 5, 5), 0.2)
    assert pattern_rank.rank_error(even, 1).item() == pytest.approx(0, abs=1e-4)
    for agents in (1, 3):
        assert pattern_rank.rank_error(torch.eye(5)[None], agents).item() == pytest.approx(
            (1 - agents / 5) ** 0.5
        )
    assert pattern_rank.rank_error(torch.eye(5)[None], 5).item() == 0


def test_patterns_through_agents_have_their_rank_and_rows_of_one():
    A = pattern_rank.agent_pattern(drawn(3, 12, 4), drawn(3, 12, 4, seed=1), 2)
    assert torch.linalg.matrix_rank(A.double(), rtol=1e-5).tolist() == [2, 2, 2]
    assert torch.allclose(A.sum(-1), torch.ones(3, 12))
    assert pattern_rank.rank_error(A, 2).max() < 1e-3
    later = torch.ones(12, 12, dtype=torch.bool).tril()
    masked = pattern_rank.agent_pattern(drawn(12, 4), drawn(12, 4, seed=1), 2, visible=later)
    assert masked.triu(1).abs().max() == 0 and torch.allclose(masked.sum(-1), torch.ones(12))


def test_agents_are_means_of_stretches_of_queries():
    q = torch.tensor([[1.0], [3.0], [5.0], [9.0]])
    assert pattern_rank.pooled(q, 2).tolist() == [[2.0], [7.0]]
    with pytest.raises(OptionError, match="1 to 4"):
        pattern_rank.pooled(q, 5)


# -- bias of keys -----------------------------------------------------------------------------------------


def test_a_bias_of_keys_is_found_under_a_causal_mask():
    seen = torch.ones(6, 6, dtype=torch.bool).tril()
    weights = torch.tensor([1.0, 4.0, 2.0, 1.0, 6.0, 2.0])
    A = (weights * seen) / (weights * seen).sum(-1, keepdim=True)
    assert key_bias.key_bias_share(A, seen, beyond_distance=False, steps=100).item() == pytest.approx(
        1, abs=1e-6
    )
    even = seen / seen.sum(-1, keepdim=True)
    assert torch.allclose(key_bias.key_weights(A, even, steps=100), (weights / 16).double(), atol=1e-6)
    sink = torch.zeros(8, 8)
    sink[:, 2], sink[:2, 2], sink[0, 0], sink[1, 0] = 1, 0, 1, 1  # all at one key from where it is seen
    assert key_bias.key_bias_share(sink, torch.ones(8, 8, dtype=torch.bool).tril()).item() > 0.5


def test_heads_that_look_by_query_have_no_bias_and_even_ones_none_at_all():
    everything = torch.ones(4, 4, dtype=torch.bool)
    heads = torch.stack([torch.eye(4), torch.full((4, 4), 0.25)])
    for beyond in (True, False):
        found = key_bias.key_bias_share(heads, everything, beyond_distance=beyond)
        assert found.tolist() == pytest.approx([0, 0], abs=1e-9)


def test_a_causal_head_that_looks_back_by_one_has_a_bias_only_if_distance_is_not_taken_off():
    back = torch.zeros(7, 7)
    back[torch.arange(7), [0, 0, 1, 2, 3, 4, 5]] = 1
    seen = torch.ones(7, 7, dtype=torch.bool).tril()
    assert key_bias.key_bias_share(back, seen).item() < 0.15
    assert key_bias.key_bias_share(torch.eye(7), seen).item() == pytest.approx(0, abs=1e-9)
    assert key_bias.key_bias_share(torch.eye(7), seen, beyond_distance=False).item() > 0.8


def test_a_mixture_of_bias_and_query_lies_between():
    # rows (3/4, 1/4) twice and (1/4, 3/4): the column means are the nearest bias; the third key is hidden
    A = torch.tensor([[0.75, 0.25, 0.0], [0.75, 0.25, 0.0], [0.25, 0.75, 0.0]])
    p = (0.75 + 0.75 + 0.25) / 3

    def apart(row, q):
        return sum(a * np.log(a / b) for a, b in zip(row[:2], (q, 1 - q), strict=True))

    left, all_ = (sum(apart(row, q) for row in A.tolist()) for q in (p, 0.5))
    seen = torch.tensor([True, True, False]).expand(3, 3)
    found = key_bias.key_bias_share(A, seen, beyond_distance=False, steps=200).item()
    assert found == pytest.approx(1 - left / all_, abs=1e-9)


# -- CKA --------------------------------------------------------------------------------------------------


def test_cka_is_one_under_rotation_and_scale_and_zero_between_independent_data():
    x, rotation = drawn(50, 500), torch.linalg.qr(drawn(500, 500, seed=1))[0]
    assert kernel_alignment.cka(x, 3 * x @ rotation).item() == pytest.approx(1, abs=1e-4)
    independent = [kernel_alignment.cka(x, drawn(50, 500, seed=s)).item() for s in range(2, 12)]
    assert abs(np.mean(independent)) < 0.02  # ten draws; the plain estimate has 0.91
    plain = kernel_alignment.cka(x, drawn(50, 500, seed=2), debiased=False).item()
    assert plain == pytest.approx(0.907, abs=0.01)


def test_cka_equals_the_formula_with_matrices_of_samples():
    x, y, n = drawn(9, 3).double(), drawn(9, 4, seed=1).double() + drawn(9, 1).double(), 9

    def hsic(a: torch.Tensor, b: torch.Tensor) -> float:
        K, L = (m @ m.T * (1 - torch.eye(n)) for m in (a, b))
        one = torch.ones(n, dtype=torch.float64)
        middle = (one @ K @ one) * (one @ L @ one) / ((n - 1) * (n - 2))
        return float((K * L).sum() + middle - 2 / (n - 2) * (one @ K @ L @ one))

    expected = hsic(x, y) / (hsic(x, x) * hsic(y, y)) ** 0.5
    assert kernel_alignment.cka(x, y).item() == pytest.approx(expected, abs=1e-10)
    flat = torch.ones(9, 2)
    assert torch.isnan(kernel_alignment.cka(x, flat.double()))
    with pytest.raises(ShapeError, match="at least 4"):
        kernel_alignment.cka_matrix([x, y[:5]])


# -- crosstalk --------------------------------------------------------------------------------------------


def test_the_cosine_of_random_pairs_is_that_of_the_formula():
    keys, values = (torch.nn.functional.normalize(drawn(64, 64, seed=s), dim=-1) for s in (0, 1))
    read = crosstalk.fidelity(keys @ crosstalk.write_pairs(keys, values), values)
    assert read.mean().item() == pytest.approx(0.710, abs=0.02)  # the reference simulation has 0.713
    assert crosstalk.predicted_fidelity(64, 64) == pytest.approx(0.710, abs=5e-4)
    assert crosstalk.predicted_fidelity(256, 64) == pytest.approx(0.448, abs=5e-4)
    assert crosstalk.predicted_fidelity(256, 64, copies=4) == crosstalk.predicted_fidelity(256, 256)


def test_the_delta_rule_is_exact_where_there_are_as_many_dimensions_as_pairs():
    keys, values = torch.eye(3), drawn(3, 2)
    assert torch.allclose(keys @ crosstalk.correct_pairs(keys, values), values)
    close = torch.nn.functional.normalize(torch.eye(3) + 0.4, dim=-1)
    plain = crosstalk.fidelity(close @ crosstalk.write_pairs(close, values), values)
    delta = crosstalk.fidelity(close @ crosstalk.correct_pairs(close, values, sweeps=100), values)
    assert delta.min() > 0.9999 > plain.min()


def test_keys_spread_over_three_of_five_axes_have_three_dimensions():
    keys = torch.zeros(6, 5)
    keys[torch.arange(6), torch.arange(6) // 2] = torch.tensor([1.0, -1.0]).repeat(3)
    assert crosstalk.effective_dimension(keys).item() == pytest.approx(3)
    assert torch.isnan(crosstalk.effective_dimension(torch.ones(4, 2)))
    # centred one-hot values: a key gives its own value minus that of the opposite key
    values = torch.eye(6)
    read, right = torch.tensor([1.0, -1, 0, 0, 0, 0]), torch.tensor([5.0, -1, -1, -1, -1, -1])
    expected = (read @ right / (read.norm() * right.norm())).item()
    assert crosstalk.retrieval_fidelity(keys, values).tolist() == pytest.approx([expected] * 6)


# -- capacity ---------------------------------------------------------------------------------------------


def test_the_worst_values_make_the_sum_of_overlaps():
    keys = torch.nn.functional.normalize(torch.tensor([[[1.0, 0.0], [0.0, 1.0], [3.0, 4.0]]]), dim=-1)
    assert memory_capacity.worst_error(keys)[0].tolist() == pytest.approx([0.6, 0.8, 1.4])
    # values along one axis, signed by the overlaps of the last key: it reads its own and 1.4 more
    values = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]])
    read = keys @ crosstalk.write_pairs(keys, values)
    assert read[0, 2].tolist() == pytest.approx([2.4, 0.0])
    assert (
        memory_capacity.capacity_of_worst(keys[0], 0.9) == 2
        and memory_capacity.capacity_of_worst(keys[0], 1.5) == 3
    )
    assert np.isnan(memory_capacity.capacity([0.9, 0.8], [1, 2], 0.5))


def test_copies_average_and_layers_multiply_as_the_formulas_say():
    own, same = (memory_capacity.by_copies(64, 64, 4, own_keys=own, draws=8) for own in (True, False))
    assert own.mean().item() == pytest.approx((1 + 63 / 256) ** -0.5, abs=0.02)
    assert same.mean().item() == pytest.approx((1 + 63 / 64) ** -0.5, abs=0.02)
    deep = memory_capacity.by_layers(64, 64, 3, draws=8)
    for layers, found in enumerate(deep, start=1):
        assert found.mean().item() == pytest.approx(memory_capacity.layers_fidelity(64, 64, layers), abs=0.02)
    assert memory_capacity.layers_fidelity(65, 64, 4) == 0.25
