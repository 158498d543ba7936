"""Where things are in a bridge, and what really happens when one edits them.

TransformerLens gives every architecture the same hook names, but not every hook is live: on some families an
edit of the attention pattern is discarded without a word. ``probe`` measures, once per model, which hooks fire,
which edits change the output, and whether the residual stream is the sum that the computation graph says it is.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.core.errors import ModelError
from workbench.model.prompt import Prompt
from workbench.model.sight import PIXELS, require_pixels, sight_of
from workbench.model.wiring import SITES, Wiring, hook_name, per_head

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    from workbench.model.inner_towers import TowerStack

__all__ = [
    "SITES",
    "TOLERANCE",
    "Wiring",
    "call",
    "component",
    "forward",
    "hand_on_one",
    "hook_name",
    "keeps_logits",
    "layers_give",
    "norm_before",
    "output_matrix",
    "pattern_is_live",
    "per_head",
    "projection",
    "resume_from",
]

# Largest error seen for float32 identities of the probe on all families of the tests, with a factor of ten.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-4, torch.bfloat16: 0.15, torch.float16: 0.03}


def component(module: torch.nn.Module, name: str) -> torch.nn.Module | None:
    """Return a part of a bridge block, or None when this architecture has none."""
    return getattr(module, name, None) if name in dict(module.named_children()) else None


def norm_before(bridge: TransformerBridge | TowerStack, layer: int, part: str) -> Callable[[Tensor], Tensor]:
    """Return the norm that attention (``"ln1"``) or the MLP (``"ln2"``) applies to what it reads, hooks not fired."""
    norm = component(bridge.blocks[layer], part)
    if norm is None and part == "ln2":
        norm = component(bridge.blocks[layer], "ln1")  # one norm for both: Falcon, Phi, Cohere, GPT-J
    if norm is None:
        return lambda x: x
    original = getattr(norm, "original_component", None)
    return original if original is not None else norm.forward


def projection(
    bridge: TransformerBridge | TowerStack, layer: int, slot: str
) -> Float[Tensor, "head d_model d_head"]:
    """``W_Q``, ``W_K`` or ``W_V`` of a layer; one matrix per KV group for k and v."""
    return getattr(bridge.blocks[layer].attn, f"W_{slot.upper()}")


def output_matrix(bridge: TransformerBridge | TowerStack, layer: int) -> Float[Tensor, "head d_head d_model"]:
    """``W_O`` of a layer."""
    attention: Any = bridge.blocks[layer].attn
    return attention.W_O


def pattern_is_live(block: torch.nn.Module) -> bool:
    """Say whether edits of ``attn.hook_pattern`` reach the output (TransformerLens recomputes attention itself)."""
    attn = block.attn
    return bool(
        getattr(attn, "pattern_is_live", False)
        or getattr(attn, "supports_attn_result", False)
        or getattr(getattr(attn, "original_component", None), "accepts_pattern_fn", False)
    )


@contextmanager
def resume_from(
    bridge: TransformerBridge | TowerStack, layer: int, resid: Float[Tensor, "row pos d_model"]
) -> Iterator[None]:
    """Inside, a call on the bridge skips the blocks before ``layer`` and feeds ``resid`` to it; also of a tower.

    Pass the original tokens to the call: masks and positions come from them. ``start_at_layer`` of
    TransformerLens 4.3 gives the same numbers but runs the skipped blocks all the same, and is silently
    wrong on Bloom and state-space models.
    """
    forms = _forms(bridge)
    # A layer that also hands on something else is run: the next one may need it, or what reads a tower in its middle.
    if layer == 0 or max(forms) > 1 or getattr(bridge, "read_within", False):
        with bridge.hooks(fwd_hooks=[(hook_name("resid", layer), lambda t, hook: resid)]):
            yield
        return

    skipped = [_inner(bridge, block) for block in list(bridge.blocks)[:layer]]
    entry: Any = bridge.blocks[layer].hook_in
    for block, form in zip(skipped, forms, strict=False):
        object.__setattr__(block, "forward", partial(_pass_on, form))
    handle = entry.add_hook(lambda t, hook: resid, prepend=True)
    try:
        yield
    finally:
        handle.hook.remove()
        entry.fwd_hooks[:] = [h for h in entry.fwd_hooks if h is not handle]
        for block in skipped:
            object.__delattr__(block, "forward")


@contextmanager
def layers_give(
    stack: TransformerBridge | TowerStack, resid: Float[Tensor, "row pos d_model"]
) -> Iterator[dict[str, Any]]:
    """Inside, a call runs no layer of a stack: ``resid`` is what leaves the last one; yields what layers are told.

    It may have more rows than what the call is given.
    """
    layers, in_tuple = [_inner(stack, block) for block in stack.blocks], max(_forms(stack)) > 0
    told: dict[str, Any] = {}

    def give(*args: Any, **kwargs: Any) -> Any:
        told.update(kwargs, args=args[1:])
        return (resid,) if in_tuple else resid

    for layer in layers:
        object.__setattr__(layer, "forward", give)
    try:
        yield told
    finally:
        for layer in layers:
            object.__delattr__(layer, "forward")


def hand_on_one(stack: TransformerBridge | TowerStack) -> bool:
    """Say whether each layer of a stack hands one tensor to the next, and nothing else reads it."""
    return (
        len(set(_forms(stack))) == 1 and max(_forms(stack)) <= 1 and not getattr(stack, "read_within", False)
    )


def call(bridge: TransformerBridge, prompt: Prompt, **options: Tensor) -> Any:
    """Run the model on a prompt and return whatever it returns; one without words takes its extras alone."""
    sight = sight_of(bridge)
    extras = prompt.extras
    beyond = not getattr(bridge, "keeps_pixels", False)  # what enters is behind the tower
    if sight is not None and prompt.entered and sight.token is not None and beyond:
        extras = extras.without(PIXELS)  # what towers made of them is already in what enters
    ids = () if sight is not None and sight.token is None else (prompt.ids,)
    return bridge(*ids, **extras, **options)


def _inner(bridge: TransformerBridge | TowerStack, block: torch.nn.Module) -> torch.nn.Module:
    """The layer whose forward is a block's: of a tower transformers' own, which transformers listens to."""
    found: torch.nn.Module = getattr(
        block, "original_component" if getattr(bridge, "sees", False) else "layer", block
    )
    return found


def _pass_on(form: int, *args: Tensor, **kwargs: Tensor) -> Any:
    """What a skipped block returns: what it was given, in the form that its model unpacks."""
    hidden = args[0] if args else kwargs["hidden_states"]
    return (hidden,) if form else hidden


_FORMS: WeakKeyDictionary[Any, list[int]] = WeakKeyDictionary()


def _forms(bridge: TransformerBridge | TowerStack) -> list[int]:
    """How many things each block returns in a tuple; 0 for a tensor alone."""
    native = "native" in type(bridge.original_model).__module__  # native blocks return a tuple of one
    return getattr(bridge, "forms", None) or _FORMS.get(bridge) or [int(native)] * len(bridge.blocks)


@contextmanager
def noting_forms(bridge: TransformerBridge | TowerStack) -> Iterator[list[int]]:
    """Inside, a pass of the model shows in which form its blocks return what leaves them."""
    found: list[int] = []

    def look(module: torch.nn.Module, args: Any, out: Any) -> None:
        found.append(len(out) if isinstance(out, tuple) else 0)

    handles = [_inner(bridge, block).register_forward_hook(look) for block in bridge.blocks]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
    if len(found) == len(bridge.blocks):
        _FORMS[bridge] = found


def forward(
    bridge: TransformerBridge, prompt: Prompt | Int[Tensor, "row pos"], *, last_only: bool
) -> Float[Tensor, "row out d_vocab"]:
    """Return the model's output; only the last position's where asked and where the model can.

    A model that answers once for a whole prompt (a classifier of pictures) has one position.

    Raises:
        ModelError: if the prompt lacks the pixels that the model needs, or has some that it does not take.
    """
    prompt = Prompt.of(prompt)
    require_pixels(bridge, prompt)
    # An index gives a contiguous copy; a slice makes torch differentiate a product per row: 12 times slower at 32 rows.
    options = {"logits_to_keep": torch.tensor([-1])} if last_only and keeps_logits(bridge) else {}
    out = call(bridge, prompt, **options)
    out = out if isinstance(out, Tensor) else getattr(out, "last_hidden_state", None)
    if out is None:
        raise ModelError(
            "the model returns neither logits nor hidden states",
            hint="docs/families.md lists the architectures that open",
        )
    if out.dim() == 2:
        return out[:, None]
    return out[:, -1:] if last_only else out


_KEEPS: WeakKeyDictionary[torch.nn.Module, bool] = WeakKeyDictionary()


def keeps_logits(bridge: TransformerBridge) -> bool:
    """Whether the wrapped model takes ``logits_to_keep`` (Hugging Face decoders do, native and encoders do not)."""
    if bridge not in _KEEPS:
        original: Any = getattr(bridge, "original_model", None)
        try:
            _KEEPS[bridge] = "logits_to_keep" in inspect.signature(original.forward).parameters
        except (AttributeError, TypeError, ValueError):
            _KEEPS[bridge] = False
    return _KEEPS[bridge]
