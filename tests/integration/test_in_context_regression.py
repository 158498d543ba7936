"""The regression replication: bridge equal to the formula, training to the networks, verdicts that go both ways."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformer_lens import TransformerBridgeConfig

import workbench as wb
from workbench.commands.do import do
from workbench.commands.replicate import replicate_all, replicate_job
from workbench.core.claims import UNTESTABLE
from workbench.core.errors import OptionError, RunError
from workbench.model.native import boot_native
from workbench.model.open import open_model
from workbench.papers.in_context_regression import CLAIMS, REPLICATION, RegressionSizes, of_matrices
from workbench.papers.kinds import Setting
from workbench.papers.kit import Conditions, judge_all
from workbench.papers.registry import PAPERS
from workbench.training.regression import (
    Networks,
    Training,
    build,
    matrices,
    predict,
    tensors,
    train_networks,
    train_with_seeds,
    unfit,
    untrained_shape,
)
from workbench.training.regression_theory import (
    best_debiased,
    best_gd,
    best_step_risk,
    draw,
    matrices_in_shape,
    pairs_among,
    predictors,
    softmax_pair,
)

TINY = ("draws=400", "networks=2", "seeds=1", "steps=60", "lengths=10,40")


@pytest.fixture(scope="module")
def zoo():
    return open_model("zoo:regression", device="cpu")


def bridge_of(kq, ov):
    config, weights = build(torch.as_tensor(kq), torch.as_tensor(ov)).native()
    config |= {"dtype": torch.float32, "device": None}
    return boot_native(TransformerBridgeConfig.from_dict(config), weights)


def test_where_networks_end_by_hand():
    omega = np.array([[[0.1, -0.1], [0.1, 0.1]], [[0.5, -0.5], [0.5, 0.5]]])  # (time, network, head)
    mu = np.array([[[1.0, -1.0], [-1.0, -1.0]], [[3.0, -3.0], [-9.0, -9.0]]])
    loss = np.array([[1.0, 1.0], [0.5, 0.5]])
    found = Training(networks=Networks(2, 2), steps=[0, 50], loss=loss, omega=omega, mu=mu, seconds=0.0)
    assert found.matched_at_start.tolist() == found.matched_early.tolist() == [True, False]
    assert found.pairs(zero_sum=0.1).tolist() == [True, False]
    assert found.settled(0.5, 3.1, within=0.1).tolist() == [True, False]


def test_the_bridge_computes_the_networks_function():
    networks = Networks(3, 2, seed=4).requires_grad_(False)
    tokens, _ = tensors(draw(np.random.default_rng(0), 20, length=7))
    for i in range(3):
        bridge = bridge_of(networks.kq[i], networks.ov[i])
        assert torch.allclose(predict(bridge, tokens), networks(tokens)[i], atol=1e-5)
        kq, ov = matrices(bridge)
        assert np.allclose(kq, networks.kq[i], atol=1e-6) and np.allclose(ov, networks.ov[i], atol=1e-6)


def test_networks_are_the_formula_written_out():
    networks = Networks(1, 2, seed=1).requires_grad_(False)
    tokens, _ = tensors(draw(np.random.default_rng(3), 2, length=5))
    q, k, v, o = (p[0].double() for p in (networks.q, networks.k, networks.v, networks.o))
    for b in range(2):
        z, query = tokens[b, :-1].double(), tokens[b, -1].double()
        total = 0.0
        for h in range(2):
            scores = torch.stack([(k[h] @ z[i]) @ (q[h] @ query) / 6**0.5 for i in range(5)])
            total += float(o[h] @ v[h] @ (scores.softmax(0) @ z))
        assert networks(tokens)[0, b].item() == pytest.approx(total, abs=1e-5)


def test_the_shipped_model_is_its_two_numbers_per_head(zoo):
    prompts = draw(np.random.default_rng(9), 500)
    found = matrices_in_shape(*matrices(zoo))
    formula = softmax_pair(prompts, found["omega"], found["mu"])
    here = predict(zoo, tensors(prompts)[0]).numpy()
    assert np.corrcoef(formula, here)[0, 1] > 0.99
    assert not [hook for _, hook in zoo.named_modules() if getattr(hook, "fwd_hooks", None)]


def test_training_goes_on_the_same_way_for_a_seed_and_learns():
    one, two = (train_networks(2, 2, steps=150, seed=5) for _ in range(2))
    assert (one.loss == two.loss).all() and (one.loss[-1] < 0.9 * one.loss[0]).all()


def test_networks_of_several_seeds_are_each_as_if_trained_by_themselves():
    both = train_with_seeds(2, 1, seeds=(5, 6), steps=100)
    alone = [train_networks(2, 1, seed=seed, steps=100) for seed in (5, 6)]
    tokens, _ = tensors(draw(np.random.default_rng(0), 10))
    apart = torch.cat([part.networks(tokens) for part in alone])
    assert torch.allclose(both.networks(tokens), apart, atol=1e-6)
    assert (both.loss == np.concatenate([part.loss for part in alone], axis=1)).all()
    assert len(both.to_rows()) == 4 and both.to_rows()[3]["loss"] == alone[1].loss[-1, 1]


def test_formulas_stand_beside_the_model_under_their_names():
    prompts = draw(np.random.default_rng(1), 50, length=9)
    found = predictors(prompts, np.array([0.1, -0.1]), np.array([3.0, -3.0]))
    centred = prompts.x - prompts.x.mean(1, keepdims=True)
    by_hand = [
        0.6 / 9 * sum(y * x @ q for y, x in zip(ys, xs, strict=True))
        for ys, xs, q in zip(prompts.y, centred, prompts.query, strict=True)
    ]  # eta = 0.1 * 3 + 0.1 * 3
    assert found["debiased step, same eta"] == pytest.approx(np.array(by_hand))
    weights = np.exp(prompts.x[0] @ prompts.query[0] * 0.1), np.exp(-0.1 * (prompts.x[0] @ prompts.query[0]))
    pair = 3 * sum(sign * (w / w.sum()) @ prompts.y[0] for sign, w in zip((1, -1), weights, strict=True))
    assert found["its formula"][0] == pytest.approx(pair)


def test_the_best_step_is_found_on_one_half_and_judged_on_the_other():
    prompts = draw(np.random.default_rng(2), 20_000)
    assert best_step_risk(prompts, debiased=False) == pytest.approx(best_gd()[1], rel=0.03)
    assert best_step_risk(prompts, debiased=True) == pytest.approx(best_debiased()[1], rel=0.03)


def test_networks_that_were_not_trained_have_no_form():
    chance = untrained_shape(0)
    assert chance["off_diagonal"] > 0.8 and chance["leakage"] > 0.8 and 0.3 < chance["sign_agreement"] < 0.7


def test_pairs_are_found_among_networks():
    omega = np.array([[0.1, -0.1], [0.1, 0.1], [0.1, -0.1]])
    mu = np.array([[3.0, -3.0], [3.0, 3.0], [3.0, -1.0]])
    assert pairs_among(omega, mu, zero_sum=0.1).tolist() == [True, False, False]


MATRICES = ("diagonal", "last", "signs", "homogeneous", "zero", "gamma")


def judged(shape, chance):
    c = Conditions()
    of_matrices(c, shape, chance)
    return judge_all({name: CLAIMS[name] for name in MATRICES}, c)


def verdicts(claims):
    return {claim.claim: claim.verdict for claim in claims}


def test_verdicts_of_the_matrices_go_both_ways():
    kq, ov = np.zeros((2, 6, 6)), np.zeros((2, 6))
    for h, sign in enumerate((1, -1)):
        kq[h, :5, :5], ov[h, -1] = sign * 0.13 * np.eye(5), sign * 3.45
    chance = {"off_diagonal": 0.9, "leakage": 0.9, "sign_agreement": 0.5, "homogeneity": 0.5, "zero_sum": 0.5}
    planted = verdicts(judged(matrices_in_shape(kq, ov), chance))
    assert set(planted.values()) == {"holds"}
    ov[1] = -ov[1]  # the same sign: the pair is gone
    broken = verdicts(judged(matrices_in_shape(kq, ov), chance))
    changed = {claim for claim in planted if planted[claim] != broken[claim]}
    assert changed == {"the signs of KQ and OV match in every head", "OV sums to zero over heads"}


def test_a_network_that_was_not_trained_fails_where_a_trained_one_holds(zoo):
    options = RegressionSizes(draws=400, networks=2, seeds=1, steps=0, lengths=(10, 40))
    networks = Networks(1, 2, seed=0).requires_grad_(False)
    untrained = bridge_of(networks.kq[0], networks.ov[0])
    fresh = REPLICATION.run(Setting(model=untrained, name="untrained", options=options))
    trained = REPLICATION.run(Setting(model=zoo, name="zoo:regression", options=options))
    for claim in ("KQ is a multiple of the identity", "their risk is that of the best debiased step"):
        assert (verdicts(trained.claims)[claim], verdicts(fresh.claims)[claim]) == ("holds", "fails")


def test_another_model_cannot_be_asked(zoo):
    other = open_model("zoo:truth-induction", device="cpu")
    assert "2 layers" in unfit(other) and unfit(zoo) == ""
    found = REPLICATION.run(Setting(model=other, name="other", options=RegressionSizes()))
    assert {c.verdict for c in found.claims} == {UNTESTABLE} and all("layers" in c.why for c in found.claims)


def test_a_replication_is_saved_whole_and_an_equal_one_is_shown(tmp_path):
    said = []
    found = replicate_job("in-context-regression", options=TINY, out=tmp_path / "a", device="cpu")
    assert {"run.json", "replication.json", "report.html"} <= {p.name for p in (tmp_path / "a").iterdir()}
    record = json.loads((tmp_path / "a" / "run.json").read_text())
    assert record["status"] == "done" and record["command"] == "replicate"
    again = replicate_job(
        "in-context-regression", options=TINY, out=tmp_path / "a", device="cpu", note=said.append
    )
    assert any("already measured" in line for line in said)
    assert again.to_dict() == found.to_dict()
    with pytest.raises(RunError, match="another run"):
        replicate_job("in-context-regression", options=TINY, seed=1, out=tmp_path / "a", device="cpu")
    page = (tmp_path / "a" / "report.html").read_text()
    assert "<svg" in page and "//" not in page.replace("http://www.w3.org", "").replace("// ", "")


def test_all_goes_on_after_one_that_cannot_run(tmp_path, monkeypatch):
    refusing = replace(REPLICATION, name="refuses", measure=_refuse)
    monkeypatch.setitem(PAPERS._known, "refuses", refusing)
    monkeypatch.setitem(PAPERS._known, REPLICATION.name, replace(REPLICATION, options=_Quick))
    page = replicate_all(("refuses", "in-context-regression"), out=tmp_path, device="cpu")
    assert page.failed == {"refuses": "this model has no heads"} and len(page.results) == 1
    assert "this model has no heads" in (tmp_path / "all.html").read_text()
    read = wb.load(tmp_path / "all.json")
    assert read.rows() == page.rows() and read.failed == page.failed and read.lead == page.lead
    assert [one.folder for one in read.results] == [one.folder for one in page.results]
    shown = do("show", file=tmp_path / "all.json")
    assert shown.to_dict() == read.to_dict() and shown.found.rows() == page.rows()


def _refuse(setting):
    from workbench.core.errors import ModelError

    raise ModelError("this model has no heads")


class _Quick(RegressionSizes):
    def __init__(self):
        super().__init__(draws=200, networks=1, seeds=1, steps=50, lengths=(40,))


def test_misspelt_options_are_named():
    with pytest.raises(OptionError, match="no option of in-context-regression called 'drawz'"):
        replicate_job("in-context-regression", options=["drawz=3"], dry_run=True)
    with pytest.raises(OptionError, match="a whole number"):
        replicate_job("in-context-regression", options=["draws=many"], dry_run=True)
    plan = replicate_job("in-context-regression", options=["lengths=10,20"], dry_run=True)
    assert plan.to_dict()["options"]["lengths"] == [10, 20]
