"""Trained weights beside their card: written together, read once recipe and digest are checked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from workbench.core.atomic import write_atomic
from workbench.core.errors import ModelError
from workbench.core.run_record import canonical_json
from workbench.core.strict_json import plain
from workbench.model.builtin import ZOO
from workbench.training.mixers.card import ARMS, ArmsContent

HOME = ZOO / "lab"
HINT = "train them: --retrain on the command line, retrain=True in Python"


def files_of(name: str, home: Path = HOME) -> tuple[Path, Path]:
    """Return where the card and the weights of a comparison are."""
    return home / f"{name}.json", home / f"{name}.safetensors"


def read_weights(
    name: str, recipe: Mapping[str, Any], home: Path = HOME
) -> tuple[ArmsContent, dict[str, Tensor]]:
    """Return a card and its weights.

    Raises:
        ModelError: if there are none, their recipe is another, or a file is not as it was written.
    """
    card_file, weights_file = files_of(name, home)
    if not card_file.is_file() or not weights_file.is_file():
        raise ModelError(f"no trained arms of {name} in {home}", hint=HINT)
    card = ARMS.load(card_file).content
    if canonical_json(card.recipe) != canonical_json(plain(dict(recipe), name)):
        raise ModelError(f"{card_file.name} is of another recipe than {name} has now", hint=HINT)
    content = weights_file.read_bytes()
    if (found := hashlib.sha256(content).hexdigest()) != card.weights:
        raise ModelError(
            f"{weights_file.name} was changed: its digest is {found[:16]}, its card says {card.weights[:16]}",
            hint=ARMS.advice(str(weights_file)),
        )
    return card, load(content)


def keep_weights(
    name: str,
    tensors: Mapping[str, Tensor],
    *,
    recipe: Mapping[str, Any],
    seeds: Sequence[int],
    home: Path = HOME,
    **told: Any,
) -> Path:
    """Write weights and their card.

    Args:
        told: The card's other fields: ``retrain``, ``learned``, ``n``, ``steps``, ``core_seconds``, ``cannot``.

    Returns:
        The file of weights.
    """
    content = save(dict(tensors))
    card_file, weights_file = files_of(name, home)
    card = {
        "name": name,
        "recipe": plain(dict(recipe), name),
        "seeds": list(seeds),
        "weights": hashlib.sha256(content).hexdigest(),
        "parameters": sum(value.numel() for value in tensors.values()),
        "versions": {"torch": torch.__version__.split("+")[0]},
        **told,
    }
    home.mkdir(parents=True, exist_ok=True)
    write_atomic(weights_file, content)
    ARMS.save(card, card_file)
    return weights_file


def parts_under(begin: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin so, without the beginning."""
    return {name.removeprefix(begin): value for name, value in tensors.items() if name.startswith(begin)}
