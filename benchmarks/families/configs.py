"""A tiny random model of an architecture, from its configuration class alone: nothing is downloaded.

One table of sizes serves all: a configuration takes the fields that it has. What an architecture needs besides is in
``OWN``.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
import transformers
from torch import nn

from tests.families import N_CTX, VOCABULARY

IMAGE = "w119"  # the word that stands for a picture
SIZES: Mapping[str, Any] = {
    "vocab_size": len(VOCABULARY),
    **{"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2, "decoder_start_token_id": 2},
    **{"hidden_size": 32, "n_embd": 32, "d_model": 32, "word_embed_proj_dim": 32, "lru_width": 32},
    **{"intermediate_size": 48, "ffn_dim": 48, "moe_intermediate_size": 24},
    "shared_expert_intermediate_size": 24,
    **{"num_hidden_layers": 3, "num_layers": 3, "n_layer": 3, "n_layers": 3},
    **{"num_attention_heads": 4, "n_head": 4, "n_heads": 4, "attention_heads": 4, "num_heads": 4},
    **{"num_key_value_heads": 2, "head_dim": 8, "rotary_dim": 4},
    **{"max_position_embeddings": N_CTX, "n_positions": N_CTX, "max_seq_len": N_CTX, "context_length": N_CTX},
    **{"tie_word_embeddings": False, "initializer_range": 0.15, "init_std": 0.15, "sliding_window": 6},
    **{"query_pre_attn_scalar": 8, "attention_hidden_size": 32},
    **{"num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2},
    **{"n_shared_experts": 1, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1},
    **{"q_lora_rank": 16, "kv_lora_rank": 16, "v_head_dim": 8},
    **{"qk_rope_head_dim": 4, "qk_nope_head_dim": 8},
    **{"mamba_n_heads": 4, "mamba_num_heads": 4, "mamba_d_head": 16, "mamba_head_dim": 8},
    **{"mamba_d_state": 8, "state_size": 8, "mamba_expand": 2, "time_step_rank": 4},
    **{"n_groups": 1, "mamba_n_groups": 1, "chunk_size": 8, "mamba_chunk_size": 8},
    **{"linear_num_key_heads": 2, "linear_num_value_heads": 4},
    **{"image_size": 16, "patch_size": 4, "num_channels": 3, "projection_dim": 32, "mm_tokens_per_image": 4},
    **dict.fromkeys(("image_token_id", "image_token_index"), VOCABULARY.index(IMAGE)),
    **{"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4},
    **{"encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "d_ff": 48, "d_kv": 8, "num_decoder_layers": 2},
    **{"linear_key_head_dim": 8, "linear_value_head_dim": 8},
}

_LATENT = {"num_key_value_heads": 4, "head_dim": 4}
_HYBRID = {"layer_types": ["linear_attention", "full_attention", "linear_attention"]}
_CONVOLVED = {"layer_types": ["conv", "full_attention", "full_attention"]}
_PER_LAYER = {"global_head_dim": 8, "hidden_size_per_layer_input": 0}
_ZAMBA = ["mamba", "hybrid", "mamba"]
_TURNED = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
_SQUARES = {"depth": 2, "out_hidden_size": 32}
_READ_WITHIN = {"deepstack_visual_indexes": [0], "num_position_embeddings": 16}
OWN: Mapping[str, Mapping[str, Any]] = {
    "DeepseekV2ForCausalLM": _LATENT,
    "DeepseekV3ForCausalLM": _LATENT,
    "YoutuForCausalLM": _LATENT,
    "Glm4MoeLiteForCausalLM": _LATENT,
    "GlmMoeDsaForCausalLM": _LATENT,
    "Qwen3NextForCausalLM": _HYBRID,
    "Qwen3_5ForCausalLM": _HYBRID,
    "Qwen3_5MoeForCausalLM": _HYBRID,
    "Lfm2ForCausalLM": _CONVOLVED,
    "Lfm2MoeForCausalLM": _CONVOLVED,
    "Qwen3_5TextConfig": _HYBRID,
    "Qwen3_5MoeTextConfig": _HYBRID,
    "Gemma4TextConfig": _PER_LAYER,
    "Gemma4ForCausalLM": _PER_LAYER,
    **{f"Qwen{name}TextConfig": {"rope_parameters": _TURNED} for name in ("2VL", "2_5_VL", "3VL", "3VLMoe")},
    "Qwen2VLVisionConfig": {"depth": 2, "embed_dim": 32, "mlp_ratio": 2},
    "Qwen2_5_VLVisionConfig": {**_SQUARES, "window_size": 8, "fullatt_block_indexes": [1]},
    "Qwen3VLVisionConfig": {**_SQUARES, **_READ_WITHIN},
    "Qwen3VLMoeVisionConfig": {**_SQUARES, **_READ_WITHIN},
    "LlavaNextForConditionalGeneration": {"image_grid_pinpoints": [[16, 32], [32, 16]]},
    "PixtralVisionConfig": {"image_size": 32},
    "GPTNeoForCausalLM": {"attention_types": [[["global", "local", "global"], 1]], "window_size": 6},
    "BambaForCausalLM": {"attn_layer_indices": [1]},
    "JambaForCausalLM": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "GraniteMoeHybridForCausalLM": {
        "layer_types": ["mamba", "attention", "mamba"],
        "position_embedding_type": "rope",
    },
    "FalconH1ForCausalLM": {"mamba_d_ssm": 32, "mamba_d_head": 8},
    "Mamba2ForCausalLM": {"num_heads": 8},
    "Zamba2ForCausalLM": {
        **{"layers_block_type": _ZAMBA, "layer_types": _ZAMBA},
        **{"hybrid_layer_ids": [1], "num_mem_blocks": 1},
    },
}

ALIASES: Mapping[str, str] = {
    "Gemma1ForCausalLM": "GemmaForCausalLM",
    "JetMoEForCausalLM": "JetMoeForCausalLM",
    "MPTForCausalLM": "MptForCausalLM",
    "NeoForCausalLM": "GPTNeoForCausalLM",
    "NeoXForCausalLM": "GPTNeoXForCausalLM",
    "T5WithLMHeadModel": "T5ForConditionalGeneration",
}
"""Other names of an architecture: a checkpoint's config.json may have them, transformers has one class."""


LARGEST = 5_000_000  # numbers: a model that is larger was not made small


def tiny(name: str, seed: int = 0) -> nn.Module:
    """The model in eval mode; gains and biases have the spread that trained ones have, and nothing is zero.

    Raises:
        ValueError: if the sizes did not make it small.
    """
    kind = getattr(transformers, ALIASES.get(name, name))
    config = tiny_config(kind.config_class, name)
    with torch.device("meta"):
        numbers = sum(p.numel() for p in kind(config).parameters())
    if numbers > LARGEST:
        raise ValueError(f"it has {numbers:,} numbers with the sizes of benchmarks/families/configs.py")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 1:
                    parameter.add_(0.2 * torch.randn_like(parameter))
                elif not parameter.any():  # a projection that begins at zero would hide all behind it
                    parameter.normal_(0, 0.2)
    model.config.architectures = [name]
    return model


def tiny_config(config_class: type, name: str) -> Any:
    """A configuration with the sizes that it has fields for, and its own; the parts of a composite one alike."""
    own = dict(OWN.get(ALIASES.get(name, name), {}))
    parts = getattr(config_class, "sub_configs", {})
    if parts:
        default = config_class()
        made = {
            part: tiny_config(kind := type(getattr(default, part)), kind.__name__)
            for part in parts
            if getattr(default, part)
        }
        own = {**made, **own}
    return config_class(**{**_known_sizes(config_class), **own})


def _known_sizes(config_class: type) -> dict[str, Any]:
    known = set(inspect.signature(config_class.__init__).parameters)
    for base in config_class.__mro__:
        known |= set(getattr(base, "__annotations__", {}))
    return {field: value for field, value in SIZES.items() if field in known}
