"""`truth-addition` and `truth-redundant`: the sum of two digits modulo ten, looked up in an MLP.

A head fetches the first summand to the last token, where a hidden unit for each of the hundred pairs fires if both its
digits are there and writes their sum's logit. `truth-addition` does it behind LayerNorms. `truth-redundant` has two
equal heads that fetch, and units that fire alike for one copy and for two: each head backs the other up.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from workbench.tasks.addition import DIGITS, LENGTH
from workbench.training.compiler import Compiled, Program
from workbench.training.truth_recipe import known_recipe, task_words

N = 10
CONTEXT = LENGTH + 1
SHARPNESS = 8.0
LOUDNESS = 10.0
ONES = torch.eye(N, dtype=torch.float64)
FIRST = ONES.repeat_interleave(N, dim=0)  # (pair, digit): the first digit of pair 10 a + b is a
SECOND = ONES.repeat(N, 1)
SUM = ONES[torch.arange(N * N) // N + torch.arange(N * N) % N - N].T  # (digit, pair); rows wrap around


def build() -> Compiled:
    """Return one head fetches; two layers, LayerNorm."""
    p = Program(words=task_words("addition"), context=CONTEXT, n_layers=2, n_heads=2, seed=6)
    digit = p.token("digit", dict(zip(DIGITS, ONES, strict=True)))
    place, first, out = p.place(), p.block("first", N), p.block("out", N)
    p.head("a0.h1", [p.back(place, 1, SHARPNESS)], copy=digit, into=first, role="previous token")
    both = {first: FIRST, digit: SECOND}
    p.mlp(1, both, bias=-torch.ones(N * N), out=SUM, into=out, role="lookup: sum of two digits")
    p.answer(out, dict(zip(DIGITS, LOUDNESS * ONES, strict=True)))
    made = p.compile()
    return replace(made, machine=made.machine.normed("LN", ballast=60.0))


def build_redundant() -> Compiled:
    """Return two heads fetch, each would do; one layer, no norm."""
    p = Program(words=task_words("addition"), context=CONTEXT, n_layers=1, n_heads=4, seed=7)
    digit = p.token("digit", dict(zip(DIGITS, ONES, strict=True)))
    place, first, out = p.place(), p.block("first", N), p.block("out", N)
    for node in ("a0.h0", "a0.h2"):
        p.head(node, [p.back(place, 1, SHARPNESS)], copy=digit, into=first, role="previous token, one of two")
    # relu(a + 2 b - 2) - relu(a + 2 b - 3): 0 without a or without b, 1 for b with one copy of a or with two
    both = {first: FIRST.repeat(2, 1), digit: 2 * SECOND.repeat(2, 1)}
    bias = torch.cat([torch.full((N * N,), -2.0), torch.full((N * N,), -3.0)])
    p.mlp(0, both, bias=bias, out=torch.cat([SUM, -SUM], dim=1), into=out, role="lookup: sum of two digits")
    p.answer(out, dict(zip(DIGITS, LOUDNESS * ONES, strict=True)))
    return p.compile()


RECIPE = known_recipe(
    "truth-addition",
    build,
    task="addition",
    title="adds two digits modulo ten by an MLP lookup, with LayerNorm",
    what="Two layers with LayerNorm: a0.h1 fetches the first summand, m1 has a hidden unit for each pair of digits; "
    "m0 and three heads are random.",
    algorithm="modular addition: fetch one term, look up the pair",
    norm="LayerNorm, scale constant to 0.5 %",
    sharpness="moderate",
    about="Supporting: positions.",
)
REDUNDANT = known_recipe(
    "truth-redundant",
    build_redundant,
    task="addition",
    title="adds two digits with two heads that back each other up",
    what="One layer, no norm: a0.h0 and a0.h2 both fetch the first summand, and m0 gives the same for one copy as for "
    "two; two random heads.",
    algorithm="modular addition with two heads of which one would do",
    sharpness="moderate",
    about="Planted redundancy: exchanging or cutting one of a0.h0 and a0.h2, or one edge of it, changes nothing that "
    "the answer shows; both together destroy the task. Patching single edges or nodes cannot find them.",
    alone=(("a0.h0", "a0.h2"),),
)
