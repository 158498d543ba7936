"""Gradients of a run through a tower and the language model behind it, at what the readers of both read.

Also through two towers that meet, of a model that compares pictures with captions. The path that is integrated over is
that of what enters: patches and words together. What a projector writes follows from the patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from workbench.core.errors import OptionError
from workbench.engine.gradients import Tape, frozen
from workbench.engine.paired_runs import Batch, PairedRuns
from workbench.engine.reader_gradients import reader_taps
from workbench.engine.sides import Side, pictures_in
from workbench.model.blocks import Hook
from workbench.model.hooks import hook_name


@dataclass(frozen=True, kw_only=True, eq=False)
class SideRun:
    """What a differentiable run shows of one stack, by the names that a model's own hooks have.

    Attributes:
        seen: Activations at all taps and hooks that were kept.
        grads: Gradient of ``direction * metric`` at every tap.
    """

    seen: dict[str, Tensor]
    grads: dict[str, Tensor]

    def gradients(self, *, again: bool = False) -> dict[str, Tensor]:
        """Return the gradients; they are there already."""
        return dict(self.grads)


def crossing_run(runs: PairedRuns, batch: Batch, sides: Sequence[Side], alpha: float) -> tuple[SideRun, ...]:
    """Return one differentiated pass over clean prompts; what enters is at ``alpha`` from corrupted (0) to clean (1).

    Args:
        sides: The tower and the language model, or two towers that meet.

    Raises:
        OptionError: if the metric has no gradient.
    """
    if not runs.metric.differentiable:
        raise OptionError(
            f"metric {runs.metric.name} has no useful gradient",
            hint="use --metric logit-difference, or --method exact",
        )
    if runs.metric.needs_clean:
        runs.clean_output(batch)
    tapes = [Tape(_start(runs, batch, side, alpha)) for side in sides]
    hooks: list[Hook] = []
    for side, tape in zip(sides, tapes, strict=True):
        taps, keep = reader_taps(side.graph)
        enter = tape.enter
        if side.tower is None:
            enter = _beside_pictures(tape, pictures_in(runs.model, batch.prompt("clean")))
        hooks.append((side.hook(hook_name("resid", 0)), enter))
        hooks += [(side.hook(name), partial(tape.look, name)) for name in keep if name not in taps]
        hooks += [(side.hook(name), partial(tape.tap, name)) for name in taps]
    with torch.enable_grad(), frozen(runs.model):
        total = (
            runs.metric.direction * runs.values(batch, batch.prompt("clean"), hooks, by_model=True)
        ).sum()
        torch.autograd.grad(total, [tape.leaf for tape in tapes], allow_unused=True)
    return tuple(_side_run(side, tape) for side, tape in zip(sides, tapes, strict=True))


def _start(runs: PairedRuns, batch: Batch, side: Side, alpha: float) -> Tensor:
    """What enters the first layer of a stack at a point of the path."""
    name = side.hook(hook_name("resid", 0))
    clean, corrupted = (runs.activations(batch, run, [name])[name] for run in ("clean", "corrupted"))
    return corrupted + alpha * (clean - corrupted)


def _beside_pictures(tape: Tape, where: Tensor):
    """A hook that puts the words of the path beside what the projector of this run writes."""

    def enter(tensor: Tensor, hook: object) -> Tensor:
        words = tape.enter(tensor, hook)
        return torch.where(where[..., None], tensor, words)

    return enter


def _side_run(side: Side, tape: Tape) -> SideRun:
    """What was seen and came back; a tap that the metric does not depend on has a gradient of zero."""
    taps, _ = reader_taps(side.graph)
    grads = {name: tape.found.get(name, torch.zeros_like(tape.seen[name])) for name in taps}
    end = taps[-1]
    return SideRun(seen=tape.seen, grads={**grads, end: side.whole(grads[end], tape.leaf)})
