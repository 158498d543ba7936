"""Further stacks of layers in one model, each as something that is measured and resumed as a model is: towers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from workbench.model.lens import is_tower
from workbench.model.sight import give_sight, sight_of

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

VISION = "vision"
_PLACE = "vision_encoder.encoder_layers"
_FORMS = "_workbench_tower_forms"


@dataclass(frozen=True, eq=False)
class Begun:
    """A stack of layers that a pass begins in: what enters a layer of it, where those before are not run."""

    tower: str | None
    layer: int
    resid: Float[Tensor, "row pos d_model"]


class TowerStack:
    """A stack of a model's layers under the names that a model's own have; calling it runs the whole model.

    Attributes:
        prefix: What its hooks begin with in the model: ``vision_encoder.encoder_layers``.
        forms: How many things each layer returns in a tuple, once it was seen; 0 for a tensor alone.
        sees: It reads a picture all at once; no position comes before another.
        read_within: Other layers than its last one are read, too.
    """

    def __init__(
        self, bridge: TransformerBridge, prefix: str, layers: Sequence[nn.Module], shape: Any
    ) -> None:
        self.bridge, self.prefix, self.sees = bridge, prefix, True
        self.blocks, self.original_model = list(layers), bridge.original_model
        several = getattr(getattr(bridge.original_model, "config", None), "vision_feature_layer", None)
        self.read_within = isinstance(several, list | tuple)
        self.cfg = SimpleNamespace(
            n_layers=len(self.blocks),
            n_heads=shape.num_attention_heads,
            d_model=shape.hidden_size,
            d_head=shape.hidden_size // shape.num_attention_heads,
            d_vocab=bridge.cfg.d_vocab,
            n_ctx=bridge.cfg.n_ctx,
        )
        self.forms: list[int] | None = bridge.__dict__.get(_FORMS)
        give_sight(self, sight_of(bridge))  # type: ignore[arg-type]

    def __call__(self, *args: Tensor, **kwargs: Tensor) -> Any:
        return self.bridge(*args, **kwargs)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of the whole model."""
        return self.bridge.parameters()

    def name_of(self, hook: str) -> str:
        """The model's own name of a hook: ``blocks.0.hook_in`` is ``vision_encoder.encoder_layers.0.hook_in``."""
        return f"{self.prefix}.{hook.removeprefix('blocks.')}" if hook.startswith("blocks.") else hook

    @property
    def hook_dict(self) -> dict[str, Any]:
        """Hook points of the stack by the names that a model's own have."""
        there = f"{self.prefix}."
        found = self.bridge.hook_dict.items()
        return {f"blocks.{name.removeprefix(there)}": at for name, at in found if name.startswith(there)}

    def hooks(self, fwd_hooks: Sequence[tuple[str, Callable[..., Any]]]) -> AbstractContextManager[Any]:
        """Do as TransformerLens does, by these names."""
        return self.bridge.hooks(fwd_hooks=[(self.name_of(name), hook) for name, hook in fwd_hooks])


def towers_of(bridge: TransformerBridge) -> dict[str, TowerStack]:
    """Return the towers of a model that reads words and pictures, by name; empty where nothing is known of any.

    Also the decoder of an encoder-decoder, and the heads between.
    """
    if is_tower(bridge):
        found = {}
        for name, one in getattr(bridge, "inner", {}).items():
            of_inner = SimpleNamespace(num_attention_heads=one.cfg.n_heads, hidden_size=one.cfg.d_model)
            found[name] = TowerStack(bridge, f"{name}.blocks", list(one.blocks), of_inner)
            found[name].read_within = one.read_within
        return found
    sight, encoder = sight_of(bridge), getattr(bridge, "vision_encoder", None)
    layers = getattr(encoder, "encoder_layers", None)
    shape = getattr(getattr(bridge.original_model, "config", None), "vision_config", None)
    if sight is None or sight.token is None or layers is None or not hasattr(shape, "num_attention_heads"):
        return {}
    return {VISION: TowerStack(bridge, _PLACE, list(layers), shape)}


def stack_of(bridge: TransformerBridge, tower: str | None) -> TransformerBridge | TowerStack:
    """Return the model itself, or one of its towers."""
    return bridge if tower is None else towers_of(bridge)[tower]


def give_forms(bridge: TransformerBridge, forms: Sequence[int]) -> None:
    """Keep with a model in which form the layers of its tower return what leaves them."""
    object.__setattr__(bridge, _FORMS, list(forms))


@torch.no_grad()
def n_read(stack: TowerStack, reaches: Callable[[int], bool]) -> int:
    """Return how many layers from the first on reach the output; LLaVA may read its tower before the last one."""
    return next((layer + 1 for layer in reversed(range(stack.cfg.n_layers)) if reaches(layer)), 0)
