"""Pushed attention by hand, a classifier that learns with it, words of documentation, and the study at a small size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.core.errors import OptionError, TaskError
from workbench.papers import attention_at as study
from workbench.papers.kinds import Setting
from workbench.training.adversarial_attention import (
    AttentionClassifier,
    AttentionTraining,
    along_differences,
    along_slope,
    fit_classifier,
    read_classifier,
)
from workbench.training.docstring_words import docstring_words, word_texts


def texts(n: int = 96) -> tuple[torch.Tensor, torch.Tensor]:
    """Six words each; word 1, 2 or 3 among them says the class."""
    draw = np.random.default_rng(5)
    ids, labels = draw.integers(4, 20, (n, 6)), draw.integers(0, 3, n)
    ids[np.arange(n), draw.integers(0, 6, n)] = labels + 1
    return torch.from_numpy(ids), torch.from_numpy(labels)


def test_a_step_has_its_length_and_a_tiny_one_its_first_order():
    model, (ids, labels) = AttentionClassifier(20, 3, seed=1), texts(8)
    hidden = model.hidden(model.embed(ids)).detach()
    scores = model.scores(hidden).detach().requires_grad_()

    def loss(by):
        return torch.nn.functional.cross_entropy(model.classify(hidden, by), labels, reduction="none")

    (slope,) = torch.autograd.grad(loss(scores).sum(), scores)
    assert slope.sum(-1).abs().max() < 1e-6  # a constant on all scores changes nothing
    step = along_slope(slope, 0.01)
    assert torch.allclose(step.norm(dim=-1), torch.full((8,), 0.01))
    assert torch.allclose(loss(scores + step) - loss(scores), 0.01 * slope.norm(dim=-1), rtol=0.05, atol=1e-6)


def test_differences_of_two_texts_by_hand():
    scores, slope = torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.tensor([[1.0, 0.0], [0.0, -2.0]])
    # one difference for each, (0.6, 0.8) and its opposite; its worth is 0.6 for the first text and 1.6 for the second
    expected = torch.tensor([[0.6, 0.8], [-0.6, -0.8]]) * 0.5
    assert torch.allclose(along_differences(scores, slope, 0.5), expected)


def test_a_classifier_learns_and_what_writes_nothing_cannot_be_pushed():
    ids, labels = texts()
    with pytest.raises(OptionError, match="plain has eps 0"):
        AttentionTraining(kind="AT")
    for kind, eps in (("plain", 0.0), ("AT", 1.0), ("iAT", 1.0)):
        made = fit_classifier(
            ids, labels, AttentionTraining(kind=kind, eps=eps, steps=60), words=20, classes=3
        )
        found = read_classifier(made, ids, labels)
        assert found.right.mean() > 0.9 and np.abs(found.agreement).max() <= 1 + 1e-6
    made.out.weight.zero_()
    found = read_classifier(made, ids, labels)
    assert np.array_equal(found.loss, found.attacked)


def test_words_are_of_docstrings_and_halves_do_not_mix():
    told = docstring_words("logging")
    assert any(words[:2] == ["logging", "package"] for words in told)
    found = word_texts(("logging", "unittest"), length=6, each=20, most=50)
    assert found.ids.shape[1] == 6 and found.first == len(found.ids) // 2 and found.ids.max() < 50
    assert np.bincount(found.labels[: found.first]).tolist() == [found.first // 2] * 2
    assert "logging" not in found.words
    with pytest.raises(TaskError, match="no sources of nosuch"):
        word_texts(("nosuch",))


def test_every_way_of_training_is_judged_beside_the_plain_one():
    options = study.AttentionSizes(each=60, steps=12, lengths=(1.0, 5.0), windows=2)
    model = wb.open_model("zoo:truth-induction")
    found = study.REPLICATION.run(Setting(model=model, name="zoo:truth-induction", options=options, seed=3))
    names = [row["training"] for row in found.tables["Every training"]]
    assert names == ["trained as it is", "random steps", "AT", "AT", "iAT", "iAT"]
    verdicts = dict(zip(study.CLAIMS, (claim.verdict for claim in found.claims), strict=True))
    assert verdicts["at"] == "cannot be tested here"  # a dozen steps teach too little
    assert verdicts["heads"] != "cannot be tested here"
