"""Gradients of the metric at what every part reads or writes, per pair, in one backward pass.

Taps at hooks note the gradient that passes; nothing is added to the activations, no parameter needs a gradient, and
nothing is left on the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.core.errors import OptionError
from workbench.engine.backward import Hook, backward_rule
from workbench.engine.paired_runs import Batch, PairedRuns
from workbench.engine.rules import Backward
from workbench.model.bare import every_module
from workbench.model.hooks import hook_name
from workbench.model.wiring import Site

Resid = Float[Tensor, "pair pos d_model"]
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
    """Return a batch in equal parts whose forward passes can be kept for a backward pass: one pair at least.

    Smaller parts take less memory and, as activations then stay in the cache, no more time.
    """
    fit = max(1, int(TAPE_FLOATS / (tape_floats(runs, batch.n_tokens) * batch.n_tokens)))
    n = -(-len(batch) // fit)
    if n == 1:
        return [batch]
    ends = [len(batch) * k // n for k in range(n + 1)]
    return [part(batch, slice(a, b)) for a, b in pairwise(ends)]


def tape_floats(runs: PairedRuns, length: int) -> int:
    """Return numbers that a forward pass keeps for its backward pass at one token; counted on GPT-2, with a reserve."""
    found = 0
    for wiring in runs.wiring.stacks:  # patches are about as many as tokens
        hidden = wiring.d_mlp or 4 * wiring.d_model
        found += wiring.n_layers * (18 * wiring.d_model + 6 * hidden + 3 * wiring.n_heads * length)
    return found


def part(batch: Batch, where: slice) -> Batch:
    """Return some pairs of a batch, nothing recorded yet."""
    names = ("index", "answers", "answer_pos", "positions", "sets", "groups")
    chosen = {name: getattr(batch, name)[where] for name in names}
    return replace(batch, **chosen, prompts=(batch.prompts[0][where], batch.prompts[1][where]), cache={})


@contextmanager
def frozen(model: torch.nn.Module) -> Iterator[None]:
    """No parameter collects a gradient inside; the caller's flags come back, also after an error."""
    own = (p for module in every_module(model) for p in vars(module)["_parameters"].values())
    wanted = [p for p in own if p is not None and p.requires_grad]
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
    _n_positions: int

    def gradients(self, *, again: bool = False) -> dict[str, Tensor]:
        """Return the gradient of ``direction * metric`` at every tap; ``again`` keeps the graph for another
        backward pass.
        """
        self._found.clear()
        torch.autograd.grad(self._total, self._leaves, retain_graph=again, allow_unused=True)
        # a hook that the metric does not depend on gets no gradient
        found = {
            n: self._found[n] if n in self._found else torch.zeros_like(self.seen[n]) for n in self._names
        }
        return {n: _spread(grad, self._n_positions) for n, grad in found.items()}


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
    at_last: bool = False,
) -> Taped:
    """Return the clean run, or one that starts or goes on elsewhere, with taps at these hooks.

    Args:
        start: What enters the first layer, the clean run's own by default.
        replaced: Activations to put in place of the run's own; gradients reach them and go no further.
        keep: Further hooks whose activations are kept.
        backward: How gradients go through norms, activations, products and attention.
        gates: Whether layers can be shut afterwards.
        at_last: In the last layer only the last position is run (but for k and v), where plain blocks run; what is seen
            there is of that position, and gradients are zero at the others.

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
    tape = Tape(start)
    own = {name: value.detach().requires_grad_(True) for name, value in (replaced or {}).items()}
    put: list[Hook] = [(name, lambda t, hook, value=value: value) for name, value in own.items()]
    shut: set[int] = set()
    with backward_rule(runs.model, runs.wiring, backward) as rules:
        hooks = [(hook_name("resid", 0), tape.enter), *put, *rules.before]
        hooks += [(name, partial(tape.look, name)) for name in keep if name not in taps]
        hooks += [(name, partial(tape.tap, name)) for name in taps]
        hooks += [*rules.after, *(_gates(runs, shut) if gates else [])]
        with torch.enable_grad(), frozen(runs.model):
            value = runs.values(
                batch, batch.prompt("clean"), hooks, at_last=at_last, by_model=backward != "plain"
            )
            total = (runs.metric.direction * value).sum()
    starts = (tape.leaf, *own.values())
    n_positions = tape.leaf.shape[1]  # a tower's are patches, whatever the words of a prompt are
    return Taped(tape.seen, shut, total, starts, tuple(taps), tape.found, n_positions)


class Tape:
    """What hooks of a differentiable run keep: what enters, activations that were seen, gradients that come back."""

    def __init__(self, start: Resid | None) -> None:
        self.start, self.leaf = start, torch.empty(0)
        self.seen: dict[str, Tensor] = {}
        self.found: dict[str, Tensor] = {}  # gradients by tap, once they are asked for

    def enter(self, tensor: Tensor, hook: object) -> Tensor:
        """Let a tensor of its own enter the first layer, from which gradients are taken."""
        entering = tensor if self.start is None else self.start.to(tensor.dtype)
        self.leaf = entering.detach().requires_grad_(True)
        return self.leaf

    def look(self, name: str, tensor: Tensor, hook: object) -> None:
        """Keep an activation."""
        self.seen[name] = tensor.detach()

    def tap(self, name: str, tensor: Tensor, hook: object) -> Tensor:
        """Keep an activation, and the gradient that comes back to it."""
        self.seen[name] = tensor.detach()
        return _Tap.apply(tensor, name, self.found)


def _spread(grad: Tensor, n_positions: int) -> Tensor:
    """A gradient at the last positions, zero before them."""
    if grad.shape[1] == n_positions:
        return grad
    whole = grad.new_zeros(len(grad), n_positions, *grad.shape[2:])
    whole[:, -grad.shape[1] :] = grad
    return whole


def _gates(runs: PairedRuns, shut: set[int]) -> list[Hook]:
    sites = [("attn-out", n) for n in runs.wiring.attention_layers]
    sites += [("mlp-out", n) for n in runs.wiring.mlp_layers]
    return [(hook_name(site, n), lambda tensor, hook, n=n: _Gate.apply(tensor, n, shut)) for site, n in sites]


def start_of(runs: PairedRuns, batch: Batch, alpha: float) -> Resid | None:
    """Return the model's input at ``alpha`` on the line from corrupted (0) to clean (1); None for the clean run's
    own.
    """
    if alpha == 1:
        return None
    name = hook_name("resid", 0)
    clean, corrupted = (runs.activations(batch, run, [name])[name] for run in ("clean", "corrupted"))
    return corrupted + alpha * (clean - corrupted)


def writer_gradients(
    runs: PairedRuns, batch: Batch, sites: list[Site], *, alpha: float = 1.0, backward: Backward = "plain"
) -> dict[Site, Tensor]:
    """Return the gradient of ``direction * metric`` at what is written at these (layer, site), in the site's own
    shape.

    ``(0, "resid")`` is the model's input. ``alpha`` says where between corrupted (0) and clean (1) input.
    """
    names = {site: hook_name(site[1], site[0]) for site in sites}
    run = taped_run(runs, batch, list(names.values()), start=start_of(runs, batch, alpha), backward=backward)
    grads = run.gradients()
    return {site: grads[name] for site, name in names.items()}
