"""Which classes of transformers are opened as towers, what they read, and probe inputs for them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import PretrainedConfig

from workbench.tasks.pictures.names import COMPARES

_VISION = (
    *("ViTModel", "ViTForImageClassification", "DeiTModel", "DeiTForImageClassification"),
    *("CLIPVisionModel", "CLIPVisionModelWithProjection", "CLIPForImageClassification"),
    *("SiglipVisionModel", "SiglipForImageClassification", "BeitModel", "BeitForImageClassification"),
    *("Dinov2Model", "Dinov2ForImageClassification", "Dinov2WithRegistersModel"),
    *("Dinov2WithRegistersForImageClassification", "DINOv3ViTModel", "IJepaModel"),
    *("IJepaForImageClassification", "ViTMSNModel", "ViTMSNForImageClassification"),
)
_WORDS = ("CLIPTextModel", "CLIPTextModelWithProjection", "SiglipTextModel")
SPEAKS = (
    *("PaliGemmaForConditionalGeneration", "InternVLForConditionalGeneration"),
    *("SmolVLMForConditionalGeneration", "Blip2ForConditionalGeneration"),
    *("Qwen2VLForConditionalGeneration", "Qwen2_5_VLForConditionalGeneration"),
    *("Qwen3VLForConditionalGeneration", "Qwen3VLMoeForConditionalGeneration"),
    *("LlavaNextForConditionalGeneration", "Mistral3ForConditionalGeneration"),
)
"""Language models that see: those that the bridge does not open, or whose towers it does not show prompt by prompt."""
PACKS: tuple[str, ...] = SPEAKS[-6:]
"""Whose towers put the patches of all pictures into one row, or each crop into its own."""
DEEP = ("Qwen3VLForConditionalGeneration", "Qwen3VLMoeForConditionalGeneration")
"""Whose towers also write to later layers of the language model."""
_TRANSLATES = (
    *(
        "T5ForConditionalGeneration",
        "MT5ForConditionalGeneration",
        "SwitchTransformersForConditionalGeneration",
    ),
    *("BartForConditionalGeneration", "MBartForConditionalGeneration", "BlenderbotForConditionalGeneration"),
    *("PegasusForConditionalGeneration", "M2M100ForConditionalGeneration", "MarianMTModel"),
)
PAINTS: Mapping[str, str] = {"PainterModel": "workbench.model.flow_painter.model"}
"""Models of ours that paint, and where they are: two stacks in one, patches to patches and patches to words."""
ALIASES: Mapping[str, str] = {"T5WithLMHeadModel": "T5ForConditionalGeneration"}
"""Names in older files."""

READS: Mapping[str, tuple[str, ...]] = (
    dict.fromkeys(_VISION, ("pixel_values",))
    | dict.fromkeys((*_WORDS, *_TRANSLATES, *SPEAKS), ("input_ids",))
    | dict.fromkeys(COMPARES, ("input_ids", "pixel_values"))
    | dict.fromkeys(PAINTS, ("input_ids", "pixel_values", "time"))
)
"""What each class cannot be called without; each stack of the last ones also runs by itself."""

N_ROWS = 2  # of every probe


def tower_class(config: PretrainedConfig) -> type | None:
    """Return the class of a configuration where it is opened as a tower, else None."""
    for name in getattr(config, "architectures", None) or ():
        if (name := ALIASES.get(name, name)) in READS:
            return getattr(import_module(PAINTS[name]) if name in PAINTS else transformers, name)
    return None


def words_of(config: PretrainedConfig) -> SimpleNamespace:
    """Return what a tower's configuration says of its words, under the names of a bridge's configuration."""
    text, kind = getattr(config, "text_config", config), tower_class(config)
    size = getattr(text, "vocab_size", 0)
    return SimpleNamespace(
        default_prepend_bos=kind is not None and kind.__name__ in SPEAKS,
        n_ctx=getattr(text, "max_position_embeddings", None),
        attention_dir="causal" if kind is not None and kind.__name__ in SPEAKS else "bidirectional",
        d_vocab=size,
        d_vocab_out=size,
    )


def probe_inputs(config: PretrainedConfig, reads: tuple[str, ...]) -> dict[str, Tensor]:
    """Inputs that are the same on every machine: pictures of noise, words spread over the vocabulary.

    Example:
        >>> config = transformers.ViTConfig(image_size=8)
        >>> probe_inputs(config, ("pixel_values",))["pixel_values"].shape
        torch.Size([2, 3, 8, 8])
    """
    makers = {"input_ids": _ids, "pixel_values": _pixels, "time": lambda config: torch.tensor([0.25, 0.75])}
    return {name: makers[name](config) for name in reads}


def _pixels(config: PretrainedConfig) -> Tensor:
    vision = getattr(config, "vision_config", config)
    height, width = picture_size(vision)
    generator = torch.Generator().manual_seed(0)
    return torch.randn(N_ROWS, vision.num_channels, height, width, generator=generator)


def picture_size(vision: Any) -> tuple[int, int]:
    """Height and width of the pictures that a tower of this configuration reads."""
    size = vision.image_size
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _ids(config: PretrainedConfig) -> Tensor:
    """Words, and the end of text at the end: CLIP reads its answer there."""
    text = getattr(config, "text_config", config)
    length = min(9, getattr(text, "max_position_embeddings", 9))
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, text.vocab_size, (N_ROWS, length), generator=generator)
    end, pad = getattr(text, "eos_token_id", None), getattr(text, "pad_token_id", None)
    for token in (end, pad):  # both mean something to some models
        if isinstance(token, int) and 0 <= token < text.vocab_size:
            ids[ids == token] = next(i for i in range(text.vocab_size) if i not in (end, pad))
    if isinstance(end, int) and 0 <= end < text.vocab_size:
        ids[:, -1] = end
    return ids
