"""`trained-majority`: more boys or more girls, learned through a circuit that was chosen beforehand."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from workbench.tasks.majority import LENGTH
from workbench.tasks.words import MEN, WOMEN
from workbench.training.interchange import Algorithm, Curriculum, NetworkSizes
from workbench.training.trained_circuit import trained_recipe
from workbench.training.truth_recipe import task_words
from workbench.training.vocabulary import BOS, N_SPECIAL

LOOK_UP, MEAN, DECIDE = "m0", "a1.h0", "m1"
CONTENT = (f"input->{LOOK_UP}", f"{LOOK_UP}->{MEAN}<v>", f"{MEAN}->{DECIDE}", f"{DECIDE}->logits")
WORDS = task_words("majority")
TOKENS = {word: N_SPECIAL + at for at, word in enumerate(WORDS)}
BOYS, GIRLS = (np.array([TOKENS[name] for name in names]) for names in (MEN, WOMEN))
IS_BOY = torch.zeros(N_SPECIAL + len(WORDS))
IS_BOY[torch.from_numpy(BOYS)] = 1.0


def draw(rng: np.random.Generator, n: int) -> Tensor:
    """Draw nine different names after the first token, five to seven of one kind."""
    boys, girls = (rng.permuted(np.tile(names, (n, 1)), axis=1)[:, :LENGTH] for names in (BOYS, GIRLS))
    more = LENGTH // 2 + 1 + rng.integers(3, size=(n, 1))
    n_boys = np.where(rng.random((n, 1)) < 0.5, more, LENGTH - more)
    names = rng.permuted(np.where(np.arange(LENGTH) < n_boys, boys, girls), axis=1)
    return torch.cat([torch.full((n, 1), BOS), torch.from_numpy(names)], dim=1)


def answer(tokens: Tensor) -> Tensor:
    """Return the token of the kind that has more names."""
    boys = IS_BOY[tokens].sum(1) > LENGTH / 2
    return torch.where(boys, TOKENS["boys"], TOKENS["girls"])


ALGORITHM = Algorithm(
    draw=draw,
    answer=answer,
    content=CONTENT,
    supporting=(f"input->{MEAN}<q>", f"input->{MEAN}<k>"),
    swaps={edge: lambda base, source: answer(source) for edge in CONTENT},
)

RECIPE = trained_recipe(
    "trained-majority",
    ALGORITHM,
    sizes=NetworkSizes(d_vocab=N_SPECIAL + len(WORDS), n_ctx=LENGTH + 1),
    curriculum=Curriculum(steps=1500),
    task="majority",
    title="says whether boys or girls are more, through a circuit that it was trained to use",
    what="Two layers of three heads with LayerNorm: m0 looks up the kind of each name, a1.h0 averages, m1 decides; "
    "five heads were trained to change nothing.",
    says="share of a class, learned: look up, average, decide",
    roles={LOOK_UP: "lookup: kind of name", MEAN: "mean over all tokens", DECIDE: "decision"},
    sharpness="learned",
    held_out="the lists; all names were seen",
)
