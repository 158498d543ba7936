"""Parts of a model that no text passes through are named, and prompts that would need them are dropped."""

from __future__ import annotations

import pytest
import torch
import transformers as t
from safetensors.torch import load_file, save_file

from tests.families import VOCABULARY, build_hf, save_tokenizer
from tests.mini import mini_pairs
from workbench.commands.forms.sweep import Ablate
from workbench.commands.inputs import record_of
from workbench.core.errors import ModelError, TaskError
from workbench.engine.paired_runs import PairedRuns
from workbench.heads.observe import patterns_of
from workbench.model.architecture import describe
from workbench.model.from_files import reading_of
from workbench.model.identity import identity
from workbench.model.open import open_model
from workbench.model.report import check_bridge
from workbench.tasks.pairs import Pair, Pairs
from workbench.tasks.reading import align_for

SIZE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
TEXT = {**SIZE, "vocab_size": len(VOCABULARY), "num_key_value_heads": 2}
IMAGE = VOCABULARY.index("w119")  # the word that stands for a picture


def llava():
    vision = t.CLIPVisionConfig(image_size=32, patch_size=8, **SIZE)
    config = t.LlavaConfig(vision_config=vision, text_config=t.LlamaConfig(**TEXT), image_token_index=IMAGE)
    return t.LlavaForConditionalGeneration(config)


def gemma():
    vision = {"image_size": 32, "patch_size": 8, **SIZE}
    text = {**TEXT, "head_dim": 8}
    config = t.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    return t.Gemma3ForConditionalGeneration(config)


def audio():
    sound = {"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 48}
    text = {**TEXT, "model_type": "qwen2"}
    config = t.Qwen2AudioConfig(text_config=text, audio_config={**sound, "num_mel_bins": 16})
    return t.Qwen2AudioForConditionalGeneration(config)


def numbers(part: torch.nn.Module) -> str:
    return f"{sum(p.numel() for p in part.parameters()):,} numbers"


def test_a_tower_that_no_text_passes_through_is_named():
    model = audio()
    inside, projector = model.model.audio_tower, model.model.multi_modal_projector
    said = (
        f"text part only: the audio tower (2 layers x 4 heads, {numbers(inside)}) and "
        f"the multi modal projector ({numbers(projector)}) are not measured"
    )
    bridge = open_model(model)
    assert said in identity(bridge).notes and said in check_bridge(bridge).notes
    assert describe(bridge).not_measured == (said,) and said in repr(describe(bridge))
    assert said in str(check_bridge(bridge).to_terminal()) and said in check_bridge(bridge).to_dict()["notes"]


def test_what_pictures_pass_through_is_measured_and_what_they_do_not_is_named():
    """LLaVA reads its tower before the last layer, so that layer and the norm behind it do nothing."""
    model = llava()
    layer, norm = model.model.vision_tower.encoder.layers[1], model.model.vision_tower.post_layernorm
    said = f"the layers 1 ({numbers(layer)}) and the post layernorm ({numbers(norm)}) are not measured"
    assert describe(open_model(model)).not_measured == (said,)
    assert describe(open_model(gemma())).not_measured == (
        "the head (2 layers x 4 heads, 7,472 numbers) is not measured",
    )


@pytest.mark.parametrize("family", ["gpt2", "mixtral", "bert"])
def test_models_of_text_alone_have_no_such_part(family):
    """Also where no token chooses some of the experts: they are parts of layers that are measured."""
    assert describe(open_model(build_hf(family))).not_measured == ()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llava")
    torch.manual_seed(0)
    llava().save_pretrained(folder)
    save_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def pairs():
    """Three pairs of text, and one with the word that stands for a picture."""
    text = {"clean": "w10 w119 w31", "corrupted": "w10 w119 w32"}
    picture = Pair(id="picture", correct=(" Mary",), incorrect=(" John",), **text)
    return Pairs(items=(*mini_pairs(), picture), task="mini")


def test_prompts_with_a_picture_are_dropped_and_named(folder, pairs):
    runs = PairedRuns(open_model(folder, device="cpu"), pairs)
    (dropped,) = runs.pairs.dropped
    assert (dropped.id, dropped.kind) == ("picture", "not text")
    assert f"token 'w119' (id {IMAGE}) stands for an image" in dropped.reason
    assert "post layernorm" in str(record_of(Ablate(model="m", task="t"), runs).model["notes"])
    with pytest.raises(TaskError, match="stands for an image"):
        patterns_of(runs.model, torch.tensor([[10, IMAGE, 31]]))


def test_a_plan_drops_the_same_pairs(folder, pairs):
    planned = align_for(pairs, reading_of(str(folder)))
    assert [(d.id, d.kind) for d in planned.dropped] == [("picture", "not text")]


def test_tensors_that_a_model_does_not_load_are_named(tmp_path):
    """A value head and a further layer for predicting several tokens; saved masks are nothing to speak of."""
    build_hf("llama").save_pretrained(tmp_path)
    extra = {"v_head.weight": torch.ones(1, 32), "model.layers.3.mlp.up_proj.weight": torch.ones(48, 32)}
    masks = {"model.layers.0.attn.masked_bias": torch.ones(1), "model.rotary_emb.inv_freq": torch.ones(4)}
    file = tmp_path / "model.safetensors"
    save_file({**load_file(file), **extra, **masks}, file, metadata={"format": "pt"})
    assert describe(open_model(tmp_path, device="cpu")).not_measured == (
        "2 tensors of the checkpoint that the model does not load: "
        "model.layers.3.mlp.up_proj.weight, v_head.weight",
    )


def test_a_model_with_two_answers_is_refused_by_name():
    model = t.BertForPreTraining(
        t.BertConfig(**{k: v for k, v in TEXT.items() if k != "num_key_value_heads"})
    )
    with pytest.raises(ModelError, match="prediction_logits, seq_relationship_logits"):
        open_model(model)
