"""Mixture of heads: routers by hand, on models of several families, tuned, kept and judged."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

import workbench as wb
from benchmarks.both_ways import MIXTURE, planted_routers, verdicts
from tests.integration.test_edits import run, seen
from workbench.core.errors import ModelError, OptionError, ShapeError
from workbench.edits.file import load_edit, save_edit
from workbench.edits.head_routing import (
    drawn_scores,
    keep_most,
    load_balance,
    straight_through,
    two_stage_weights,
    watched,
)
from workbench.edits.off import turn_off
from workbench.edits.route_heads import RouteHeads
from workbench.papers import mixture_of_heads as paper
from workbench.papers.kinds import Setting
from workbench.training import routed_arms
from workbench.training.mixers.head_gates import MixtureOfHeads
from workbench.training.mixers.plugs import Content, Width
from workbench.training.routed_heads import ARMS, HeadTuning, attention_weights, tune_heads

DRAWN = torch.Generator().manual_seed(13)
ALL = ("a0", "a1", "a2")


@cache
def stdlib():
    return wb.open_model("zoo:stdlib", device="cpu")


def test_load_balance_is_k_where_use_is_even_and_e_where_all_tokens_go_to_the_same():
    tokens = 8
    even = torch.full((1, tokens, 8), 1 / 8)
    turns = torch.zeros(1, tokens, 8, dtype=torch.bool)
    for t in range(tokens):
        turns[0, t, [t, (t + 1) % 8]] = True
    assert load_balance(even, turns).item() == pytest.approx(2.0)
    same = torch.zeros(1, tokens, 8, dtype=torch.bool)
    same[..., [2, 5]] = True
    assert load_balance(same / 2, same).item() == pytest.approx(8.0)


def test_weights_in_two_stages_by_hand():
    routed = torch.log(torch.tensor([[[0.2, 0.5, 0.3]]]))
    own, others, routing = two_stage_weights(
        routed, torch.zeros(1, 1, 2), torch.tensor([[[1.0, 3.0]]]).log(), 2
    )
    # K p / sum p over the two largest, times 2 * 3/4; shared: 2 * 1/2, times 2 * 1/4
    assert torch.allclose(own, torch.tensor([[[0.0, 1.5 * 2 * 0.5 / 0.8, 1.5 * 2 * 0.3 / 0.8]]]).float())
    assert torch.allclose(others, torch.full((1, 1, 2), 0.5)) and routing.chosen.tolist() == [
        [[False, True, True]]
    ]


def test_with_equal_logits_weights_sum_to_what_stays_and_all_active_is_plain_attention():
    for active, routed in ((2, 5), (5, 5)):
        own, others, _ = two_stage_weights(
            torch.zeros(1, 3, routed), torch.zeros(1, 3, 2), torch.zeros(1, 3, 2), active
        )
        assert torch.allclose(own.sum(-1) + others.sum(-1), torch.full((1, 3), 2.0 + active))
    assert torch.allclose(own, torch.ones(1, 3, 5)) and torch.allclose(others, torch.ones(1, 3, 2))
    gate = MixtureOfHeads(Width(d_model=6, n_heads=4, d_head=3), shared=1, active=3)
    for read in gate.read:
        torch.nn.init.zeros_(read.weight)
    x = torch.randn(2, 5, 6, generator=DRAWN)
    z = torch.randn(2, 5, 4, 3, generator=DRAWN)
    assert torch.allclose(gate(Content(x=x, q=z, k=z, v=z), z), torch.ones(2, 5, 4, 1), atol=1e-6)
    assert gate.balance().item() == pytest.approx(3.0)
    with pytest.raises(OptionError, match="2 shared and 3 active heads of 4"):
        MixtureOfHeads(Width(d_model=6, n_heads=4, d_head=3), shared=2, active=3)


def test_a_step_passes_the_slope_of_the_softmax_to_the_scores():
    scores, same = (torch.tensor([[[3.0, 1.0, 0.5]]], requires_grad=True) for _ in range(2))
    weights, _ = straight_through(scores, 2)
    assert weights.tolist() == [[[1.0, 1.0, 0.0]]]
    (slope,) = torch.autograd.grad(weights[..., 0].sum(), scores)
    soft = 3 * (same / same.std(unbiased=False)).softmax(-1)
    (wanted,) = torch.autograd.grad(soft[..., 0].sum(), same)
    assert torch.allclose(slope, wanted, atol=1e-5) and bool(wanted.any())


@pytest.mark.parametrize("name", ["gpt2", "llama", "opt"])
def test_routing_by_queries_is_a_loop_over_tokens(bridge_of, name):
    model = bridge_of(name)
    q, z = seen(model, "q", 1), seen(model, "head-output", 1)
    n = z.shape[2]
    heads = tuple(f"a1.h{h}" for h in range(1, n))
    with RouteHeads(heads=heads, active=2).on(model), watched() as found:
        routed = seen(model, "head-output", 1)
    for row in range(len(z)):
        for pos in range(z.shape[1]):
            norms = [float(q[row, pos, h].norm()) for h in range(1, n)]
            kept = {0, *(1 + i for i in sorted(range(n - 1), key=lambda i: -norms[i])[:2])}
            wanted = torch.stack([z[row, pos, h] * (h in kept) for h in range(n)])
            assert torch.allclose(routed[row, pos], wanted, atol=1e-6)
    assert {one.layer for one in found} == {1} and found[0].chosen.sum(-1).unique().tolist() == [2]


@pytest.mark.parametrize("name", ["gpt2", "llama", "mistral"])
def test_all_heads_active_is_the_model_and_afterwards_it_is_as_it_was(bridge_of, name):
    model = bridge_of(name)
    plain, n = run(model), model.cfg.n_heads
    for by in ("query-norm", "random", "first"):
        with RouteHeads(heads=ALL, active=n, by=by).on(model):
            assert torch.equal(run(model), plain)
    with RouteHeads(heads=ALL, active=1).on(model):
        assert not torch.allclose(run(model), plain)
    assert torch.equal(run(model), plain)


def test_the_same_heads_always_are_heads_turned_off(bridge_of):
    model = bridge_of("gpt2")
    with RouteHeads(heads=("a1.h3", "a1.h1", "a1.h2"), active=2, by="first").on(model):
        found = run(model)
    with turn_off(model, ["a1.h2"], mode="zero").on(model):
        assert torch.allclose(found, run(model), atol=1e-6)


def test_a_row_is_routed_alike_in_every_batch(bridge_of):
    model = bridge_of("gpt2")
    ids = torch.randint(6, 90, (3, 8), generator=torch.Generator().manual_seed(4))
    with RouteHeads(heads=ALL, active=1, by="random", seed=2).on(model):
        assert torch.allclose(run(model, ids)[1], run(model, ids[1:2])[0], atol=1e-5)
        assert torch.allclose(run(model, ids[[2, 0, 1]])[0], run(model, ids)[2], atol=1e-5)
    assert not torch.equal(drawn_scores(ids, 4, 0), drawn_scores(ids, 4, 1))


def test_a_router_comes_back_from_its_file(bridge_of, tmp_path):
    model = bridge_of("gpt2")
    n, d = model.cfg.n_heads, model.cfg.d_model
    parts = {"routed": n - 1, "shared": 1, "stages": 2}
    routers = {f"a1.{part}": torch.randn(d, size, generator=DRAWN) for part, size in parts.items()}
    edit = RouteHeads(heads=tuple(f"a1.h{h}" for h in range(1, n)), active=1, by="learned", routers=routers)
    save_edit(edit, tmp_path / "routed")
    with edit.on(model):
        wanted = run(model)
    with load_edit(tmp_path / "routed").on(model):
        assert torch.equal(run(model), wanted)
    short = RouteHeads(heads=edit.heads, active=1, by="learned", routers={"a1.routed": routers["a1.routed"]})
    with pytest.raises(ShapeError, match="layer 1: the router's shared is none"), short.on(model):
        run(model)


def test_bad_input_is_refused(bridge_of):
    with pytest.raises(OptionError, match="active is 0"):
        RouteHeads(heads=("a0",), active=0)
    with pytest.raises(OptionError, match="one of query-norm"):
        RouteHeads(heads=("a0",), active=1, by="best")
    with pytest.raises(OptionError, match="needs routers"):
        RouteHeads(heads=("a0",), active=1, by="learned")
    many = RouteHeads(heads=("a1.h0",), active=2)
    with pytest.raises(OptionError, match="2 heads stay of 1 that are routed in layer 1"):
        many.on(bridge_of("gpt2")).__enter__()
    with pytest.raises(OptionError, match="3 of 2 heads stay"):
        keep_most(torch.zeros(1, 1, 2), 3)


def test_tuning_leaves_the_model_and_learns_only_what_is_routed(tmp_path):
    model = stdlib()
    tuning = HeadTuning(steps=3, windows=2, window=12)
    stream = np.random.default_rng(0).integers(6, 200, 400)
    before = {name: weight.detach().clone() for name, weight in attention_weights(model).items()}
    trainable = [p.requires_grad for p in model.parameters()]
    plain = run(model, torch.from_numpy(stream[None, :12]))
    arms = {arm: tune_heads(model, stream, arm, tuning, seed=3, begin=1) for arm in ARMS}
    assert all(torch.equal(before[name], weight) for name, weight in attention_weights(model).items())
    assert [p.requires_grad for p in model.parameters()] == trainable
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(plain, run(model, torch.from_numpy(stream[None, :12])))
    assert all(any(bool(delta.any()) for delta in arm.deltas.values()) for arm in arms.values())
    windows = torch.from_numpy(stream[:48].reshape(4, 12))
    routed_arms.keep_tuned(model, {3: arms}, tuning, tmp_path)
    back = routed_arms.read_tuned(model, tuning, tmp_path)[3]
    for arm in ARMS:
        assert np.array_equal(back[arm].loss(model, windows), arms[arm].loss(model, windows))
    with pytest.raises(ModelError, match="another recipe"):
        routed_arms.read_tuned(model, HeadTuning(steps=4, windows=2, window=12), tmp_path)


def judged(learned: float, random: float, same: float, gain: float = 0.0):
    c = planted_routers(learned, random, same, gain)
    return verdicts(paper.CLAIMS, MIXTURE, c), paper.FIT[0].met(c)


def test_verdicts_go_both_ways():
    assert judged(0.02, 0.2, 0.1) == ([True, True, True], True)  # the effect is there
    assert judged(0.2, 0.2 - 0.01, 0.1) == ([False, False, False], True)  # controls do as well: it is not
    assert not judged(0.02, 0.2, 0.1, gain=0.1)[1]  # not converged: cannot be tested


def test_without_tuning_it_is_judged_on_any_model_and_says_what_is_missing():
    options = paper.MixtureSizes(windows=4, window=16, draws=2)
    found = paper.REPLICATION.run(Setting(model=stdlib(), name="another", options=options, seed=3))
    said = dict(zip(paper.CLAIMS, found.claims, strict=True))
    assert said["identity"].verdict == "holds"
    assert "--retrain tunes those of another" in said["back, learned"].why
