"""Brackets: is every bracket closed, and none before it was opened?"""

from __future__ import annotations

from workbench.tasks.draw import Draw, allowed
from workbench.tasks.induction import join_words
from workbench.tasks.pairs import Pair
from workbench.tasks.registry import task

OPEN, CLOSE, GOOD, WRONG = "left", "right", "good", "late"
LENGTH = 14


@task(
    "brackets",
    source="a program of RASP (Dyck-1): Weiss, Goldberg and Yahav 2021, arXiv:2106.06981",
    corruptions=("unrelated",),
    positions=(),
    describe="Say whether brackets, written left and right, are balanced (good) or not (late).",
    texts=(OPEN, CLOSE, GOOD, WRONG),
)
def brackets(draw: Draw, *, split: str, corruption: str) -> Pair:
    """One pair of fourteen brackets, `` left`` opening and `` right`` closing; `` good`` if they are balanced.

    A third of the clean prompts are balanced, a third close one before it was opened, a third leave some open.
    ``unrelated`` has the other answer; the partner of a balanced prompt is wrong in both ways. Held out are the
    first and the second half together.
    """
    kind = ("good", "early", "open")[draw.below(3)]
    while True:
        words = _draw(draw, kind)
        if allowed(split, "".join(words[:7]), "-" + "".join(words[7:])):
            break
    others = _draw(draw, "both" if kind == "good" else "good")
    answers = (f" {GOOD}", f" {WRONG}")[:: 1 if kind == "good" else -1]
    return Pair(
        id="",
        clean=join_words(words)[0],
        corrupted=join_words(others)[0],
        correct=answers[:1],
        incorrect=answers[1:],
        group="brackets",
    )


def _draw(draw: Draw, kind: str) -> list[str]:
    """Brackets that are ``good``, close too ``early`` only, stay ``open`` only, or go wrong in ``both`` ways."""
    wanted = {"good": (False, False), "early": (True, False), "open": (False, True), "both": (True, True)}
    while True:
        steps = [1 if draw.below(2) else -1 for _ in range(LENGTH)]
        depths = [sum(steps[: i + 1]) for i in range(LENGTH)]
        if (min(depths) < 0, depths[-1] != 0) == wanted[kind]:
            return [OPEN if step == 1 else CLOSE for step in steps]
