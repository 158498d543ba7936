"""Adapters that start as nothing; questions for coordinates and with them; the study of pointing at a small size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.core.errors import OptionError
from workbench.edits.all_linear import AllLinear, linear_maps
from workbench.heads.asked_pictures import ask_pictures, said
from workbench.model.hooks import forward
from workbench.papers import coordinates_as_words as study
from workbench.papers.kinds import Setting
from workbench.tasks.scenes.layout import World
from workbench.tasks.scenes.words import PLACES
from workbench.training.coordinate_answers import (
    cell_hits,
    self_made,
    shapes_in_cells,
    taught_places,
    taught_words,
    teach,
    true_places,
)


@pytest.fixture(scope="module")
def model():
    return wb.open_model("zoo:vlm", device="cpu")


@pytest.fixture(scope="module")
def asked(model):
    return ask_pictures(model, World(objects=(0, 1, 1)), kinds=["place"], n=6, seed=3)


def test_an_adapter_starts_as_the_model_and_computes_what_changed_weights_compute(model, asked):
    arm, prompt = AllLinear(model, rank=2, tokens=[7, 9]), asked.prompt[:2]
    before = forward(model, prompt, last_only=True)
    with arm.on(model):
        assert torch.equal(forward(model, prompt, last_only=True), before)
    with torch.no_grad():
        for up in arm.up:
            up.normal_(std=0.05)
        arm.read.normal_()
        arm.scored.normal_()
        with arm.on(model):
            adapted = forward(model, prompt, last_only=True)
        other = wb.open_model("zoo:vlm", device="cpu")
        for one, down, up in zip(linear_maps(other), arm.down, arm.up, strict=True):
            one.weight += (down @ up).T
        other.embed.original_component.weight[[7, 9]] += arm.read
        other.unembed.original_component.weight[[7, 9]] += arm.scored
    assert torch.allclose(adapted, forward(other, prompt, last_only=True), atol=1e-3)
    assert not torch.allclose(adapted, before, atol=1e-1)
    assert torch.equal(forward(model, prompt, last_only=True), before)


def test_questions_for_coordinates_and_with_them_say_the_cell_and_the_shape(model, asked):
    things, cells = true_places(asked)
    assert [PLACES[cell] for cell in cells] == [question.answer for question in asked.questions]
    found = taught_places(model, asked, things, cells)
    named = model.tokenizer.convert_ids_to_tokens
    read = [named(ids.tolist())[-8:] for ids in found.prompt.ids]
    words = [named(ids.tolist()) for ids in found.said[:6]]
    names = ("zero", "one", "two")
    assert words == [[names[cell // 3], names[cell % 3]] for cell in cells]
    assert read[0] == f"where is the {things[0]} here : {words[0][0]}".split()
    assert read[6] == ["what", "thing", "is", "in", *words[0], "?", things[0].split()[1]]
    assert found.said[6:, 1].tolist() == [-1] * 6 and len(found.and_those(found.at(torch.tensor([1])))) == 13
    with pytest.raises(OptionError, match="about places"):
        true_places(ask_pictures(model, World(objects=(0, 1)), kinds=["colour"], n=2, seed=3))


def test_what_the_model_makes_itself_is_mostly_true(model):
    shown = ask_pictures(model, World(objects=(0, 1, 1)), kinds=["place"], n=24, seed=4)
    things, cells, kept = self_made(model, shown, seed=0)
    assert 0 < len(things) == len(cells) == kept.sum() < 24
    there = {i: {thing.cell for thing in shown.scenes[i].things} for i in np.flatnonzero(kept)}
    assert np.mean([cell in there[i] for i, cell in zip(there, cells, strict=True)]) > 0.8


def test_arms_learn_alike_learn_what_they_are_taught_and_leave_the_model_as_it_was(model, asked):
    places = taught_places(model, asked, *true_places(asked))
    before, plain = said(model, asked.prompt), taught_words(asked.prompt, asked.right)
    needs = [weight.requires_grad for weight in model.parameters()]
    assert cell_hits(model, asked).sum() == 0
    arms = teach(model, {"a": places, "b": places}, plain, steps=2, rank=2, batch=4, rate=1e-2, seed=0)
    assert all(
        torch.equal(*pair) for pair in zip(arms["a"].parameters(), arms["b"].parameters(), strict=True)
    )
    arms = teach(model, {"a": places}, plain, steps=45, rank=8, batch=16, rate=1e-2, seed=0)
    assert cell_hits(model, asked, arms["a"]).mean() > 0.6  # six questions, learned by heart
    assert shapes_in_cells(model, asked, arms["a"]).mean() > 0.6
    assert (said(model, asked.prompt) == before).all()
    assert [weight.requires_grad for weight in model.parameters()] == needs
    assert not any(weight.grad is not None for weight in model.parameters())


def test_the_study_of_pointing_is_judged_at_a_small_size(model):
    options = study.CoordinateSizes(labels=4, pictures=16, plain=6, questions=6, judged=6, steps=1)
    found = study.REPLICATION.run(Setting(model=model, name="zoo:vlm", options=options, seed=5))
    assert [claim.verdict for claim in found.claims][-1] == "cannot be tested here"
    assert found.numbers["means"][study.HITS.format(study.BASE)] == 0  # it answers with words for places
