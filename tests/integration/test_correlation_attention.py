"""Attention of like with like: by hand, where it changes nothing, and the study of it at a small size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import workbench as wb
from tests.towers import tower_dir
from workbench.core.errors import ModelError, OptionError, TaskError
from workbench.heads.correlation_attention import correlated, correlation_attention
from workbench.heads.image_text import patch_vectors, phrase_vectors, similarity_maps, softened
from workbench.heads.named_objects import told_apart
from workbench.papers import correlation_attention as study
from workbench.papers.kinds import Setting
from workbench.tasks.scenes import draw


@pytest.fixture(scope="module")
def clip():
    return wb.open_model("zoo:clip", device="cpu")


def test_two_positions_by_hand():
    heads = torch.tensor([[[[2.0]], [[1.0]]]])  # one row, two positions, one head of one dimension
    expected = torch.tensor([[4.0, 2.0], [2.0, 1.0]]).softmax(-1)
    assert torch.allclose(correlated(heads)[0, 0], expected)


@torch.no_grad()
def test_where_queries_are_keys_correlating_queries_changes_nothing():
    model = wb.open_model(tower_dir("vit"), device="cpu")
    for block in model.blocks:
        attn = block.attn.original_component
        attn.k_proj.weight.copy_(attn.q_proj.weight), attn.k_proj.bias.copy_(attn.q_proj.bias)
    pixels = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    before = model(pixel_values=pixels)
    for of, layers, same in (("qq", [0, 1, 2], True), ("kk", [1], True), ("vv", [1], False)):
        with correlation_attention(model, of, layers):
            assert torch.allclose(model(pixel_values=pixels), before, atol=1e-5) is same
    assert torch.equal(model(pixel_values=pixels), before)  # as it was afterwards


@torch.no_grad()
def test_the_pattern_is_made_of_what_the_layer_projects_and_may_be_another_pictures():
    model = wb.open_model(tower_dir("vit"), device="cpu")
    pixels = torch.randn(3, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    with correlation_attention(model, "vv", [2]):
        _, seen = model.run_with_cache(pixel_values=pixels)
    x = seen["blocks.2.attn.hook_v"].transpose(1, 2)
    made = (x @ x.transpose(2, 3) / x.shape[-1] ** 0.5).softmax(-1)
    z = (made @ x).transpose(1, 2)
    assert torch.allclose(seen["blocks.2.attn.hook_z"], z, atol=1e-5)
    with correlation_attention(model, "vv", [2], shift=1):
        _, seen = model.run_with_cache(pixel_values=pixels)
    assert torch.allclose(seen["blocks.2.attn.hook_z"], (made.roll(1, 0) @ x).transpose(1, 2), atol=1e-5)
    with (
        pytest.raises(OptionError, match="no correlation called 'qk'"),
        correlation_attention(model, "qk", [0]),
    ):
        pass
    with (
        pytest.raises(OptionError, match=r"no blocks\.9\.attn\.hook_q"),
        correlation_attention(model, "qq", [9]),
    ):
        pass


@torch.no_grad()
def test_vectors_are_those_of_plain_transformers(clip):
    scene, original = draw(7, 12), clip.original_model
    pixels = torch.tensor(scene.pixels).permute(2, 0, 1)[None] / 127.5 - 1
    ids = torch.tensor(clip.tokenizer([scene.asked.phrase])["input_ids"])
    out = original(input_ids=ids, pixel_values=pixels)
    phrase = phrase_vectors(clip, [scene.asked.phrase])
    assert torch.allclose(phrase, out.text_embeds, atol=1e-5)
    patches = patch_vectors(clip, scene.pixels[None])
    assert patches.shape == (1, 36, 64) and torch.allclose(patches.norm(dim=-1), torch.ones(1, 36), atol=1e-5)
    held = original.vision_model.post_layernorm(out.vision_model_output.last_hidden_state[0, 5])
    vector = original.visual_projection(held)
    alike = float(vector @ phrase[0] / vector.norm())
    assert similarity_maps(patches, phrase, (6, 6))[0, 0, 4] == pytest.approx(alike, abs=1e-5)
    with pytest.raises(TaskError, match="one length"):
        phrase_vectors(clip, ["red star", "large red star"])


def test_shares_by_hand():
    made = softened(np.array([[[0.0, np.log(3) / 2]]]), 2.0)
    assert made.tolist() == [[[pytest.approx(0.25), pytest.approx(0.75)]]]


def test_the_study_runs_and_needs_a_space_for_both(clip, bridge_of):
    options = study.CorrelationSizes(choosing=12, pictures=20, odd=12)
    found = study.REPLICATION.run(Setting(model=clip, name="zoo:clip", options=options, seed=3))
    assert {claim.verdict for claim in found.claims[:-1]} <= {"holds", "fails"}
    assert len(found.tables["Variants, on the pictures for choosing (99: all layers)"]) == 10
    with pytest.raises(ModelError, match="pictures and captions in one space"):
        study.REPLICATION.run(Setting(model=bridge_of("gpt2"), name="tiny", options=options))


def test_telling_objects_apart_by_hand():
    own, others = np.array([[[True, False, False]]]), np.array([[[False, True, True]]])
    told = told_apart(np.array([[[0.5, 0.2, 0.7]]]), own, others)
    assert told.tolist() == [0.5]  # above one of two patches of the others
