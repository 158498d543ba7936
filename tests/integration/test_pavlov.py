"""The study of heads as memories at a small size: what is judged, and what cannot be where few heads are seen."""

from __future__ import annotations

import workbench as wb
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
