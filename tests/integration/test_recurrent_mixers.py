"""Recurrent layers step by step and in parallel, agents by hand, and memories with a known answer."""

from __future__ import annotations

from functools import partial
from math import exp

import pytest
import torch

from workbench.core.errors import OptionError
from workbench.heads.pattern_rank import agent_pattern
from workbench.training.mixers import scores
from workbench.training.mixers.agents import (
    LearnedAgents,
    PooledAgents,
    agent_outputs,
    causal_agent_pattern,
)
from workbench.training.mixers.associative import (
    MatrixMemory,
    huber_gradient,
    lp_gradient,
    start,
    step,
    store,
)
from workbench.training.mixers.lab import Lab, LabShape
from workbench.training.mixers.normalisers import LearnedNormaliser, normalised, taylor, unnormalised
from workbench.training.mixers.plugs import Content, Plugs, Width
from workbench.training.mixers.recurrent import (
    Decayed,
    Delta,
    decayed_pattern,
    delta_pattern,
    recurrent_delta,
    recurrent_outputs,
)

DRAWN = torch.Generator().manual_seed(7)
B, T, H, D = 2, 11, 2, 4


def normal(*shape):
    return torch.randn(*shape, generator=DRAWN, dtype=torch.float64)


def content(n=T):
    x, (q, k, v) = normal(B, n, 8), (normal(B, n, H, D) for _ in range(3))
    return Content(x=x, q=q, k=k, v=v)


def applied(pattern, v):
    return torch.einsum("bhqk,bkhe->bqhe", pattern, v)


def products(c):
    return torch.einsum("bqhe,bkhe->bhqk", c.q, c.k)


def test_a_decaying_state_step_by_step_is_its_pattern():
    c, f, i = content(), torch.rand(B, H, T).double() * 0.9 + 0.05, torch.rand(B, H, T).double()
    parallel = applied(decayed_pattern(products(c), f, i), c.v)
    assert torch.allclose(parallel, recurrent_outputs(c.q, c.k, c.v, f, i), atol=1e-10)


def test_linear_attention_is_a_state_whose_transition_is_one():
    c, ones = content(), torch.ones(B, H, T).double()
    visible = torch.ones(T, T, dtype=torch.bool).tril()[None, None]
    parallel = applied(unnormalised(products(c), visible, c), c.v)
    assert torch.allclose(parallel, recurrent_outputs(c.q, c.k, c.v, ones, ones), atol=1e-10)


def test_normalised_linear_attention_has_the_ratio_of_its_normalisers_as_transition():
    c = content()
    n = torch.rand(B, H, T).double() + 0.5  # a normaliser eta(u_i) of each step
    before = torch.cat([n[..., :1], n[..., :-1]], dim=-1)
    states = recurrent_outputs(c.q, c.k, c.v, before / n, 1 / n)
    parallel = applied((products(c) / n[..., None]).tril(), c.v)
    assert torch.allclose(parallel, states, atol=1e-9)


def test_the_delta_rule_by_one_triangular_solve_is_its_loop():
    c, beta = content(), torch.rand(B, H, T).double()
    keys = torch.einsum("bqhe,bkhe->bhqk", c.k, c.k)
    parallel = applied(delta_pattern(products(c), keys, beta), c.v)
    assert torch.allclose(parallel, recurrent_delta(c.q, c.k, c.v, beta), atol=1e-8)


def test_a_gate_is_a_sigmoid_or_its_reverse():
    x = normal(1, 3, 8).float()
    for kind in ("lstm", "reversed", "tied"):
        mix = Decayed(Width(d_model=8, n_heads=2, d_head=4), kind=kind)
        transition, gain = mix.gates(x)
        drive = mix.forget(x)[0, 0, 0].item()
        found = 1 / (1 + exp(-drive if kind == "lstm" else drive))
        assert transition[0, 0, 0].item() == pytest.approx(found, rel=1e-5) and (gain > 0).all()
    assert mix.gates(x)[1][0, 0, 0].item() == pytest.approx(-transition[0, 0, 0].log().item(), rel=1e-4)


def test_rows_of_a_taylor_pattern_are_positive_and_sum_to_one():
    c, visible = content(), torch.ones(T, T, dtype=torch.bool).tril()[None, None]
    found = taylor(products(c), visible, c)
    assert (found[..., visible[0, 0]] > 0).all() and torch.allclose(
        found.sum(-1), torch.ones(B, H, T).double()
    )
    assert torch.allclose(
        taylor(0.001 * products(c), visible, c),
        (0.001 * products(c)).masked_fill(~visible, -9e9).softmax(-1),
        atol=1e-6,
    )


@pytest.mark.parametrize("n", [1, 3, T])
def test_agents_hand_on_what_their_pattern_gives(n):
    c = content()
    pattern = agent_pattern(c.q.transpose(1, 2), c.k.transpose(1, 2), n)
    assert torch.allclose(agent_outputs(c.q, c.k, c.v, n), applied(pattern, c.v), atol=1e-12)


def test_agents_of_a_mix_are_those_of_a_head():
    model = Lab(shape_of(Plugs(mix=partial(PooledAgents, n=2)), causal=False))
    _, cache = model.run_with_cache(IDS)
    q, k = (cache[f"blocks.0.attn.hook_{name}"].transpose(1, 2) for name in "qk")
    middle = torch.stack([q[:, :, :5].mean(2), q[:, :, 5:].mean(2)], dim=2)  # 9 queries: stretches of 5 and 4
    wanted = (q @ middle.mT / 2).softmax(-1) @ (middle @ k.mT / 2).softmax(-1)
    assert torch.allclose(cache["blocks.0.attn.hook_pattern"], wanted, atol=1e-6)


def test_causal_agents_see_nothing_ahead():
    c = content()
    found = causal_agent_pattern(c.q, c.k, normal(1, 3, H, D).expand(B, -1, -1, -1))
    assert torch.allclose(found.sum(-1), torch.ones(B, H, T).double()) and (found.triu(1) == 0).all()
    ahead = torch.cat([c.k[:, :5], normal(B, T - 5, H, D)], dim=1)
    agents = normal(1, 3, H, D).expand(B, -1, -1, -1)
    same = (
        causal_agent_pattern(c.q, c.k, agents)[:, :, :5],
        causal_agent_pattern(c.q, ahead, agents)[:, :, :5],
    )
    assert torch.allclose(*same, atol=1e-12)


def test_agents_that_cannot_be_are_refused():
    with pytest.raises(OptionError, match="agents is 12; 1 to 9"):
        Lab(shape_of(Plugs(mix=partial(PooledAgents, n=12)), causal=False))(IDS)
    with pytest.raises(OptionError, match="a mask forbids"):
        Lab(shape_of(Plugs(mix=partial(PooledAgents, n=2))))(IDS)


IDS = torch.randint(0, 7, (3, 9), generator=DRAWN)


def shape_of(plugs, **changes):
    given = {"n_ctx": 9, "n_out": 7, "d_vocab": 7, "d_model": 8, "n_heads": 2, "d_head": 4}
    return LabShape(layers=(plugs, plugs), **{**given, **changes})


MIXERS = {
    "taylor": Plugs(score=scores.dot_product, mix=taylor),
    "key-only": Plugs(score=scores.key_only, mix=normalised),
    "features": Plugs(score=partial(scores.RandomFeatures, n=8), mix=normalised),
    "learned normaliser": Plugs(score=scores.elu_features, mix=partial(LearnedNormaliser, kind="softplus")),
    "quasi-LSTM": Plugs(score=scores.plain_product, mix=partial(Decayed, kind="lstm")),
    "state space": Plugs(score=scores.plain_product, mix=partial(Decayed, kind="tied")),
    "delta": Plugs(score=scores.plain_product, mix=Delta, unit=True),
    "agents": Plugs(mix=partial(LearnedAgents, n=3)),
    **{
        rule: Plugs(memory=partial(MatrixMemory, rule=rule), unit=True)
        for rule in ("hebb", "lp", "huber", "kl")
    },
}


@pytest.mark.parametrize("name", MIXERS)
def test_no_mixer_sees_ahead_and_all_that_are_linear_in_the_values_have_a_pattern(name):
    model, other = Lab(shape_of(MIXERS[name])), IDS.clone()
    other[:, 5:] = (other[:, 5:] + 1) % 7
    assert torch.allclose(model(IDS)[:, :5], model(other)[:, :5], atol=1e-5)
    assert set(model.patterns(IDS)) == (set() if MIXERS[name].memory else {0, 1})


def test_random_features_come_near_to_softmax_as_they_grow():
    c, errors = content(), []
    c = Content(x=c.x, q=c.q / 2, k=c.k / 2, v=c.v)
    for n in (8, 512, 32768):
        score = scores.RandomFeatures(Width(d_model=8, n_heads=H, d_head=D), n=n).double()
        errors.append(float((score(c).log() - products(c) / 2).abs().mean()))
    assert errors[0] > 3 * errors[1] > 9 * errors[2] > 0


def test_the_delta_rule_recalls_orthonormal_keys_exactly():
    keys, values = torch.eye(6).double()[None, :5], normal(1, 5, 3)
    state = store("delta", keys, values)
    assert torch.allclose(torch.einsum("svk,snk->snv", state, keys), values)
    assert torch.allclose(
        store("hebb", keys, values), state
    )  # nothing was stored under any of the keys before


def test_two_steps_of_the_delta_rule_on_one_key_keep_the_last_value():
    keys, values = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]]), torch.tensor([[[3.0], [5.0]]])
    assert store("delta", keys, values)[0].tolist() == [[5.0, 0.0]]
    assert store("hebb", keys, values)[0].tolist() == [[8.0, 0.0]]
    assert store("delta", keys, values, keep=0.5)[0].tolist() == [[3.5, 0.0]]  # 1.5 - (3 - 5)


def test_one_huge_value_moves_huber_by_its_width_and_squared_error_by_itself():
    keys, values = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[3e4, 4e4]]])
    assert store("huber", keys, values, delta=2.0)[0, :, 0].norm().item() == pytest.approx(2, rel=1e-5)
    assert store("delta", keys, values)[0, :, 0].norm().item() == pytest.approx(5e4, rel=1e-5)
    assert huber_gradient(torch.tensor([0.3, 0.4]), delta=1.0).tolist() == pytest.approx([0.3, 0.4])
    assert lp_gradient(torch.tensor([2.0, -1.0])).tolist() == pytest.approx([12.0, -3.0], rel=1e-3)


def test_rows_of_a_memory_of_shares_stay_shares():
    state = start("kl", torch.zeros(3, 4), 2)
    for _ in range(5):
        drawn = {"rate": torch.ones(3), "keep": torch.full((3,), 0.9)}
        state = step(
            "kl", state, torch.randn(3, 4, generator=DRAWN), torch.randn(3, 2, generator=DRAWN), **drawn
        )
    assert torch.allclose(state.sum(-1), torch.ones(3, 2), atol=1e-5) and (state >= 0).all()


def test_an_unknown_rule_is_refused(unchecked):
    with pytest.raises(OptionError, match="did you mean huber"):
        store("hubert", torch.zeros(1, 1, 2), torch.zeros(1, 1, 2))
