"""What the model itself does, from the passes that are made anyway: the naive answers, no pass more."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.mini import mini_pairs
from workbench.experiments import ablate


def rightly(runs) -> np.ndarray:
    """One prompt at a time: whether the best correct answer has a higher logit than every incorrect one."""
    found = []
    for ids, correct, incorrect, places in zip(
        runs.pairs.clean, runs.pairs.correct, runs.pairs.incorrect, runs.pairs.positions, strict=True
    ):
        with torch.no_grad():
            logits = runs.model(torch.as_tensor(ids)[None])[0, places["end"]].float()
        found.append(float(logits[list(correct)].max() > logits[list(incorrect)].max()))
    return np.array(found)


@pytest.mark.parametrize("metric", ["logit-difference", "kl", "rank"])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_answers_are_those_of_single_prompts_whatever_the_metric(name, metric, runs_of):
    runs = runs_of(name, mini_pairs(5), metric=metric)
    assert runs.right.tolist() == rightly(runs).tolist()
    assert runs.behavior.right.value == pytest.approx(runs.right.mean())
    recorded = runs_of(name, mini_pairs(5), metric=metric)
    ablate(recorded)  # the base run is recorded for the sweep; its metric and answers come with that
    assert recorded.right.tolist() == runs.right.tolist() and np.array_equal(recorded.clean, runs.clean)


def test_a_model_without_answers_has_none(runs_of):
    runs = runs_of("bert")
    assert runs.right is None and runs.behavior.right is None
    assert "answered" not in runs.behavior.sentence()


def test_asking_takes_two_passes_a_batch_and_no_third(runs_of, monkeypatch):
    runs, passes = runs_of("gpt2"), []
    own = type(runs).values
    monkeypatch.setattr(type(runs), "values", lambda self, *a, **k: passes.append(a) or own(self, *a, **k))
    assert runs.behavior.n == 3
    assert len(passes) == 2 * len(runs.batches)
    assert runs.behavior is runs.behavior and len(passes) == 2 * len(runs.batches)
