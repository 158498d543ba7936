"""What a question changes, by hand and where nothing can reach; towers that see it; the study at a small size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.core.errors import ModelError, ShapeError
from workbench.edits.mutual import causal_mask, mutual_mask
from workbench.heads.asked_pictures import ask_pictures
from workbench.heads.prompt_saliency import prompt_conditioned_saliency, question_maps
from workbench.model.prompt import Prompt
from workbench.papers import prompt_focus as study
from workbench.papers.kinds import Setting
from workbench.tasks.scenes.layout import World
from workbench.training.prompted_reader import (
    ANOTHER,
    ARMS,
    BLIND,
    NOTHING,
    SEES,
    PatchQuestions,
    PromptedReading,
    readers,
    right_of,
    seen_by,
    train_readers,
)


@pytest.fixture(scope="module")
def vlm():
    return wb.open_model("zoo:vlm-mutual", device="cpu")


@pytest.fixture(scope="module")
def asked(vlm):
    return ask_pictures(vlm, World(objects=(0, 1, 1)), kinds=["colour"], n=6, seed=7)


def test_without_a_path_nothing_changes_and_with_one_patches_do(vlm, asked):
    blind, sees = causal_mask(vlm, asked), mutual_mask(vlm, asked)
    assert question_maps(vlm, asked, under=lambda rows: blind.on(vlm)).max() == 0.0
    assert question_maps(vlm, asked, under=lambda rows: sees.on(vlm)).min() > 0
    turned = question_maps(vlm, asked, under=lambda rows: sees.on(vlm), shift=1)
    assert turned.shape == (6, 4, 6, 6)


@torch.no_grad()
def test_a_change_is_relative_to_what_was_there_and_rows_do_not_mix():
    model = wb.open_model("zoo:ioi", device="cpu")
    one, two = (Prompt(model.to_tokens([text, text])) for text in ("Mary and John", "John and John"))
    found = prompt_conditioned_saliency(model, one, two, [1, 2, 3], rows=1)
    a, b = (model.run_with_cache(p.ids)[1]["blocks.1.hook_out"] for p in (one, two))
    wanted = ((a - b).norm(dim=-1) / b.norm(dim=-1))[:, 1:]
    assert np.allclose(found[:, 1], wanted.numpy(), atol=1e-5)
    with pytest.raises(ShapeError, match="are compared with"):
        prompt_conditioned_saliency(model, one, Prompt(two.ids[:, :2]), [0])


def test_what_the_layers_of_each_arm_see():
    prompt = torch.tensor([[0, 2], [1, 9], [0, 4]])
    assert torch.equal(seen_by(SEES, prompt), prompt) and (seen_by(BLIND, prompt) == NOTHING).all()
    assert seen_by(ANOTHER, prompt).tolist() == [[0, 4], [0, 2], [1, 9]]


def test_one_seed_gives_one_training_and_arms_start_alike():
    drawn = torch.Generator().manual_seed(0)
    rows = torch.randint(0, 2, (40, 1), generator=drawn)
    held = PatchQuestions(
        patches=torch.randn(10, 5, 8, generator=drawn),
        picture=torch.arange(40) % 10,
        prompt=torch.cat([rows, rows + 2], 1),
        answer=torch.randint(0, 11, (40,), generator=drawn),
    )
    reading = PromptedReading(width=8, layers=1, steps=3, batch=8)
    (one, _), (two, _) = (train_readers(held, reading, seed=4) for _ in range(2))
    for arm in ARMS:
        assert torch.equal(one[arm].pool.weight, two[arm].pool.weight)
        assert set(right_of(arm, one[arm], held)) <= {0.0, 1.0}
    begin, _ = train_readers(held, PromptedReading(width=8, layers=1, steps=1, batch=8, rate=0.0), seed=4)
    assert torch.equal(begin[SEES].pool.weight, begin[ANOTHER].pool.weight)


def test_arms_of_another_recipe_are_not_read(vlm):
    with pytest.raises(ModelError, match="another recipe"):
        readers(vlm, reading=PromptedReading(width=8))


def test_the_study_is_judged_and_needs_a_model_that_reads_both(vlm, bridge_of):
    options = study.PromptFocusSizes(choosing=8, questions=24, pictures=40)
    found = study.REPLICATION.run(Setting(model=vlm, name="zoo:vlm-mutual", options=options, seed=3))
    verdicts = dict(zip(study.CLAIMS, (claim.verdict for claim in found.claims), strict=True))
    assert verdicts["trained"] == verdicts["another"] == "holds"
    assert verdicts["documents"] == "cannot be tested here"
    with pytest.raises(ModelError, match="reads a picture and words"):
        study.REPLICATION.run(Setting(model=bridge_of("gpt2"), name="tiny", options=options))
