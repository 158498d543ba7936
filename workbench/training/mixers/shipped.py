"""Trained arms that come with the workbench: weights in one safetensors file and a card, digests checked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import cast

import numpy as np

from workbench.core.errors import ModelError
from workbench.core.progress import Progress, silent
from workbench.training.mixers.comparison import LabComparison, TrainedArms, train
from workbench.training.mixers.kept_weights import HOME, keep_weights, parts_under, read_weights
from workbench.training.mixers.lab import Lab

CHECKED = 512  # rows behind the accuracies of a card
CHECK_SEED = 987_001  # rows that no paper measures


def trained(
    comparison: LabComparison,
    *,
    retrain: bool = False,
    seeds: Sequence[int] = (),
    scratch: Path | None = None,
    progress: Progress = silent,
    home: Path = HOME,
) -> TrainedArms:
    """Return the trained arms of a comparison: those that are shipped, or trained anew.

    Args:
        retrain: Train anew, with these seeds.
        seeds: By default those of the comparison; shipped arms have no others.

    Raises:
        ModelError: if none are shipped, their recipe is another, or a file is not as it was written.
    """
    if retrain:
        return train(comparison, seeds=seeds, scratch=scratch, progress=progress)
    if seeds and tuple(seeds) != comparison.seeds:
        raise ModelError(
            f"arms of {comparison.name} are shipped with seeds {comparison.seeds}, not {tuple(seeds)}",
            hint="train them: retrain=True",
        )
    return read_arms(comparison, home)


def read_arms(comparison: LabComparison, home: Path = HOME) -> TrainedArms:
    """Return arms that were kept, once recipe and digests are checked.

    Raises:
        ModelError: if there are none, their recipe is another, or a file is not as it was written.
    """
    card, tensors = read_weights(comparison.name, comparison.recipe(), home)
    models: dict[int, dict[str, Lab]] = {}
    for seed in card.seeds:
        arms = comparison.begin(seed)
        models[seed] = dict(zip(comparison.arms, cast(Iterable[Lab], arms.values()), strict=True))
        for i, arm in enumerate(models[seed].values()):
            arm.load_state_dict(parts_under(f"{seed}/{i}/", tensors))
        arms.requires_grad_(False).eval()
    return TrainedArms(comparison=comparison, models=models, shipped=True)


def keep_arms(arms: TrainedArms, *, retrain: str, home: Path = HOME) -> Path:
    """Write weights and card of trained arms.

    Args:
        retrain: What to type to train them again.

    Returns:
        The file of weights.
    """
    comparison = arms.comparison
    tensors = {
        f"{seed}/{i}/{name}": value.contiguous().clone()
        for seed, models in arms.models.items()
        for i, model in enumerate(models.values())
        for name, value in model.state_dict().items()
    }
    rows = comparison.draw(np.random.default_rng(CHECK_SEED), CHECKED)
    right = {name: arms.right(name, rows) for name in comparison.arms}
    return keep_weights(
        comparison.name,
        tensors,
        recipe=comparison.recipe(),
        seeds=arms.seeds,
        home=home,
        retrain=retrain,
        learned={name: round(float(found.mean()), 4) for name, found in right.items()},
        n=int(right[comparison.reference].size),
        steps=comparison.steps,
        core_seconds=round(sum(fit.core_seconds for fit in arms.fits.values()), 1),
        cannot=[comparison.cannot],
    )
