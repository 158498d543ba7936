"""Tiny random models of pictures and words, and pairs of pictures for them, written as a user's would be."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tests.families import VOCABULARY, _root, _roughen, save_tokenizer

IMAGE = VOCABULARY.index("w119")  # the word that stands for a picture
SIDE = 16
_SIZE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
_VISION = {**_SIZE, "image_size": SIDE, "patch_size": 8}
_TEXT = {**_SIZE, "vocab_size": len(VOCABULARY), "num_key_value_heads": 4, "initializer_range": 0.15}


def _llava(t: Any, vision: Any, layer: int | list[int] = -1) -> Any:
    config = t.LlavaConfig(
        vision_config=vision,
        text_config=t.LlamaConfig(**_TEXT),
        image_token_index=IMAGE,
        vision_feature_layer=layer,
        vision_feature_select_strategy="default" if vision.model_type.startswith("clip") else "full",
    )
    return t.LlavaForConditionalGeneration(config)


def _gemma3(t: Any) -> Any:
    text = {**_TEXT, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 6}
    config = t.Gemma3Config(
        text_config=text, vision_config=_VISION, image_token_index=IMAGE, mm_tokens_per_image=4
    )
    return t.Gemma3ForConditionalGeneration(config)


def _idefics3(t: Any) -> Any:
    config = t.Idefics3Config(
        vision_config=_VISION,
        text_config={**_TEXT, "model_type": "llama"},
        image_token_id=IMAGE,
        scale_factor=2,
    )
    return t.Idefics3ForConditionalGeneration(config)


def _before(t: Any, layer: int | list[int]) -> Any:
    """One that does not read the last layer of its tower, or reads several."""
    return _llava(t, t.CLIPVisionConfig(**{**_VISION, "num_hidden_layers": 3}), layer)


BUILDERS: Mapping[str, Callable[[Any], Any]] = {
    "llava": lambda t: _llava(t, t.CLIPVisionConfig(**_VISION)),
    "llava-siglip": lambda t: _llava(t, t.SiglipVisionConfig(**_VISION)),
    "llava-before": lambda t: _before(t, -2),
    "llava-several": lambda t: _before(t, [-1, -2]),
    "gemma3": _gemma3,
    "idefics3": _idefics3,
}


def build_seeing(name: str) -> Any:
    """The model in memory, in eval mode; every matrix large enough to matter."""
    import torch
    import transformers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BUILDERS[name](transformers).eval()
        _roughen(model)
        with torch.no_grad():
            for parameter in (
                p for n, p in model.named_parameters() if "language_model" not in n and p.ndim > 1
            ):
                parameter.normal_(0, 0.2)
    return model


@cache
def seeing_dir(name: str) -> Path:
    """Directory of a tiny model, written once per test process; read only."""
    directory = _root() / f"seeing-{name}"
    build_seeing(name).save_pretrained(directory)
    save_tokenizer(directory)
    return directory


def picture_rows(folder: Path, n: int = 3) -> list[dict[str, object]]:
    """Rows of a pairs file, their pictures written beside it: other pictures, other questions, or both."""
    rng, rows = np.random.default_rng(0), []
    for i in range(n):
        for side in "ab":
            np.save(folder / f"{side}{i}.npy", rng.normal(size=(3, SIDE, SIDE)).astype("float32"))
        other = f"w10 w119 w31 w{40 + i}" if i % 2 else f"w10 w119 w{50 + i} w{40 + i}"
        rows.append(
            {
                "id": f"p{i}",
                "clean": f"w10 w119 w31 w{40 + i}",
                "corrupted": other,
                "correct": [" Mary"],
                "incorrect": [" John"],
                "positions": {"V": [[9, 12], [9, 12]]},
                "image": {"clean": f"a{i}.npy", "corrupted": f"b{i}.npy"},
            }
        )
    return rows


def picture_pairs(folder: Path, n: int = 3) -> Path:
    """A pairs file of pictures and words."""
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in picture_rows(folder, n)))
    return path
