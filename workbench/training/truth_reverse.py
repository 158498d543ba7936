"""`truth-reverse`: continue a list backwards: find the current word in the list and say the one before it.

a0.h2 gives every position the word before it; a0.h0 marks all positions after the turn. a1.h1 looks for the current
word before the turn and copies what a0.h2 put there: composition through values. In a random basis.
"""

from __future__ import annotations

from dataclasses import replace

from workbench.tasks.reverse import TURN, WORDS
from workbench.training.blocks import codes
from workbench.training.compiler import Compiled, Match, Program
from workbench.training.truth_recipe import known_recipe, task_words

CODE = 24
CONTEXT = 14
SHARPNESS = 10.0
LOUDNESS = 10.0


def build() -> Compiled:
    """Return the compiled program."""
    code = dict(zip(WORDS, codes(len(WORDS), CODE, seed=0), strict=True))
    p = Program(words=task_words("reverse"), context=CONTEXT, n_layers=2, n_heads=3, mlps=False, seed=2)
    token, turn = p.token("token", code), p.token("turn", {TURN: [1.0]})
    start, place = p.start(), p.place()
    before, after, out = p.block("before", CODE), p.block("after the turn", 1), p.block("out", CODE)
    rest = Match(key=start, weight=SHARPNESS / 2)
    p.head("a0.h2", [p.back(place, 1, SHARPNESS)], copy=token, into=before, role="previous token")
    p.head(
        "a0.h0",
        [Match(key=turn, weight=SHARPNESS), rest],
        copy=turn,
        into=after,
        role="marks what follows the turn",
    )
    here = [Match(key=token, query=token, weight=SHARPNESS), Match(key=after, weight=-2 * SHARPNESS), rest]
    p.head("a1.h1", here, copy=before, into=out, role="finds the word in the list, says the one before")
    p.answer(out, {word: LOUDNESS * code[word] for word in WORDS})
    made = p.compile()
    return replace(made, machine=made.machine.rotated(seed=5))


RECIPE = known_recipe(
    "truth-reverse",
    build,
    task="reverse",
    title="says a list backwards, in a random basis",
    what="Two layers, attention only: a0.h2 copies the previous word, a0.h0 marks what follows the turn, a1.h1 finds "
    "the current word before the turn and copies the word before it; three random heads. The residual stream is "
    "turned by a random orthogonal matrix.",
    algorithm="reverse: mark the turn, find the word before it, copy its predecessor (composition by value)",
    sharpness="moderate",
    about="Supporting: positions.",
    source="task: Weiss, Goldberg and Yahav 2021, arXiv:2106.06981",
)
