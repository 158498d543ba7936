"""Parts of a model that no text passes through: towers for pictures and sound, projectors, further heads.

Found by looking at which parameters the output depends on when the model reads tokens alone, not by their names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from workbench.model.hooks import call
from workbench.model.prompt import Prompt
from workbench.model.standing import plain_name

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

_LAYERS = ("num_hidden_layers", "depth", "encoder_layers", "num_layers")
_HEADS = ("num_attention_heads", "num_heads", "encoder_attention_heads")
# Masks and frequencies that earlier versions of transformers saved beside the weights.
_BUFFERS = re.compile(r"(^|\.)(attn|attention|self)\.(masked_)?bias$|(inv_freq|position_ids|token_type_ids)$")
_MOST = 3  # names that are listed


def unread_parts(bridge: TransformerBridge, prompt: Prompt | Int[Tensor, "row pos"]) -> tuple[str, ...]:
    """Return the parts whose parameters do not reach the output on these prompts, each with its size, in words.

    Layers that are measured are left out: an expert that no token chose is part of one.
    """
    model = bridge.original_model
    measured = {id(p) for p in bridge.blocks.parameters()} if hasattr(bridge, "blocks") else set()
    candidates = {id(p) for p in model.parameters() if p.is_floating_point()} - measured
    unread = candidates - _read_by(bridge, Prompt.of(prompt), candidates)
    once = {
        id(part): (name, part) for name, part in reversed([*_largest(model, unread)])
    }  # some have two names
    return tuple(_words(name, part) for name, part in reversed(once.values()))


def not_measured(parts: Sequence[str], tensors: Iterable[str], *, text_alone: bool) -> tuple[str, ...]:
    """List what was not measured of an opened model: its parts that no text passes through, tensors that it did not
    load.

    Args:
        text_alone: The model takes more than text; it is given text alone.
    """
    said = []
    if parts:
        named = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
        verb = "is" if len(parts) == 1 else "are"
        said.append(f"{'text part only: ' if text_alone else ''}{named} {verb} not measured")
    found = sorted(name for name in tensors if not _BUFFERS.search(name))
    if found:
        listed = ", ".join(found[:_MOST]) + (f" and {len(found) - _MOST} more" if len(found) > _MOST else "")
        number = "1 tensor" if len(found) == 1 else f"{len(found)} tensors"
        said.append(f"{number} of the checkpoint that the model does not load: {listed}")
    return tuple(said)


def _read_by(bridge: TransformerBridge, prompt: Prompt, candidates: set[int]) -> set[int]:
    """The parameters that the output on these prompts depends on."""
    parameters = [p for p in bridge.original_model.parameters() if id(p) in candidates]
    before = [p.requires_grad for p in parameters]
    try:
        for parameter in parameters:
            parameter.requires_grad_(True)
        with torch.enable_grad():
            return set(_leaves(call(bridge, prompt.to(parameters[0].device)))) if parameters else set()
    finally:
        for parameter, flag in zip(parameters, before, strict=True):
            parameter.requires_grad_(flag)


def _leaves(output: Any) -> Iterator[int]:
    """Ids of the tensors at the ends of the graph that autograd kept for an output."""
    tensor = output if isinstance(output, Tensor) else output.last_hidden_state
    waiting, seen = [tensor.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            yield id(node.variable)
        waiting.extend(before for before, _ in node.next_functions)


def _largest(
    model: nn.Module, unread: set[int], name: str = ""
) -> Iterator[tuple[str, nn.Module | nn.Parameter]]:
    """The largest modules that hold none but unread parameters, and unread parameters of other modules."""
    own = [id(p) for p in model.parameters()]
    if own and unread.issuperset(own):
        yield name, model
    elif not unread.isdisjoint(own):
        for part, child in model.named_children():
            yield from _largest(child, unread, f"{name}.{part}".lstrip("."))
        for part, parameter in model.named_parameters(recurse=False):
            if id(parameter) in unread:
                yield f"{name}.{part}".lstrip("."), parameter


def _words(name: str, part: nn.Module | nn.Parameter) -> str:
    *_, before, last = ["", *plain_name(name).split(".")]
    called = (f"{before} {last}" if last.isdigit() else last).replace("_", " ")
    if isinstance(part, nn.Parameter):
        return f"the {called} ({part.numel():,} numbers)"
    numbers = sum(p.numel() for p in part.parameters())
    layers, heads = (None, None) if last.isdigit() else next(_shapes(part), (None, None))
    size = f"{numbers:,} numbers"
    return f"the {called} ({layers} layers x {heads} heads, {size})" if layers else f"the {called} ({size})"


def _shapes(module: nn.Module) -> Iterator[tuple[int, int]]:
    """Layers and heads, as configurations inside a part state them."""
    for part in module.modules():
        known: Mapping[str, Any] = getattr(getattr(part, "config", None), "__dict__", {})
        layers, heads = (_first(known, names) for names in (_LAYERS, _HEADS))
        if layers and heads:
            yield layers, heads


def _first(known: Mapping[str, Any], names: Sequence[str]) -> int | None:
    return next((known[name] for name in names if isinstance(known.get(name), int)), None)
