"""Probes that choose where to look, by hand and on a planted mark; the study of efficient probing at a small size."""

from __future__ import annotations

import pytest
import torch

import workbench as wb
from workbench.core.errors import ModelError, OptionError
from workbench.heads.attentive_probe import (
    AttentionPooling,
    EfficientProbe,
    MeanProbe,
    ProbeTraining,
    fit_probe,
    parameters_of,
    standardised,
)
from workbench.papers import efficient_probing
from workbench.papers.kinds import Setting

WIDTH, POSITIONS, CLASSES = 16, 10, 4


def planted(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Noise in which every position names a class; the right one is named by the marked position, and less loudly."""
    drawn = torch.Generator().manual_seed(seed)
    features = 0.3 * torch.randn(n, POSITIONS, WIDTH, generator=drawn)
    said = torch.randint(0, CLASSES, (n, POSITIONS), generator=drawn)
    at = torch.randint(0, POSITIONS, (n,), generator=drawn)
    loud = torch.full((n, POSITIONS), 30.0)
    loud[torch.arange(n), at] = 3.0
    features.scatter_add_(2, 1 + said[..., None], loud[..., None])
    features[torch.arange(n), at, 0] += 20.0
    return features, said[torch.arange(n), at], at


def test_a_query_finds_the_marked_position_and_the_mean_does_not():
    train, right, _ = planted(1500)
    test, wanted, at = planted(300, seed=1)
    training = ProbeTraining(steps=400, batch=64, lr=0.05)
    one = fit_probe(lambda: EfficientProbe(WIDTH, CLASSES, queries=1), train, right, training=training)
    mean = fit_probe(lambda: MeanProbe(WIDTH, CLASSES), train, right, training=training)
    accuracy, of_mean = (float((probe(test).argmax(-1) == wanted).float().mean()) for probe in (one, mean))
    assert accuracy > 0.97 and of_mean < 0.6
    assert float(one.maps(test)[torch.arange(300), 0, at].mean()) > 0.9
    query = one.queries[0]
    assert float(query[0] / query.clamp(min=0).norm()) > 0.9  # what it looks for is the mark


def test_without_a_query_it_is_the_mean_and_a_linear_map():
    probe, features = EfficientProbe(WIDTH, CLASSES, queries=1), torch.randn(5, POSITIONS, WIDTH)
    with torch.no_grad():
        probe.queries.zero_()
        mean = probe.classify(probe.values(features.mean(1)))
        assert torch.allclose(probe(features), mean, atol=1e-6)
        assert torch.allclose(probe.maps(features), torch.full((5, 1, POSITIONS), 1 / POSITIONS))


def test_two_queries_read_a_group_of_channels_each():
    probe, features = (
        EfficientProbe(4, 2, queries=2),
        torch.tensor([[[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]]),
    )
    with torch.no_grad():
        probe.queries.copy_(
            torch.tensor([[40.0, 0, 0, 0], [0, 0, 0, 40.0]])
        )  # the first position, the second
        (
            probe.values.weight.copy_(torch.eye(4)),
            probe.classify.weight.copy_(torch.eye(2, 4)),
            probe.classify.bias.zero_(),
        )
        assert torch.allclose(
            probe(features), torch.tensor([[1.0, 0.0]]), atol=1e-6
        )  # channels 0 and 1 of position 0
    with pytest.raises(OptionError, match="a divisor of 4"):
        EfficientProbe(4, 2, queries=3)


def test_learned_numbers_by_hand():
    assert parameters_of(MeanProbe(16, 4)) == 16 * 4 + 4
    assert parameters_of(EfficientProbe(16, 4, queries=2)) == 2 * 16 + 16 * 16 + 16 * 4 + 4
    assert parameters_of(AttentionPooling(16, 4, heads=2)) == 16 + 2 * (16 * 16 + 16) + 16 * 4 + 4


def test_training_has_one_outcome_for_a_seed_and_leaves_the_generator_alone():
    features, right, _ = planted(60)
    training = ProbeTraining(steps=5, batch=8)
    before = torch.random.get_rng_state()
    one, two, other = (
        fit_probe(lambda: MeanProbe(WIDTH, CLASSES), features, right, training=training, seed=s)
        for s in (0, 0, 1)
    )
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(one.classify.weight, two.classify.weight)
    assert not torch.equal(one.classify.weight, other.classify.weight)
    assert standardised(features, features).mean((0, 1)).abs().max() < 1e-5


SMALL = efficient_probing.ProbingSizes(training=200, pictures=60, queries=4, steps=120, batch=64, lr=0.02)


def test_the_study_finds_what_queries_add_and_fails_where_nothing_is_left_to_gain():
    model = wb.open_model("zoo:marked", device="cpu")

    def verdicts(layer: int) -> dict[str, str]:
        options = efficient_probing.ProbingSizes(**{**SMALL.__dict__, "layer": layer})
        found = efficient_probing.REPLICATION.run(
            Setting(model=model, name="zoo:marked", options=options, seed=3)
        )
        assert [row["layer"] for row in found.tables["Accuracy after every layer"]] == [0, 1, 2]
        return dict(zip(efficient_probing.CLAIMS, (claim.verdict for claim in found.claims), strict=True))

    found = verdicts(1)
    assert (found["linear"], found["localise"], found["fewer"], found["learned"]) == ("holds",) * 4
    assert found["imagenet"] == "cannot be tested here"
    assert verdicts(2)["linear"] == "fails"  # after the last layer the mean of all patches says it too


def test_other_models_and_layers_are_refused(bridge_of):
    with pytest.raises(ModelError, match="reads no pictures"):
        efficient_probing.REPLICATION.run(Setting(model=bridge_of("gpt2"), name="tiny", options=SMALL))
    model = wb.open_model("zoo:marked", device="cpu")
    options = efficient_probing.ProbingSizes(layer=3)
    with pytest.raises(OptionError, match="layers 0 to 2"):
        efficient_probing.REPLICATION.run(Setting(model=model, name="zoo:marked", options=options))
