"""Agents and the patterns of heads, by hand; the study of them at a small size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from workbench.core.errors import OptionError
from workbench.engine.decode_time import processor_seconds
from workbench.heads.agent_patterns import agent_made, head_agents, missed
from workbench.papers import agent_attention as study
from workbench.papers.kinds import Setting
from workbench.training.mixers.agents import costs_by_length, power_of_length
from workbench.training.mixers.arm_states import agents_apart, pattern_ranks
from workbench.training.mixers.arms.agent_counts import AGENTS
from workbench.training.mixers.lab import Lab


def test_one_agent_hands_every_query_the_same_and_misses_the_rest():
    q, k = torch.randn(5, 4), torch.randn(6, 4)
    made = agent_made(q, k, torch.zeros(1, 4))
    assert torch.allclose(made, torch.full((5, 6), 1 / 6))
    eye = torch.eye(4)
    assert float(missed(eye, torch.full((4, 4), 0.25))) == pytest.approx(np.sqrt(3 / 4))
    assert float(missed(eye, eye)) == 0


def test_heads_of_a_model_are_read_and_no_agents_beat_the_best_of_their_rank(bridge_of):
    read = head_agents(bridge_of("gpt2"), texts=2, tokens=8, counts=(1, 3))
    assert read.pooled.shape == (2, len(read.heads), 2) and not read.why
    # the best of a rank is best where nothing is taken out of the product; under a causal mask only nearly
    assert (read.best[0] >= read.best[1]).all() and (read.pooled > 0).all()


def test_heads_with_rotary_positions_are_left_out_with_the_reason(bridge_of):
    assert "made again" in head_agents(bridge_of("llama"), texts=1, tokens=8, counts=(1,)).why


def test_what_agents_hand_on_is_their_own_pattern_and_not_that_of_more_agents_and_bounds_the_rank():
    torch.manual_seed(0)
    model, ids = Lab(AGENTS.arms["2 agents"]), torch.randint(0, 64, (3, 24))
    assert agents_apart(model, ids, 2).max() < 1e-4 < 1e-3 < agents_apart(model, ids, 4).min()
    assert pattern_ranks(model, ids).tolist() == [2.0] * 3
    assert pattern_ranks(Lab(AGENTS.arms["softmax"]), ids).min() > 4


def test_costs_are_counted_by_length_and_every_run_of_a_try_is_made():
    rows = costs_by_length((16, 32), agents=4, d_head=8)
    assert [row["agents, multiply-adds"] for row in rows] == [4 * 16 * 4 * 8, 4 * 32 * 4 * 8]
    assert power_of_length(rows, "softmax, multiply-adds") == pytest.approx(2.0)
    made = []
    assert processor_seconds(lambda: made.append(1), tries=2, each=3) >= 1e-7 and len(made) == 6


@pytest.fixture(scope="module")
def measured(bridge_of):
    sizes = study.AgentSizes(
        rows=6, texts=2, tokens=8, readout=(1, 2), lengths=(16, 32), retrain=True, steps=2
    )
    return study.REPLICATION.run(Setting(model=bridge_of("gpt2"), name="tiny", options=sizes, seed=3))


def test_arms_that_did_not_learn_decide_nothing_and_identities_hold(measured):
    identity, rank, grows, *_ = measured.claims
    assert len(measured.claims) == len(study.CLAIMS)
    assert (identity.verdict, rank.verdict, grows.verdict) == ("holds", "holds", "cannot be tested here")
    assert grows.why.startswith("softmax, the reference, answers")


def test_steps_without_a_training_anew_are_refused(bridge_of):
    sizes = study.AgentSizes(steps=5)
    with pytest.raises(OptionError, match="training anew"):
        study.REPLICATION.run(Setting(model=bridge_of("gpt2"), name="tiny", options=sizes))
