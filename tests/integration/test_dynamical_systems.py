"""A trained layer as a recurrence, features beside softmax; the study of gates at a small size."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from workbench.core.errors import OptionError
from workbench.heads.state_spectrum import spectrum_of
from workbench.papers import dynamical_systems as study
from workbench.papers.kinds import Setting
from workbench.training.mixers.arm_states import feature_errors, queries_and_keys, read_state
from workbench.training.mixers.arms import COMPARISONS, get_comparison
from workbench.training.mixers.kept_weights import HOME
from workbench.training.mixers.shipped import read_arms

IDS = torch.randint(0, 96, (4, 30), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def untrained():
    return get_comparison("gates").begin(5)


def test_gated_and_normalised_layers_are_recurrences_and_softmax_is_none(untrained):
    for arm in ("quasi-LSTM", "reversed sigmoid", "reversed and tied", "normalised, exponential"):
        state = read_state(untrained[arm], IDS)
        assert state.apart().max() < 1e-4
        assert state.apart(state.transition * 0.9).max() > 1e-3
    with pytest.raises(OptionError, match="no transition"):
        read_state(untrained["softmax"], IDS)


def test_all_gates_begin_with_the_same_transition(untrained):
    for arm in ("quasi-LSTM", "reversed sigmoid", "reversed and tied"):
        assert read_state(untrained[arm], IDS).transition.median().item() == pytest.approx(0.982, abs=0.005)


def test_features_of_queries_without_length_are_softmax_and_more_features_come_nearer(untrained):
    q, k = queries_and_keys(untrained["softmax"], IDS)
    even = feature_errors(torch.zeros_like(q), torch.zeros_like(k), n=3, draws=1)
    assert even.max() < 1e-6  # every pattern is a mean over what is visible
    few, many = (feature_errors(q, k, n=n, draws=2)[0].mean() for n in (4, 4096))
    assert many < few / 4


def test_the_spectrum_of_softmax_heads_is_that_of_their_running_mean(bridge_of):
    words, rows = spectrum_of(bridge_of("gpt2"), texts=2, tokens=6)
    model = bridge_of("gpt2")
    assert "softmax" in words and len(rows) == model.cfg.n_layers * model.cfg.n_heads
    assert all(0 < row["median"] < 1 for row in rows.values())


def test_the_study_at_a_small_size(bridge_of):
    sizes = study.GateSizes(
        rows=4, states=3, features=(4, 16), draws=1, texts=2, tokens=6, retrain=True, steps=1
    )
    found = study.REPLICATION.run(Setting(model=bridge_of("gpt2"), name="tiny", options=sizes, seed=3))
    verdicts = [claim.verdict for claim in found.claims]
    assert verdicts[:2] == ["holds", "holds"]  # identities, trained or not
    assert set(verdicts[4:]) == {"cannot be tested here"} and "reference" in found.claims[4].why


@pytest.mark.parametrize("name", [name for name in COMPARISONS if (HOME / f"{name}.json").exists()])
def test_arms_that_are_shipped_open_and_answer_as_their_card_says(name):
    comparison = get_comparison(name)
    arms = read_arms(comparison)
    rows = comparison.draw(np.random.default_rng(77), 32)
    said = json.loads((HOME / f"{name}.json").read_text(encoding="utf-8"))["learned"][comparison.reference]
    assert arms.seeds == comparison.seeds
    assert abs(arms.right(comparison.reference, rows).mean() - said) < 0.05
