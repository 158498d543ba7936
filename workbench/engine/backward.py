"""Backward rules: how a gradient goes through norms, activations, products and attention.

``plain`` is the derivative. The others are those of relevance propagation, written as modified gradients, so that
relevance is activation times gradient: every nonlinear step is replaced by a linear map that gives the same output
for the input at hand. The forward pass is computed by the model itself and does not change by a bit.

- norms: the scale is a constant, ``y = gain * center(x) / scale + offset`` is linear in ``x``;
- activations: ``f(x) = (f(x) / x) x``, with the limit ``f'(0)`` at 0;
- gated products: half of the gradient to each factor;
- attention: the gradients at q, k and v are multiplied by constants (AttnLRP: 1/4, 1/4, 1/2; CP-LRP: 0, 0, 1,
  which is a pattern held constant);
- GIM keeps the derivative of activations and takes that of a softmax of temperature 2, where weights that
  saturate still have one.

Norms (but torch's own layer norm) and activations are taken as black boxes and measured, so that one implementation
serves every family; what cannot be measured is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from workbench.core.errors import ModelError
from workbench.engine.norm_map import NormMap, measure_norm
from workbench.engine.rules import rule_of
from workbench.model import lens
from workbench.model.hooks import Wiring, component, hook_name

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Hook = tuple[str, Callable[..., Tensor | None]]

_ACTIVATIONS = ("act", "act_fn", "activation_fn", "activation", "gelu_impl", "intermediate_act_fn")
_NORM_NAME = re.compile(r"(LayerNorm|RMSNorm|LayerNormPre|RMSNormPre|LayerNorm1P)$")


class _LinearNorm(torch.autograd.Function):
    """The output of a norm, with the gradient of its linear part."""

    @staticmethod
    def forward(ctx, x: Tensor, y: Tensor, norm: NormMap) -> Tensor:
        ctx.norm, ctx.dtype = norm, x.dtype
        wide = norm.gain.dtype
        ctx.save_for_backward(norm.inverse_scale(x.to(wide), y.to(wide)))
        return y.view_as(y)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (inverse,) = ctx.saved_tensors
        return ctx.norm.back(grad.to(inverse.dtype), inverse).to(ctx.dtype), None, None


class _Secant(torch.autograd.Function):
    """The output of an activation, with the gradient ``f(x) / x``; its limit ``f'(0)`` at 0."""

    @staticmethod
    def forward(ctx, x: Tensor, y: Tensor, at_zero: float) -> Tensor:
        small = x.abs() < torch.finfo(x.dtype).tiny
        ctx.save_for_backward(
            torch.where(small, torch.full_like(x, at_zero), y / torch.where(small, torch.ones_like(x), x))
        )
        return y.view_as(y)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (slope,) = ctx.saved_tensors
        return grad * slope, None, None


class _Scaled(torch.autograd.Function):
    """Its input, with the gradient multiplied."""

    @staticmethod
    def forward(ctx, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad: Tensor):
        return grad * ctx.factor, None


class Tempered(torch.autograd.Function):
    """A pattern, whose gradient becomes, once it has gone through the softmax, that of one of another temperature.

    ``dS = s (dA - <dA, s>)`` with ``s = softmax(S / T)``, the pattern to the power of ``1 / T``, normalised. The
    softmax that follows on the way back makes ``A (g - <g, A>)`` of a gradient ``g``: ``g = dS / A`` becomes ``dS``.
    """

    @staticmethod
    def forward(ctx, pattern: Tensor, temperature: float) -> Tensor:
        ctx.temperature = temperature
        ctx.save_for_backward(pattern)
        return pattern.view_as(pattern)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (pattern,) = ctx.saved_tensors
        own, grad = pattern.double(), grad.double()
        soft = own.pow(1 / ctx.temperature)
        soft = soft / soft.sum(-1, keepdim=True)
        at_scores = soft * (grad - (grad * soft).sum(-1, keepdim=True))
        found = torch.where(own > 0, at_scores / own.clamp_min(torch.finfo(own.dtype).tiny), 0)
        return found.to(pattern.dtype), None


@dataclass(eq=False)
class Rules:
    """One rule at work on a model: hooks to install before and after those that read gradients.

    Hidden units are read after the product is halved, queries, keys and values before they are multiplied: what is
    read is the gradient at the activation itself.
    """

    before: list[Hook] = field(default_factory=list)
    after: list[Hook] = field(default_factory=list)


@contextmanager
def backward_rule(bridge: TransformerBridge, wiring: Wiring, name: str) -> Iterator[Rules]:
    """Forward passes inside build graphs whose backward pass follows a rule; the model is as before afterwards.

    Raises:
        OptionError: if there is no such rule.
        ModelError: where the rule does not apply to this architecture, with the reason.
    """
    rule, rules = rule_of(name), Rules()
    for slot, factor in zip("qkv", rule.qkv, strict=True):
        if factor != 1:
            rules.after += [(hook_name(slot, n), _scale(factor)) for n in wiring.attention_layers]
    if not rule.linear:
        yield rules
        return
    _check_architecture(wiring, name)
    patterns = _Watched("attention pattern", name)
    if rule.temperature != 1:
        for n in wiring.attention_layers:
            rules.before += _temper(n, rule.temperature, patterns)
    with ExitStack() as stack:
        norms = _Watched("norm", name)
        for where, norm in _norms(bridge):
            for part in _computing(norm):
                linear = norms.wrap(where, _linear_forward(where, norm, getattr(norm, part)))
                stack.enter_context(_replaced(norm, part, linear))
        acts = _Activations(secant=rule.secant)
        for layer in wiring.mlp_layers:
            found = list(_activations(bridge.blocks[layer]))
            if not found:
                raise ModelError(
                    f"backward rule {name} needs the activation of layer {layer}'s MLP; none was found",
                    hint="--method eap-ig works with the plain gradient",
                )
            for owner, attribute, function in found:
                stack.enter_context(_replaced(owner, attribute, acts.wrap(function)))
            rules.before.append((hook_name("neurons", layer), acts.halve(bridge, layer)))
        yield rules
        norms.check()
        patterns.check()


def _check_architecture(wiring: Wiring, name: str) -> None:
    if wiring.mlp_layers and not wiring.d_mlp:
        raise ModelError(
            f"backward rule {name} does not cover mixtures of experts: routing is no activation or product it knows",
            hint="--method eap-ig and --method attribution-patching work with the plain gradient",
        )
    if len({*wiring.attention_layers, *wiring.mlp_layers}) < wiring.n_layers:
        raise ModelError(
            f"backward rule {name} covers attention and MLPs; this model has layers of another kind",
            hint="--method eap-ig works with the plain gradient",
        )


def _temper(layer: int, temperature: float, patterns: _Watched) -> list[Hook]:
    """Hooks that give a layer's softmax another derivative, and see that the gradient goes through it."""
    where, asked = hook_name("pattern", layer), [False]

    def query(tensor: Tensor, hook: object) -> None:
        asked[0] = tensor.requires_grad

    def pattern(tensor: Tensor, hook: object) -> Tensor:
        if asked[0] and not tensor.requires_grad:
            raise ModelError(
                f"backward rule {patterns.rule}: no gradient goes through {where}, the softmax is computed elsewhere",
                hint="--method eap-ig takes the plain gradient",
            )
        return Tempered.apply(tensor, temperature)

    return [(hook_name("q", layer), query), (where, patterns.wrap(where, pattern))]


def _scale(factor: float):
    return lambda tensor, hook: _Scaled.apply(tensor, factor)


@contextmanager
def _replaced(owner: nn.Module, attribute: str, value: Callable) -> Iterator[None]:
    """An attribute of one module instance replaced; what was in its place comes back."""
    own = owner.__dict__.get(attribute)
    object.__setattr__(owner, attribute, value)
    try:
        yield
    finally:
        if own is None:
            object.__delattr__(owner, attribute)
        else:
            object.__setattr__(owner, attribute, own)


def _norms(bridge: TransformerBridge) -> Iterator[tuple[str, nn.Module]]:
    """Every norm, once, as the outermost module that is one."""
    inside: set[int] = set()
    for where, module in bridge.named_modules():
        if id(module) in inside or isinstance(getattr(module, "original_component", None), nn.Identity):
            continue
        if isinstance(module, lens.NormalizationBridge) or _NORM_NAME.search(type(module).__name__):
            inside.update(id(part) for part in module.modules())
            yield where, module


@dataclass(eq=False)
class _Watched:
    """Replacements that must be called at least once: a norm that is computed elsewhere would keep its derivative."""

    what: str
    rule: str
    silent: set[str] = field(default_factory=set)

    def wrap(self, where: str, function: Callable) -> Callable:
        self.silent.add(where)

        def call(*args, **kwargs):
            self.silent.discard(where)
            return function(*args, **kwargs)

        return call

    def check(self) -> None:
        if self.silent:
            raise ModelError(
                f"backward rule {self.rule}: the {self.what} {min(self.silent)} is not called by the model",
                hint="--method eap-ig works with the plain gradient",
            )


def _computing(norm: nn.Module) -> tuple[str, ...]:
    """Methods that compute a norm, hooks at its input and output left outside: they must see gradients."""
    if isinstance(norm, lens.NormalizationBridge):
        return ("_python_norm_forward", "_hf_autograd_forward_with_hooks")
    return ("forward",)


def _linear_forward(where: str, module: nn.Module, original: Callable[..., Tensor]) -> Callable[..., Tensor]:

    def forward(x: Tensor, *args, **kwargs) -> Tensor:
        with torch.no_grad():
            y = original(x, *args, **kwargs)
            norm = measure_norm(_quiet(module, original), x)
        if norm is None:
            raise ModelError(
                f"{where} is not a norm of the form gain * x / scale + offset",
                hint="--method eap-ig works with the plain gradient",
            )
        return _LinearNorm.apply(x, y, norm)

    return forward


def _quiet(module: nn.Module, original: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The norm without its hooks: probing it must not look like a run."""
    inner = getattr(module, "original_component", None)
    return inner.forward if isinstance(inner, nn.Module) else original


def _activations(block: nn.Module) -> Iterator[tuple[nn.Module, str, Callable]]:
    """(owner, attribute, function) of each activation in a block: a module's ``forward``, or a plain function."""
    done: set[int] = set()
    own = getattr(block, "original_component", None)  # a layer of a tower is no submodule of its block
    for module in (*block.modules(), *(own.modules() if isinstance(own, nn.Module) else ())):
        for name in _ACTIVATIONS:
            part = module._modules.get(name)
            if part is not None and id(part) not in done:
                done.add(id(part))
                yield part, "forward", part.forward
            elif callable(module.__dict__.get(name)):
                yield module, name, module.__dict__[name]


@dataclass(eq=False)
class _Activations:
    """Activations, with secant gradients or their own; the last output tells whether a product follows."""

    secant: bool
    last: Tensor | None = None

    def wrap(self, function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        at_zero: list[float] = []

        def call(x: Tensor, *args, **kwargs) -> Tensor:
            if not self.secant:
                self.last = function(x, *args, **kwargs)
                return self.last
            if not at_zero:
                at_zero.append(slope_at_zero(function, x))
            with torch.no_grad():
                y = function(x, *args, **kwargs)
            self.last = y
            return _Secant.apply(x, y, at_zero[0])

        return call

    def halve(self, bridge: TransformerBridge, layer: int):
        """Hook at the hidden units: half of the gradient where they are a product with the activation."""

        def hook(tensor: Tensor, hook) -> Tensor | None:
            last, self.last = self.last, None
            if last is None:
                raise ModelError(
                    f"the MLP of layer {layer} does not call the activation that was found in it",
                    hint="--method eap-ig works with the plain gradient",
                )
            if last.numel() == tensor.numel() and torch.equal(last.flatten(), tensor.flatten()):
                return None
            mlp = component(bridge.blocks[layer], "mlp")
            if mlp is None or component(mlp, "gate") is None:
                raise ModelError(
                    f"the MLP of layer {layer} does something unknown between activation and output",
                    hint="--method eap-ig works with the plain gradient",
                )
            return _Scaled.apply(tensor, 0.5)

        return hook


def slope_at_zero(function: Callable[[Tensor], Tensor], like: Tensor) -> float:
    """Return ``f'(0)`` of an activation.

    Raises:
        ModelError: if ``f(0)`` is not 0, where ``f(x) / x`` has no limit, or units are not independent.
    """
    with torch.enable_grad():
        zero = like.new_zeros(2).requires_grad_(True)
        y = function(zero)
        (slope,) = torch.autograd.grad(y.sum(), zero)
    with torch.no_grad():
        both = function(like.new_tensor([0.7, -1.3]))
        single = function(like.new_tensor([0.7]))
    if bool((y != 0).any()):
        raise ModelError(
            f"the activation is {float(y[0].detach()):.3g} at 0, so f(x) / x has no limit there",
            hint="--method eap-ig works with the plain gradient",
        )
    if not torch.allclose(both[:1], single, atol=1e-6):
        raise ModelError(
            "the activation mixes hidden units, so f(x) / x is not its secant",
            hint="--method eap-ig works with the plain gradient",
        )
    return float(slope[0])
