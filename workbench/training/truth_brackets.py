"""`truth-brackets`: are brackets balanced? By their mean so far, and by whether it ever was negative.

a0.h1 averages +1 and -1 over all tokens so far: the sign is the depth's. m0 says where it is negative, a1.h0 finds such
a place if there is one, and m1 adds that to how far the depth at the end is from 0.
"""

from __future__ import annotations

import torch

from workbench.tasks.brackets import CLOSE, GOOD, LENGTH, OPEN, WRONG
from workbench.training.compiler import Compiled, Match, Program, bends
from workbench.training.truth_recipe import known_recipe, task_words

SHARPNESS = 8.0
LOUDNESS = 8.0
ONE = torch.ones(1, 1, dtype=torch.float64)


def build() -> Compiled:
    """Return the compiled program."""
    p = Program(words=task_words("brackets"), context=LENGTH + 1, n_layers=2, n_heads=2, seed=8)
    step, start = p.token("step", {OPEN: [1.0], CLOSE: [-1.0]}), p.start()
    mean, negative, ever, wrong = (p.block(name, 1) for name in ("mean", "negative", "ever", "wrong"))
    p.head("a0.h1", [], copy=step, into=mean, role="mean so far: depth over length")
    least = 1 / (LENGTH + 1)  # the mean of depth 1 at the end; a depth of -1 before it is further from 0
    into, bias, out = bends([-least, 0.0], torch.tensor([[1.0, 0.0]], dtype=torch.float64))
    p.mlp(0, {mean: into}, bias=bias, out=out, into=negative, role="is the depth negative here?")
    rest = Match(key=start, weight=SHARPNESS / 2)
    p.head(
        "a1.h0", [Match(key=negative, weight=SHARPNESS), rest], copy=negative, into=ever, role="was it ever?"
    )
    # how far the depth is from 0, at most 2, minus a half so that 0 is good; and what a1.h0 found
    into, bias, out = bends(
        [-2 * least, 0.0, 2 * least], torch.tensor([[1.5, -0.5, 1.5]], dtype=torch.float64)
    )
    p.mlp(1, {mean: into}, bias=bias, out=out, into=wrong, role="distance of the depth from 0")
    p.mlp(1, {ever: ONE}, bias=torch.zeros(1), out=ONE, into=wrong, role="adds whether it ever was negative")
    p.answer(wrong, {WRONG: [LOUDNESS], GOOD: [-LOUDNESS]})
    return p.compile()


RECIPE = known_recipe(
    "truth-brackets",
    build,
    task="brackets",
    title="judges brackets by depth and by its lowest point",
    what="Two layers with MLPs, no norm: a0.h1 averages the steps, m0 marks negative depth, a1.h0 finds a mark, m1 "
    "adds that to the depth at the end; two random heads.",
    algorithm="balanced brackets: depth at the end, and whether it ever was negative",
    sharpness="moderate",
    about="Supporting: `<bos>` stands first everywhere. Which edges matter differs from pair to pair.",
    source="task: Weiss, Goldberg and Yahav 2021, arXiv:2106.06981",
)
