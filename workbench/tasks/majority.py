"""Majority: are there more names of boys or of girls?"""

from __future__ import annotations

from workbench.tasks.draw import Draw, allowed
from workbench.tasks.induction import join_words
from workbench.tasks.pairs import Pair
from workbench.tasks.registry import task
from workbench.tasks.words import MEN, WOMEN

LENGTH = 9  # odd: there is always a majority


@task(
    "majority",
    source="a program of RASP (share of a class): Weiss, Goldberg and Yahav 2021, arXiv:2106.06981",
    corruptions=("unrelated",),
    positions=(),
    describe="Say whether a list of names has more boys or more girls.",
    texts=(*MEN, *WOMEN, "boys", "girls"),
)
def majority(draw: Draw, *, split: str, corruption: str) -> Pair:
    """One majority pair: nine different names, and `` boys`` or `` girls``.

    ``unrelated`` is another list of other names with the other answer. Held out are first and last name together.
    """
    boys = draw.below(2) == 1
    words = _list(draw, split, boys, ())
    others = _list(draw, split, not boys, words)
    clean, _ = join_words(words)
    corrupted, _ = join_words(others)
    answers = (" boys", " girls") if boys else (" girls", " boys")
    return Pair(
        id="",
        clean=clean,
        corrupted=corrupted,
        correct=answers[:1],
        incorrect=answers[1:],
        group="majority",
    )


def _list(draw: Draw, split: str, boys: bool, taken: tuple[str, ...] | list[str]) -> list[str]:
    """Names with a majority of boys or of girls, none of them taken."""
    more = LENGTH // 2 + 1 + draw.below(3)
    many, few = (MEN, WOMEN) if boys else (WOMEN, MEN)
    while True:
        names = draw.sample([name for name in many if name not in taken], more)
        names += draw.sample([name for name in few if name not in taken], LENGTH - more)
        names = draw.sample(names, LENGTH)
        if allowed(split, names[0], names[-1]):
            return names
