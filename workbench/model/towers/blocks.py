"""The hook points of one layer of a tower, with the names and shapes that a bridge's blocks have.

The layer itself stays transformers' own: its attention comes through ``attention.py``, everything else through torch's
module hooks, which are bound methods of these classes (a deep copy of a model takes them along).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from workbench.model.towers.attention import POINTS
from workbench.model.towers.packing import Packing, point
from workbench.model.towers.parts import linear, part

_VECTORS = {"attn": "lambda_1", "mlp": "lambda_2"}
_SCALES = {"attn": "after_attn", "mlp": "after_mlp"}


class TowerAttention(nn.Module):
    """Hook points and weights of one attention.

    Queries, keys and values are hooked where their projections write them, before any rotation; where there are no such
    projections, where attention reads them.

    Attributes:
        original_component: transformers' own module.
        gain: What multiplies the output before it is added to the residual stream, one number per dimension, or None.
    """

    pattern_is_live = True
    original_component: nn.Module
    gain: Tensor | None
    hook_q: HookPoint
    hook_k: HookPoint
    hook_v: HookPoint
    hook_attn_scores: HookPoint
    hook_pattern: HookPoint
    hook_z: HookPoint

    def __init__(
        self, module: nn.Module, n_heads: int, gain: Tensor | None, packing: Packing | None = None
    ) -> None:
        super().__init__()
        object.__setattr__(self, "original_component", module)
        object.__setattr__(self, "gain", gain)  # a weight of the layer, which keeps it
        self.n_heads, self.packing = n_heads, packing
        for name in ("attn_scores", "pattern", "z"):
            setattr(self, f"hook_{name}", HookPoint())
        self.slots = tuple(slot for slot in "qkv" if part(module, slot) is not None)
        for slot in self.slots:
            linear(module, slot).register_forward_hook(getattr(self, f"_project_{slot}"))
        if (
            not self.slots and part(module, "qkv") is not None
        ):  # one matrix makes all three, one after another
            self.slots = ("q", "k", "v")
            linear(module, "qkv").register_forward_hook(self._project_all)
        for slot in "qkv":
            setattr(self, f"hook_{slot}", point(packing if slot in self.slots else None, tail=2))
        if packing is not None:
            module.register_forward_pre_hook(self._at_once, with_kwargs=True)
        object.__setattr__(module, POINTS, self)

    # -- called by the attention function -----------------------------------------------------------------

    def read(self, slot: str, heads: Float[Tensor, "row head pos d_head"]) -> Tensor:
        """Queries, keys or values as attention reads them."""
        if slot in self.slots:
            return heads
        return getattr(self, f"hook_{slot}")(heads.transpose(1, 2)).transpose(1, 2)

    def scores(self, scores: Float[Tensor, "row head query key"]) -> Tensor:
        return self.hook_attn_scores(scores)

    def pattern(self, pattern: Float[Tensor, "row head query key"]) -> Tensor:
        return self.hook_pattern(pattern)

    def output(self, z: Float[Tensor, "row pos head d_head"]) -> Tensor:
        return self.hook_z(z)

    def _at_once(self, module: nn.Module, args: tuple, kwargs: Mapping[str, Any]) -> tuple[Any, Any]:
        return args, kwargs if self.packing is None else self.packing.at_once(kwargs)

    # -- called by torch when a projection has run --------------------------------------------------------

    def _project_q(self, module: nn.Module, args: Any, out: Tensor) -> Tensor:
        return self._projected("q", out)

    def _project_k(self, module: nn.Module, args: Any, out: Tensor) -> Tensor:
        return self._projected("k", out)

    def _project_v(self, module: nn.Module, args: Any, out: Tensor) -> Tensor:
        return self._projected("v", out)

    def _project_all(self, module: nn.Module, args: Any, out: Tensor) -> Tensor:
        parts = zip("qkv", out.chunk(3, dim=-1), strict=True)
        return torch.cat([self._projected(slot, part) for slot, part in parts], dim=-1)

    def _projected(self, slot: str, out: Float[Tensor, "*row d"]) -> Tensor:
        heads = out.unflatten(-1, (-1, self.d_head))
        return getattr(self, f"hook_{slot}")(heads).flatten(-2)

    # -- weights, as a bridge gives them ------------------------------------------------------------------

    @property
    def d_head(self) -> int:
        return linear(self.original_component, "o").in_features // self.n_heads

    def of_slot(self, slot: str, name: str) -> Tensor | None:
        """Return the weight or bias that makes queries, keys or values."""
        if part(self.original_component, slot) is None and part(self.original_component, "qkv") is not None:
            whole = getattr(linear(self.original_component, "qkv"), name)
            return None if whole is None else whole.chunk(3)["qkv".index(slot)]
        return getattr(linear(self.original_component, slot), name)

    def _matrix(self, slot: str) -> Float[Tensor, "head d_model d_head"]:
        weight = cast("Tensor", self.of_slot(slot, "weight"))
        return weight.unflatten(0, (-1, self.d_head)).transpose(1, 2)

    def _bias(self, slot: str) -> Float[Tensor, "head d_head"] | None:
        bias = self.of_slot(slot, "bias")
        return None if bias is None else bias.unflatten(0, (-1, self.d_head))

    @property
    def W_Q(self) -> Float[Tensor, "head d_model d_head"]:
        return self._matrix("q")

    @property
    def W_K(self) -> Float[Tensor, "head d_model d_head"]:
        return self._matrix("k")

    @property
    def W_V(self) -> Float[Tensor, "head d_model d_head"]:
        return self._matrix("v")

    @property
    def W_O(self) -> Float[Tensor, "head d_head d_model"]:
        weight = linear(self.original_component, "o").weight.T.unflatten(0, (self.n_heads, -1))
        return weight if self.gain is None else weight * self.gain

    @property
    def b_Q(self) -> Float[Tensor, "head d_head"] | None:
        return self._bias("q")

    @property
    def b_K(self) -> Float[Tensor, "head d_head"] | None:
        return self._bias("k")

    @property
    def b_V(self) -> Float[Tensor, "head d_head"] | None:
        return self._bias("v")

    @property
    def b_O(self) -> Float[Tensor, " d_model"] | None:
        bias = linear(self.original_component, "o").bias
        return bias if bias is None or self.gain is None else bias * self.gain


class TowerMlp(nn.Module):
    """Hook points of one MLP: what it reads after its norm (``hook_in``), and its hidden units (``out.hook_in``).

    Args:
        module: The MLP, or the layer that has its two projections without a module around them.
        into: Where it begins: the MLP itself, or its first projection.
    """

    original_component: nn.Module

    def __init__(self, module: nn.Module, into: nn.Module, packing: Packing | None = None) -> None:
        super().__init__()
        object.__setattr__(self, "original_component", module)
        self.hook_in, self.out = point(packing), nn.Module()
        into.register_forward_pre_hook(self._enter, with_kwargs=True)
        if (last := part(module, "out")) is not None:
            self.out.hook_in = self._at_hidden = point(packing)
            last.register_forward_pre_hook(self._hidden)

    def _enter(self, module: nn.Module, args: tuple, kwargs: Mapping[str, Any]) -> tuple[Any, Any]:
        return changed(args, kwargs, self.hook_in)

    def _hidden(self, module: nn.Module, args: tuple) -> tuple:
        return (self._at_hidden(args[0]), *args[1:])


class TowerBlock(nn.Module):
    """Hook points of one layer: what enters, what attention and MLP add, what leaves.

    Args:
        attention: Which attention of the layer it shows: its own (``attn``), or the one to an encoder (``cross``),
            beside which there is no MLP.
        packing: How a tower packs the patches of several pictures; None where each prompt has a row of its own.

    Attributes:
        layer: transformers' own layer.
    """

    layer: nn.Module
    hook_in: HookPoint
    hook_attn_out: HookPoint
    hook_resid_mid: HookPoint
    hook_mlp_in: HookPoint
    hook_mlp_out: HookPoint
    hook_out: HookPoint
    ln1: nn.Module | None
    ln2: nn.Module | None

    def __init__(
        self, layer: nn.Module, n_heads: int, attention: str = "attn", packing: Packing | None = None
    ) -> None:
        super().__init__()
        self.packing = packing
        object.__setattr__(self, "layer", layer)
        object.__setattr__(self, "original_component", layer)
        self._entered: dict[str, Tensor] = {}
        self._gains: dict[str, Tensor | None] = {}
        for name in ("hook_in", "hook_attn_out", "hook_resid_mid", "hook_mlp_out", "hook_out"):
            setattr(self, name, point(packing))
        self.ln1 = part(layer, "ln1") if attention == "attn" else None
        self.ln2 = part(layer, "ln2") if attention == "attn" else None
        layer.register_forward_pre_hook(self._enter, with_kwargs=True)
        layer.register_forward_hook(self._leave, prepend=True)  # before transformers notes what left
        attn, gain = self._hang(layer, attention, self._attended)
        self.attn = TowerAttention(attn or layer, n_heads, gain, packing)
        self.mlp = self._mlp(layer) if attention == "attn" else None
        if self.ln2 is not None:
            self.hook_mlp_in = point(packing)
            self.ln2.register_forward_pre_hook(self._own_copy)

    def _mlp(self, layer: nn.Module) -> TowerMlp | None:
        """The MLP; of a layer that has its two projections and no module around them, these."""
        into, out = part(layer, "into"), part(layer, "out")
        if part(layer, "mlp") is None and into is not None and out is not None:
            self._gains["mlp"] = None
            out.register_forward_hook(self._wrote)
            return TowerMlp(layer, into, self.packing)
        mlp, _ = self._hang(layer, "mlp", self._wrote)
        return None if mlp is None else TowerMlp(mlp, mlp, self.packing)

    def _hang(
        self, layer: nn.Module, name: str, after: Callable[..., Any]
    ) -> tuple[nn.Module | None, Tensor | None]:
        """Hook what a part adds to the stream: its output, after a scale that follows it.

        Returns:
            The part, and what scales it.
        """
        module, scale = part(layer, name), part(layer, _SCALES[name]) if name in _SCALES else None
        vector = _VECTORS.get(name, "")  # a weight that the layer applies itself
        self._gains[name] = getattr(layer, vector, None)
        if module is None:
            return None, None
        (module if scale is None else scale).register_forward_hook(after)
        return module, self._gains[name] if scale is None else next(scale.parameters())

    def _enter(self, module: nn.Module, args: tuple, kwargs: Mapping[str, Any]) -> tuple[Any, Any]:
        args, kwargs = changed(args, kwargs, self.hook_in)
        self._entered["resid"] = args[0] if args else kwargs["hidden_states"]
        return args, kwargs

    def _attended(self, module: nn.Module, args: tuple, out: Any) -> Any:
        return first(out, self._added_by_attention)

    def _added_by_attention(self, out: Tensor) -> Tensor:
        resid, gain = self._entered["resid"], self._gains.get("attn")
        out = added(self.hook_attn_out, out, gain)
        if is_idle(self.hook_resid_mid):
            return out
        mid = resid + (out if gain is None else out * gain)
        change = self.hook_resid_mid(mid.clone()) - mid
        return out + (change if gain is None else change / gain)

    def _own_copy(self, module: nn.Module, args: tuple) -> tuple:
        return (self.hook_mlp_in(args[0]), *args[1:])

    def _wrote(self, module: nn.Module, args: tuple, out: Any) -> Any:
        return first(out, lambda t: added(self.hook_mlp_out, t, self._gains["mlp"]))

    def _leave(self, module: nn.Module, args: tuple, out: Any) -> Any:
        self._entered.clear()
        return first(out, self.hook_out)


def changed(args: tuple, kwargs: Mapping[str, Any], point: HookPoint) -> tuple[tuple, dict[str, Any]]:
    """Return the arguments of a layer with a hook point at the hidden state."""
    if args:
        return (point(args[0]), *args[1:]), dict(kwargs)
    name = "hidden_states" if "hidden_states" in kwargs else next(iter(kwargs))
    return (), {**kwargs, name: point(kwargs[name])}


def first(out: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return the output of a layer with its first tensor changed."""
    return (change(out[0]), *out[1:]) if isinstance(out, tuple) else change(out)


def added(point: HookPoint, out: Tensor, gain: Tensor | None) -> Tensor:
    """Return a hook point at what is added to the stream: an output times a gain that the layer applies itself.

    Nothing is rounded where no hook changes anything: the change alone is carried back.
    """
    if gain is None:
        return point(out)
    if is_idle(point):
        return out
    made = out * gain
    return out + (point(made.clone()) - made) / gain


def is_idle(point: HookPoint) -> bool:
    """Say whether nobody listens at a hook point."""
    return not (point._forward_hooks or point._backward_hooks)
