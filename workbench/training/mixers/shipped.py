"""Trained arms that come with the workbench: weights in one safetensors file and a card, digests checked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from safetensors.torch import load, save

from workbench.core.atomic import write_atomic
from workbench.core.errors import ModelError
from workbench.core.progress import Progress, silent
from workbench.core.run_record import canonical_json
from workbench.core.strict_json import plain
from workbench.model.builtin import ZOO
from workbench.training.mixers.card import ARMS
from workbench.training.mixers.comparison import LabComparison, TrainedArms, train
from workbench.training.mixers.lab import Lab

HOME = ZOO / "lab"
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
    card_file, weights_file = files_of(comparison.name, home)
    hint = "train them: --retrain on the command line, retrain=True in Python"
    if not card_file.is_file() or not weights_file.is_file():
        raise ModelError(f"no trained arms of {comparison.name} in {home}", hint=hint)
    card = ARMS.load(card_file).content
    if canonical_json(card.recipe) != canonical_json(plain(comparison.recipe(), comparison.name)):
        raise ModelError(f"{card_file.name} is of another recipe than {comparison.name} has now", hint=hint)
    content = weights_file.read_bytes()
    if (found := hashlib.sha256(content).hexdigest()) != card.weights:
        raise ModelError(
            f"{weights_file.name} was changed: its digest is {found[:16]}, its card says {card.weights[:16]}",
            hint=ARMS.advice(str(weights_file)),
        )
    tensors = load(content)
    models: dict[int, dict[str, Lab]] = {}
    for seed in card.seeds:
        arms = comparison.begin(seed)
        models[seed] = dict(zip(comparison.arms, cast(Iterable[Lab], arms.values()), strict=True))
        for i, arm in enumerate(models[seed].values()):
            arm.load_state_dict(_under(f"{seed}/{i}/", tensors))
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
    content = save(tensors)
    card_file, weights_file = files_of(comparison.name, home)
    rows = comparison.draw(np.random.default_rng(CHECK_SEED), CHECKED)
    right = {name: arms.right(name, rows) for name in comparison.arms}
    card = {
        "name": comparison.name,
        "recipe": plain(comparison.recipe(), comparison.name),
        "seeds": list(arms.seeds),
        "weights": hashlib.sha256(content).hexdigest(),
        "retrain": retrain,
        "learned": {name: round(float(found.mean()), 4) for name, found in right.items()},
        "n": int(right[comparison.reference].size),
        "steps": comparison.steps,
        "core_seconds": round(sum(fit.core_seconds for fit in arms.fits.values()), 1),
        "parameters": sum(value.numel() for value in tensors.values()),
        "versions": {"torch": torch.__version__.split("+")[0]},
        "cannot": [comparison.cannot],
    }
    home.mkdir(parents=True, exist_ok=True)
    write_atomic(weights_file, content)
    ARMS.save(card, card_file)
    return weights_file


def files_of(name: str, home: Path) -> tuple[Path, Path]:
    """Return where the card and the weights of a comparison are."""
    return home / f"{name}.json", home / f"{name}.safetensors"


def _under(begin: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors whose names begin so, without the beginning."""
    return {name.removeprefix(begin): value for name, value in tensors.items() if name.startswith(begin)}
