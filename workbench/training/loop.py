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
    core_seconds: float = 0.0  # of this process on the processor; other work beside it does not count


class Clock:
    """Seconds of a run, those before it was killed included."""

    def __init__(self, seconds: float = 0.0, core_seconds: float = 0.0) -> None:
        self._since, self._core_since = time.time() - seconds, time.process_time() - core_seconds

    @property
    def seconds(self) -> float:
        """Seconds on the wall."""
        return time.time() - self._since

    @property
    def core_seconds(self) -> float:
        """Seconds of the processor."""
        return time.process_time() - self._core_since


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
    each: Sequence[nn.Module] = (),
    tell: Callable[[str], None] | None = None,
) -> Fit:
    """Run ``steps`` updates.

    Args:
        each: Parts of ``model`` whose gradients are clipped by themselves: models that are trained side by side.
        tell: What is said every ``every`` steps goes here; by default to stderr.
        loss_of_step: Loss of the step with that number. Must draw its data from the number alone, so that a
            resumed run sees what an undisturbed one would have seen.
        watch: Called every ``every`` steps; what it returns is printed with the loss.
        stop: Called every ``every`` steps; true ends the run early (phases that last until something is learned).
        checkpoint: File to save the state in and to go on from if it exists.
    """
    first, clock, recent, done = _restore(checkpoint, model, optimisers)
    steps = first if done else steps
    model.train()
    for step in range(first, steps):
        set_rate(optimisers, trapezoid(step, steps, warmup=warmup, decay=decay))
        loss = loss_of_step(step)
        loss.backward()
        for part in each or (model,):
            nn.utils.clip_grad_norm_(part.parameters(), clip)
        for optimiser in optimisers:
            optimiser.step()
        model.zero_grad(set_to_none=True)
        recent = loss.item() if step == 0 else 0.98 * recent + 0.02 * loss.item()
        if step % every == every - 1 or step == steps - 1:
            told = _watch(model, watch, step)
            (tell or _to_stderr)(
                f"{step + 1}/{steps} loss {recent:.4f} {clock.core_seconds:.0f} core s {told}"
            )
            if stop is not None and stop(step):
                steps = step + 1
                break
        if checkpoint is not None and step % checkpoint_every == checkpoint_every - 1:
            _save(checkpoint, model, optimisers, step + 1, clock, recent)
    if checkpoint is not None:
        _save(checkpoint, model, optimisers, steps, clock, recent, done=True)
    model.eval()
    return Fit(
        steps=steps, seconds=round(clock.seconds, 1), loss=recent, core_seconds=round(clock.core_seconds, 1)
    )


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


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
    path: Path, model: nn.Module, optimisers, step: int, clock: Clock, recent: float, done: bool = False
) -> None:
    """Write the whole state to a temporary name, then rename."""
    state = {
        "model": model.state_dict(),
        "optimisers": [optimiser.state_dict() for optimiser in optimisers],
        "step": step,
        "seconds": clock.seconds,
        "core_seconds": clock.core_seconds,
        "recent": recent,
        "done": done,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    torch.save(state, temporary)
    os.replace(temporary, path)


def _restore(path: Path | None, model: nn.Module, optimisers) -> tuple[int, Clock, float, bool]:
    """Load a state saved earlier: next step, time spent, running loss, whether it ended."""
    if path is None or not path.exists():
        return 0, Clock(), 0.0, False
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    for optimiser, saved in zip(optimisers, state["optimisers"], strict=True):
        optimiser.load_state_dict(saved)
    clock = Clock(state["seconds"], state.get("core_seconds", 0.0))
    return state["step"], clock, state["recent"], state.get("done", False)
