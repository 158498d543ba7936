"""The study of heads as memories at a small size: what is judged, and what cannot be where few heads are seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.heads.memory_capacity import SHARES, capacity_exponents, fill, random_pairs
from workbench.papers import pavlov as study
from workbench.papers.kinds import Setting

SMALL = study.PavlovSizes(dimensions=(16, 32, 64), draws=4, sweeps=10, windows=2, window=24)


def test_formulas_hold_on_random_pairs_and_heads_are_read():
    found = study.REPLICATION.run(
        Setting(model=wb.open_model("zoo:stdlib"), name="zoo:stdlib", options=SMALL, seed=11)
    )
    verdicts = dict(zip(study.CLAIMS, (claim.verdict for claim in found.claims), strict=True))
    assert verdicts["redundancy"] == verdicts["delta"] == "holds"
    assert len(found.tables["Heads as memories"]) == 16
    row = found.tables["Random pairs"][0]
    assert row["by formula"] == (1 + 3 / 16) ** -0.5 and row["least"] < row["cosine"]


def test_with_few_heads_only_claims_about_random_pairs_are_judged():
    model = wb.open_model("zoo:truth-induction")  # two layers of two heads
    found = study.REPLICATION.run(Setting(model=model, name="zoo:truth-induction", options=SMALL, seed=11))
    verdicts = dict(zip(study.CLAIMS, (claim.verdict for claim in found.claims), strict=True))
    assert {verdicts[name] for name in ("heads", "random", "formula")} == {"cannot be tested here"}
    assert verdicts["linear"] != "cannot be tested here"


def test_a_memory_of_one_pair_gives_it_back_and_columns_say_what_a_fuller_one_gives():
    alone, full = fill(1, 8, draws=2, seed=3), fill(16, 8, draws=2, seed=3)
    assert alone.row() == {"d": 8, "pairs": 1, "cosine": pytest.approx(1.0), "by formula": 1.0,
                           "least": pytest.approx(1.0), "nearest value is right": 1.0}  # fmt: skip
    assert full.cosines.shape == (2, 16) and full.predicted == pytest.approx((1 + 15 / 8) ** -0.5)
    assert full.row()["least"] < full.row()["cosine"] < 1 and full.nearest < 1


def test_exponents_are_those_of_a_loop_over_dimensions():
    average, worst = capacity_exponents((8, 32), least=0.8, most=1.0, draws=2, seed=4)
    assert len(average) == len(worst) == 2
    held = []
    for d in (8, 32):
        counts = [max(2, round(share * d)) for share in SHARES]
        pairs = [random_pairs(n, d, seed=[4, 1, d, n]) for n in counts]
        said = [torch.cosine_similarity((k @ k.mT @ v), v, dim=-1).mean().item() for k, v in pairs]
        held.append(np.interp(-0.8, [-one for one in said], counts))  # falling, so both change sign
    assert average[1] == pytest.approx(np.log(held[1] / held[0]) / np.log(4), abs=1e-6)
