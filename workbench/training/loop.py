"""The one training loop: schedule, clipping, progress on stderr, and a checkpoint from which a killed run goes on."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from workbench.training.schedule import set_rate, trapezoid


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What a run of the loop cost."""

    steps: int
    seconds: float
    loss: float


def fit(
    model: nn.Module,
    loss_of_step: Callable[[int], Tensor],
    *,
    optimisers: Sequence[torch.optim.Optimizer],
    steps: int,
    warmup: int = 100,
    decay: float = 0.3,
    clip: float = 1.0,
    every: int = 100,
    watch: Callable[[int], str] | None = None,
    stop: Callable[[int], bool] | None = None,
    checkpoint: Path | None = None,
    checkpoint_every: int = 250,
) -> Fit:
    """Run ``steps`` updates.

    Args:
        loss_of_step: Loss of the step with that number. Must draw its data from the number alone, so that a
            resumed run sees what an undisturbed one would have seen.
        watch: Called every ``every`` steps; what it returns is printed with the loss.
        stop: Called every ``every`` steps; true ends the run early (phases that last until something is learned).
        checkpoint: File to save the state in and to go on from if it exists.
    """
    first, spent, recent, done = _restore(checkpoint, model, optimisers)
    steps = first if done else steps
    begun = time.time()
    model.train()
    for step in range(first, steps):
        set_rate(optimisers, trapezoid(step, steps, warmup=warmup, decay=decay))
        loss = loss_of_step(step)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        for optimiser in optimisers:
            optimiser.step()
        model.zero_grad(set_to_none=True)
        recent = loss.item() if step == 0 else 0.98 * recent + 0.02 * loss.item()
        if step % every == every - 1 or step == steps - 1:
            told = _watch(model, watch, step)
            print(
                f"{step + 1}/{steps} loss {recent:.4f} {spent + time.time() - begun:.0f} s {told}",
                file=sys.stderr,
                flush=True,
            )
            if stop is not None and stop(step):
                steps = step + 1
                break
        if checkpoint is not None and step % checkpoint_every == checkpoint_every - 1:
            _save(checkpoint, model, optimisers, step + 1, spent + time.time() - begun, recent)
    if checkpoint is not None:
        _save(checkpoint, model, optimisers, steps, spent + time.time() - begun, recent, done=True)
    model.eval()
    return Fit(steps=steps, seconds=round(spent + time.time() - begun, 1), loss=recent)


def _watch(model: nn.Module, watch: Callable[[int], str] | None, step: int) -> str:
    """Measure in evaluation mode, then go back to training."""
    if watch is None:
        return ""
    model.eval()
    with torch.no_grad():
        told = watch(step)
    model.train()
    return told


def _save(
    path: Path, model: nn.Module, optimisers, step: int, seconds: float, recent: float, done: bool = False
) -> None:
    """Write the whole state to a temporary name, then rename."""
    state = {
        "model": model.state_dict(),
        "optimisers": [optimiser.state_dict() for optimiser in optimisers],
        "step": step,
        "seconds": seconds,
        "recent": recent,
        "done": done,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    torch.save(state, temporary)
    os.replace(temporary, path)


def _restore(path: Path | None, model: nn.Module, optimisers) -> tuple[int, float, float, bool]:
    """Load a state saved earlier: next step, seconds spent, running loss, whether it ended."""
    if path is None or not path.exists():
        return 0, 0.0, 0.0, False
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    for optimiser, saved in zip(optimisers, state["optimisers"], strict=True):
        optimiser.load_state_dict(saved)
    return state["step"], state["seconds"], state["recent"], state.get("done", False)
