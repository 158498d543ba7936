"""Parts of the relevance study with known answers: conservation, maps of tokens, exact replacement, gains."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from workbench.engine.of_task import paired_runs
from workbench.evaluate.against_exact import Agreement, correlations, gain
from workbench.evaluate.conservation import conservation
from workbench.evaluate.relevance_rules import identities
from workbench.evaluate.salient import occlusion, token_relevance
from workbench.model.open import open_model


@pytest.fixture(scope="module")
def kv():
    """Pairs of a model without biases, all of one length."""
    return paired_runs(open_model("zoo:kv", device="cpu"), "kv-retrieval", n=4)


def test_without_biases_every_layer_has_the_whole_metric_and_plain_gradients_do_not(kv):
    whole, plain = (conservation(kv, backward=rule) for rule in ("cp-lrp", "plain"))
    assert whole.relevance == pytest.approx(
        np.tile(whole.metric[:, None], whole.relevance.shape[1]), rel=1e-4
    )
    assert whole.worst < 1e-4 < 0.05 < plain.worst


def test_the_distance_from_the_metric_is_a_share_of_it():
    from workbench.evaluate.conservation import Conservation

    found = Conservation(relevance=np.array([[3.0, 0.0], [4.0, 0.0]]), metric=np.array([3.0, 4.0]))
    assert found.deviation.tolist() == [0.0, 1.0] and found.worst == 1.0


def shifted(kv, batch, change):
    """The metric of clean prompts after a change of what enters the first layer."""
    entry = kv.resid(batch, "clean", 0)
    with torch.no_grad():
        return kv.metric.direction * kv.values(batch, batch.clean, resid=entry + change(entry))


def test_relevance_of_tokens_sums_to_the_slope_towards_the_mean_prompt(kv):
    found, step = token_relevance(kv, backward="plain"), 1e-2
    for batch in kv.batches:
        up, down = (shifted(kv, batch, lambda e, s=s: s * (e - e.mean(0))) for s in (step, -step))
        slope = (up - down) / (2 * step)
        total = [found[int(i)].sum() for i in batch.index]
        assert total == pytest.approx(slope.tolist(), rel=1e-2)  # third order: the step squared


def test_exact_replacement_is_one_run_for_each_token(kv):
    found = occlusion(kv)
    batch = kv.batches[0]

    def away(entry):
        change = torch.zeros_like(entry)
        change[:, 2] = entry[:, 2].mean(0) - entry[:, 2]
        return change

    lost = shifted(kv, batch, torch.zeros_like) - shifted(kv, batch, away)
    assert [found[int(i)][2] for i in batch.index] == pytest.approx(lost.tolist(), abs=1e-4)


def test_identities_hold_to_rounding_and_not_where_they_must_not():
    found = identities(3)
    assert found["lost without biases"] < 1e-8 and found["modified gradient"] < 1e-8
    assert found["lost with biases"] > 0.01 and found["plain gradient"] > 0.01


def test_a_gain_is_of_the_same_resamples_and_one_prompt_shows_none():
    rng = np.random.default_rng(0)
    exact = rng.normal(size=(20, 8))
    measured = correlations(exact, {"good": exact, "bad": rng.normal(size=(20, 8))})
    more = gain(measured, "good", "bad")
    assert (
        more.value == pytest.approx(1 - measured[0]["bad"].value) and more.around[0] > 0.5 and more.p < 0.01
    )
    less = gain(measured, "bad", "good")
    assert (less.value, less.around[1]) == pytest.approx((-more.value, -more.around[0]))
    one = gain(correlations(exact[:1], {"good": exact[:1], "bad": -exact[:1]}), "good", "bad")
    assert one.value == pytest.approx(2.0) and np.isnan([one.around[0], one.p]).all()


def test_points_leave_out_what_is_zero_on_both_sides():
    found = Agreement(
        exact={"heads": np.array([[1.0, 0.0], [0.0, 2.0]])},
        estimates={"heads": {"AtP": np.array([[0.5, 0.0], [3.0, 2.0]])}},
    )
    assert found.points("heads", "AtP") == [
        (1.0, 0.5, "prompt 0"),
        (0.0, 3.0, "prompt 1"),
        (2.0, 2.0, "prompt 1"),
    ]
