"""A policy that chooses a region of a picture before a model answers, trained by the reward of the answer alone.

The policy sees what the model reads of the patches and of the question. It draws a region; the model is shown that
region enlarged; a right answer is the reward (REINFORCE, with the mean reward of the batch as baseline). No box and no
mask is used in training.

Source:
    VisRL: Intention-Driven Visual Perception via Reinforced Reasoning, 2025 (a summary was read); Williams 1992.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from workbench.heads.asked_pictures import AskedPictures
from workbench.heads.crops import Window, window_masks
from workbench.heads.enlarging import Enlarging
from workbench.heads.grid_maps import Size
from workbench.model.hooks import hook_name
from workbench.model.probe import record
from workbench.training.side_by_side import step_alike

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

WIDTH = 32
SPREAD = 0.02  # weight of the entropy of the choice: without it a policy settles on what was lucky first


def every_window(grid: Size, size: Size) -> list[Window]:
    """List every place of a window on a grid of patches.

    Example:
        >>> len(every_window((6, 6), (3, 3)))
        16
    """
    return [Window(r, c, *size) for r in range(grid[0] - size[0] + 1) for c in range(grid[1] - size[1] + 1)]


@dataclass(frozen=True, eq=False)
class RegionGame:
    """Questions about pictures, what a policy sees of them, and what each region would bring.

    Attributes:
        patches, words: What the model reads: of each patch, and of the words of the question, their mean.
        rewards: 1 where the answer is right when that window is shown, else 0.
        holds: Whether the window holds every patch of the asked object: for judging, never for training.
        masks: The patches of every window.
    """

    patches: Float[Tensor, "question patch d"]
    words: Float[Tensor, "question d"]
    rewards: Float[Tensor, "question window"]
    holds: Bool[np.ndarray, "question window"]
    masks: Bool[np.ndarray, "window row column"]


def play(
    model: TransformerBridge,
    asked: AskedPictures,
    size: Size,
    *,
    told: Callable[[int, int], None] = lambda i, n: None,
) -> RegionGame:
    """Show a model every window of every picture, enlarged, and keep which answers are right.

    Args:
        size: Of a window, in patches; it divides the grid.
        told: Called with how many windows are done, and of how many.
    """
    windows, again = every_window(asked.grid, size), Enlarging(model=model, asked=asked)
    rewards = []
    for i, window in enumerate(windows, start=1):
        rewards.append(again.cropped([window] * len(asked)))
        told(i, len(windows))
    name = hook_name("resid", 0)
    read = record(model, asked.prompt, [name], last_only=True)[1][name]
    masks = window_masks(windows, asked.grid)
    own = asked.own.reshape(len(asked), 1, -1)
    return RegionGame(
        patches=read[:, list(asked.image)],
        words=read[:, list(asked.question)].mean(1),
        rewards=torch.as_tensor(np.stack(rewards, axis=1)).to(read),
        holds=np.asarray((own <= masks.reshape(1, len(windows), -1)).all(-1)),
        masks=masks,
    )


class RegionPolicy(nn.Module):
    """Scores of windows: each patch is compared with the question, a window has the sum of its patches.

    Args:
        width: Of what the model reads of a patch or word.
        masks: The patches of every window.
    """

    masks: Tensor

    def __init__(self, width: int, masks: Bool[np.ndarray, "window row column"]) -> None:
        super().__init__()
        self.even = nn.LayerNorm(width, elementwise_affine=False)
        self.patch = nn.Sequential(nn.Linear(width, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH))
        self.word = nn.Linear(width, WIDTH)
        flat = torch.as_tensor(masks.reshape(len(masks), -1)).float()
        self.register_buffer("masks", flat, persistent=False)

    def forward(
        self, patches: Float[Tensor, "question patch d"], words: Float[Tensor, "question d"]
    ) -> Float[Tensor, "question window"]:
        """Return the scores of all windows."""
        score = (
            torch.einsum("qpw,qw->qp", self.patch(self.even(patches)), self.word(self.even(words)))
            / WIDTH**0.5
        )
        return score @ self.masks.T


def reinforce(
    arms: Mapping[str, nn.Module],
    inputs: Sequence[Tensor],
    rewards: Mapping[str, Float[Tensor, "item choice"]],
    *,
    steps: int,
    batch: int = 128,
    rate: float = 3e-3,
    seed: int = 0,
) -> None:
    """Train policies in place by reward alone, side by side on the same items; they end in evaluation mode.

    Args:
        arms: From ``inputs`` to a score for every choice.
        inputs: Each with one row per item.
        rewards: Of each arm; only those of the choices that are drawn are looked at.
    """
    drawn = {name: torch.Generator().manual_seed(seed) for name in arms}

    def loss(name: str, arm: nn.Module, items: Int[Tensor, " item"]) -> Tensor:
        logs = arm(*(each[items] for each in inputs)).log_softmax(-1)
        choice = torch.multinomial(logs.detach().exp(), 1, generator=drawn[name])
        reward = rewards[name][items].gather(1, choice)[:, 0]
        gain = (reward - reward.mean()) * logs.gather(1, choice)[:, 0]
        entropy = -(logs.exp() * logs).sum(-1)
        return -(gain + SPREAD * entropy).mean()

    step_alike(arms, loss, items=len(inputs[0]), steps=steps, batch=batch, rate=rate, seed=seed)


@torch.no_grad()
def chosen(arm: nn.Module, *inputs: Tensor) -> Int[np.ndarray, " item"]:
    """Return the best choice of a policy for every item."""
    return arm(*inputs).argmax(-1).cpu().numpy()
