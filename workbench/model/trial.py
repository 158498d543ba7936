"""Are plain blocks this model? Measured on prompts, layer by layer, before they take its place.

Once for each length of prompts, and again when a layer of the model has been replaced; what somebody attached to the
model is looked for every time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Int
from torch import Tensor

from workbench.model.bare import Modules, modules_of
from workbench.model.blocks import Blocks
from workbench.model.hooks import component, hook_name
from workbench.model.memory import is_out_of_memory
from workbench.model.probe import record, wiring
from workbench.model.prompt import Prompt
from workbench.model.unhooked import plain_blocks, plain_end, read_out

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

# Largest relative error seen between a hooked and a plain block on all families of the tests: 6e-7 in float32.
ALIKE = {torch.float32: 1e-5, torch.float64: 1e-12}
NOT_PLAIN = "the blocks are not plain attention and MLP"
N_TRIED = 4  # prompts of each length


@dataclass(eq=False)
class _Found:
    """What was found out about one model while its layers were these."""

    modules: Modules
    by_length: dict[tuple[int, tuple[str, ...]], Blocks | str] = field(default_factory=dict)
    unlike: dict[bytes, bool] = field(default_factory=dict)  # by prompts


_FOUND: WeakKeyDictionary[TransformerBridge, _Found] = WeakKeyDictionary()


def blocks_of(
    bridge: TransformerBridge, prompt: Prompt | Int[Tensor, "row pos"], *, every: bool = False
) -> Blocks | str:
    """Return the plain blocks that are this model on prompts of this length, or why the model itself must run.

    Args:
        every: Compare on every one of these prompts, not on the first of each length.
    """
    prompt = Prompt.of(prompt)
    found, modules = _FOUND.get(bridge), modules_of(bridge)
    if (
        found is None or found.modules is not modules
    ):  # blocks hold the layers that were there when they were made
        found = _FOUND[bridge] = _Found(modules)
    if not modules.are_bare():  # asked every time: an edit that is switched on must not be passed by
        return "something is attached to the model"
    if modules.training:
        return "the model is in training mode"
    length = prompt.shape[1], tuple(prompt.extras)  # the same length with pictures is another way in
    if length not in found.by_length:
        found.by_length[length] = _tried(_measured, bridge, prompt[:N_TRIED]) or NOT_PLAIN
        _forget_patterns(bridge)
    blocks = found.by_length[length]
    if every and not isinstance(blocks, str):
        key = prompt.digest
        if key not in found.unlike:
            found.unlike[key] = _tried(_compared, bridge, blocks, prompt) is not True
            _forget_patterns(bridge)
        if found.unlike[key]:  # whoever asks next is not to use them either
            blocks = found.by_length[length] = NOT_PLAIN
    return blocks


def _forget_patterns(bridge: TransformerBridge) -> None:
    """TransformerLens keeps the patterns of the last pass: layers x heads x tokens^2 numbers that nobody reads."""
    for block in bridge.blocks:
        attn: Any = component(block, "attn")
        if getattr(attn, "_pattern", None) is not None:
            attn._pattern = None


def _tried(make: Callable[..., Any], *args: Any) -> Any:
    """What is made, or None where it cannot even be computed."""
    try:
        with torch.no_grad():
            return make(*args)
    except (RuntimeError, TypeError, AttributeError, LookupError, ValueError) as problem:
        if is_out_of_memory(problem):
            raise
        return None


def _measured(bridge: TransformerBridge, prompt: Prompt) -> Blocks | str:
    if next(iter(bridge.parameters())).dtype not in ALIKE:
        return "half precision: rounding hides a difference"
    blocks = plain_blocks(bridge, wiring(bridge))
    if isinstance(blocks, str):
        return blocks
    blocks, resid, out = _with_rotary(blocks, bridge, prompt)
    limit = ALIKE[out.dtype]
    if not unlike(blocks, resid) <= limit:
        return NOT_PLAIN
    if prompt.extras or not (blocks.embed and is_near(_tried(blocks.embed, prompt.ids), resid[0], limit)):
        blocks.embed = None
    hidden, last = resid[-1][:, -1], prompt.last
    if not is_near(read_out(bridge, blocks, hidden, last), out, limit):
        return "what leaves the last block does not decide the logits"
    blocks.ends_plainly, blocks.d_out = is_near(plain_end(bridge, hidden), out, limit), out.shape[-1]
    columns = prompt.ids.unique()
    by_column = _tried(read_out, bridge, blocks, hidden, last, columns)
    blocks.by_column = component(bridge, "unembed") is not None and is_near(by_column, out[:, columns], limit)
    whole = read_out(bridge, blocks, blocks.walk(resid[0])[:, -1], last)
    return blocks if is_near(whole, out, 10 * limit) else NOT_PLAIN  # rounding adds up over layers


def is_near(made: Tensor | None, own: Tensor, limit: float) -> bool:
    """Say whether two tensors agree, in units of the largest number of each row: no huge token hides others."""
    if made is None or made.shape != own.shape:
        return False
    return bool(((made - own).abs() <= limit * (1e-3 + own.abs().amax(-1, keepdim=True))).all())


def _compared(bridge: TransformerBridge, blocks: Blocks, prompt: Prompt) -> bool:
    """Every block on every prompt, from what enters it in the model."""
    names = _between(len(blocks))
    seen = record(bridge, prompt, names, last_only=True)[1]
    resid = [seen[name] for name in names]
    return unlike(blocks, resid) <= ALIKE[resid[0].dtype]


def _between(n_layers: int) -> list[str]:
    """Hooks of what enters each layer, and of what leaves the last one."""
    return [*(hook_name("resid", n) for n in range(n_layers)), f"blocks.{n_layers - 1}.hook_out"]


def _with_rotary(
    blocks: Blocks, bridge: TransformerBridge, prompt: Prompt
) -> tuple[Blocks, list[Tensor], Tensor]:
    """The blocks with the cosines and sines of this length; the residual stream before each layer and at the end."""
    n = len(blocks)
    turns = [(f"blocks.{i}.attn.hook_cos", f"blocks.{i}.attn.hook_sin") for i in range(n)]
    known = [name for pair in turns for name in pair if name in bridge.hook_dict]
    forms: list[bool] = []
    handle = bridge.blocks[-1].register_forward_hook(lambda m, a, out: forms.append(isinstance(out, tuple)))
    try:
        out, seen = record(bridge, prompt, [*_between(n), *known], last_only=True)
    finally:
        handle.remove()
    layers = []
    for block, pair in zip(blocks.layers, turns, strict=True):
        found = tuple(seen[name].reshape(-1, *seen[name].shape[-2:])[0] for name in pair if name in seen)
        layers.append(replace(block, rotary=found if len(found) == 2 else None))
    blocks.layers, blocks.in_tuple = tuple(layers), forms[-1]
    return blocks, [seen[name] for name in _between(n)], out[:, -1]


@torch.no_grad()
def unlike(blocks: Blocks, resid: list[Tensor]) -> float:
    """Largest difference between what a block and what the model's own layer adds, over all layers.

    At each place in units of the number that was there plus the most that was added at this token: neither one huge
    token nor one huge dimension hides a difference at another.
    """
    worst = 0.0
    for layer in range(len(blocks)):
        made, x, own = blocks.run(layer, resid[layer].clone()), resid[layer], resid[layer + 1]
        worst = max(worst, largest_difference(made, x, own))
    return worst


def largest_difference(made: Tensor, x: Tensor, own: Tensor) -> float:
    """Return the largest difference between what leaves a layer and what its function makes of what enters it.

    At each place in units of the number that was there plus the most that was added at this token; infinite where
    shapes differ or a number is none.

    Args:
        made: What the function makes of ``x``.
        x: What enters.
        own: What leaves the layer.
    """
    if made.shape != own.shape:
        return float("inf")
    unit = x.abs() + (own - x).abs().amax(-1, keepdim=True)
    difference = (made - own).abs()
    error = float(torch.where(difference > 0, difference / unit, difference).max())
    return error if error == error else float("inf")
