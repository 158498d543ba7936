"""`truth-majority` and `truth-cancelling`: more boys or more girls, by the mean of a class over all tokens.

`truth-majority` looks the class of each name up in an MLP, averages it by attention that is the same everywhere, and
decides in a second MLP; behind RMSNorms. `truth-cancelling` reads the class from the embedding, and adds two heads
that write the same number with opposite signs: each of their edges has a large effect, the node that feeds both none.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from workbench.tasks.majority import LENGTH
from workbench.tasks.words import MEN, NAMES
from workbench.training.blocks import codes
from workbench.training.compiler import Compiled, Program, bends
from workbench.training.truth_recipe import known_recipe, task_words

CODE = 24
LOUDNESS = 10.0
SHARPNESS = 8.0  # of the heads that read their own position
BOYS = {"boys": [LOUDNESS / 2], "girls": [-LOUDNESS / 2]}


def build() -> Compiled:
    """Classes from an MLP, a mean, a decision."""
    code = codes(len(NAMES), CODE, seed=0)
    p = Program(words=task_words("majority"), context=LENGTH + 1, n_layers=2, n_heads=2, seed=3)
    token = p.token("token", dict(zip(NAMES, code, strict=True)))
    kind, mean, answer = p.block("class", 1), p.block("mean", 1), p.block("answer", 1)
    # a unit for each name: 0.4 for its own code, 0 for all others, whose cosines are smaller
    sign = torch.tensor([[1.0 if name in MEN else -1.0 for name in NAMES]], dtype=torch.float64) / 0.4
    p.mlp(0, {token: code}, bias=torch.full((len(NAMES),), -0.6), out=sign, into=kind, role="lookup: class")
    p.head("a1.h0", [], copy=kind, into=mean, role="mean over all tokens")
    into, bias, out = bends([-0.5, 0.0, 0.5], torch.tensor([[-2.0, 0.0, 2.0]], dtype=torch.float64))
    p.mlp(1, {mean: into}, bias=bias, out=out, into=answer, role="decision")
    p.answer(answer, BOYS)
    made = p.compile()
    return replace(made, machine=made.machine.normed("RMS", ballast=30.0))


def build_cancelling() -> Compiled:
    """Return a mean that decides, and another that two heads write with opposite signs."""
    p = Program(words=task_words("majority"), context=LENGTH + 1, n_layers=2, n_heads=4, mlps=False, seed=4)
    kind = p.token("class", {name: [1.0 if name in MEN else -1.0] for name in NAMES})
    mean, other, answer = p.block("mean", 1), p.block("other mean", 1), p.block("answer", 1)
    p.head("a0.h1", [], copy=kind, into=mean, role="mean over all tokens")
    p.head("a0.h3", [], copy=kind, into=other, role="mean over all tokens, for the two that cancel")
    here = [p.back(p.place(), 0, SHARPNESS)]
    p.head("a1.h0", here, copy=mean, into=answer, by=6.0, role="decision")
    p.head("a1.h1", here, copy=other, into=answer, by=9.0, role="cancels a1.h2")
    p.head("a1.h2", here, copy=other, into=answer, by=-9.0, role="cancels a1.h1")
    p.answer(answer, BOYS)
    return p.compile()


_SOURCE = "task: Weiss, Goldberg and Yahav 2021, arXiv:2106.06981"

RECIPE = known_recipe(
    "truth-majority",
    build,
    task="majority",
    title="majority by an MLP, a mean and another MLP, with RMSNorm",
    what="Two layers with RMSNorm: m0 looks up the class of every name, a1.h0 averages it over all tokens, m1 decides; "
    "three random heads.",
    algorithm="share of a class: look up, average, decide",
    norm="RMSNorm, scale constant to 1 %",
    sharpness="none: attention is even everywhere",
    source=_SOURCE,
)
CANCELLING = known_recipe(
    "truth-cancelling",
    build_cancelling,
    task="majority",
    title="majority with two heads that cancel each other",
    what="Two attention-only layers: a0.h1 and a1.h0 do the task; a0.h3 feeds a1.h1 and a1.h2, which write the same "
    "with opposite signs; three random heads.",
    algorithm="share of a class, and two heads that cancel",
    sharpness="moderate",
    about="Planted cancellation: a0.h3->a1.h1<v> and a0.h3->a1.h2<v>, and likewise a1.h1->logits and a1.h2->logits, "
    "have large effects of opposite signs. a0.h3 as a node, and input->a0.h3<v>, have none: what they change cancels.",
    alone=(("a1.h1", "a1.h2"),),
    source=_SOURCE,
)
