"""A LLaVA as a plain Llama whose words are also the patches of some pictures: an oracle that sees no pixels."""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LlamaForCausalLM, LlavaForConditionalGeneration, PreTrainedTokenizerFast


@torch.no_grad()
def picture_as_words(
    llava: LlavaForConditionalGeneration, pixels: Float[Tensor, "picture 3 height width"]
) -> tuple[LlamaForCausalLM, Int[Tensor, "picture patch"]]:
    """Run tower and projector once and append what they write as rows of the embedding.

    Returns:
        The language model alone, and the token ids of every picture's patches. Rows of the unembedding that belong to
        them are zero: patches are never said.
    """
    patches = llava.model.get_image_features(pixel_values=pixels)
    rows = torch.cat(list(getattr(patches, "pooler_output", patches))).reshape(len(pixels), -1, _width(llava))
    words = llava.model.language_model.embed_tokens.weight
    config = llava.config.text_config.__class__(**llava.config.text_config.to_dict())
    config.vocab_size = len(words) + rows.shape[0] * rows.shape[1]
    llama = LlamaForCausalLM(config).eval()
    weights = {f"model.{name}": value for name, value in llava.model.language_model.state_dict().items()}
    weights["model.embed_tokens.weight"] = torch.cat([words, rows.flatten(0, 1)])
    silent = torch.zeros(config.vocab_size - len(words), words.shape[1])
    weights["lm_head.weight"] = torch.cat([llava.lm_head.weight, silent])
    llama.load_state_dict(weights)
    ids = len(words) + torch.arange(rows.shape[0] * rows.shape[1]).view(rows.shape[:2])
    return llama, ids


def patch_word(picture: int, patch: int) -> str:
    """The word that stands for a patch."""
    return f"picture{picture}patch{patch}"


def save_as_words(
    llama: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    ids: Int[Tensor, "picture patch"],
    folder: Path,
) -> Path:
    """Write the model and its words as a plain directory."""
    names = [patch_word(i, j) for i in range(ids.shape[0]) for j in range(ids.shape[1])]
    tokenizer.add_tokens(names)
    assert tokenizer.convert_tokens_to_ids(names) == ids.flatten().tolist()
    llama.config.architectures = ["LlamaForCausalLM"]
    llama.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _width(llava: LlavaForConditionalGeneration) -> int:
    return llava.config.text_config.hidden_size
