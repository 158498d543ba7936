"""The cost on paper: published parameter counts, passes and operations by hand, the page as the command writes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench.circuits.graph import Graph
from workbench.methods.cost_on_paper import PAGE, acdc, eap_ig, head_sweep, models, tables
from workbench.model.outline import Outline


def test_shapes_have_the_published_numbers_of_parameters():
    counts = [model.n_parameters for model in models()]
    assert counts == [124_439_808, 8_030_261_248, 70_553_706_496]


@pytest.fixture
def small() -> Outline:
    """Two layers of two heads of width 3, d_model 5, 100 block weights, 7 tokens in the vocabulary."""
    return Outline(
        name="small",
        n_layers=2,
        n_heads=2,
        n_kv_heads=2,
        d_model=5,
        n_parameters=200,
        attn_only=False,
        parallel=False,
        head_writes=True,
        n_block_parameters=100,
        d_head=3,
        d_vocab=7,
    )


def test_a_pass_by_hand(small):
    # two layers of 2*4*50 for weights and 4*16*6 for attention, then 2*5*7 for one unembedding
    assert small.flop(4) == 2 * (400 + 384) + 70
    assert small.flop(4, 1) == 784 + 70


def test_a_head_sweep_by_hand(small):
    job = head_sweep(small, pairs=3, tokens=4)
    assert job.forward == 3 * (4 + 2 * 1 + 2 * 0.5)
    assert job.flop == pytest.approx(3 * (4 * 1638 + 2 * 1638 + 2 * 854))


def test_searches_by_hand(small):
    found = eap_ig(small, pairs=3, tokens=4, steps=5)
    assert (found.forward, found.backward) == (3 * 7, 3 * 5)
    graph = Graph(small.shape("edge"))
    into_first = sum(int(n) for n, t in zip(graph.n_visible, graph.targets, strict=True) if t.layer == 0)
    tested = into_first + (graph.n_edges - into_first) / 2  # layer 1 and the logits: the last layer alone
    assert acdc(small, pairs=1, tokens=4).forward == 3 + tested


def test_the_page_has_the_tables_of_the_command():
    assert tables() in (Path(__file__).parents[2] / PAGE).read_text("utf-8")
