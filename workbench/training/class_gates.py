"""Gates of channels that come from what class a clip seems to be of, for finding an action in time.

``gate = 2 sigmoid(sum_c (p_c - 1/C) w_c)``: ``p`` is what class the whole clip seems to be of. An even ``p`` leaves all
channels as they are. Squeeze and excitation takes the mean of the channels in place of ``p``.

Source:
    Class Semantics-based Attention for Action Detection, 2021 (a summary was read).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from workbench.core.errors import OptionError, unknown
from workbench.heads.attentive_probe import patch_features
from workbench.heads.drawn_pictures import draw_pictures
from workbench.heads.segments import best_segment, segment_overlap
from workbench.tasks.scenes.action_clips import CHANGES, ActedClips, act_out
from workbench.tasks.scenes.layout import SceneLayout, World

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

HIDDEN, SQUEEZED = 48, 8
Gate = Literal["none", "excitation", "class", "both"]


class ClassGate(nn.Module):
    """A gate for every channel from a distribution over classes.

    Example:
        >>> gate = ClassGate(4, 3)
        >>> gate(torch.full((1, 4), 0.25)).tolist()
        [[1.0, 1.0, 1.0]]
    """

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.randn(classes, channels))

    def forward(self, shares: Float[Tensor, "clip class"]) -> Float[Tensor, "clip channel"]:
        """Return the gates, 0 to 2."""
        return 2 * ((shares - 1 / shares.shape[-1]) @ self.weights).sigmoid()


class ActionFinder(nn.Module):
    """Says for every frame of a clip which action goes on, or none.

    Args:
        width: Of the features of a frame.
        gate: What gates its channels.
    """

    def __init__(self, width: int, gate: Gate) -> None:
        super().__init__()
        if gate not in get_args(Gate):
            raise unknown("gate", gate, get_args(Gate), error=OptionError)
        self.read = nn.Conv1d(width, HIDDEN, 3, padding=1)
        self.say = nn.Conv1d(HIDDEN, len(CHANGES) + 1, 3, padding=1)
        self.classify = nn.Linear(HIDDEN, len(CHANGES))
        self.by_class = ClassGate(len(CHANGES), HIDDEN) if gate in ("class", "both") else None
        squeeze = nn.Sequential(nn.Linear(HIDDEN, SQUEEZED), nn.GELU(), nn.Linear(SQUEEZED, HIDDEN))
        self.by_mean = squeeze if gate in ("excitation", "both") else None

    def forward(
        self, frames: Float[Tensor, "clip frame d"]
    ) -> tuple[Float[Tensor, "clip frame action"], Float[Tensor, "clip class"]]:
        """Return the scores of every frame, that of nothing last, and what the whole clip seems to be of."""
        held = nn.functional.gelu(self.read(frames.transpose(1, 2)))
        mean = held.mean(-1)
        whole = self.classify(mean)
        if self.by_class is not None:
            held = held * self.by_class(whole.softmax(-1))[..., None]
        if self.by_mean is not None:
            held = held * (2 * self.by_mean(mean).sigmoid())[..., None]
        return self.say(held).transpose(1, 2), whole


@dataclass(frozen=True, eq=False)
class ClipFrames:
    """Clips as features of frames, with what happens in each.

    Attributes:
        frames: Mean of the patches of each frame, and the mean of how much each channel changed since the one before.
        labels: Action of each frame; the last class is nothing.
        clips: Actions, with their first and last frames.
    """

    frames: Float[Tensor, "clip frame d"]
    labels: Int[Tensor, "clip frame"]
    clips: ActedClips


def draw_clips(
    model: TransformerBridge, world: World, *, n: int, frames: int, seed: int, layer: int
) -> ClipFrames:
    """Draw clips in which an object does something for a while, as features of a model's patches.

    Args:
        n: How many clips.
        frames: Of a clip.
        layer: After which patches are read.

    Raises:
        ModelError: for a model that reads no pictures.
    """
    made: list[ActedClips] = []

    def acted(layout: SceneLayout) -> tuple[SceneLayout, Bool[np.ndarray, " picture"]]:
        laid, clips = act_out(layout, frames=frames, seed=seed)
        made.append(clips)
        return laid, np.ones(len(laid), dtype=bool)

    shown = draw_pictures(model, world, n=n * frames, seed=seed, change=acted)
    patches = patch_features(model, shown, layer).unflatten(0, (n, frames))
    moved = torch.zeros_like(patches)
    moved[:, 1:] = (patches[:, 1:] - patches[:, :-1]).abs()
    whole = torch.cat([patches.mean(2), moved.mean(2)], -1)
    [clips] = made
    return ClipFrames(whole, torch.as_tensor(clips.labels(frames), device=whole.device), clips)


def scaled_frames(clips: Sequence[ClipFrames]) -> list[Float[Tensor, "clip frame d"]]:
    """Return the frames of all, with the mean and spread that the first have turned to 0 and 1."""
    mean, spread = clips[0].frames.mean((0, 1)), clips[0].frames.std((0, 1)).clamp(min=1e-6)
    return [(each.frames - mean) / spread for each in clips]


def action_loss(
    arm: ActionFinder,
    frames: Float[Tensor, "clip frame d"],
    labels: Int[Tensor, "clip frame"],
    action: Int[Tensor, " clip"],
) -> Float[Tensor, ""]:
    """Return the mean loss of all frames and of the whole clip, in nats.

    Args:
        action: Class of the whole clip, on which its class gate rests.
    """
    said, whole = arm(frames)
    return cross_entropy(said.flatten(0, 1), labels.flatten()) + cross_entropy(whole, action)


@torch.no_grad()
def found_actions(
    arm: ActionFinder, frames: Float[Tensor, "clip frame d"], clips: ActedClips, *, overlap: float = 0.5
) -> Float[np.ndarray, " clip"]:
    """Return 1 for each clip whose action is named and overlaps by at least so much in time, else 0.

    The action is the one with the best segment: the frames where it exceeds nothing most, summed.
    """
    said = arm(frames)[0].double().cpu().numpy()
    apart = said[..., :-1] - said[..., -1:]
    hits = []
    for one, action, start, end in zip(apart, clips.action, clips.start, clips.end, strict=True):
        segments = [best_segment(scores) for scores in one.T]
        sums = [scores[a:b].sum() for scores, (a, b) in zip(one.T, segments, strict=True)]
        best = int(np.argmax(sums))
        hits.append(best == action and segment_overlap(segments[best], (int(start), int(end))) >= overlap)
    return np.array(hits, dtype=float)


@torch.no_grad()
def gates_of(arm: ActionFinder, frames: Float[Tensor, "clip frame d"]) -> Float[np.ndarray, "clip channel"]:
    """Return how far the class of each clip gates every channel, 0 to 2.

    Raises:
        OptionError: for a finder that has no gate from the class.
    """
    if arm.by_class is None:
        raise OptionError("this finder has no gate from the class", hint="ActionFinder(width, 'class')")
    return arm.by_class(arm(frames)[1].softmax(-1)).double().cpu().numpy()
