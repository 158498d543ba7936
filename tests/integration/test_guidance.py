"""Guidance by hand, and the study at a small size."""

from __future__ import annotations

import pytest
import torch

import workbench as wb
from workbench.core.errors import ModelError, OptionError
from workbench.papers import guidance as study
from workbench.papers.kinds import Setting
from workbench.training.guidance import RecurrentNet, fit_guided, right_share, sequence_rows, unlikeness
from workbench.training.guided_arms import (
    ALONE,
    ARMS,
    GUIDE,
    GUIDED,
    SEEDS,
    SHUFFLED,
    UNTRAINED,
    begin,
    guided_arms,
    keep_guided,
)


def test_rows_ask_for_copies_behind_the_mark_and_for_parity_everywhere():
    rows = sequence_rows("copy", 3, 4, seed=1)
    assert rows.inputs[0, 4] == 8 and rows.inputs[0, 5:].tolist() == [9] * 4
    assert rows.target[0].tolist() == [-1] * 5 + rows.inputs[0, :4].tolist()
    rows = sequence_rows("parity", 3, 5, seed=1)
    assert [sum(rows.inputs[0, : i + 1].tolist()) % 2 for i in range(5)] == rows.target[0].tolist()
    with pytest.raises(OptionError, match="copy or parity"):
        sequence_rows("sort", 1, 1, seed=0)


def test_layers_are_unlike_none_of_themselves_turned_and_scaled():
    layers = RecurrentNet(seed=1).layers(sequence_rows("parity", 8, 6, seed=2).inputs)
    turn = torch.linalg.qr(torch.randn(48, 48, generator=torch.Generator().manual_seed(0)))[0]
    assert unlikeness(layers, [3 * layer @ turn for layer in layers]).item() == pytest.approx(0, abs=1e-4)
    assert unlikeness(layers, layers[::-1]).item() > 0.01


def test_a_guide_draws_a_network_towards_itself_and_stays_as_it_was():
    guide, rows = RecurrentNet(seed=1), sequence_rows("parity", 32, 6, seed=3)
    before, apart = guide.first.weight_ih_l0.clone(), []
    for given in ({}, {"guide": guide}):
        net = RecurrentNet(seed=2)
        fit_guided(net, "parity", steps=30, length=6, **given)
        apart.append(unlikeness(net.layers(rows.inputs), guide.layers(rows.inputs)).item())
    assert apart[1] < 0.7 * apart[0] and torch.equal(guide.first.weight_ih_l0, before)
    assert right_share(net, rows).shape == (32,)


def test_all_but_the_guide_begin_alike_and_kept_networks_come_back(tmp_path):
    begun = begin("parity", 3)
    for arm in (GUIDED, SHUFFLED, UNTRAINED):
        same = zip(begun[ALONE].parameters(), begun[arm].parameters(), strict=True)
        assert all(torch.equal(one, other) for one, other in same)
    arms = guided_arms(retrain=True, seeds=(3,), steps=2)
    keep_guided(arms, steps=2, home=tmp_path)
    back = guided_arms(seeds=(3,), steps=2, home=tmp_path)
    rows = sequence_rows("parity", 4, 12, seed=5).inputs
    for arm in ARMS:
        own, kept = (found["parity", 3][arm] for found in (arms, back))
        assert torch.equal(own.answer(own.layers(rows)), kept.answer(kept.layers(rows)))
    with pytest.raises(ModelError, match="seeds"):
        guided_arms(seeds=(4,), steps=2, home=tmp_path)
    with pytest.raises(ModelError, match="another recipe"):
        guided_arms(seeds=(3,), steps=3, home=tmp_path)


def test_every_arm_is_judged_and_heads_are_compared():
    options = study.GuidanceSizes(steps=3, rows=8, windows=2, retrain=True)
    found = study.REPLICATION.run(
        Setting(model=wb.open_model("zoo:stdlib"), name="zoo:stdlib", options=options, seed=4)
    )
    assert len(found.tables["Every network"]) == 2 * 5 * 2 and len(found.tables["CKA of heads"]) == 16
    verdicts = dict(zip(study.CLAIMS, (claim.verdict for claim in found.claims), strict=True))
    assert verdicts["copy"] == "cannot be tested here"  # three steps teach the guide too little
    assert verdicts["heads"] != "cannot be tested here"


def test_shipped_guides_do_what_their_card_says():
    arms = guided_arms()
    rows = sequence_rows("copy", 64, 8, seed=6)
    for seed in SEEDS:
        assert right_share(arms["copy", seed][GUIDE], rows).mean() > 0.9
    with pytest.raises(OptionError, match="training anew"):
        study.REPLICATION.run(
            Setting(
                model=wb.open_model("zoo:stdlib"), name="zoo:stdlib", options=study.GuidanceSizes(steps=3)
            )
        )
