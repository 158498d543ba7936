"""`truth-count`: how often the last word occurs, by attention that is shared among equals.

The last word attends to every word equal to it and to `<bos>`, all with one weight, so that `<bos>` gets 1 / (n + 1).
The MLP turns that share into a number by straight lines between the values it can take.
"""

from __future__ import annotations

import torch

from workbench.tasks.count import LENGTH, MOST, WORDS
from workbench.tasks.words import TWO_DIGITS
from workbench.training.blocks import codes
from workbench.training.compiler import Compiled, Match, Program, bends
from workbench.training.truth_recipe import known_recipe, task_words

CODE = 20
SHARPNESS = 14.0
LOUDNESS = 10.0


def build() -> Compiled:
    """Return the compiled program."""
    p = Program(words=task_words("count"), context=LENGTH + 1, n_layers=1, n_heads=3, seed=1)
    token = p.token("token", dict(zip(WORDS, codes(len(WORDS), CODE, seed=0), strict=True)))
    start, share, number = p.start(), p.block("share", 1), p.block("number", MOST)
    equals = [Match(key=token, query=token, weight=SHARPNESS), Match(key=start, weight=SHARPNESS)]
    p.head("a0.h1", equals, copy=start, into=share, role="equal tokens and <bos>, evenly")
    knots = [1 / (n + 1) for n in range(MOST, -1, -1)]  # n = MOST ... 0
    peaks = torch.eye(MOST, dtype=torch.float64).flip(1)  # output n - 1 is 1 at the knot of n
    into, bias, out = bends(knots, torch.cat([peaks, torch.zeros(MOST, 1, dtype=torch.float64)], dim=1))
    p.mlp(0, {share: into}, bias=bias, out=LOUDNESS * out, into=number, role="lookup: share to number")
    p.answer(number, dict(zip(TWO_DIGITS[1 : MOST + 1], torch.eye(MOST), strict=True)))
    return p.compile()


RECIPE = known_recipe(
    "truth-count",
    build,
    task="count",
    title="counts a word by sharing attention, with an MLP lookup",
    what="One layer: a0.h1 spreads its attention evenly over equal words and `<bos>`, m0 turns the share into a "
    "number; two random heads write where nothing reads.",
    algorithm="histogram: share of attention left to `<bos>`, looked up",
    sharpness="graded: attention is spread evenly over all copies",
    about="Supporting: `<bos>` stands first in every prompt.",
    source="task: Weiss, Goldberg and Yahav 2021, arXiv:2106.06981",
)
