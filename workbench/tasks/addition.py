"""Addition: the sum of the last two digits of a list, modulo ten."""

from __future__ import annotations

from workbench.tasks.draw import Draw, allowed
from workbench.tasks.induction import join_words
from workbench.tasks.pairs import Pair
from workbench.tasks.registry import task
from workbench.tasks.words import TWO_DIGITS

DIGITS = TWO_DIGITS[:10]
LENGTH = 6


@task(
    "addition",
    source="modular addition: Nanda et al. 2023, arXiv:2301.05217, here with two terms and n = 10",
    corruptions=("unrelated",),
    positions=("a", "b"),
    describe="Add the last two digits of a list, modulo ten.",
    texts=DIGITS,
)
def addition(draw: Draw, *, split: str, corruption: str) -> Pair:
    """One addition pair: six digits written `` 00`` to `` 09``; the answer is a + b modulo 10 of the last two.

    ``unrelated`` is another list whose a, b and sum all differ. Held out are unordered combinations of a and b.
    """
    while not allowed(split, f"a{min(terms := _terms(draw))}", f"b{max(terms)}"):
        pass
    while True:
        other = _terms(draw)
        if other[0] != terms[0] and other[1] != terms[1] and sum(other) % 10 != sum(terms) % 10:
            break
    words, others = (
        [*(draw.pick(DIGITS) for _ in range(LENGTH - 2)), *map(_digit, t)] for t in (terms, other)
    )
    clean, spans = join_words(words)
    corrupted, there = join_words(others)
    places = {"a": LENGTH - 2, "b": LENGTH - 1}
    return Pair(
        id="",
        clean=clean,
        corrupted=corrupted,
        correct=(f" {_digit(sum(terms) % 10)}",),
        incorrect=(f" {_digit(sum(other) % 10)}",),
        positions={name: (spans[place], there[place]) for name, place in places.items()},
        group="addition",
    )


def _terms(draw: Draw) -> tuple[int, int]:
    return draw.below(10), draw.below(10)


def _digit(number: int) -> str:
    return DIGITS[number]
