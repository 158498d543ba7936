"""Guidance: a network learns a task while its layers are drawn towards those of another network on the same inputs.

``loss = task + weight * mean over paired layers of (1 - CKA)``. The guide is frozen, trained or not. A layer of the
target is paired with one of the guide in proportion to depth; samples are all positions of all rows of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.core.errors import OptionError
from workbench.heads.kernel_alignment import cka
from workbench.training.mixers.lab import Lab, LabShape
from workbench.training.mixers.normalisers import softmax
from workbench.training.mixers.plugs import Plugs
from workbench.training.mixers.scores import dot_product

Task = Literal["copy", "parity"]
Layers = list[Float[Tensor, "row pos width"]]
SYMBOLS, MARK, BLANK = 8, 8, 9
WIDTH = 48


@dataclass(frozen=True, kw_only=True)
class SequenceRows:
    """Inputs and, where something is asked, the answer; -1 elsewhere."""

    inputs: Int[Tensor, "row pos"]
    target: Int[Tensor, "row pos"]


def sequence_rows(task: Task, rows: int, length: int, *, seed: int | list[int]) -> SequenceRows:
    """Draw rows of a task: symbols to copy after a mark, or bits whose parity so far is asked at every place.

    Raises:
        OptionError: for an unknown task.
    """
    draw = np.random.default_rng(seed)
    if task == "parity":
        bits = draw.integers(0, 2, (rows, length))
        return SequenceRows(inputs=torch.from_numpy(bits), target=torch.from_numpy(bits.cumsum(1) % 2))
    if task != "copy":
        raise OptionError(f"there is no task {task!r}; expected copy or parity", hint="task='copy'")
    told = draw.integers(0, SYMBOLS, (rows, length))
    inputs = np.concatenate([told, np.full((rows, 1), MARK), np.full((rows, length), BLANK)], 1)
    target = np.concatenate([np.full((rows, length + 1), -1), told], 1)
    return SequenceRows(inputs=torch.from_numpy(inputs), target=torch.from_numpy(target))


class RecurrentNet(nn.Module):
    """Two layers of a plain recurrent network over tokens."""

    def __init__(self, *, seed: int, width: int = WIDTH) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embed = nn.Embedding(10, width)
            self.first, self.second = (nn.RNN(width, width, batch_first=True) for _ in range(2))
            self.out = nn.Linear(width, 10)

    def layers(self, ids: Int[Tensor, "row pos"]) -> Layers:
        """Return what each layer makes of the tokens."""
        first, _ = self.first(self.embed(ids))
        return [first, self.second(first)[0]]

    def answer(self, layers: Layers) -> Float[Tensor, "row pos out"]:
        """Return logits from the last layer."""
        return self.out(layers[-1])


class AttentionNet(nn.Module):
    """Two layers of causal attention with learned positions."""

    def __init__(self, *, seed: int, width: int = WIDTH, n_ctx: int = 32) -> None:
        super().__init__()
        plugs = Plugs(score=dot_product, mix=softmax)
        shape = LabShape(
            layers=(plugs, plugs), n_ctx=n_ctx, n_out=10, d_vocab=10, d_model=width, n_heads=2, d_head=width // 2,
            d_mlp=2 * width,
        )  # fmt: skip
        self.lab = Lab(shape, seed=seed)

    def layers(self, ids: Int[Tensor, "row pos"]) -> Layers:
        """Return the residual stream behind each layer."""
        found: Layers = []
        hooks: Any = [(f"blocks.{i}.hook_resid_post", lambda x, hook: found.append(x)) for i in range(2)]
        self.lab.run_with_hooks(ids, fwd_hooks=hooks)
        return found

    def answer(self, layers: Layers) -> Float[Tensor, "row pos out"]:
        """Return logits from the last layer."""
        return self.lab.unembed(self.lab.ln_final(layers[-1]))


def paired_layers(target: int, guide: int) -> list[tuple[int, int]]:
    """Pair every guide layer with a target layer, in proportion to depth.

    Example:
        >>> paired_layers(4, 2), paired_layers(2, 3)
        ([(0, 0), (3, 1)], [(0, 0), (0, 1), (1, 2)])
    """
    return [(round(i * (target - 1) / max(1, guide - 1)), i) for i in range(guide)]


def unlikeness(target: Layers, guide: Layers) -> Float[Tensor, ""]:
    """Return the mean over paired layers of 1 - CKA, debiased; samples are positions of rows. 0 for equal layers."""
    pairs = paired_layers(len(target), len(guide))
    return torch.stack([1 - cka(target[t].flatten(0, 1), guide[g].flatten(0, 1)) for t, g in pairs]).mean()


def fit_guided(
    net: RecurrentNet | AttentionNet,
    task: Task,
    *,
    guide: RecurrentNet | AttentionNet | None = None,
    shuffled: bool = False,
    weight: float = 1.0,
    steps: int = 250,
    batch: int = 32,
    length: int = 8,
    rate: float = 3e-3,
    seed: int = 0,
) -> float:
    """Train a network in place, guided or not; those of one seed see the same batches.

    Args:
        guide: Frozen; drawn towards where it is given.
        shuffled: The guide reads the rows of the batch in another order: the control.

    Returns:
        The task's loss in the last step, in nats.
    """
    optimiser = torch.optim.Adam(net.parameters(), lr=rate)
    mixed = torch.Generator().manual_seed(seed)
    with torch.enable_grad():
        for step in range(steps):
            rows = sequence_rows(task, batch, length, seed=[seed, step, 20])
            layers = net.layers(rows.inputs)
            loss = F.cross_entropy(net.answer(layers).flatten(0, 1), rows.target.flatten(), ignore_index=-1)
            whole = loss
            if guide is not None:
                order = torch.randperm(batch, generator=mixed) if shuffled else torch.arange(batch)
                with torch.no_grad():
                    seen = guide.layers(rows.inputs[order])
                whole = loss + weight * unlikeness(layers, seen)
            optimiser.zero_grad()
            whole.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
    return float(loss.detach())


@torch.no_grad()
def right_share(net: RecurrentNet | AttentionNet, rows: SequenceRows) -> Float[np.ndarray, " row"]:
    """Return for each row which share of what is asked is answered rightly."""
    asked = rows.target >= 0
    right = (net.answer(net.layers(rows.inputs)).argmax(-1) == rows.target) & asked
    return (right.sum(1) / asked.sum(1)).double().numpy()
