"""The first phase of most recipes: repeated random words, until the copying circuit is there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel

from workbench.training.loop import Fit, fit
from workbench.training.repeats import copying_accuracy, copying_loss, repeated
from workbench.training.schedule import mixed_optimisers


def learn_to_copy(
    model: PreTrainedModel,
    tokens: np.ndarray,
    *,
    seed: int,
    steps: int,
    until: float,
    checkpoint: Path | None = None,
) -> Fit:
    """Train on repeated random words until the copying accuracy reaches ``until``."""

    def accuracy() -> float:
        return copying_accuracy(
            lambda ids: model(ids).logits, tokens, n=64, length=47, periods=(6, 24), seed=seed
        )

    def loss_of_step(step: int) -> Tensor:
        rng = np.random.default_rng([seed, len(tokens), step])
        ids, known = repeated(rng, tokens, n=64, length=47, periods=(6, 24))
        return copying_loss(model(ids).logits, ids, known)

    return fit(
        model, loss_of_step, optimisers=mixed_optimisers(model), steps=steps, warmup=50, decay=0.0, every=25,
        watch=lambda step: f"copies {accuracy():.3f}", stop=lambda step: accuracy() >= until, checkpoint=checkpoint,
    )  # fmt: skip
