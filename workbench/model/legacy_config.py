"""The configuration of a HookedTransformer: which fields matter, and what cannot be imported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct

from workbench.core.errors import ModelError
from workbench.core.strict_json import kind, parse, read_text
from workbench.core.typed import typed
from workbench.model.plain import ACTIVATIONS

_SAME_FORMULA = {"gelu_pytorch_tanh": "gelu_new", "gelu_fast": "gelu_new"}
_NORMS = (None, "LN", "LNPre", "RMS", "RMSPre")
Size = Annotated[int, Meta(ge=1, le=2**31)]
_REQUIRED = ("n_layers", "d_model", "n_ctx", "d_head", "n_heads", "d_vocab")
_KEPT = (
    *_REQUIRED,
    *("d_mlp", "act_fn", "eps", "use_attn_scale", "attn_scale", "normalization_type", "attention_dir"),
    *("attn_only", "final_rms", "d_vocab_out", "default_prepend_bos", "attn_scores_soft_cap"),
    "output_logits_soft_cap",
)
# Fields that change what is computed and that only these values are imported for.
_ONLY: Mapping[str, tuple[object, ...]] = {
    "positional_embedding_type": ("standard",),
    "use_local_attn": (False,),
    "window_size": (None,),
    "attn_types": (None,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "parallel_attn_mlp": (False,),
    "gated_mlp": (False,),
    "n_key_value_heads": (None,),
    "post_embedding_ln": (False,),
    "num_experts": (None,),
    "experts_per_token": (None,),
    "relative_attention_max_distance": (None,),
    "relative_attention_num_buckets": (None,),
    "decoder_start_token_id": (None,),
    "use_normalization_before_and_after": (False,),
    "use_qk_norm": (False,),
    "use_NTK_by_parts_rope": (False,),
    "load_in_4bit": (False,),
}
# Fields that do not change what is computed here: hook switches, training, bookkeeping, rotary details.
_IGNORED = frozenset(
    (
        "NTK_by_parts_factor NTK_by_parts_high_freq_factor NTK_by_parts_low_freq_factor "
        "NTK_original_ctx_len checkpoint_index checkpoint_label_type checkpoint_value device dtype "
        "from_checkpoint init_mode init_weights initializer_range model_name n_devices n_params "
        "original_architecture rotary_adjacent_pairs rotary_base rotary_dim seed tie_word_embeddings "
        "tokenizer_name tokenizer_prepends_bos trust_remote_code ungroup_grouped_query_attention "
        "use_attn_in use_attn_result use_hook_mlp_in use_hook_tokens use_split_qkv_input "
    ).split()
)


class _Fields(Struct, kw_only=True):
    """The fields that decide what is computed, and what each may be; null is as good as absent."""

    n_layers: Size
    d_model: Size
    n_ctx: Size
    d_head: Size
    n_heads: Size
    d_vocab: Size
    d_mlp: Size | None = None
    d_vocab_out: Annotated[int, Meta(ge=-1, le=2**31)] | None = None
    act_fn: str | None = None
    eps: Annotated[float, Meta(ge=0, le=1)] = 1e-5
    use_attn_scale: bool = True
    attn_scale: float | None = None
    normalization_type: str | None = None
    attention_dir: str = "causal"
    attn_only: bool = False
    final_rms: bool | None = None
    default_prepend_bos: bool | None = None
    attn_scores_soft_cap: float | None = None
    output_logits_soft_cap: float | None = None


Shapes = dict[str, tuple[int, ...]]  # of tensors, by name


def read_config(path: Path) -> dict[str, Any]:
    """Return the fields of a HookedTransformerConfig that matter to a native model, under TransformerLens' names.

    Raises:
        ModelError: on unreadable JSON, missing or unknown fields, and features no native model has.
    """
    given = parse(read_text(path, error=ModelError), where=str(path), error=ModelError)
    if not isinstance(given, dict):
        raise ModelError(
            f"{path} holds {kind(given)}; the fields of a configuration are expected",
            hint='write it as {"n_layers": 2, ...}, with the fields of a HookedTransformerConfig',
        )
    if missing := [name for name in _REQUIRED if name not in given]:
        raise ModelError(
            f"{path} lacks {', '.join(missing)} (whole numbers above 0)",
            hint=f"add them: {', '.join(f'{name}: 2' for name in missing[:2])}",
        )
    if strange := sorted(set(given) - set(_KEPT) - set(_ONLY) - _IGNORED):
        raise ModelError(
            f"{path} has fields that are not known: {', '.join(strange[:8])}",
            hint="remove them if they do not change what the model computes",
        )
    refused = [
        f"{name}={given[name]!r}"
        for name, ok in _ONLY.items()
        if name in given
        and not any(given[name] is o or (given[name] == o and type(given[name]) is type(o)) for o in ok)
    ]
    fields = {name: given[name] for name in _KEPT if name in given}
    typed(fields, _Fields, where=str(path), error=ModelError)
    fields.setdefault("normalization_type", "LN")
    fields.setdefault("attention_dir", "causal")
    fields.setdefault("attn_only", False)
    fields.setdefault("default_prepend_bos", True)
    notes = []
    act_fn = fields.get("act_fn")
    if act_fn in _SAME_FORMULA:
        fields["act_fn"] = _SAME_FORMULA[act_fn]
        notes.append(f"act_fn {act_fn} is written as {fields['act_fn']}, the same formula")
    if not fields["attn_only"] and fields.get("act_fn") not in ACTIVATIONS:
        refused.append(f"act_fn={act_fn!r}")
    if fields["normalization_type"] not in _NORMS:
        refused.append(f"normalization_type={fields['normalization_type']!r}")
    if fields["attention_dir"] not in ("causal", "bidirectional"):
        refused.append(f"attention_dir={fields['attention_dir']!r}")
    unscaled = not fields.get("use_attn_scale", True) or fields.get("attn_scale") == 1.0
    if unscaled and fields["d_head"] > 1:
        refused.append(
            f"use_attn_scale={fields.get('use_attn_scale', True)}, attn_scale={fields.get('attn_scale')}"
        )
    if refused:
        raise ModelError(
            f"{path} asks for what a native TransformerLens model does not compute: {'; '.join(refused)}",
            hint="import a model with standard positions, scaled softmax attention and plain MLPs",
        )
    if (fields.get("d_vocab_out") or -1) < 1:
        fields["d_vocab_out"] = fields["d_vocab"]
    if not fields.get("d_mlp"):
        fields["d_mlp"] = 4 * fields["d_model"]
    return {**fields, "notes": notes}


def legacy_shapes(fields: Mapping[str, Any]) -> Shapes:
    """Name and shape of every tensor a HookedTransformer of this configuration has."""
    d, h, dh, m = (fields[name] for name in ("d_model", "n_heads", "d_head", "d_mlp"))
    norms: dict[str, Shapes] = {"LN": {"w": (d,), "b": (d,)}, "RMS": {"w": (d,)}}
    norm = norms.get(fields["normalization_type"], {})
    attn: Shapes = {f"W_{s}": (h, d, dh) for s in "QKV"} | {f"b_{s}": (h, dh) for s in "QKV"}
    attn |= {"W_O": (h, dh, d), "b_O": (d,)}
    shapes: Shapes = {"embed.W_E": (fields["d_vocab"], d), "pos_embed.W_pos": (fields["n_ctx"], d)}
    for layer in range(fields["n_layers"]):
        block = f"blocks.{layer}."
        shapes |= {f"{block}ln1.{key}": shape for key, shape in norm.items()}
        shapes |= {f"{block}attn.{key}": shape for key, shape in attn.items()}
        if fields["attn_only"]:
            continue
        shapes |= {f"{block}ln2.{key}": shape for key, shape in norm.items()}
        shapes |= {f"{block}mlp.W_in": (d, m), f"{block}mlp.b_in": (m,)}
        shapes |= {f"{block}mlp.W_out": (m, d), f"{block}mlp.b_out": (d,)}
        if fields.get("act_fn") == "solu_ln" and fields["normalization_type"] == "LN":
            shapes |= {f"{block}mlp.ln.w": (m,), f"{block}mlp.ln.b": (m,)}
    final: Shapes = {"w": (d,)} if fields.get("final_rms") and norm else norm
    shapes |= {f"ln_final.{key}": shape for key, shape in final.items()}
    return shapes | {"unembed.W_U": (d, fields["d_vocab_out"]), "unembed.b_U": (fields["d_vocab_out"],)}
