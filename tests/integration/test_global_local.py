"""Parts of a picture as directions, and words of place: by hand, beside plain transformers; the study of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.core.errors import ModelError, OptionError, ShapeError
from workbench.heads.phrase_choice import word_of_place
from workbench.heads.span_representation import (
    alone_vectors,
    in_context_vectors,
    mixed,
    phrase_directions,
    spatial_prior,
)
from workbench.papers import global_local as study
from workbench.papers.kinds import Setting
from workbench.tasks.scenes import draw
from workbench.tasks.scenes.truth import Thing


@pytest.fixture(scope="module")
def clip():
    return wb.open_model("zoo:clip", device="cpu")


def test_a_mix_of_nothing_and_of_all_are_the_two_ends():
    alone, context = torch.tensor([[0.6, 0.8]]), torch.tensor([[1.0, 0.0]])
    assert torch.allclose(mixed(alone, context, share=0.0), alone)
    assert torch.allclose(mixed(alone, context, share=1.0), context)
    with pytest.raises(OptionError, match="0 to 1"):
        mixed(alone, context, share=1.5)


def test_context_is_the_mean_of_the_spans_patches():
    patches = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [5.0, 5.0]]])
    found = in_context_vectors(patches, np.array([[[True, True, False]]]))
    assert torch.allclose(found, torch.tensor([[0.5**0.5, 0.5**0.5]]))
    with pytest.raises(ShapeError, match="no patch"):
        in_context_vectors(patches, np.zeros((1, 1, 3), dtype=bool))


@torch.no_grad()
def test_alone_everything_else_is_painted_over(clip, unchecked):
    scene = draw(7, 12)
    mask = scene.masks[0]
    shown = scene.pixels.astype(np.float32)
    shown[~mask] = scene.pixels.reshape(-1, 3).mean(0)
    pixels = torch.tensor(shown).permute(2, 0, 1)[None] / 127.5 - 1
    original = clip.original_model
    vector = original.visual_projection(original.vision_model(pixel_values=pixels).pooler_output)
    found = alone_vectors(clip, scene.pixels[None], mask[None])
    assert torch.allclose(found, vector / vector.norm(), atol=1e-4)
    whole = alone_vectors(clip, scene.pixels[None], np.ones_like(mask)[None])
    assert not torch.allclose(found, whole, atol=1e-2)
    with pytest.raises(ShapeError, match="masks are"):
        alone_vectors(clip, scene.pixels[None], mask)


def test_phrases_of_two_lengths_keep_their_order(clip):
    phrases = ["large red star", "large red star left of small blue disc", "small blue disc"]
    found = phrase_directions(clip, phrases)
    assert torch.allclose(found[2], phrase_directions(clip, phrases[2:])[0], atol=1e-6)
    assert torch.allclose(found[1], phrase_directions(clip, phrases[1:2])[0], atol=1e-6)


def test_words_of_place_by_hand():
    middles, landmark = np.array([[0.0, 0.0], [2.0, 2.0]]), np.array([[1.0, 0.5], [1.0, 0.5]])
    assert spatial_prior(middles, landmark, ["left of"] * 2).tolist() == [0.5, -1.5]
    assert spatial_prior(middles, landmark, ["above", "below"]).tolist() == [1.0, 1.0]


def test_a_word_of_place_tells_the_two_apart_or_is_not_used():
    def thing(cell: int) -> Thing:
        return Thing(0, "star", "red", "large", cell)

    assert word_of_place(thing(3), thing(5), thing(4)) == "left of"
    assert word_of_place(thing(3), thing(0), thing(4)) == ""  # the other one is left of it too
    assert word_of_place(thing(0), thing(5), thing(4)) == ""  # no side in common


def test_the_study_chooses_by_the_word_of_place(clip, bridge_of):
    options = study.GlobalLocalSizes(choosing=16, pictures=40)
    found = study.REPLICATION.run(Setting(model=clip, name="zoo:clip", options=options, seed=3))
    verdicts = dict(zip(study.CLAIMS, (claim.verdict for claim in found.claims), strict=True))
    assert (
        verdicts["prior"] == verdicts["context"] == "holds"
        and verdicts["benchmarks"] == "cannot be tested here"
    )
    with pytest.raises(ModelError, match="pictures and captions in one space"):
        study.REPLICATION.run(Setting(model=bridge_of("gpt2"), name="tiny", options=options))
