"""The whole study of preplan and anchor tokens at a small size, its verdicts both ways, and its responses by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from workbench.core.errors import OptionError
from workbench.heads.responses import (
    Response,
    group_heads,
    respond,
    starts_of,
    with_known_curve,
)
from workbench.heads.token_swaps import swaps
from workbench.model.open import open_model
from workbench.papers.kinds import Setting
from workbench.papers.preplan_anchor import CLAIMS, REPLICATION, PreplanSizes

SMALL = PreplanSizes(grouping=4, responses=14, length=84, rollout=10, draws=60)
NEVER = ("credit", "coupled")


@pytest.fixture(scope="module")
def stdlib():
    return open_model("zoo:stdlib", device="cpu")


def verdicts(model, options) -> dict[str, str]:
    found = REPLICATION.run(Setting(model=model, name="zoo:stdlib", options=options))
    return dict(zip(CLAIMS, (claim.verdict for claim in found.claims), strict=True))


def test_the_whole_study_runs_and_curves_with_a_known_answer_decide_it(stdlib):
    few = replace(SMALL, rollout=2)  # swaps are asked about under noise
    entropy = verdicts(stdlib, replace(few, planted="entropy"))
    assert entropy["entropy"] == "holds"  # its peaks are where the entropy is high
    assert {entropy[name] for name in NEVER} == {"cannot be tested here"}
    same = verdicts(stdlib, replace(few, planted="fai"))
    assert same["coupling"] == "holds"  # every FAI peak is a WAAD peak
    noise = verdicts(stdlib, replace(SMALL, planted="noise"))
    assert (noise["receivers"], noise["coupling"], noise["perturb"]) == ("fails",) * 3


def test_a_model_whose_words_are_others_cannot_be_asked():
    found = verdicts(open_model("zoo:truth-induction", device="cpu"), SMALL)
    assert set(found.values()) == {"cannot be tested here"}


def test_groups_of_an_induction_model_are_its_far_and_near_heads():
    """In zoo:truth-induction a0.h1 looks at the token before and the heads of layer 1 look far back."""
    model = open_model("zoo:truth-induction", device="cpu")
    ids = torch.tensor(
        [[1, *np.random.default_rng(row).permutation(np.arange(3, 15)).tolist() * 2] for row in range(4)]
    )
    found = group_heads(model, ids, start=13, low=2, share=0.25)
    assert found.names(found.local) == ["a0.h1"] and found.names(found.far)[0].startswith("a1")
    assert found.span[0, 1].item() == pytest.approx(1.0, abs=1e-3)
    assert not (found.receiver & found.far).any()


def test_a_response_goes_on_from_its_text_and_refuses_to_be_too_short(stdlib):
    how = {"n": 2, "prompt": 8, "length": 20}
    ids = respond(stdlib, ["def f(x):\n    return x\n" * 20], **how, seed=3)
    assert ids.shape == (2, 20) and torch.equal(
        ids, respond(stdlib, ["def f(x):\n    return x\n" * 20], **how, seed=3)
    )
    assert (ids[:, 0] == stdlib.tokenizer.bos_token_id).all()
    with pytest.raises(OptionError, match="12 response tokens"):
        respond(stdlib, ["x = 1\n" * 40], **how, least=13)


def test_words_begin_at_white_space_and_punctuation():
    assert starts_of([" return", " x", "y", ".", "join", "(", "\n"]).tolist() == [
        True,
        True,
        False,
        True,
        True,
        True,
        True,
    ]


def test_swaps_are_at_high_and_low_words_and_compare_what_follows(stdlib):
    ids = respond(stdlib, ["import os\nimport sys\n" * 20], n=1, prompt=8, length=40, seed=0)[0].numpy()
    n = len(ids) - 8
    curve = np.where(np.arange(n) % 8 == 0, 1.0, 0.0) + np.arange(n) / 1000
    response = Response(
        ids=ids,
        n_prompt=8,
        **dict.fromkeys(("waad", "fai", "receivers", "entropy", "next_entropy"), curve),
        wordlike=np.ones(n, dtype=bool),
        starts=np.ones(n, dtype=bool),
    )
    high, low = sorted(
        swaps(stdlib, [response], [curve], share=0.4, rollout=6, stride=4), key=lambda s: s.kind
    )
    assert high.token % 8 == 0 and low.token % 8 == 4 and max(high.token, low.token) < n - 7
    assert all(0 <= swap.alike <= 1 for swap in (high, low))


def test_a_known_curve_stands_in_place_of_a_measured_one_and_gaps_stay():
    curves = {
        name: np.arange(4.0) + i for i, name in enumerate(("waad", "receivers", "entropy", "next_entropy"))
    }
    marks = {"wordlike": np.ones(4, dtype=bool), "starts": np.ones(4, dtype=bool)}
    fai = np.array([0.5, np.nan, 0.25, 1.0])
    response = Response(ids=np.arange(6), n_prompt=2, fai=fai, **curves, **marks)
    assert with_known_curve(response, "none") is response
    assert with_known_curve(response, "entropy").waad.tolist() == [2.0, 3.0, 4.0, 5.0]
    noise, again = (with_known_curve(response, "noise").fai for _ in range(2))
    assert np.isnan(noise).tolist() == np.isnan(fai).tolist() and not np.array_equal(noise[2:], fai[2:])
    assert np.array_equal(noise, again, equal_nan=True)
    with pytest.raises(OptionError, match="expected one of none, entropy, fai, noise"):
        with_known_curve(response, "peaks")
