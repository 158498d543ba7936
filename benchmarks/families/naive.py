"""The plain way to turn off a head: torch and transformers alone, one prompt and one forward pass at a time.

What a head writes is a block of columns of the input of its attention's output projection. Which projection that is, is
seen in a pass: the last linear layer that runs inside an attention.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D


@torch.no_grad()
def output_projections(model: nn.Module, run: Callable[[], Any]) -> dict[str, nn.Module]:
    """The output projection of every attention that runs, by the attention's name, in the order in which they run."""
    last: dict[str, nn.Module] = {}
    handles = []
    for name, module in _attentions(model):
        for part in module.modules():
            if isinstance(part, nn.Linear | Conv1D):

                def ran(linear: nn.Module, args: Any, out: Any, name: str = name) -> None:
                    last.pop(name, None)
                    last[name] = linear

                handles.append(part.register_forward_hook(ran))
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return last


def _attentions(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Outermost modules that are an attention by the name of their class."""
    found: list[str] = []
    for name, module in model.named_modules():
        if _is_attention(module) and not any(name.startswith(f"{outer}.") for outer in found):
            found.append(name)
            yield name, module


def _is_attention(module: nn.Module) -> bool:
    name = type(module).__name__
    return "Attention" in name and not any(word in name for word in ("Norm", "Layer", "Block", "Pooling"))


@contextmanager
def without_head(projection: nn.Module, head: int, n_heads: int) -> Iterator[None]:
    """Inside, what one head writes is zero."""

    def off(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x = args[0].clone()
        x.view(*x.shape[:-1], n_heads, -1)[..., head, :] = 0
        return (x, *args[1:])

    handle = projection.register_forward_pre_hook(off)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def every_head(
    model: nn.Module,
    prompts: Sequence[Mapping[str, Tensor]],
    read: Callable[[Any, int], float],
    n_heads: int,
    *,
    among: Callable[[str], bool] = lambda name: True,
) -> tuple[list[float], list[list[float]]]:
    """The metric of each prompt, and of each prompt with each head off.

    Args:
        among: Which attentions, by their names in the model.

    Returns:
        One value per prompt; one row per head, layer by layer, of one value per prompt.
    """
    whole = [read(model(**prompt), i) for i, prompt in enumerate(prompts)]
    rows = []
    for name, projection in output_projections(model, lambda: model(**prompts[0])).items():
        for head in range(n_heads) if among(name) else ():
            with without_head(projection, head, n_heads):
                rows.append([read(model(**prompt), i) for i, prompt in enumerate(prompts)])
    return whole, rows
