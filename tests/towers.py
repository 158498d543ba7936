"""Tiny random models that see, one per class, written to disk as a user's model would be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from tests.families import VOCABULARY, _root, _roughen, save_tokenizer

CLASSES = ("cat", "dog", "fish", "horse", "bird")
_SIZE = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48, "initializer_range": 0.15}
_PICTURE = {**_SIZE, "num_hidden_layers": 3, "image_size": 12, "patch_size": 4}
_NAMED = {"id2label": dict(enumerate(CLASSES)), "label2id": {name: i for i, name in enumerate(CLASSES)}}
_TEXT = {
    **_SIZE,
    **{"num_hidden_layers": 2, "vocab_size": 60, "max_position_embeddings": 20},
    **{"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2},
}

BUILDERS: Mapping[str, Callable[[Any], Any]] = {
    "vit": lambda t: t.ViTForImageClassification(t.ViTConfig(**_PICTURE, **_NAMED)),
    "deit": lambda t: t.DeiTForImageClassification(t.DeiTConfig(**_PICTURE, **_NAMED)),
    "clip-vision": lambda t: t.CLIPVisionModel(t.CLIPVisionConfig(**_PICTURE)),
    "clip": lambda t: t.CLIPModel(t.CLIPConfig(text_config=_TEXT, vision_config=_PICTURE, projection_dim=16)),
    "siglip-vision": lambda t: t.SiglipVisionModel(t.SiglipVisionConfig(**_PICTURE)),
    "siglip": lambda t: t.SiglipModel(t.SiglipConfig(text_config=_TEXT, vision_config=_PICTURE)),
    "dinov2": lambda t: t.Dinov2ForImageClassification(t.Dinov2Config(**_PICTURE, **_NAMED, mlp_ratio=2)),
    "dinov3": lambda t: t.DINOv3ViTModel(t.DINOv3ViTConfig(**_PICTURE)),
    "beit": lambda t: t.BeitForImageClassification(t.BeitConfig(**_PICTURE, **_NAMED)),
}
TOWERS: tuple[str, ...] = tuple(BUILDERS)

IMAGE = VOCABULARY.index("w119")  # the word that stands for a picture
_SEES = {**_PICTURE, "num_hidden_layers": 2, "image_size": 16}
_SAYS = {
    **_SIZE,
    "num_hidden_layers": 2,
    "vocab_size": len(VOCABULARY),
    "num_key_value_heads": 2,
    "head_dim": 8,
}
_SAYS |= {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}


def _paligemma(t: Any) -> Any:
    sees = t.SiglipVisionConfig(**_SEES, vision_use_head=False)
    config = t.PaliGemmaConfig(
        vision_config=sees,
        text_config=t.GemmaConfig(**_SAYS),
        image_token_index=IMAGE,
        projection_dim=32,
        hidden_size=32,
    )
    return t.PaliGemmaForConditionalGeneration(config)


def _internvl(t: Any) -> Any:
    sees = t.InternVLVisionConfig(**{**_SEES, "image_size": [16, 16], "patch_size": [4, 4]})
    says = t.Qwen2Config(**_SAYS)
    config = t.InternVLConfig(vision_config=sees, text_config=says, image_token_id=IMAGE, image_seq_length=4)
    return t.InternVLForConditionalGeneration(config)


def _smolvlm(t: Any) -> Any:
    sees, says = t.SmolVLMVisionConfig(**_SEES), t.LlamaConfig(**_SAYS)
    config = t.SmolVLMConfig(vision_config=sees, text_config=says, image_token_id=IMAGE, scale_factor=2)
    return t.SmolVLMForConditionalGeneration(config)


_ROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
_TURNED = {**_SAYS, "rope_parameters": _ROPE}
_PATCHED = {"depth": 2, "num_heads": 4, "patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2}
_WIDE = {"hidden_size": 32, "intermediate_size": 48, "out_hidden_size": 32, "initializer_range": 0.15}


def _qwen2_vl(t: Any) -> Any:
    sees = {**_PATCHED, "embed_dim": 32, "hidden_size": 32, "mlp_ratio": 2}
    config = t.Qwen2VLConfig(vision_config=sees, text_config=_TURNED, image_token_id=IMAGE)
    return t.Qwen2VLForConditionalGeneration(config)


def _qwen2_5_vl(t: Any) -> Any:
    """The first layer looks into windows of four patches, the second at all."""
    sees = {**_PATCHED, **_WIDE, "window_size": 8, "fullatt_block_indexes": [1]}
    config = t.Qwen2_5_VLConfig(vision_config=sees, text_config=_TURNED, image_token_id=IMAGE)
    return t.Qwen2_5_VLForConditionalGeneration(config)


def _qwen3_vl(t: Any) -> Any:
    """The tower's first layer also writes to what leaves the language model's first layer."""
    sees = {**_PATCHED, **_WIDE, "deepstack_visual_indexes": [0], "num_position_embeddings": 16}
    config = t.Qwen3VLConfig(vision_config=sees, text_config=_TURNED, image_token_id=IMAGE)
    return t.Qwen3VLForConditionalGeneration(config)


def _llava_next(t: Any) -> Any:
    """Pictures of two or four crops; the tower's last layer but one is read."""
    sees = t.CLIPVisionConfig(**{**_SEES, "num_hidden_layers": 3, "image_size": 8})
    config = t.LlavaNextConfig(
        vision_config=sees,
        text_config=t.LlamaConfig(**_SAYS),
        image_token_index=IMAGE,
        image_grid_pinpoints=[[8, 16], [16, 8], [16, 16]],
    )
    return t.LlavaNextForConditionalGeneration(config)


def _mistral3(t: Any) -> Any:
    sees = t.PixtralVisionConfig(**{**_SEES, "head_dim": 8, "image_size": 32})
    config = t.Mistral3Config(
        vision_config=sees,
        text_config=t.MistralConfig(**_SAYS),
        image_token_index=IMAGE,
        spatial_merge_size=2,
    )
    return t.Mistral3ForConditionalGeneration(config)


SPEAKING: Mapping[str, Callable[[Any], Any]] = {
    "paligemma": _paligemma,
    "internvl": _internvl,
    "smolvlm": _smolvlm,
    "qwen2vl": _qwen2_vl,
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen3vl": _qwen3_vl,
    "llavanext": _llava_next,
    "mistral3": _mistral3,
}
"""Language models that see, and that the bridge refuses."""


@cache
def speaking_dir(name: str) -> Path:
    """Directory of a tiny one with the tests' tokenizer; what it sees matters to what it says."""
    import torch
    import transformers

    directory = _root() / f"speaking-{name}"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = SPEAKING[name](transformers).eval()
        _roughen(model)
        with torch.no_grad():
            seen = [
                p
                for n, p in model.named_parameters()
                if "language" not in n and "text_model" not in n and p.ndim > 1
            ]
            for parameter in seen:
                parameter.normal_(0, 0.2)
    model.save_pretrained(directory)
    save_tokenizer(directory)
    return directory


def build_tower(name: str, seed: int = 0) -> Any:
    """The model in memory, in eval mode; gains and biases have the spread that trained ones have."""
    import torch
    import transformers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BUILDERS[name](transformers).eval()
        _roughen(model)
    return model


@cache
def tower_dir(name: str) -> Path:
    """Directory of a tiny tower, written once per test process; read only."""
    directory = _root() / f"tower-{name}"
    build_tower(name).save_pretrained(directory)
    return directory
