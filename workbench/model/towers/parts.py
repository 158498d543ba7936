"""What the parts of a layer are called in transformers' models: attention, norms, projections, MLP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from torch import nn

NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "attn": ("attention", "self_attn", "attn"),
        "ln1": ("layernorm_before", "layer_norm1", "norm1", "input_layernorm", "attention_norm"),
        "ln2": (
            *("pre_feedforward_layernorm", "layernorm_after", "layer_norm2", "norm2"),
            *("post_attention_layernorm", "ffn_norm"),
        ),
        "mlp": ("mlp", "feed_forward", "ffn"),
        "after_attn": ("layer_scale1", "ls1", "lambda_1"),
        "after_mlp": ("layer_scale2", "ls2", "lambda_2"),
        "q": ("q_proj", "query"),
        "k": ("k_proj", "key"),
        "v": ("v_proj", "value"),
        "o": ("o_proj", "out_proj", "projection_layer", "projection", "proj"),
        "out": ("fc2", "down_proj", "weights_out", "linear_fc2"),
    }
)


def part(module: nn.Module, name: str) -> nn.Module | None:
    """Return a part of a layer by our word for it, or None where it has none.

    Example:
        >>> layer = nn.ModuleDict({"norm1": nn.Identity()})
        >>> part(layer, "ln1"), part(layer, "mlp")
        (Identity(), None)
    """
    children = dict(module.named_children())
    return next((children[n] for n in NAMES[name] if n in children), None)


def linear(module: nn.Module, name: str) -> nn.Linear:
    """Return a projection of an attention or an MLP.

    Raises:
        AttributeError: where it has none of its own: one matrix makes queries, keys and values together.
    """
    found = part(module, name)
    if not isinstance(found, nn.Linear):
        raise AttributeError(f"a {type(module).__name__} has no projection of its own for {name}")
    return found


def stacks(model: nn.Module) -> Iterator[tuple[str, nn.ModuleList]]:
    """Return every stack of layers with attention in a model, with its name there."""
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) and part(module[0], "attn") is not None:
            yield name, module
