"""The mask of modality-mutual attention, leaks that are looked for by changing what stands there, and the study."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.core.errors import ModelError, OptionError
from workbench.edits.kinds import Mask
from workbench.edits.leaks import depends
from workbench.edits.masks import causal, reach, unlock, unlock_at_random
from workbench.edits.mutual import WORDS, asked_under, causal_mask, leaks_of, mutual_mask, random_masks
from workbench.heads.asked_pictures import ask_pictures, right_and_loss
from workbench.model.prompt import Prompt
from workbench.papers import modality_mutual as paper
from workbench.papers.kinds import Setting
from workbench.papers.kit import Conditions
from workbench.tasks.scenes.layout import World
from workbench.training.seeing_measure import Eyes

SMALL = paper.MutualSizes(questions=4, draws=2, retrain=True, steps=1, tower_steps=1)


@pytest.fixture(scope="module")
def vlm():
    return wb.open_model("zoo:vlm", device="cpu")


def test_as_many_entries_are_opened_at_random_and_none_is_closed():
    more = unlock_at_random(causal(8), 12, seed=3)
    assert int(more.sum()) == 8 * 9 // 2 + 12 and more[causal(8)].all()
    assert not torch.equal(more, unlock_at_random(causal(8), 12, seed=4))
    with pytest.raises(OptionError, match="closes 28"):
        unlock_at_random(causal(8), 29, seed=0)


def test_entries_at_random_are_opened_in_the_rows_of_the_patches_alone(vlm):
    asked = ask_pictures(vlm, World(objects=(0, 1, 1)), kinds=["colour"], n=2, seed=7)
    n, patches = asked.prompt.shape[1], list(asked.image)
    own, drawn = mutual_mask(vlm, asked).allowed & ~causal(n), random_masks(vlm, asked, 3, seed=5)
    for mask in drawn:
        opened = mask.allowed & ~causal(n)
        assert opened.sum() == own.sum() and opened[patches].sum() == opened.sum()
    assert not torch.equal(drawn[0].allowed, drawn[1].allowed)
    with pytest.raises(OptionError, match="closes 7 in rows 0 to 0"):
        unlock_at_random(causal(8), 8, seed=0, queries=(0, 1))


def test_what_is_felt_is_what_the_mask_lets_reach(bridge_of):
    model = bridge_of("llama")
    ids = torch.randint(6, 100, (3, 9), generator=torch.Generator().manual_seed(5))
    heads = tuple(f"a{layer}" for layer in range(model.cfg.n_layers))
    for mask in (causal(9), unlock(causal(9), (1, 4), (4, 7))):
        felt = depends(model, Prompt(ids), Mask(heads=heads, allowed=mask))
        assert torch.equal(felt, reach([mask] * len(heads)))
    opened = depends(model, Prompt(ids), Mask(heads=heads, allowed=unlock(causal(9), (1, 4), (4, 9))))
    assert opened[1:4, 7:].all() and not felt[:7, 7:].any()


def test_the_mask_as_an_edit_is_the_mask_that_the_twin_was_trained_with():
    model = wb.open_model("zoo:vlm-mutual", device="cpu")
    asked = ask_pictures(model, World(objects=(0, 1, 1)), kinds=["place"], n=4, seed=7)
    with mutual_mask(model, asked).on(model):
        found = right_and_loss(model, asked)
    pixels = np.stack([scene.pixels for scene in asked.scenes])
    with torch.no_grad():
        logits = Eyes(model.original_model, unlocked=True).logits(pixels, [q.text for q in asked.questions])
    loss = -logits.log_softmax(-1)[torch.arange(4), torch.from_numpy(asked.right)]
    assert np.allclose(found.loss, loss.numpy(), atol=1e-3)
    assert np.allclose(right_and_loss(model, asked).loss, loss.numpy(), atol=1e-3)  # opened as it was trained
    blind = asked_under(causal_mask(model, asked), model, asked)
    assert not np.allclose(blind.loss, loss.numpy(), atol=1e-1)


def test_the_study_trains_twins_and_its_claims_are_judged(vlm):
    found = paper.REPLICATION.run(Setting(model=vlm, name="zoo:vlm", options=SMALL, seed=5))
    verdicts = dict(zip(paper.CLAIMS, (claim.verdict for claim in found.claims), strict=True))
    assert verdicts["felt"] == verdicts["leaks"] == "holds"
    assert (
        verdicts["better"] == verdicts["benchmarks"] == "cannot be tested here"
    )  # twins of one step know nothing


def test_a_leak_is_found_where_it_is_planted(vlm):
    asked = ask_pictures(vlm, World(objects=(0, 1, 1)), kinds=["colour"], n=2, seed=7)
    felt = leaks_of(vlm, asked, leak=True)
    assert felt.leaks >= 36 * WORDS and leaks_of(vlm, asked).leaks == 0
    c = Conditions(numbers={paper.OPEN: felt.opened, paper.LEAKS: felt.leaks})
    assert not paper.CLAIMS["leaks"].by(c).holds
    assert paper.CLAIMS["felt"].by(c).holds


@pytest.mark.parametrize(("gains", "holds"), [((0.3, 0.3), True), ((0.3, 0.0), False), ((0.0, 0.0), False)])
def test_a_gain_must_be_in_both_pairs(gains, holds):
    rng, c = np.random.default_rng(0), Conditions(seed=0)
    blind = [(rng.random(200) < 0.6).astype(float) for _ in gains]
    sees = [np.maximum(own, rng.random(200) < gain) for own, gain in zip(blind, gains, strict=True)]
    for name, values in ((paper.BLIND, blind), (paper.SEES, sees)):
        c[name] = np.mean(values, axis=0)
        for pair, own in enumerate(values):
            c[f"{name}, pair {pair}"] = own
    assert paper.CLAIMS["better"].by(c).holds is holds


def test_a_model_of_words_is_refused_with_what_to_type(bridge_of):
    with pytest.raises(ModelError, match="zoo:vlm"):
        paper.REPLICATION.run(Setting(model=bridge_of("gpt2"), name="tiny", options=SMALL))
