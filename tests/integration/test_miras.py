"""Streams for memories by hand; the study of memories at a small size."""

from __future__ import annotations

import pytest
import torch

from workbench.core.errors import OptionError
from workbench.papers import miras as study
from workbench.papers.kinds import Setting
from workbench.training.mixers.associative import store
from workbench.training.mixers.memory_streams import (
    best_rate,
    drawn_pairs,
    head_pairs,
    recalled,
    with_outliers,
)


def test_an_orthonormal_memory_recalls_everything_and_an_empty_one_nothing():
    keys, values = torch.eye(4).double()[None], torch.randn(1, 4, 3).double()
    assert torch.allclose(recalled(store("delta", keys, values), keys, values), torch.ones(1, 4).double())
    assert recalled(torch.zeros(1, 3, 4).double(), keys, values).tolist() == [[0.0] * 4]


def test_outliers_are_as_many_and_as_long_as_asked():
    keys, values = drawn_pairs(6, 5, streams=3, seed=1)
    assert torch.allclose(keys.norm(dim=-1), torch.ones(3, 6).double())
    long, places = with_outliers(values, many=2, size=10, seed=2)
    lengths = long.norm(dim=-1)
    assert torch.allclose(
        lengths.sort(dim=1).values, torch.tensor([1.0, 1, 1, 1, 10, 10]).double().expand(3, -1)
    )
    assert torch.allclose(lengths.gather(1, places), torch.full((3, 2), 10.0).double())
    with pytest.raises(OptionError, match="6 outliers among 6"):
        with_outliers(values, many=6, size=2, seed=0)


def test_the_best_rate_of_orthonormal_keys_is_one():
    keys = torch.eye(4).double()[None]
    assert best_rate("huber", keys, 3 * torch.randn(1, 4, 4).double()) in (0.01, 0.03, 0.1, 0.3, 1.0)
    repeated, values = keys.repeat(1, 2, 1), torch.randn(1, 8, 4).double()
    values[:, 4:] = values[:, :4]  # each pair twice: a full step recalls the last exactly
    assert best_rate("delta", repeated, values, rates=(0.5, 1.9)) == 0.5


def test_heads_are_memories_with_keys_of_length_one(bridge_of):
    heads, keys, values = head_pairs(bridge_of("llama"), texts=2, tokens=7)
    model = bridge_of("llama")
    groups = model.cfg.n_key_value_heads or model.cfg.n_heads
    assert len(heads) == model.cfg.n_layers * groups and keys.shape == (len(heads), 2, 7, model.cfg.d_head)
    assert (
        torch.allclose(keys.norm(dim=-1), torch.ones(keys.shape[:-1]).double()) and values.shape == keys.shape
    )


def test_the_study_at_a_small_size(bridge_of):
    sizes = study.MemorySizes(
        rows=3, streams=8, d=8, few=6, outliers=1, texts=2, tokens=6, retrain=True, steps=1
    )
    found = study.REPLICATION.run(Setting(model=bridge_of("gpt2"), name="tiny", options=sizes, seed=3))
    verdicts = dict(zip(study.CLAIMS, (claim.verdict for claim in found.claims), strict=True))
    assert {verdicts["stores"], verdicts["retention"]} <= {"holds", "fails"}
    assert verdicts["moneta"] == verdicts["scale"] == "cannot be tested here"
