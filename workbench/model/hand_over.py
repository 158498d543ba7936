"""Where the parts behind a tower read it: one hook at which that reading can be edited, or why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from workbench.model import hooks
from workbench.model.hooks import TOLERANCE, hook_name
from workbench.model.prompt import Prompt
from workbench.model.sight import sight_of
from workbench.model.wiring import HandOver

if TYPE_CHECKING:
    from workbench.model.inner_towers import TowerStack

_PROJECTORS = ("vision_projector.hook_in",)
Edits = Sequence[tuple[str, Tensor | None]]  # by the model's own names: what is put there, None for noise


@torch.no_grad()
def hand_over(stack: TowerStack, prompt: Prompt) -> HandOver | str:
    """Find the one place through which a tower reaches the language model, on one prompt with a picture.

    Three things are measured: an edit there reaches the output; with that place held, nothing of the tower does; and
    what arrives is the picture's rows of the language model's input, and those alone.

    Returns:
        The place, or in one sentence why there is none.
    """
    sight, entry = sight_of(stack), hook_name("resid", 0)  # type: ignore[arg-type]
    if sight is None or sight.token is None:
        return "where its output enters another stack is not known"
    end, first = (stack.name_of(f"blocks.{stack.cfg.n_layers - 1}.hook_out"), stack.name_of(entry))
    projectors = [name for name in _PROJECTORS if name in stack.bridge.hook_dict]
    out, seen = _run(stack, prompt, [], [end, entry, *projectors])
    if entry not in seen or end not in seen:
        return "what enters the language model is not seen"
    close = TOLERANCE.get(out.dtype, 2e-4)
    _, arrived = _run(stack, prompt, [(first, None)], [entry])
    moved = (arrived[entry] - seen[entry]).abs().amax(-1) > close
    if bool((moved & (prompt.ids != sight.token)).any()):
        return "it writes to other rows of the language model's input than those of the picture"
    if not _same(_run(stack, prompt, [(first, None), (entry, seen[entry])])[0], out, close):
        return "it also reaches later layers of the language model, past what enters the first"
    for place in _places(end, projectors, seen):
        held = [(first, None), (place.hook, seen[place.hook])]
        live = not _same(_run(stack, prompt, [(place.hook, None)])[0], out, close)
        if live and _same(_run(stack, prompt, held)[0], out, close):
            return place
    return "what is behind it reads several of its layers, or something pooled from them"


def _places(end: str, projectors: Sequence[str], seen: dict[str, Tensor]) -> list[HandOver]:
    """What leaves the last layer, and what enters a projector where that is some positions of the same."""
    found, stream = [HandOver(hook=end)], seen[end]
    for name in projectors:
        read = seen.get(name)
        if read is None or read.dim() != 3 or len(read) != len(stream):
            continue
        first = stream.shape[1] - read.shape[1]
        if first >= 0 and torch.equal(stream[:, first:], read):
            found.append(HandOver(hook=name, first=first))
    return found


def _same(one: Tensor, other: Tensor, close: float) -> bool:
    return bool((one - other).abs().max() <= close)


def _run(
    stack: TowerStack, prompt: Prompt, edits: Edits, names: Sequence[str] = ()
) -> tuple[Tensor, dict[str, Tensor]]:
    """The output of a pass with these edits, and what is at these hooks."""
    found: dict[str, Tensor] = {}
    put = [
        (name, lambda t, hook, value=value: _noisy(t) if value is None else value) for name, value in edits
    ]
    keep = [(name, lambda t, hook, name=name: found.__setitem__(name, t.detach())) for name in names]
    with stack.bridge.hooks(fwd_hooks=[*put, *keep]):
        out = hooks.forward(stack.bridge, prompt, last_only=False)
    return out, found


def _noisy(tensor: Tensor) -> Tensor:
    noise = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(2))
    return tensor + (1 + tensor.abs()) * (1 + noise.to(tensor))
