"""What generating text costs: the numbers of the paper's shapes, sums by hand, tables and plans made of them."""

from __future__ import annotations

import pytest

from workbench.core.errors import ModelError, OptionError
from workbench.engine.cost import passes_cost
from workbench.engine.generation_cost import generation_cost, kept_keys, kv_bytes
from workbench.methods.cost_on_paper import llama, tables
from workbench.model.outline import Outline, outline


def shape(parameters: float | None, layers: int, heads: int, kv_heads: int, d: int) -> Outline:
    return Outline(
        name="a shape", n_layers=layers, n_heads=heads, n_kv_heads=kv_heads, d_model=heads * d, d_head=d,
        n_parameters=None if parameters is None else int(parameters), attn_only=False, parallel=False,
        head_writes=True,
    )  # fmt: skip


def test_the_reference_model_has_the_reference_cost():
    found = generation_cost(shape(8.19e9, 36, 32, 8, 128), prompt=1_000, generated=10_000)
    assert found.flop / 1e12 == pytest.approx(199.19, abs=0.005)
    assert 562.5 * found.kv_bytes / 1e12 == pytest.approx(4_976.64, abs=0.005)
    assert found.equivalent / 1e12 == pytest.approx(5_175.83, abs=0.005)
    assert found.read_share == pytest.approx(4_976.64 / 5_175.83, abs=1e-5)


def test_keys_within_a_budget_are_the_sum_over_tokens():
    assert kept_keys(100, 5_000, 1_024) == 4_693_112
    by_hand = sum(min(1_024, 100 + i) for i in range(5_000))
    assert kept_keys(100, 5_000, 1_024) == pytest.approx(by_hand, rel=2e-4)
    assert kept_keys(100, 50, 40) == 2_000 and kept_keys(100, 50, 10_000) == kept_keys(100, 50)


def test_answers_share_the_reads_of_the_prompt_and_blocks_are_searched():
    model = shape(1_000, 1, 2, 1, 4)  # 8 numbers of queries and 4 of keys for each token
    one, three = (generation_cost(model, prompt=10, generated=4, trials=n) for n in (1, 3))
    assert one.flop == 2 * 1_000 * 4 + 2 * (2 * 10 + 4) * 4 * 8 and three.flop == 3 * one.flop
    assert one.kv_bytes == 2 * (2 * 10 + 4) * 4 * 4 and three.kv_bytes == 2 * (2 * 10 + 3 * 4) * 4 * 4
    free = generation_cost(model, prompt=10, generated=4, budget=6)
    blocks = generation_cost(model, prompt=10, generated=4, budget=6, block=2)
    assert free.kv_bytes == 4 * (6 * 4) * 4 and free.flop == 2 * 1_000 * 4 + 4 * 6 * 4 * 8
    assert (
        blocks.flop - free.flop == (24 // 2) * 4 * 8 and blocks.kv_bytes - free.kv_bytes == (24 // 2) * 4 * 4
    )


def test_what_cannot_be_counted_is_refused():
    model = shape(1_000, 1, 2, 1, 4)
    with pytest.raises(OptionError, match="budget is 0"):
        generation_cost(model, prompt=1, generated=1, budget=0)
    with pytest.raises(OptionError, match="under a budget"):
        generation_cost(model, prompt=1, generated=1, block=2)
    with pytest.raises(ModelError, match="not known"):
        generation_cost(shape(None, 1, 2, 1, 4), prompt=1, generated=1)


def test_tables_and_plans_come_from_the_same_model():
    big = llama("Llama-3-8B", 32, 32, 4096, 14_336)
    cost = generation_cost(big, prompt=1_000, generated=10_000)
    assert f"| Llama-3-8B | 10,000 | all | {cost.flop / 1e12:,.1f} | {cost.kv_bytes / 1e9:,.0f} |" in tables()
    small = outline("zoo:ioi")
    found = passes_cost(small, 3, [16, 16, 20])
    assert found.kv_mb * 1e6 == kv_bytes(small, 52, bytes_each=4)
    assert found.gflop * 1e9 == pytest.approx(3 * (2 * small.flop(16) + small.flop(20)))
