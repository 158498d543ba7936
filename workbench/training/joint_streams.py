"""Painters of a picture and its depth, shipped or trained anew: ``python -m workbench.training.joint_streams``.

All arms begin as `zoo:painter` with one more vector, the label of depth, and are stepped side by side on the same
pictures, times and noise. They differ in what is added to the loss.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from workbench.core.progress import Progress, silent
from workbench.heads.map_consistency import map_consistency
from workbench.model.builtin import ZOO
from workbench.model.flow_painter.joint import (
    JointPainter,
    joint_from,
    joint_word_maps,
    paint_joint,
    predict_joint,
)
from workbench.model.flow_painter.model import PainterModel
from workbench.model.flow_painter.sample import from_pixels
from workbench.tasks.canvas.captions import word_numbers
from workbench.tasks.canvas.flat_shapes import Drawing, Item, draw_many
from workbench.tasks.canvas.picture_reader import judge, read_picture
from workbench.training.flow_painter import EMPTY, Teaching, optimisers
from workbench.training.loop import Fit, fit
from workbench.training.mixers.kept_weights import HOME, keep_weights, parts_under, read_weights

JointArm = Literal["no consistency loss", "consistency loss", "another caption's maps"]
ARMS: tuple[JointArm, ...] = get_args(JointArm)
NAME, SEEDS = "joint-streams", (541, 542)
CANNOT = "captions of another form; its depth is what this world calls so: objects further down are nearer"


@dataclass(frozen=True, kw_only=True)
class JointTuning:
    """How the arms are trained, beside seed and start."""

    steps: int = 240
    batch: int = 16
    weight: float = 0.05  # of the loss about maps, in nats
    inner_rate: float = 0.01
    outer_rate: float = 1e-3


TUNING = JointTuning()


def loss_of(
    arm: JointArm, model: JointPainter, drawings: Sequence[Drawing], *, seed: int, weight: float
) -> Tensor:
    """Return the mean square between predicted and clean streams, and what the arm adds to it."""
    generator = torch.Generator().manual_seed(seed)
    clean = streams_of(drawings)
    words = torch.from_numpy(word_numbers([each.items for each in drawings]))
    t = torch.rand(len(clean), generator=generator)
    left_out = torch.rand(len(clean), generator=generator) < EMPTY
    x = torch.lerp(torch.randn(clean.shape, generator=generator), clean, t[:, None, None, None, None])
    words = torch.where(left_out[:, None], 0, words)
    if arm == "no consistency loss":
        return (predict_joint(model, x, t, words) - clean).square().mean()
    maps: list[Tensor] = []
    with joint_word_maps(model, maps):
        loss = (predict_joint(model, x, t, words) - clean).square().mean()
    picture, depth = torch.stack(maps, 1).unbind(2)  # (row, layer, head, patch, word)
    own = picture if arm == "consistency loss" else picture.roll(1, 0)
    return loss + weight * map_consistency(own, depth).mean()


def streams_of(drawings: Sequence[Drawing]) -> Float[Tensor, "row stream 3 side side"]:
    """Return pictures and depths as the painter reads them."""
    pictures = torch.from_numpy(np.stack([drawing.pixels for drawing in drawings]))
    depths = torch.from_numpy(np.stack([drawing.depth for drawing in drawings]))
    return torch.stack([from_pixels(pictures), from_pixels(depths[..., None].expand_as(pictures))], 1)


def train_joint(
    start: PainterModel,
    *,
    seed: int,
    tuning: JointTuning = TUNING,
    arms: Sequence[JointArm] = ARMS,
    scratch: Path | None = None,
) -> tuple[dict[JointArm, JointPainter], Fit]:
    """Train every arm from the same painter on the same pictures.

    Returns:
        Arm -> the running mean of its weights, in evaluation mode; and what it cost.
    """
    taught = nn.ModuleList(Teaching(joint_from(start, seed=seed)) for _ in arms)
    models = [cast(JointPainter, each.model) for each in taught]

    def loss_of_step(step: int) -> Tensor:
        drawings = draw_many(seed, range(step * tuning.batch, (step + 1) * tuning.batch))
        for each in taught:
            cast(Teaching, each).follow(step)
        how: dict[str, Any] = {"seed": seed * 1_000_003 + step, "weight": tuning.weight}
        return reduce(
            add, (loss_of(arm, model, drawings, **how) for arm, model in zip(arms, models, strict=True))
        )

    found = fit(
        taught,
        loss_of_step,
        optimisers=[
            each
            for model in models
            for each in optimisers(model, lr=tuning.inner_rate, outer=tuning.outer_rate)
        ],
        steps=tuning.steps,
        warmup=50,
        decay=0.7,
        each=models,
        checkpoint=None if scratch is None else scratch / f"joint-{seed}-{tuning.steps}.pt",
        checkpoint_every=50,
    )
    made: dict[JointArm, JointPainter] = {}
    for arm, each in zip(arms, taught, strict=True):
        cast(Teaching, each).follow(found.steps)
        made[arm] = cast(JointPainter, each.mean).requires_grad_(False).eval()
    return made, found


JointArms = dict[int, dict[JointArm, JointPainter]]
CHECKED, CHECK_SEED = 16, 987_001  # captions behind the shares of a card, which no paper paints


def recipe(tuning: JointTuning = TUNING) -> dict[str, Any]:
    """Return everything that decides the weights, seeds and the library's version apart."""
    return {"start": "zoo:painter", "arms": list(ARMS), "empty captions": EMPTY, **asdict(tuning)}


def joint_arms(
    *,
    retrain: bool = False,
    seeds: Sequence[int] = SEEDS,
    tuning: JointTuning = TUNING,
    scratch: Path | None = None,
    progress: Progress = silent,
    home: Path = HOME,
) -> JointArms:
    """Return the arms by seed: those that are shipped, or trained anew.

    Raises:
        ModelError: if none are shipped, their recipe is another, or a file is not as it was written.
    """
    if not retrain:
        return read_joint(tuning, home)
    start = PainterModel.from_pretrained(ZOO / "painter")
    made: JointArms = {}
    for i, seed in enumerate(seeds):
        made[seed], _ = train_joint(start, seed=seed, tuning=tuning, scratch=scratch)
        progress(i + 1, len(seeds), f"training two streams, seed {seed}")
    return made


def keep_joint(
    arms: JointArms, *, tuning: JointTuning = TUNING, core_seconds: float = 0.0, home: Path = HOME
) -> Path:
    """Write trained arms with their card; the shares in it are of pictures whose objects are all as asked."""
    tensors = {
        f"{seed}/{i}/{name}": value.contiguous().half()  # half the size; read back as float32
        for seed, models in arms.items()
        for i, model in enumerate(models.values())
        for name, value in model.state_dict().items()
    }
    asked = [drawing.items for drawing in draw_many(CHECK_SEED, range(CHECKED), objects=2)]
    right = {arm: [_right(models[arm], asked) for models in arms.values()] for arm in ARMS}
    return keep_weights(
        NAME,
        tensors,
        recipe=recipe(tuning),
        seeds=list(arms),
        home=home,
        retrain="python -m workbench.training.joint_streams",
        learned={arm: round(float(np.mean(found)), 4) for arm, found in right.items()},
        n=CHECKED,
        steps=tuning.steps,
        core_seconds=round(core_seconds, 1),
        cannot=[CANNOT],
    )


def read_joint(tuning: JointTuning = TUNING, home: Path = HOME) -> JointArms:
    """Return arms that were kept.

    Raises:
        ModelError: if there are none, their recipe is another, or a file is not as it was written.
    """
    card, tensors = read_weights(NAME, recipe(tuning), home)
    made: JointArms = {}
    for seed in card.seeds:
        for i, arm in enumerate(ARMS):
            model = JointPainter()
            model.load_state_dict(parts_under(f"{seed}/{i}/", tensors))
            made.setdefault(seed, {})[arm] = model.requires_grad_(False).eval()
    return made


def _right(model: JointPainter, asked: Sequence[Sequence[Item]]) -> float:
    pictures = paint_joint(model, asked, seed=CHECK_SEED).pictures.numpy()
    seen = (read_picture(each) for each in pictures)
    return float(np.mean([judge(one, each).binding for one, each in zip(seen, asked, strict=True)]))


def main() -> None:
    """Train, keep and say where."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HOME, help="the folder of weights and card")
    parser.add_argument(
        "--scratch", type=Path, help="a folder for checkpoints, from which a killed run goes on"
    )
    asked = parser.parse_args()
    start, arms, cores = PainterModel.from_pretrained(ZOO / "painter"), {}, 0.0
    for seed in SEEDS:
        arms[seed], found = train_joint(start, seed=seed, scratch=asked.scratch)
        cores += found.core_seconds
    print(f"wrote {keep_joint(arms, core_seconds=cores, home=asked.out)}")


if __name__ == "__main__":
    main()
