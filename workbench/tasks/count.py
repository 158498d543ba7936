"""Count: how often does the last word of a list occur in it?"""

from __future__ import annotations

from collections.abc import Sequence

from workbench.tasks.draw import Draw, allowed
from workbench.tasks.induction import join_words
from workbench.tasks.pairs import Pair
from workbench.tasks.registry import task
from workbench.tasks.words import COLORS, GIFTS, OBJECTS, PLACES, TWO_DIGITS

WORDS = tuple(sorted({*COLORS, *GIFTS, *OBJECTS, *PLACES}))
LENGTH, MOST = 10, 5


@task(
    "count",
    source="a program of RASP (histogram): Weiss, Goldberg and Yahav 2021, arXiv:2106.06981",
    corruptions=("unrelated",),
    positions=(),
    describe="Say how often the last word of a list occurs in it.",
    texts=(*WORDS, *TWO_DIGITS[1 : MOST + 1]),
)
def count(draw: Draw, *, split: str, corruption: str) -> Pair:
    """One count pair: ten words, of which the last occurs one to five times (`` 01`` to `` 05``), itself included.

    Other words repeat, too. ``unrelated`` is another list of other words with another answer. Held out are
    combinations of word and number.
    """
    words, n = _list(draw, split, WORDS, taken=0)
    others, m = _list(draw, split, [word for word in WORDS if word not in words], taken=n)
    clean, _ = join_words(words)
    corrupted, _ = join_words(others)
    return Pair(
        id="",
        clean=clean,
        corrupted=corrupted,
        correct=(f" {TWO_DIGITS[n]}",),
        incorrect=(f" {TWO_DIGITS[m]}",),
        group="count",
    )


def _list(draw: Draw, split: str, known: Sequence[str], *, taken: int) -> tuple[list[str], int]:
    """A list and how often its last word occurs, which is not ``taken``."""
    while True:
        word, n = draw.pick(known), 1 + draw.below(MOST)
        if n != taken and allowed(split, word, TWO_DIGITS[n]):
            break
    rest = [other for other in known if other != word]
    few = draw.sample(rest, 4)
    words = [word] * (n - 1) + [draw.pick(few) for _ in range(LENGTH - n)]
    return [*draw.sample(words, LENGTH - 1), word], n
