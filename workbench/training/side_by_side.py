"""Small modules over features that are computed once: arms that see the same items in the same order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from jaxtyping import Int
from torch import Tensor, nn

from workbench.core.errors import OptionError

M = TypeVar("M", bound=nn.Module)


def begin_alike(make: Mapping[str, Callable[[], M]], *, seed: int) -> dict[str, M]:
    """Make every arm from the same seed: parts of equal shape that are made in the same order start equal.

    Example:
        >>> arms = begin_alike({"a": lambda: nn.Linear(2, 2), "b": lambda: nn.Linear(2, 2)}, seed=0)
        >>> bool((arms["a"].weight == arms["b"].weight).all())
        True
    """
    arms = {}
    for name, one in make.items():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            arms[name] = one()
    return arms


def step_alike(
    arms: Mapping[str, M],
    loss: Callable[[str, M, Int[Tensor, " item"]], Tensor],
    *,
    items: int,
    steps: int,
    batch: int = 64,
    rate: float = 3e-3,
    seed: int = 0,
    watch: Callable[[int], None] | None = None,
) -> None:
    """Train arms in place, side by side, on the same items in each step; then they are in evaluation mode.

    Args:
        loss: Of an arm, by its name, on items, by their numbers; a mean.
        items: How many there are.
        rate: Of AdamW; constant for half of the steps, then linearly to 0.
        watch: Called after each step with how many were done.
    """
    if min(items, steps, batch) < 1:
        raise OptionError(
            f"{steps} steps of {batch} of {items} items cannot train",
            hint="steps, batch and items of 1 or more",
        )
    drawn = torch.Generator().manual_seed(seed)
    optimisers = {name: torch.optim.AdamW(arm.parameters(), lr=rate) for name, arm in arms.items()}
    for step in range(steps):
        rows = torch.randint(0, items, (batch,), generator=drawn)
        for name, arm in arms.items():
            arm.train()
            for group in optimisers[name].param_groups:
                group["lr"] = rate * min(1.0, 2 * (1 - step / steps))
            with torch.enable_grad():
                loss(name, arm, rows).backward()
            nn.utils.clip_grad_norm_(arm.parameters(), 1.0)
            optimisers[name].step()
            optimisers[name].zero_grad(set_to_none=True)
            arm.eval()
        if watch is not None:
            watch(step + 1)
    for arm in arms.values():
        arm.requires_grad_(False)
