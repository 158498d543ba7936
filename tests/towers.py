"""Tiny random models that see, one per class, written to disk as a user's model would be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from tests.families import _root, _roughen

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
