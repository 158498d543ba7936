"""`trained-addition`: the sum of two digits modulo ten, learned through a circuit that was chosen beforehand."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from workbench.tasks.addition import DIGITS, LENGTH
from workbench.training.interchange import Algorithm, Curriculum, NetworkSizes
from workbench.training.trained_circuit import trained_recipe
from workbench.training.truth_recipe import task_words
from workbench.training.vocabulary import BOS, N_SPECIAL

N = 10
FETCH, LOOK_UP = "a0.h1", "m1"
CONTENT = (f"input->{FETCH}<v>", f"{FETCH}->{LOOK_UP}", f"input->{LOOK_UP}", f"{LOOK_UP}->logits")
SUPPORTING = (f"input->{FETCH}<q>", f"input->{FETCH}<k>")
WORDS = task_words("addition")
SIZES = NetworkSizes(d_vocab=N_SPECIAL + len(WORDS), n_ctx=LENGTH + 1)
OFFSET = N_SPECIAL + WORDS.index(DIGITS[0])  # the ten digits follow each other: they sort as numbers do


def draw(rng: np.random.Generator, n: int) -> Tensor:
    """Draw six digits after the first token."""
    digits = torch.from_numpy(rng.integers(N, size=(n, LENGTH))) + OFFSET
    return torch.cat([torch.full((n, 1), BOS), digits], dim=1)


def total(first: Tensor, second: Tensor) -> Tensor:
    """Return the token of the sum, modulo ten."""
    return (first[:, -2] + second[:, -1] - 2 * OFFSET) % N + OFFSET


ALGORITHM = Algorithm(
    draw=draw,
    answer=lambda base: total(base, base),
    content=CONTENT,
    supporting=SUPPORTING,
    swaps={
        CONTENT[0]: lambda base, source: total(source, base),
        CONTENT[1]: lambda base, source: total(source, base),
        CONTENT[2]: lambda base, source: total(base, source),
        CONTENT[3]: lambda base, source: total(source, source),
    },
)

RECIPE = trained_recipe(
    "trained-addition",
    ALGORITHM,
    sizes=SIZES,
    curriculum=Curriculum(),
    task="addition",
    title="adds two digits modulo ten through a circuit that it was trained to use",
    what="Two layers of three heads with LayerNorm: a0.h1 fetches the first summand, m1 looks up the sum; m0 and five "
    "heads were trained to change nothing.",
    says="modular addition, learned: fetch one term, look up the pair",
    roles={FETCH: "previous token", LOOK_UP: "lookup: sum of two digits"},
    sharpness="learned",
    held_out="the lists; all hundred pairs of digits were seen",
)
