"""What a recipe is, and making a model directory from one: train, save, open again, measure, write the card."""

from __future__ import annotations

import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import torch
import transformers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from workbench.circuits.circuit import Circuit
from workbench.circuits.files import save_circuit
from workbench.core.errors import OptionError
from workbench.model.card import CARD, FILE_NAME
from workbench.model.native import read_weights, write_native
from workbench.model.open import open_model
from workbench.training.loop import Fit


@dataclass(frozen=True, kw_only=True)
class CardNumber:
    """One number of a card.

    Args:
        name: What was measured, in words; unique within a card.
        value: The number.
        n: Prompts, tokens or sequences behind it.
        unit: ``accuracy`` (share of prompts), ``nats``, ``attention`` (share), ``logits`` ...
        needs: The card counts it among what the model can do from this value on (up to this value if
            ``lower_is_better``), otherwise among what it cannot; None for plain descriptions.
    """

    name: str
    value: float
    n: int
    unit: str = "accuracy"
    needs: float | None = None
    lower_is_better: bool = False

    @property
    def holds(self) -> bool:
        """Whether the number is good enough."""
        if self.needs is None:
            return True
        return self.value <= self.needs if self.lower_is_better else self.value >= self.needs

    def __str__(self) -> str:
        return f"{self.name}: {self.value:.3f} {self.unit} (n = {self.n:,})"


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What came out of training: a Hugging Face model, or a native configuration with weights.

    ``circuit`` is the true circuit, where it is known by construction; ``beside`` are further JSON files by name.
    """

    tokenizer: PreTrainedTokenizerFast | None = None
    phases: Mapping[str, Fit]
    model: PreTrainedModel | None = None
    native: tuple[Mapping[str, object], Mapping[str, torch.Tensor]] | None = None
    data: Mapping[str, object] = field(default_factory=dict)
    circuit: Circuit | None = None
    beside: Mapping[str, Mapping[str, object]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe:
    """How a built-in model is made and what is measured on it.

    Args:
        train: ``(seed, scratch)`` to the trained model; ``scratch`` is a folder for checkpoints from which a
            killed run goes on, or None.
        measure: The numbers of the card, from the opened model alone.
        opens: How the saved directory is opened to be measured; models that see are measured as plain transformers.
        held_out: What training never saw, per claim or in general.
        limits: What the model is not for, whatever the numbers say.
    """

    name: str
    title: str
    what: str
    train: Callable[[int, Path | None], Trained]
    measure: Callable[[Any], list[CardNumber]]
    held_out: Mapping[str, str]
    limits: tuple[str, ...] = ()
    source: str = ""
    seed: int = 0
    opens: Callable[[Path], Any] = open_model


def make(
    recipe: TrainingRecipe, directory: Path, *, seed: int | None = None, scratch: Path | None = None
) -> dict[str, object]:
    """Train, save, open, measure and write the card; the directory appears whole or not at all.

    Returns:
        The card.
    """
    torch.set_num_threads(1)  # the sums of several threads come in another order each time
    seed = recipe.seed if seed is None else seed
    trained = recipe.train(seed, scratch)
    directory.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{recipe.name}-", dir=directory.parent))
    try:
        save(trained, building)
        card = card_of(recipe, trained, building, seed=seed)
        CARD.save(card, building / FILE_NAME)
        building.chmod(0o755)
        for path in building.iterdir():
            path.chmod(0o644)
        if directory.exists():
            shutil.rmtree(directory)
        os.replace(building, directory)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return card


def measure_again(recipe: TrainingRecipe, directory: Path) -> dict[str, object]:
    """Write a model's card anew: its numbers and the recipe's words; seed, steps and wall time stay."""
    old = msgspec.to_builtins(CARD.load(directory / FILE_NAME).content)
    card = old | words_and_numbers(recipe, directory)
    CARD.save(card, directory / FILE_NAME)
    return card


def save(trained: Trained, directory: Path) -> None:
    """Write weights, configuration, tokenizer and, where it is known, the true circuit."""
    if trained.model is not None:
        trained.model.config.architectures = [type(trained.model).__name__]
        trained.model.save_pretrained(directory)
    elif trained.native is not None:
        config, weights = trained.native
        write_native(config, weights, directory)
    else:
        raise OptionError(
            "training returned neither a model nor a native configuration with weights",
            hint="return Trained(model=..., tokenizer=...) or Trained(native=(config, weights), tokenizer=...)",
        )
    if trained.tokenizer is not None:
        trained.tokenizer.save_pretrained(directory)
    for name, content in trained.beside.items():
        (directory / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if trained.circuit is not None:
        save_circuit(trained.circuit, directory / "circuit.json")


def card_of(recipe: TrainingRecipe, trained: Trained, directory: Path, *, seed: int) -> dict[str, object]:
    """Return the card of a saved model, measured on the weights as they were written."""
    card: dict[str, object] = {
        "name": recipe.name,
        "title": recipe.title,
        "what": recipe.what,
        "recipe": f"python -m workbench.training {recipe.name} --seed {seed}",
        "source": recipe.source,
        "seed": seed,
        "steps": {name: phase.steps for name, phase in trained.phases.items()},
        "wall_seconds": round(sum(phase.seconds for phase in trained.phases.values()), 1),
        "machine": machine(),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    return card | words_and_numbers(recipe, directory) | {"data": dict(trained.data)}


def words_and_numbers(recipe: TrainingRecipe, directory: Path) -> dict[str, object]:
    """Say what a card says of a saved model itself: sizes, measurements, and what follows from them."""
    measured = recipe.measure(recipe.opens(directory))
    judged = [m for m in measured if m.needs is not None]
    files = [path for path in directory.iterdir() if path.name != FILE_NAME]
    return {
        "title": recipe.title,
        "what": recipe.what,
        "source": recipe.source,
        "parameters": sum(tensor.numel() for tensor in read_weights(directory).values()),
        "bytes": sum(path.stat().st_size for path in files),
        "measured": {m.name: round(m.value, 4) for m in measured},
        "counts": {m.name: m.n for m in measured},
        "units": {m.name: m.unit for m in measured},
        "can": [str(m) for m in judged if m.holds],
        "cannot": [f"{m} - below what it would take ({m.needs})" for m in judged if not m.holds]
        + [*recipe.limits],
        "held_out": dict(recipe.held_out),
    }


def sentences(card: Mapping[str, Any], which: Literal["can", "cannot"]) -> list[str]:
    """Return what a card says that its model can do, or cannot, one sentence each."""
    return list(card[which])


def machine() -> str:
    """Processor and thread count, as the card states them."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = lines[0].split(":", 1)[1].strip() if lines else name
    return f"{name}, {torch.get_num_threads()} thread, other work beside it"
