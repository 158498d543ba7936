"""A path of inputs that are prompts: positions change from one prompt to the other, one after another."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.engine.paired_runs import Batch, PairedRuns
from workbench.model.hooks import hook_name


def prompt_path(runs: PairedRuns, batch: Batch, points: int) -> list[Float[Tensor, "pair pos d_model"]]:
    """Return inputs on the way from the corrupted to the clean prompt, each of them a prompt.

    At point ``j`` of ``points`` the first ``j / (points - 1)`` of the positions at which a pair's prompts differ, from
    left to right, have their clean embedding, and all later ones the corrupted. Both ends are among them.
    """
    entry = hook_name("resid", 0)
    clean = runs.activations(batch, "clean", [entry])[entry]
    corrupted = runs.activations(batch, "corrupted", [entry])[entry]
    differ = (clean != corrupted).any(-1)  # (pair, pos)
    rank = differ.cumsum(1) - 1
    count = differ.sum(1, keepdim=True)
    found = []
    for j in range(points):
        done = differ & (rank * (points - 1) < j * count)
        found.append(torch.where(done[..., None], clean, corrupted))
    return found
