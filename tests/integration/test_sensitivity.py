"""The worst small step in the scores of a head: its slope by finite differences, its size, what it cannot move."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.families import family_dir
from workbench.core.errors import ModelError, OptionError
from workbench.heads.sensitivity import _slopes, _usual_loss, sensitivity
from workbench.model.open import open_model
from workbench.model.probe import wiring
from workbench.model.prompt import Prompt

IDS = torch.arange(3, 27).reshape(2, 12)


@pytest.fixture(scope="module")
def small():
    return open_model(family_dir("gpt2"), device="cpu")


def _loss(model, hooks=()) -> torch.Tensor:
    with torch.no_grad(), model.hooks(fwd_hooks=list(hooks)):
        out = model(IDS)
    return cross_entropy(out[:, :-1].mT, IDS[:, 1:], reduction="none").mean(1)


def test_a_tiny_step_raises_the_loss_by_its_first_order(small):
    found = sensitivity(small, IDS, eps=0.02)
    assert torch.allclose(found.rise, found.first_order, rtol=0.05, atol=2e-5)
    assert found.first_order.shape == (2, 3, 4) and found.first_order.min() > 0


def test_slopes_are_those_of_finite_differences_and_sum_to_zero_over_keys(small):
    prompt = Prompt.of(IDS)
    plain, slopes = _slopes(small, prompt, wiring(small), _usual_loss(small, prompt))
    assert torch.allclose(plain, _loss(small), atol=1e-6)
    assert slopes[1].sum(-1).abs().max() < 1e-6

    def shift(by: float):
        def at(scores, hook):
            scores = scores.clone()
            scores[0, 2, 9, 4] += by
            return scores

        return _loss(small, [("blocks.1.attn.hook_attn_scores", at)])[0]

    slope = (shift(0.5) - shift(-0.5)).item()
    assert slopes[1][0, 2, 9, 4].item() == pytest.approx(slope, rel=0.05, abs=2e-6)
    assert abs(slope) > 1e-5


def test_a_head_that_writes_nothing_is_not_sensitive():
    model = open_model(family_dir("gpt2"), device="cpu")
    with torch.no_grad():
        model.blocks[1].attn.W_O[2].zero_()
    found = sensitivity(model, IDS, eps=1.0)
    assert found.rise[:, 1, 2].abs().max() == 0 == found.first_order[:, 1, 2].abs().max()
    assert found.rise[:, 1, 1].abs().min() > 0


def test_random_steps_of_the_same_length_raise_the_loss_less(small):
    worst, drawn = sensitivity(small, IDS, eps=0.5), sensitivity(small, IDS, eps=0.5, random=3)
    assert torch.equal(worst.first_order, drawn.first_order)
    assert (drawn.rise.abs() < worst.rise).double().mean() > 0.9
    assert not torch.equal(drawn.rise, sensitivity(small, IDS, eps=0.5, random=4).rise)


def test_what_cannot_be_pushed_is_refused(small):
    with pytest.raises(OptionError, match="above 0"):
        sensitivity(small, IDS, eps=0.0)
    with pytest.raises(ModelError):
        sensitivity(open_model("zoo:truth-induction"), torch.zeros(1, 2, dtype=torch.long), tower="vision")
