"""Gradients of the metric at what every part reads or writes, per pair, in one backward pass.

A zero tensor is added at each hook and the metric is differentiated with respect to it, so no parameter needs a
gradient and nothing is left on the model. Per-head gradients at the residual stream come from those at q, k and v
by the chain rule through projection and norm, which costs one product per layer instead of a copy per head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.errors import OptionError
from workbench.graph import Graph
from workbench.model.hooks import hook_name, norm_before, projection, resume_from
from workbench.sweep.runs import Batch, PairedRuns

Resid = Float[Tensor, "pair pos d_model"]


@dataclass(eq=False)
class _Tape:
    """Leaves added at hooks, and tensors seen on the way."""

    leaves: dict[str, Tensor]
    seen: dict[str, Tensor]

    def leaf(self, name: str) -> Callable[..., Tensor]:
        def add(tensor: Tensor, hook) -> Tensor:
            self.leaves[name] = torch.zeros_like(tensor, requires_grad=True)
            return tensor + self.leaves[name]

        return add

    def keep(self, name: str) -> Callable[..., None]:
        def store(tensor: Tensor, hook) -> None:
            self.seen[name] = tensor.detach()

        return store


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


def _differentiate(
    runs: PairedRuns, batch: Batch, resid: Resid, leaf_names: list[str], keep_names: list[str]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Gradients of ``direction * metric`` at these hooks, when the clean run starts from ``resid``."""
    if not runs.metric.differentiable:
        raise OptionError(
            f"metric {runs.metric.name} has no useful gradient",
            hint="use --metric logit-difference, or --method exact",
        )
    tape = _Tape({}, {})
    fwd = [(n, tape.keep(n)) for n in keep_names] + [(n, tape.leaf(n)) for n in leaf_names]
    runs.clean_output(batch) if runs.metric.needs_clean else None
    with torch.enable_grad(), _frozen(runs.model):
        with resume_from(runs.model, 0, resid), runs.model.hooks(fwd_hooks=fwd):
            value = runs.measure(batch, runs.output(batch, batch.clean))
        total = (runs.metric.direction * value).sum()
        grads = torch.autograd.grad(total, [tape.leaves[n] for n in leaf_names], allow_unused=True)
    filled = [
        torch.zeros_like(tape.leaves[n]) if g is None else g for n, g in zip(leaf_names, grads, strict=True)
    ]
    return dict(zip(leaf_names, filled, strict=True)), tape.seen


def start_of(runs: PairedRuns, batch: Batch, alpha: float) -> Resid:
    """The model's input at ``alpha`` on the line from corrupted (0) to clean (1)."""
    clean = runs.resid(batch, "clean", 0)
    if alpha == 1:
        return clean
    corrupted = runs.resid(batch, "corrupted", 0)
    return corrupted + alpha * (clean - corrupted)


def writer_gradients(
    runs: PairedRuns, batch: Batch, sites: list[tuple[int, str]], *, alpha: float = 1.0
) -> dict[tuple[int, str], Tensor]:
    """Gradient of ``direction * metric`` at what is written at these (layer, site), in the site's own shape.

    ``(0, "resid")`` is the model's input. ``alpha`` says where between corrupted (0) and clean (1) input.
    """
    names = {site: hook_name(site[1], site[0]) for site in sites}
    grads, _ = _differentiate(runs, batch, start_of(runs, batch, alpha), list(names.values()), [])
    return {site: grads[name] for site, name in names.items()}


def reader_gradients(
    runs: PairedRuns, batch: Batch, graph: Graph, *, alpha: float = 1.0
) -> Iterator[tuple[slice, Float[Tensor, "pair pos target d_model"]]]:
    """Gradient of ``direction * metric`` at each target's own copy of the residual stream, before its norm.

    Yields:
        Columns of ``graph.targets``, and the gradients of those targets; from the first layer to the logits.
    """
    shape, last = graph.shape, graph.shape.n_layers - 1
    leaves, keep = [], [hook_name("resid", n) for n in range(shape.n_layers)]
    for layer in range(shape.n_layers):
        if shape.has_attention(layer):
            leaves += [hook_name(slot, layer) for slot in "qkv"]
            keep.append(hook_name("attn-out", layer))
        leaves += [f"blocks.{layer}.mlp.hook_in"] if shape.has_mlp(layer) else []
    leaves.append(f"blocks.{last}.hook_out")
    grads, seen = _differentiate(runs, batch, start_of(runs, batch, alpha), leaves, keep)
    at = 0
    for layer in range(shape.n_layers):
        x = seen[hook_name("resid", layer)]
        if shape.has_attention(layer):
            norm = norm_before(runs.model, layer, "ln1")
            for slot in "qkv":
                grad = grads[hook_name(slot, layer)]  # (pair, pos, head, d_head)
                grad = torch.einsum("bthe,hde->bthd", grad, projection(runs.model, layer, slot))
                yield slice(at, at + grad.shape[2]), _through(norm, x, grad)
                at += grad.shape[2]
        if shape.has_mlp(layer):
            after_attention = shape.has_attention(layer) and not shape.parallel
            read = x + seen[hook_name("attn-out", layer)] if after_attention else x
            grad = grads[f"blocks.{layer}.mlp.hook_in"][:, :, None]
            yield slice(at, at + 1), _through(norm_before(runs.model, layer, "ln2"), read, grad)
            at += 1
    yield slice(at, at + 1), grads[f"blocks.{last}.hook_out"][:, :, None]


def _through(
    norm: Callable[[Tensor], Tensor], x: Resid, grad: Tensor
) -> Float[Tensor, "pair pos target d_model"]:
    """Gradients after a norm, pulled back to before it, one per target."""
    with torch.enable_grad():
        copies = x[:, :, None].expand_as(grad).detach().clone().requires_grad_(True)
        out = norm(copies)
        return grad if out is copies else torch.autograd.grad(out, copies, grad)[0]
