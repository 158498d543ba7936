"""How much the loss can rise when a head's scores are pushed a little: the worst small step for every query.

The step has length ``eps`` in the scores before the softmax, for each query of the head by itself, and goes along the
slope of the loss. To first order the loss then rises by ``eps`` times the norm of that slope, summed over queries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from workbench.core.errors import ModelError, OptionError
from workbench.core.progress import Progress, silent
from workbench.engine.gradients import frozen
from workbench.engine.interventions.surgery import add_to_scores
from workbench.model.hooks import forward, hook_name
from workbench.model.outputs import why_no_words
from workbench.model.probe import wiring
from workbench.model.prompt import Prompt
from workbench.model.wiring import Wiring, require_heads

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

EPS = 1.0  # a score that is 1 higher gets e times the attention
Loss = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class Sensitivity:
    """What the worst small step in the scores of every head does to the loss.

    Attributes:
        eps: Length of the step, for each query.
        rise: Measured with the step; positive where it makes the loss larger. NaN in layers without attention.
        first_order: ``eps`` times the norms of the slopes, summed over queries: what a very small step gives.
        unit: Of the loss.
    """

    eps: float
    rise: Float[Tensor, "row layer head"]
    first_order: Float[Tensor, "row layer head"]
    unit: str = "nats"


def sensitivity(
    model: TransformerBridge,
    ids: Prompt | Int[Tensor, "row pos"],
    eps: float = EPS,
    *,
    tower: str | None = None,
    loss: Loss | None = None,
    random: int | None = None,
    progress: Progress = silent,
) -> Sensitivity:
    """Push the scores of every head along the slope of the loss, one head at a time, and measure the loss.

    Args:
        eps: Length of the step in the scores of one query.
        tower: The stack that the heads are of; None is the model's own.
        loss: Output ``(row, pos, out)`` -> one value per row. By default the mean loss of the next token; where the
            model says no next token, minus the log-probability of what it answers.
        random: A seed: the steps are of the same length in directions drawn by it, the control of the slope's.

    Returns:
        The rise for every row and head, measured and to first order.

    Raises:
        OptionError: for a step that is not above 0.
        ModelError: if edits of the model's patterns do not reach its output: they have no slopes.

    Source:
        Kitada and Iyatomi 2020, Attention Meets Perturbations (the perturbation of AT), on a trained head.

    Example:
        >>> import workbench as wb
        >>> model = wb.open_model("zoo:ioi")
        >>> found = sensitivity(model, model.to_tokens("Mary and John"), eps=0.01)
        >>> bool((found.rise - found.first_order).abs().max() < 0.001)
        True
    """
    if not eps > 0:
        raise OptionError(f"eps is {eps}; a step above 0 is needed", hint="eps=0.01")
    prompt, wires = Prompt.of(ids), wiring(model).of(tower)
    require_heads(wires)
    if "pattern" not in wires.live:
        raise ModelError(
            "edits of the model's patterns do not reach its output", hint="open it with eager attention"
        )
    asked = loss or _usual_loss(model, prompt)
    plain, slopes = _slopes(model, prompt, wires, asked)
    shape = (len(plain), wires.n_layers, wires.n_heads)
    rise, first = (torch.full(shape, torch.nan, dtype=torch.float64) for _ in range(2))
    for done, layer in enumerate(wires.attention_layers):
        slope = slopes[layer]
        size = slope.norm(dim=-1, keepdim=True)  # (row, head, query, 1)
        first[:, layer] = eps * size.sum((-2, -1)).double().cpu()
        step = eps * _unit(slope if random is None else _drawn(slope, random + layer))
        for head in range(slope.shape[1]):
            changed = _pushed(model, prompt, hook_name("pattern", layer, wires.prefix), head, step, asked)
            rise[:, layer, head] = (changed - plain).double().cpu()
        progress(done + 1, len(wires.attention_layers), "pushing the scores of each head")
    return Sensitivity(eps=eps, rise=rise, first_order=first)


def _unit(slope: Tensor) -> Tensor:
    size = slope.norm(dim=-1, keepdim=True)
    return slope / torch.where(size > 0, size, 1)


def _drawn(slope: Tensor, seed: int) -> Tensor:
    """Random directions among the keys that have a slope; hidden ones have none."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(slope.shape, generator=draw).to(slope) * (slope != 0)


def _usual_loss(model: TransformerBridge, prompt: Prompt) -> Loss:
    """The next token's loss where it is predicted; else that of the model's own answer."""
    if wiring(model).causal and not why_no_words(model):
        ids = prompt.ids

        def next_token(out: Tensor) -> Tensor:
            each = cross_entropy(out[:, :-1].mT.float(), ids[:, 1:].to(out.device), reduction="none")
            return each.mean(1)

        return next_token
    with torch.no_grad():
        answer = forward(model, prompt, last_only=True)[:, -1].argmax(-1)
    return lambda out: cross_entropy(out[:, -1].float(), answer, reduction="none")


def _slopes(
    model: TransformerBridge, prompt: Prompt, wires: Wiring, loss: Loss
) -> tuple[Tensor, dict[int, Tensor]]:
    """The loss of each row, and its slope along the scores of every layer; the slopes of a query sum to 0."""
    pushes: dict[int, Tensor] = {}

    def leaf(layer: int):
        def put(pattern: Tensor, hook: object) -> Tensor:
            pushes[layer] = torch.zeros_like(pattern).requires_grad_()
            return add_to_scores(pattern, pushes[layer])

        return put

    hooks = [(hook_name("pattern", n, wires.prefix), leaf(n)) for n in wires.attention_layers]
    with torch.enable_grad(), frozen(model), model.hooks(fwd_hooks=hooks):
        found = loss(forward(model, prompt, last_only=False))
        layers = list(pushes)
        grads = torch.autograd.grad(found.sum(), [pushes[n] for n in layers], allow_unused=True)
    zeros = (torch.zeros_like(pushes[n]) if g is None else g for n, g in zip(layers, grads, strict=True))
    return found.detach(), dict(zip(layers, zeros, strict=True))


@torch.no_grad()
def _pushed(
    model: TransformerBridge, prompt: Prompt, name: str, head: int, step: Tensor, loss: Loss
) -> Tensor:
    """The loss of each row with the step in one head's scores."""

    def push(pattern: Tensor, hook: object) -> Tensor:
        new = pattern.clone()
        new[:, head] = add_to_scores(pattern[:, head], step[:, head])
        return new

    with model.hooks(fwd_hooks=[(name, push)]):
        return loss(forward(model, prompt, last_only=False))
