"""Questions about a picture: each has seven tokens, an answer of one token, and the objects it is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from workbench.tasks.scenes.layout import World
from workbench.tasks.scenes.truth import Thing
from workbench.tasks.scenes.words import COLOURS, NUMBERS, PLACES, SHAPES, SIZES, YES_NO

KINDS = ("colour", "shape", "size", "count", "place", "exist", "relation")
ANSWERS = {
    "colour": COLOURS,
    "shape": SHAPES,
    "size": SIZES,
    "count": NUMBERS[:5],
    "place": PLACES,
    "exist": YES_NO,
    "relation": SHAPES,
}
"""Every answer of each kind."""
SIDES = {"left of": (0, -1), "right of": (0, 1), "nearest above": (-1, 0), "nearest below": (1, 0)}
DESCRIBE = "describe all the things in here :"
LENGTH = 7
"""Tokens of every question."""


@dataclass(frozen=True)
class SceneQuestion:
    """One question.

    Args:
        words: The words of it that say which object is meant.
        asked: Slots of the objects that are asked about, none for *how many* and a *no*.
        answered_by: Slots of the objects whose attribute is the answer.
    """

    kind: str
    text: str
    answer: str
    words: tuple[str, ...] = ()
    asked: tuple[int, ...] = ()
    answered_by: tuple[int, ...] = ()


def questions(things: Sequence[Thing], kind: str) -> list[SceneQuestion]:
    """Return every question of a kind that these objects answer without doubt.

    Example:
        >>> star = Thing(0, "star", "red", "large", 4)
        >>> [question.text for question in questions([star], "colour")]
        ['what colour is the star here ?']
    """
    return [question for question in _MAKERS[kind](things) if question.answer in ANSWERS[kind]]


def askable(things: Sequence[Thing], kind: str, world: World) -> list[SceneQuestion]:
    """Return the questions of a kind that may be asked of a picture of a world.

    Through a window only the object it is around is surely seen whole: there questions are about its colour, its
    shape, and what is there. Nobody asks for the size of what is tiny.
    """
    if world.zoom:
        if kind not in ("colour", "shape", "exist"):
            return []
        return [q for q in questions(things, kind) if q.asked in ((), (0,))]
    return [] if world.tiny and kind == "size" else questions(things, kind)


def _alone(things: Sequence[Thing], field: str) -> list[Thing]:
    """Objects whose value of a field no other object has."""
    values = [getattr(thing, field) for thing in things]
    return [thing for thing, value in zip(things, values, strict=True) if values.count(value) == 1]


def _colour(things: Sequence[Thing]) -> list[SceneQuestion]:
    return [
        SceneQuestion(
            "colour", f"what colour is the {t.shape} here ?", t.colour, (t.shape,), (t.slot,), (t.slot,)
        )
        for t in _alone(things, "shape")
    ]


def _size(things: Sequence[Thing]) -> list[SceneQuestion]:
    return [
        SceneQuestion("size", f"what size is the {t.shape} here ?", t.size, (t.shape,), (t.slot,), (t.slot,))
        for t in _alone(things, "shape")
    ]


def _shape(things: Sequence[Thing]) -> list[SceneQuestion]:
    return [
        SceneQuestion(
            "shape", f"what shape is the {t.colour} thing ?", t.shape, (t.colour,), (t.slot,), (t.slot,)
        )
        for t in _alone(things, "colour")
    ]


def _count(things: Sequence[Thing]) -> list[SceneQuestion]:
    every = tuple(thing.slot for thing in things)
    out = [SceneQuestion("count", "how many things are here now ?", NUMBERS[len(things)], (), every, every)]
    for colour in COLOURS:
        own = tuple(thing.slot for thing in things if thing.colour == colour)
        text = f"how many {colour} things are here ?"
        out.append(SceneQuestion("count", text, NUMBERS[len(own)], (colour,), own, own))
    return out


def _place(things: Sequence[Thing]) -> list[SceneQuestion]:
    pairs = [(thing.colour, thing.shape) for thing in things]
    return [
        SceneQuestion(
            "place",
            f"where is the {t.colour} {t.shape} here ?",
            t.place,
            (t.colour, t.shape),
            (t.slot,),
            (t.slot,),
        )
        for t, pair in zip(things, pairs, strict=True)
        if pairs.count(pair) == 1
    ]


def _exist(things: Sequence[Thing]) -> list[SceneQuestion]:
    """Yes for what is there; no only where the same colour or the same shape is."""
    colours, shapes = {thing.colour for thing in things}, {thing.shape for thing in things}
    there = {(thing.colour, thing.shape) for thing in things}
    out = []
    for colour, shape in product(COLOURS, SHAPES):
        if (colour, shape) in there or colour in colours or shape in shapes:
            own = tuple(t.slot for t in things if (t.colour, t.shape) == (colour, shape))
            text = f"is there a {colour} {shape} here ?"
            answer = "yes" if own else "no"
            out.append(SceneQuestion("exist", text, answer, (colour, shape), own, own))
    return out


def _relation(things: Sequence[Thing]) -> list[SceneQuestion]:
    """The nearest object on a side, in the same row or column."""
    out = []
    for t in _alone(things, "shape"):
        for side, (down, right) in SIDES.items():
            steps = [(t.cell // 3 + down * k, t.cell % 3 + right * k) for k in (1, 2)]
            found = [o for at in steps for o in things if divmod(o.cell, 3) == at]
            if found:
                text = f"what is {side} the {t.shape} ?"
                out.append(
                    SceneQuestion("relation", text, found[0].shape, (t.shape,), (t.slot,), (found[0].slot,))
                )
    return out


_MAKERS = {
    "colour": _colour,
    "shape": _shape,
    "size": _size,
    "count": _count,
    "place": _place,
    "exist": _exist,
    "relation": _relation,
}


def sentence_words() -> tuple[str, ...]:
    """Return every word and mark of questions, answers and descriptions, sorted."""
    texts = [f"what is {side} the thing ?" for side in SIDES]
    texts += [
        "what colour is the thing here ?",
        "what size is the shape here ?",
        "how many things are here now ?",
    ]
    texts += ["where is the thing here ?", "is there a thing here ?", DESCRIBE, ", ."]
    texts += [word for answers in ANSWERS.values() for word in answers]
    return tuple(sorted({word for text in texts for word in text.split()}))
