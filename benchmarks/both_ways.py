"""Claims of mixture-of-heads and deconstructing, judged on planted arms: ``python -m benchmarks.both_ways``.

Every row plants how well the arms of two trainings do, and prints what the paper's own claims say of them, by the same
criteria as in a measured run. A claim that could only hold, or only fail, would show here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from workbench.papers import deconstructing, mixture_of_heads
from workbench.papers.kit import Claim, Conditions
from workbench.tasks.streams.gists import WORDS

PARTS = ("", ", training 1", ", training 2")
MIXTURE = ("back, learned", "learned, random", "learned, same")
TAKEN_APART = ("hybrid, key-only", "learned", "mixing")
UNCONVERGED = "cannot be tested here"


def planted_routers(learned: float, random: float, same: float, gain: float = 0.0) -> Conditions:
    """Return losses of windows in which tuned arms are so much above all heads, in nats.

    Args:
        gain: Of tuning with all heads: above 1 % of the loss the model had not converged.
    """
    c = Conditions(unit=mixture_of_heads.UNIT, within=None)
    noise = np.random.default_rng(0).normal(0, 0.2, 40) + 2.5
    levels = {
        "all heads": 0.0,
        "learned": learned,
        "query-norm": learned,
        "random": random,
        "same heads": same,
    }
    for part in PARTS:
        for arm, more in levels.items():
            c[arm + part] = noise + more + 0.001 * np.cos(np.arange(40))
        c[mixture_of_heads.LIMIT + part] = (1 + mixture_of_heads.NEARLY) * c["all heads" + part]
    c[mixture_of_heads.AS_IS] = c["all heads"] + gain
    c.numbers["gain of tuning"] = gain
    return c


def planted_ladder(alone: float, odd: float, fixed: float, none: float) -> Conditions:
    """Return right answers of arms that answer these shares.

    Args:
        alone, odd: Weights of the key alone in all layers, in odd ones.
        fixed, none: Random patterns that stay as drawn; no mixing.
    """
    paper, c, draw = deconstructing, Conditions(), np.random.default_rng(1).random(400)
    levels = {paper.STANDARD: 0.99, paper.KEY_ONLY: alone, paper.hybrid(paper.KEY_ONLY): odd}
    levels |= {paper.RANDOM_QK: 0.75, paper.FIXED: fixed, paper.NONE: none}
    for part in PARTS:
        for name, level in levels.items():
            c[name + part] = (draw < level).astype(float)
        c[paper.CHANCE + part] = np.full(400, 1 / WORDS)
    return c


def verdicts(claims: Mapping[str, Claim], names: Sequence[str], c: Conditions) -> list[bool]:
    """Say which claims hold."""
    return [bool(claims[name].by(c).holds) for name in names]


def rows() -> list[tuple[str, str, list[str]]]:
    """Return paper, what is planted, and a verdict for each of its three claims."""
    routers = {
        "a router costs .02 nats, random heads .2, the same heads .1": planted_routers(0.02, 0.2, 0.1),
        "a router .2, random heads .19, the same heads .1": planted_routers(0.2, 0.19, 0.1),
        "the first, with a reference that gains .1 by tuning": planted_routers(0.02, 0.2, 0.1, gain=0.1),
    }
    ladder = {
        "keys alone .6, in odd layers .985; fixed .4; none .07": planted_ladder(0.6, 0.985, 0.4, 0.07),
        "keys alone .985: alone they do not fail": planted_ladder(0.985, 0.985, 0.4, 0.07),
        "keys alone .6, in odd layers .8; fixed .75; none .3": planted_ladder(0.6, 0.8, 0.75, 0.3),
    }
    found = []
    for what, c in routers.items():
        able = mixture_of_heads.FIT[0].met(c)
        held = verdicts(mixture_of_heads.CLAIMS, MIXTURE, c)
        found.append(("mixture-of-heads", what, [_word(one) if able else UNCONVERGED for one in held]))
    for what, c in ladder.items():
        held = verdicts(deconstructing.CLAIMS, TAKEN_APART, c)
        found.append(("deconstructing", what, [_word(one) for one in held]))
    return found


def _word(holds: bool) -> str:
    return "holds" if holds else "fails"


def main() -> None:
    """Print a table for each paper as Markdown."""
    for name, claims, asked in (
        ("mixture-of-heads", mixture_of_heads.CLAIMS, MIXTURE),
        ("deconstructing", deconstructing.CLAIMS, TAKEN_APART),
    ):
        print("| planted | " + " | ".join(claims[claim].says for claim in asked) + " |\n" + "|---" * 4 + "|")
        for paper, what, said in rows():
            if paper == name:
                print(f"| {what} | " + " | ".join(said) + " |")
        print()


if __name__ == "__main__":
    main()
