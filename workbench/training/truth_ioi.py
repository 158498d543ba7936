"""`truth-ioi` and `truth-ioi-grouped`: indirect objects by duplicate-token, S-inhibition and name-mover heads.

The duplicate-token head looks for an earlier copy of the current token and marks names that have one. The S-inhibition
head finds the marked name at the end of the prompt and hands its code to the name mover, whose query then prefers
every name but that one. The composition is the one of Wang et al. 2023, with one head a class.

Written once, compiled twice: attention-only without norms, three layers; and four layers of four heads that share two
sets of keys and values, behind RMSNorms.
"""

from __future__ import annotations

from dataclasses import replace

from workbench.tasks.words import NAMES
from workbench.training.blocks import codes
from workbench.training.compiler import Compiled, Match, Program
from workbench.training.truth_recipe import known_recipe, task_words

CONTEXT = 24
CODE = 24
SHARPNESS = 12.0
LOUDNESS = 10.0


def program(*, n_layers: int, n_heads: int, n_kv_heads: int | None, nodes: tuple[str, str, str]) -> Compiled:
    """Return the program, with its duplicate-token, S-inhibition and name-mover heads at these places."""
    duplicate, inhibition, mover = nodes
    words = task_words("ioi")
    code = dict(zip(words, codes(len(words), CODE, seed=0), strict=True))
    p = Program(
        words=words, context=CONTEXT, n_layers=n_layers, n_heads=n_heads, n_kv_heads=n_kv_heads, mlps=False
    )
    token = p.token("token", code)
    name = p.token("name", {name: [1.0] for name in NAMES}, varies=False)  # names stand at the same places
    start, place = p.start(), p.place()
    seen, subject, out = p.block("seen before", 1), p.block("subject", CODE), p.block("out", CODE)
    p.head(
        duplicate,
        [
            Match(key=token, query=token, weight=SHARPNESS),
            Match(key=place, query=place, weight=-2 * SHARPNESS),  # not itself
            Match(key=start, weight=SHARPNESS / 2),
        ],
        copy=name,
        into=seen,
        role="duplicate token",
    )
    p.head(
        inhibition,
        [Match(key=seen, weight=SHARPNESS), Match(key=start, weight=SHARPNESS / 2)],
        copy=token,
        into=subject,
        role="S-inhibition",
    )
    p.head(
        mover,
        [Match(key=name, weight=SHARPNESS), Match(key=token, query=subject, weight=-SHARPNESS)],
        copy=token,
        into=out,
        role="name mover",
    )
    p.answer(out, {word: LOUDNESS * code[word] for word in words})
    return p.compile()


def build() -> Compiled:
    """Return three layers, three heads, no norm."""
    return program(n_layers=3, n_heads=3, n_kv_heads=None, nodes=("a0.h1", "a1.h2", "a2.h0"))


def build_grouped() -> Compiled:
    """Four layers, four heads on two sets of keys and values, RMSNorm."""
    made = program(n_layers=4, n_heads=4, n_kv_heads=2, nodes=("a0.h2", "a2.h1", "a3.h3"))
    return replace(made, machine=made.machine.normed("RMS", ballast=30.0))


_SOURCE = "task and composition: Wang et al. 2023, arXiv:2211.00593"

RECIPE = known_recipe(
    "truth-ioi",
    build,
    task="ioi",
    corruption="abc",
    title="indirect objects by three composed heads",
    what="A duplicate-token head, an S-inhibition head and a name mover, which compose through key and query; six "
    "random heads write where nothing reads.",
    algorithm="indirect object: mark the repeated name, inhibit it in the name mover's query",
    sharpness="moderate",
    about="Supporting: positions, and which tokens are names (their places are the template's).",
    source=_SOURCE,
)
GROUPED = known_recipe(
    "truth-ioi-grouped",
    build_grouped,
    task="ioi",
    corruption="abc",
    title="the same composition with grouped queries and RMSNorm",
    what="The same three heads in four layers of four heads on two sets of keys and values, with RMSNorm; the other "
    "heads are random, and those in a working group share its keys and values.",
    algorithm="indirect object, heads that share keys and values",
    norm="RMSNorm, scale constant to 1 %",
    sharpness="moderate",
    about="Supporting: positions, and which tokens are names (their places are the template's).",
    source=_SOURCE,
)
