"""Gradients of the metric at what every part reads or writes, per pair, in one backward pass.

Taps at hooks note the gradient that passes; nothing is added to the activations, no parameter needs a gradient, and
nothing is left on the model. Per-head gradients at the residual stream come from those at q, k and v by the chain
rule through projection and norm, written out, which costs one product per layer instead of a copy per head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.errors import OptionError
from workbench.graph import Graph
from workbench.model.hooks import hook_name, norm_before, projection
from workbench.sweep.backward import Backward, Hook, backward_rule, measure_norm, rule_of
from workbench.sweep.runs import Batch, PairedRuns

Resid = Float[Tensor, "pair pos d_model"]
Site = tuple[int, str]
TAPE_FLOATS = 1.2e8  # 0.5 GB in float32 for what one forward pass keeps for its backward pass


class _Tap(torch.autograd.Function):
    """Its input; the gradient that passes is put into a dictionary."""

    @staticmethod
    def forward(ctx, x: Tensor, name: str, found: dict[str, Tensor]) -> Tensor:
        ctx.name, ctx.found = name, found
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad: Tensor):
        ctx.found[ctx.name] = grad
        return grad, None, None


class _Gate(torch.autograd.Function):
    """Its input; the gradient is stopped while its layer is shut."""

    @staticmethod
    def forward(ctx, x: Tensor, layer: int, shut: set[int]) -> Tensor:
        ctx.layer, ctx.shut = layer, shut
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad: Tensor):
        return torch.zeros_like(grad) if ctx.layer in ctx.shut else grad, None, None


def pieces(runs: PairedRuns, batch: Batch) -> list[Batch]:
    """A batch in equal parts whose forward passes can be kept for a backward pass: one pair at least.

    Smaller parts take less memory and, as activations then stay in the cache, no more time.
    """
    fit = max(1, int(TAPE_FLOATS / (tape_floats(runs, batch.n_tokens) * batch.n_tokens)))
    n = -(-len(batch) // fit)
    if n == 1:
        return [batch]
    ends = [len(batch) * k // n for k in range(n + 1)]
    return [part(batch, slice(a, b)) for a, b in pairwise(ends)]


def tape_floats(runs: PairedRuns, length: int) -> int:
    """Numbers that a forward pass keeps for its backward pass at one token; counted on GPT-2, with a reserve."""
    wiring = runs.wiring
    hidden = wiring.d_mlp or 4 * wiring.d_model
    return wiring.n_layers * (18 * wiring.d_model + 6 * hidden + 3 * wiring.n_heads * length)


def part(batch: Batch, where: slice) -> Batch:
    """Some pairs of a batch, nothing recorded yet."""
    names = ("index", "clean", "corrupted", "answers", "answer_pos", "positions", "groups")
    return replace(batch, **{name: getattr(batch, name)[where] for name in names}, cache={})


@contextmanager
def _frozen(model: torch.nn.Module) -> Iterator[None]:
    """No parameter collects a gradient inside; the caller's flags come back, also after an error."""
    wanted = [p for p in model.parameters() if p.requires_grad]
    try:
        for p in wanted:
            p.requires_grad_(False)
        yield
    finally:
        for p in wanted:
            p.requires_grad_(True)


@dataclass(eq=False)
class Taped:
    """A forward pass that can be differentiated.

    Attributes:
        seen: Activations at the hooks that were asked for and at all taps.
        shut: Layers whose attention and MLP let no gradient through (GradDrop); change it between backward passes.
    """

    seen: dict[str, Tensor]
    shut: set[int]
    _total: Tensor
    _leaves: tuple[Tensor, ...]
    _names: tuple[str, ...]
    _found: dict[str, Tensor]

    def gradients(self, *, again: bool = False) -> dict[str, Tensor]:
        """Gradient of ``direction * metric`` at every tap; ``again`` keeps the graph for another backward pass."""
        self._found.clear()
        torch.autograd.grad(self._total, self._leaves, retain_graph=again, allow_unused=True)
        # a hook that the metric does not depend on gets no gradient
        return {
            n: self._found[n] if n in self._found else torch.zeros_like(self.seen[n]) for n in self._names
        }


def taped_run(
    runs: PairedRuns,
    batch: Batch,
    taps: Sequence[str],
    *,
    start: Resid | None = None,
    replaced: Mapping[str, Tensor] | None = None,
    keep: Sequence[str] = (),
    backward: Backward = "plain",
    gates: bool = False,
) -> Taped:
    """The clean run, or one that starts or goes on elsewhere, with taps at these hooks.

    Args:
        start: What enters the first layer, the clean run's own by default.
        replaced: Activations to put in place of the run's own; gradients reach them and go no further.
        keep: Further hooks whose activations are kept.
        backward: How gradients go through norms, activations, products and attention.
        gates: Whether layers can be shut afterwards.

    Raises:
        OptionError: if the metric has no gradient.
        ModelError: if the backward rule does not apply to the model.
    """
    if not runs.metric.differentiable:
        raise OptionError(
            f"metric {runs.metric.name} has no useful gradient",
            hint="use --metric logit-difference, or --method exact",
        )
    if runs.metric.needs_clean:
        runs.clean_output(batch)
    seen: dict[str, Tensor] = {}
    found: dict[str, Tensor] = {}
    shut: set[int] = set()
    leaf: list[Tensor] = []

    def enter(tensor: Tensor, hook) -> Tensor:
        leaf.append((tensor if start is None else start.to(tensor.dtype)).detach().requires_grad_(True))
        return leaf[0]

    def tap(name: str):
        def through(tensor: Tensor, hook) -> Tensor:
            seen[name] = tensor.detach()
            return _Tap.apply(tensor, name, found)

        return through

    def store(name: str):
        def look(tensor: Tensor, hook) -> None:
            seen[name] = tensor.detach()

        return look

    own = {name: value.detach().requires_grad_(True) for name, value in (replaced or {}).items()}
    put: list[Hook] = [(name, lambda t, hook, value=value: value) for name, value in own.items()]
    with backward_rule(runs.model, runs.wiring, backward) as rules:
        hooks = [(hook_name("resid", 0), enter), *put, *rules.before]
        hooks += [(name, store(name)) for name in keep if name not in taps]
        hooks += [(name, tap(name)) for name in taps]
        hooks += [*rules.after, *(_gates(runs, shut) if gates else [])]
        with torch.enable_grad(), _frozen(runs.model), runs.model.hooks(fwd_hooks=hooks):
            value = runs.measure(batch, runs.output(batch, batch.clean))
            total = (runs.metric.direction * value).sum()
    return Taped(seen, shut, total, (leaf[0], *own.values()), tuple(taps), found)


def _gates(runs: PairedRuns, shut: set[int]) -> list[Hook]:
    sites = [("attn-out", n) for n in runs.wiring.attention_layers]
    sites += [("mlp-out", n) for n in runs.wiring.mlp_layers]
    return [(hook_name(site, n), lambda tensor, hook, n=n: _Gate.apply(tensor, n, shut)) for site, n in sites]


def start_of(runs: PairedRuns, batch: Batch, alpha: float) -> Resid | None:
    """The model's input at ``alpha`` on the line from corrupted (0) to clean (1); None for the clean run's own."""
    if alpha == 1:
        return None
    name = hook_name("resid", 0)
    clean, corrupted = (runs.activations(batch, run, [name])[name] for run in ("clean", "corrupted"))
    return corrupted + alpha * (clean - corrupted)


def writer_gradients(
    runs: PairedRuns, batch: Batch, sites: list[Site], *, alpha: float = 1.0, backward: Backward = "plain"
) -> dict[Site, Tensor]:
    """Gradient of ``direction * metric`` at what is written at these (layer, site), in the site's own shape.

    ``(0, "resid")`` is the model's input. ``alpha`` says where between corrupted (0) and clean (1) input.
    """
    names = {site: hook_name(site[1], site[0]) for site in sites}
    run = taped_run(runs, batch, list(names.values()), start=start_of(runs, batch, alpha), backward=backward)
    grads = run.gradients()
    return {site: grads[name] for site, name in names.items()}


# -- what targets read ---------------------------------------------------------------------------------------


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
        """The gradient written out."""
        found = project(self.near, self.matrix)
        if self.normed is not None:
            found = found - self.along[..., None] * self.normed[:, :, None]
        return found


def project(near: Tensor, matrix: Tensor | None) -> Float[Tensor, "pair pos target d_model"]:
    """``near @ matrix.T`` for each target."""
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


def reader_taps(graph: Graph) -> tuple[list[str], list[str]]:
    """Hooks where the gradients of readers are taken, and hooks whose activations are needed beside them."""
    shape, last = graph.shape, graph.shape.n_layers - 1
    taps, keep = [], [hook_name("resid", n) for n in range(shape.n_layers)]
    for layer in range(shape.n_layers):
        if shape.has_attention(layer):
            taps += [hook_name(slot, layer) for slot in "qkv"]
            keep.append(hook_name("attn-out", layer))
        taps += [f"blocks.{layer}.mlp.hook_in"] if shape.has_mlp(layer) else []
    return [*taps, f"blocks.{last}.hook_out"], keep


@torch.no_grad()
def reader_factors(
    runs: PairedRuns, graph: Graph, run: Taped, *, backward: Backward = "plain"
) -> Iterator[ReaderGradient]:
    """The gradients of all targets of a run with ``reader_taps``, from the first layer to the logits."""
    shape, last, linear = graph.shape, graph.shape.n_layers - 1, rule_of(backward).linear
    grads, at = run.gradients(), 0
    for layer in range(shape.n_layers):
        x = run.seen[hook_name("resid", layer)]
        if shape.has_attention(layer):
            through = _Through(norm_before(runs.model, layer, "ln1"), x, linear)
            for slot in "qkv":
                name = hook_name(slot, layer)
                grad = grads.pop(name)
                columns = slice(at, at + grad.shape[2])
                yield through.heads(runs, layer, slot, columns, grad, run.seen[name])
                at = columns.stop
        if shape.has_mlp(layer):
            after_attention = shape.has_attention(layer) and not shape.parallel
            read = x + run.seen[hook_name("attn-out", layer)] if after_attention else x
            grad = grads.pop(f"blocks.{layer}.mlp.hook_in")[:, :, None]
            through = _Through(norm_before(runs.model, layer, "ln2"), read, linear)
            yield ReaderGradient(columns=slice(at, at + 1), near=through.stream(grad))
            at += 1
    yield ReaderGradient(
        columns=slice(at, at + 1), near=_wide(grads.pop(f"blocks.{last}.hook_out"))[:, :, None]
    )


def reader_gradients(
    runs: PairedRuns, batch: Batch, graph: Graph, *, alpha: float = 1.0, backward: Backward = "plain"
) -> Iterator[tuple[slice, Float[Tensor, "pair pos target d_model"]]]:
    """Gradient of ``direction * metric`` at each target's own copy of the residual stream, before its norm.

    Yields:
        Columns of ``graph.targets``, and the gradients of those targets; from the first layer to the logits.
    """
    taps, keep = reader_taps(graph)
    run = taped_run(runs, batch, taps, keep=keep, start=start_of(runs, batch, alpha), backward=backward)
    for found in reader_factors(runs, graph, run, backward=backward):
        yield found.columns, found.full()


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


class _Through:
    """The way back through one norm, in closed form where the norm is ``gain * center(x) / scale + offset``.

    With ``n = center(x) / scale`` the gradient is ``center(gain * grad) / scale - n (n . gain * grad) / (d scale)``.
    """

    def __init__(self, norm: Callable[[Tensor], Tensor], x: Resid, linear: bool) -> None:
        self.norm, self.x, self.linear = norm, x, linear
        y = norm(x)
        self.identity = y is x or torch.equal(y, x)
        self.map = None if self.identity else measure_norm(norm, x)
        if self.map is not None:
            wide = _wide(x)
            self.inverse = self.map.inverse_scale(wide, _wide(y))  # (pair, pos, 1)
            self.normed = self.map.center(wide) * self.inverse

    def heads(
        self, runs: PairedRuns, layer: int, slot: str, columns: slice, grad: Tensor, value: Tensor
    ) -> ReaderGradient:
        """At the readers of q, k or v, whose gradient is ``grad`` and whose value is ``value``."""
        matrix, grad = _wide(projection(runs.model, layer, slot)), _wide(grad)
        if self.identity:
            return ReaderGradient(columns=columns, near=grad, matrix=matrix)
        if self.map is None:
            return ReaderGradient(columns=columns, near=self.stream(project(grad, matrix)))
        bias = getattr(runs.model.blocks[layer].attn, f"b_{slot.upper()}", None)
        constant = torch.einsum("d,hde->he", self.map.offset[0, 0], matrix)
        constant = constant if bias is None else constant + _wide(bias)
        folded = self.map.gain[0, 0][:, None] * matrix
        folded = folded - folded.mean(1, keepdim=True) if self.map.centred else folded
        near = grad * self.inverse[..., None]
        if self.linear:
            return ReaderGradient(columns=columns, near=near, matrix=folded)
        along = (near * (_wide(value) - constant)).sum(-1) / self.x.shape[-1]
        return ReaderGradient(columns=columns, near=near, matrix=folded, normed=self.normed, along=along)

    def stream(self, grad: Float[Tensor, "pair pos target d_model"]) -> Tensor:
        """At readers whose gradient after the norm is ``grad``, written out."""
        grad = _wide(grad)
        if self.identity:
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
            return torch.autograd.grad(self.norm(copies), copies, grad.to(copies.dtype))[0].to(grad.dtype)
