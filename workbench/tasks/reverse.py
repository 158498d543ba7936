"""Reverse: a list of words, then the list backwards; say what comes next."""

from __future__ import annotations

from workbench.tasks.draw import Draw, allowed
from workbench.tasks.induction import join_words
from workbench.tasks.pairs import Pair
from workbench.tasks.registry import task
from workbench.tasks.words import COLORS, GIFTS, OBJECTS, PLACES

WORDS = tuple(sorted({*COLORS, *GIFTS, *OBJECTS, *PLACES}))
TURN = ":"


@task(
    "reverse",
    source="a program of RASP: Weiss, Goldberg and Yahav 2021, arXiv:2106.06981",
    corruptions=("unrelated",),
    positions=("A1", "B1"),
    describe="Continue a list of words that is being said backwards.",
    texts=(*WORDS, TURN),
)
def reverse(draw: Draw, *, split: str, corruption: str) -> Pair:
    """One reverse pair: ``w1 ... wn : wn ... wk`` is to be continued with word k - 1.

    A1 is the last word's place in the list, B1 the word before it (the answer). ``unrelated`` is another list of
    other words, as long in all but shorter before the turn, so that A1 stands after its turn. Held out are the
    neighbors (A, B); no training list holds such.
    """
    n, given = 8 + draw.below(3), 1 + draw.below(2)
    words = _list(draw, split, n, n - given, WORDS)
    shorter = range((n + given) // 2 + 1, n - given + 1)
    m = shorter[draw.below(len(shorter))]
    others = _list(draw, split, m, m - (n + given - m), [word for word in WORDS if word not in words])
    clean, spans = join_words([*words, TURN, *words[::-1][:given]])
    corrupted, there = join_words([*others, TURN, *others[::-1][: n + given - m]])
    places = {"A1": n - given, "B1": n - given - 1}
    return Pair(
        id="",
        clean=clean,
        corrupted=corrupted,
        correct=(f" {words[n - given - 1]}",),
        incorrect=(f" {others[m - (n + given - m) - 1]}",),
        positions={name: (spans[place], there[place]) for name, place in places.items()},
        group=f"reverse-{n}-{given}",
    )


def _list(draw: Draw, split: str, n: int, last: int, known: list[str] | tuple[str, ...]) -> list[str]:
    """Different words; the neighbors before and at ``last`` are of the split, in training all neighbors are."""
    while True:
        words = draw.sample(known, n)
        asked = range(1, n) if split == "train" else (last,)
        if all(allowed(split, words[i - 1], words[i]) for i in asked):
            return words
