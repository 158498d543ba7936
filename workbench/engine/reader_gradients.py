"""What targets read: gradients at every reader's own copy of the residual stream, before its norm.

Per-head gradients at the stream come from those at q, k and v by the chain rule through projection and norm, written
out, which costs one product per layer instead of a copy per head. What of it depends on weights alone is found once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.circuits.graph import Graph
from workbench.engine.gradients import Resid, start_of, taped_run
from workbench.engine.norm_map import NormMap, measure_norm
from workbench.engine.paired_runs import Batch, PairedRuns
from workbench.engine.rules import Backward, rule_of
from workbench.model.hooks import hook_name, norm_before, projection

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    from workbench.model.inner_towers import TowerStack


class Differentiated(Protocol):
    """A run whose activations were seen and whose gradients can be asked for."""

    @property
    def seen(self) -> dict[str, Tensor]: ...
    def gradients(self) -> dict[str, Tensor]: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class ReaderGradient:
    """Gradient at the own copies of the residual stream of some targets, before their norm, in factors.

    ``gradient[target] = near[target] @ matrix[target].T - along[target] * normed``: the projection of the norm's linear
    part, and what the norm takes away along its own output. The second term is absent where the norm's scale is a
    constant, the matrix where the gradient is written out.

    Attributes:
        columns: Which of ``graph.targets``.
    """

    columns: slice
    near: Float[Tensor, "pair pos target d"]
    matrix: Float[Tensor, "target d_model d"] | None = None
    normed: Resid | None = None
    along: Float[Tensor, "pair pos target"] | None = None

    def full(self) -> Float[Tensor, "pair pos target d_model"]:
        """Return the gradient written out."""
        found = project(self.near, self.matrix)
        if self.normed is not None and self.along is not None:
            found = found - self.along[..., None] * self.normed[:, :, None]
        return found


def project(near: Tensor, matrix: Tensor | None) -> Float[Tensor, "pair pos target d_model"]:
    """Return ``near @ matrix.T`` for each target."""
    return near if matrix is None else torch.einsum("bthe,hde->bthd", near, matrix)


def project_into(
    out: Float[Tensor, "token target d_model"],
    near: Float[Tensor, "pair pos target d"],
    matrix: Tensor | None,
) -> None:
    """The same written to a part of a larger tensor, without a copy in between."""
    rows = near.flatten(0, 1)
    if matrix is None:
        out.copy_(rows)
        return
    for target in range(rows.shape[1]):
        torch.mm(rows[:, target], matrix[target].T, out=out[:, target])


def reader_taps(graph: Graph, *, walked: bool = False) -> tuple[list[str], list[str]]:
    """Return hooks where the gradients of readers are taken, and hooks whose activations are needed beside them.

    Args:
        walked: In passes through plain blocks, where MLPs have their own copy of the stream before their norm.
    """
    shape, last = graph.shape, graph.shape.n_layers - 1
    taps, keep = [], [hook_name("resid", n) for n in range(shape.n_layers)]
    for layer in range(shape.n_layers):
        if shape.has_attention(layer):
            taps += [hook_name(slot, layer) for slot in "qkv"]
            keep += [] if walked else [hook_name("attn-out", layer)]
        if shape.has_mlp(layer):
            taps.append(_own_copy(layer) if walked else f"blocks.{layer}.mlp.hook_in")
    return [*taps, f"blocks.{last}.hook_out"], keep


def _own_copy(layer: int) -> str:
    return f"blocks.{layer}.hook_mlp_in"


@dataclass(eq=False)
class Readers:
    """The readers of a model: the norms and projections between them and the stream, measured at their first run."""

    runs: PairedRuns
    graph: Graph
    backward: Backward = "plain"
    stack: TransformerBridge | TowerStack | None = None  # whose layers; by default the model's own
    _norms: dict[tuple[int, str], _Norm] = field(default_factory=dict)

    @property
    def _layers(self) -> TransformerBridge | TowerStack:
        return self.runs.model if self.stack is None else self.stack

    @torch.no_grad()
    def factors(self, run: Differentiated) -> Iterator[ReaderGradient]:
        """Return the gradients of all targets of a run with ``reader_taps``, from the first layer to the logits."""
        shape, last = self.graph.shape, self.graph.shape.n_layers - 1
        grads, at = run.gradients(), 0
        for layer in range(shape.n_layers):
            x = run.seen[hook_name("resid", layer)]
            if shape.has_attention(layer):
                through = self._through(layer, "ln1", x)
                for slot in "qkv":
                    name = hook_name(slot, layer)
                    grad = grads.pop(name)
                    columns = slice(at, at + grad.shape[2])
                    yield through.heads(self._folded(layer, slot), columns, grad, run.seen[name])
                    at = columns.stop
            if shape.has_mlp(layer):
                near = self._of_mlp(layer, x, run, grads)
                yield ReaderGradient(columns=slice(at, at + 1), near=near[:, :, None])
                at += 1
        logits = wide(grads.pop(f"blocks.{last}.hook_out"))
        yield ReaderGradient(columns=slice(at, at + 1), near=logits[:, :, None])

    def _of_mlp(self, layer: int, x: Resid, run: Differentiated, grads: dict[str, Tensor]) -> Resid:
        """The gradient at the stream that an MLP reads."""
        if _own_copy(layer) in grads:
            return wide(grads.pop(_own_copy(layer)))
        after_attention = self.graph.shape.has_attention(layer) and not self.graph.shape.parallel
        read = x + run.seen[hook_name("attn-out", layer)] if after_attention else x
        grad = grads.pop(f"blocks.{layer}.mlp.hook_in")[:, :, None]
        return self._through(layer, "ln2", read).stream(grad)[:, :, 0]

    def _through(self, layer: int, part: str, x: Resid) -> _Through:
        if (layer, part) not in self._norms:
            self._norms[layer, part] = _Norm.measured(norm_before(self._layers, layer, part), x)
        return _Through(self._norms[layer, part], x, rule_of(self.backward).linear)

    def _folded(self, layer: int, slot: str) -> _Folded:
        norm = self._norms[layer, "ln1"]
        if slot not in norm.folded:
            attn = self._layers.blocks[layer].attn
            bias = getattr(attn, f"b_{slot.upper()}", None)
            norm.folded[slot] = _Folded.of(norm, wide(projection(self._layers, layer, slot)), bias)
        return norm.folded[slot]


def reader_gradients(
    runs: PairedRuns, batch: Batch, graph: Graph, *, alpha: float = 1.0, backward: Backward = "plain"
) -> Iterator[tuple[slice, Float[Tensor, "pair pos target d_model"]]]:
    """Return the gradient of ``direction * metric`` at each target's own copy of the residual stream, before its
    norm.

    Yields:
        Columns of ``graph.targets``, and the gradients of those targets; from the first layer to the logits.
    """
    taps, keep = reader_taps(graph, walked=backward == "plain" and runs.is_walked(batch))
    run = taped_run(runs, batch, taps, keep=keep, start=start_of(runs, batch, alpha), backward=backward)
    for found in Readers(runs, graph, backward).factors(run):
        yield found.columns, found.full()


def wide(tensor: Tensor) -> Tensor:
    """In float32 or wider."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


@dataclass(eq=False, kw_only=True)
class _Norm:
    """A norm and what is known of it: that it does nothing, or its form, or neither."""

    function: Callable[[Tensor], Tensor]
    identity: bool
    map: NormMap | None
    folded: dict[str, _Folded] = field(default_factory=dict)

    @classmethod
    def measured(cls, function: Callable[[Tensor], Tensor], x: Resid) -> _Norm:
        y = function(x[:1])
        identity = torch.equal(y, x[:1])
        return cls(
            function=function, identity=identity, map=None if identity else measure_norm(function, x[:1, :1])
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Folded:
    """A projection with the norm's gain and centring in its matrix, and what it adds whatever the stream is."""

    matrix: Float[Tensor, "head d_model d_head"]
    constant: Float[Tensor, "head d_head"] | None = None

    @classmethod
    def of(cls, norm: _Norm, matrix: Tensor, bias: Tensor | None) -> _Folded:
        if norm.map is None:
            return cls(matrix=matrix)
        constant = torch.einsum("d,hde->he", norm.map.offset[0, 0], matrix)
        folded = norm.map.gain[0, 0][:, None] * matrix
        return cls(
            matrix=folded - folded.mean(1, keepdim=True) if norm.map.centred else folded,
            constant=constant if bias is None else constant + wide(bias),
        )


class _Through:
    """The way back through one norm, in closed form where the norm is ``gain * center(x) / scale + offset``.

    With ``n = center(x) / scale`` the gradient is ``center(gain * grad) / scale - n (n . gain * grad) / (d scale)``.
    """

    def __init__(self, norm: _Norm, x: Resid, linear: bool) -> None:
        self.norm, self.map, self.x, self.linear = norm, norm.map, x, linear
        if self.map is not None:
            stream = wide(x)
            self.inverse = self.map.inverse_scale(stream, wide(norm.function(x)))  # (pair, pos, 1)
            self.normed = self.map.center(stream) * self.inverse

    def heads(self, folded: _Folded, columns: slice, grad: Tensor, value: Tensor) -> ReaderGradient:
        """At the readers of q, k or v, whose gradient is ``grad`` and whose value is ``value``."""
        grad = wide(grad)
        if self.norm.identity:
            return ReaderGradient(columns=columns, near=grad, matrix=folded.matrix)
        if self.map is None:
            return ReaderGradient(columns=columns, near=self.stream(project(grad, folded.matrix)))
        near = grad * self.inverse[..., None]
        if self.linear:
            return ReaderGradient(columns=columns, near=near, matrix=folded.matrix)
        assert folded.constant is not None, "a norm that is no identity has one"
        along = (near * (wide(value) - folded.constant)).sum(-1) / self.x.shape[-1]
        return ReaderGradient(
            columns=columns, near=near, matrix=folded.matrix, normed=self.normed, along=along
        )

    def stream(self, grad: Float[Tensor, "pair pos target d_model"]) -> Tensor:
        """At readers whose gradient after the norm is ``grad``, written out."""
        grad = wide(grad)
        if self.norm.identity:
            return grad
        if self.map is None:
            return self._by_autograd(grad)
        scaled = self.map.gain[:, :, None] * grad * self.inverse[:, :, None]
        found = self.map.center(scaled)
        if self.linear:
            return found
        n = self.normed[:, :, None]
        return found - n * (scaled * n).mean(-1, keepdim=True)

    def _by_autograd(self, grad: Tensor) -> Tensor:
        """Through a norm of another form, one copy of the stream per target."""
        with torch.enable_grad():
            copies = self.x[:, :, None].expand_as(grad).detach().clone().requires_grad_(True)
            return torch.autograd.grad(self.norm.function(copies), copies, grad.to(copies.dtype))[0].to(
                grad.dtype
            )
