"""Comparisons: models that differ in one thing, stepped side by side on the same batches from the same start."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.core.errors import OptionError, unknown
from workbench.core.progress import Progress, silent
from workbench.engine.threads import one_thread
from workbench.training.loop import Fit, fit
from workbench.training.mixers.lab import Lab, LabShape
from workbench.training.mixers.plugs import described
from workbench.training.schedule import adamw, mixed_optimisers


class AskedRows(Protocol):
    """Rows to learn from: inputs and, at each place where something is asked, the answer; -1 elsewhere."""

    @property
    def inputs(self) -> np.ndarray: ...

    @property
    def target(self) -> np.ndarray: ...


@dataclass(frozen=True, kw_only=True)
class LabComparison:
    """Arms that are trained alike, and what is drawn for them.

    Attributes:
        arms: Name -> shape. Weights that two arms have in common start equal and see the same batches.
        reference: The arm that has to learn the task before anything is compared with it.
        draw: ``(generator, rows) -> rows with inputs and target``; the same for every arm.
        learned: The accuracy from which the reference has learned it.
        muon: Matrices inside the layers by Muon and the rest by AdamW, in place of AdamW alone.
        cannot: What the trained models are not for, in words.
        start: Weights that every arm begins with, where it has them: a trained model that is tuned on.
    """

    name: str
    arms: Mapping[str, LabShape]
    reference: str
    draw: Callable[[np.random.Generator, int], AskedRows]
    steps: int
    batch: int = 32
    rate: float = 3e-3
    muon: bool = False
    learned: float = 0.9
    seeds: tuple[int, ...] = (0, 1)
    cannot: str = "anything but the rows that it was trained on"
    start: Callable[[int], Mapping[str, Tensor]] | None = None
    penalty: Callable[[Lab], Tensor] | None = None

    def __post_init__(self) -> None:
        if self.reference not in self.arms:
            raise unknown("arm", self.reference, self.arms, error=OptionError)
        if min(self.steps, self.batch, len(self.seeds)) < 1:
            raise OptionError(
                f"steps is {self.steps}, batch {self.batch}, seeds {self.seeds}; expected at least 1 "
                "step, 1 row and 1 seed",
                hint="steps=100, batch=16, seeds=(0, 1)",
            )

    def recipe(self) -> dict[str, Any]:
        """Return everything that decides the trained weights, seeds apart, as JSON values."""
        names = ("reference", "steps", "batch", "rate", "muon")
        parts = {name: described(getattr(self, name)) for name in ("draw", "start", "penalty")}
        arms = {name: shape.to_dict() for name, shape in self.arms.items()}
        return {"arms": arms, **{name: getattr(self, name) for name in names}, **parts}

    def begin(self, seed: int) -> nn.ModuleDict:
        """Return every arm at its start."""
        models = nn.ModuleDict({_key(name): Lab(shape, seed=seed) for name, shape in self.arms.items()})
        given = {} if self.start is None else self.start(seed)
        for model in models.values():
            own = model.state_dict()
            fitting = {name: value for name, value in given.items() if name in own}
            model.load_state_dict(own | fitting)
        return models


@dataclass(frozen=True, kw_only=True)
class TrainedArms:
    """What a comparison came to.

    Attributes:
        models: Seed -> arm -> trained model.
        fits: What each seed cost; empty where weights were loaded.
        shipped: Whether the weights are those that come with the workbench.
    """

    comparison: LabComparison
    models: Mapping[int, Mapping[str, Lab]]
    fits: Mapping[int, Fit] = field(default_factory=dict)
    shipped: bool = False

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(self.models)

    def right(self, arm: str, rows: AskedRows) -> Bool[np.ndarray, "seed question"]:
        """Say for each seed which questions an arm answers rightly, in the order of rows."""
        if arm not in self.comparison.arms:
            raise unknown("arm", arm, self.comparison.arms, error=OptionError)
        return np.stack([right_answers(models[arm], rows) for models in self.models.values()])

    def loss(self, arm: str, rows: AskedRows) -> Float[np.ndarray, "seed question"]:
        """Return for each seed the loss of every question, in nats."""
        return np.stack([losses(models[arm], rows) for models in self.models.values()])

    def learned(self, rows: AskedRows) -> list[bool]:
        """Say for each seed whether the reference arm learned the task."""
        found = self.right(self.comparison.reference, rows).mean(1)
        return (found >= self.comparison.learned).tolist()

    def why_not(self, rows: AskedRows) -> str:
        """Say why nothing can be compared with the reference, or nothing."""
        found = self.right(self.comparison.reference, rows).mean(1)
        if (found >= self.comparison.learned).all():
            return ""
        told = " and ".join(f"{share:.0%}" for share in found)
        return (
            f"{self.comparison.reference}, the reference, answers {told} of the questions rightly; "
            f"{self.comparison.learned:.0%} with every seed is asked for"
        )


def train(
    comparison: LabComparison,
    *,
    seeds: Sequence[int] = (),
    scratch: Path | None = None,
    checkpoint_every: int = 250,
    progress: Progress = silent,
) -> TrainedArms:
    """Train every arm of a comparison, side by side, on one thread.

    Args:
        seeds: Each has its own start and its own batches; by default those of the comparison.
        scratch: A folder for checkpoints, from which a killed training goes on.

    Returns:
        Trained models in evaluation mode, without gradients.
    """
    models: dict[int, dict[str, Lab]] = {}
    fits: dict[int, Fit] = {}
    with one_thread():
        for seed in seeds or comparison.seeds:
            arms = comparison.begin(seed)
            fits[seed] = _fit(comparison, arms, seed, scratch, checkpoint_every, progress)
            arms.requires_grad_(False).eval()
            models[seed] = {name: cast(Lab, arms[_key(name)]) for name in comparison.arms}
    return TrainedArms(comparison=comparison, models=models, fits=fits)


def _fit(
    comparison: LabComparison,
    arms: nn.ModuleDict,
    seed: int,
    scratch: Path | None,
    every: int,
    progress: Progress,
) -> Fit:
    """One seed: the sum of all losses gives each arm the gradient that it would have alone."""

    def loss_of_step(step: int) -> Tensor:
        rows = comparison.draw(np.random.default_rng([seed, step, 14]), comparison.batch)
        inputs, target = tensors_of(rows)
        progress(step + 1, comparison.steps, f"training {comparison.name}, seed {seed}")
        each = (loss_of(cast(Lab, arm), inputs, target, comparison.penalty) for arm in arms.values())
        return reduce(add, each)

    optimisers = [
        one
        for arm in arms.values()
        for one in (
            mixed_optimisers(arm, outer_lr=comparison.rate)
            if comparison.muon
            else [adamw(arm, lr=comparison.rate)]
        )
    ]
    return fit(
        arms,
        loss_of_step,
        optimisers=optimisers,
        steps=comparison.steps,
        warmup=min(50, comparison.steps // 4),
        each=list(arms.values()),
        tell=lambda line: None,
        checkpoint=None if scratch is None else scratch / f"{comparison.name}-{seed}.pt",
        checkpoint_every=every,
    )


def loss_of(arm: Lab, inputs: Tensor, target: Tensor, penalty: Callable[[Lab], Tensor] | None) -> Tensor:
    """Return the mean loss of what is asked, and the penalty of the arm."""
    loss = F.cross_entropy(arm(inputs).flatten(0, -2), target.flatten(), ignore_index=-1)
    return loss if penalty is None else loss + penalty(arm)


def tensors_of(rows: AskedRows) -> tuple[Tensor, Tensor]:
    """Return inputs (ids as integers, pixels as they are) and targets as tensors."""
    inputs = torch.from_numpy(np.ascontiguousarray(rows.inputs))
    kept = inputs.float() if inputs.is_floating_point() else inputs.long()
    return kept, torch.from_numpy(np.ascontiguousarray(rows.target)).long()


@torch.no_grad()
def answers(
    model: nn.Module, rows: AskedRows, *, batch: int = 256
) -> tuple[Float[Tensor, "question n_out"], Tensor]:
    """Return logits and answers of everything that is asked, in the order of rows."""
    inputs, target = tensors_of(rows)
    found = []
    for at in range(0, len(inputs), batch):
        logits, asked = model(inputs[at : at + batch]), target[at : at + batch] >= 0
        found.append(logits[asked])
    return torch.cat(found), target[target >= 0]


def right_answers(model: nn.Module, rows: AskedRows) -> Bool[np.ndarray, " question"]:
    """Say which questions a model answers rightly."""
    logits, target = answers(model, rows)
    return (logits.argmax(-1) == target).numpy()


def losses(model: nn.Module, rows: AskedRows) -> Float[np.ndarray, " question"]:
    """Return the loss of every question, in nats."""
    logits, target = answers(model, rows)
    return F.cross_entropy(logits, target, reduction="none").numpy()


def _key(name: str) -> str:
    """A name that a ``ModuleDict`` takes."""
    return name.replace(".", "·")
