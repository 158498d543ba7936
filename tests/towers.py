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


SPEAKING: Mapping[str, Callable[[Any], Any]] = {
    "paligemma": _paligemma,
    "internvl": _internvl,
    "smolvlm": _smolvlm,
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
