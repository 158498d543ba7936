"""Reads captions of the painter's world, and turns them into the numbers of their eight words."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from workbench.core.errors import TaskError
from workbench.tasks.canvas.flat_shapes import Item
from workbench.tasks.canvas.words import ARTICLE, COLOURS, NOTHING, ROLES, SHAPES, SIDES, SLOTS, WORDS

FORM = "a COLOUR SHAPE SIDE, or two of these with a comma between them, on different sides"
_EXAMPLE = "'a red disc left, a blue square right'"
_CHOICES = {"article": (ARTICLE,), "colour": COLOURS, "shape": SHAPES, "side": SIDES}


def read_caption(text: str) -> tuple[Item, ...]:
    """Read a caption, with or without its comma.

    Raises:
        TaskError: if a word is not known to the painter, or the caption has another form.

    Example:
        >>> read_caption("a red disc left, a blue square right")[1].colour
        'blue'
    """
    words = re.findall(r"[^\s,]+", text)
    for word in words:
        if word not in WORDS or word == NOTHING:
            known = ", ".join(word for word in WORDS if word != NOTHING)
            raise TaskError(
                f"caption {text!r:.80}: the painter does not know {word!r:.40}", hint=f"its words: {known}"
            )
    if len(words) not in (len(ROLES), len(SLOTS)):
        raise _form(text, f"{len(words)} words")
    items = []
    for first in range(0, len(words), len(ROLES)):
        said = dict(zip(ROLES, words[first : first + len(ROLES)], strict=True))
        for role, word in said.items():
            if word not in _CHOICES[role]:
                raise _form(text, f"{word!r} where {' or '.join(_CHOICES[role])} belongs")
        items.append(Item(said["colour"], said["shape"], said["side"]))
    if len(items) == 2 and items[0].side == items[1].side:
        raise _form(text, f"both objects are {items[0].side}")
    return tuple(items)


def read_captions(captions: Sequence[str | Sequence[Item]]) -> list[tuple[Item, ...]]:
    """Return the objects of captions that are given as texts, or as objects already.

    Raises:
        TaskError: as `read_caption`.

    Example:
        >>> read_captions(["a red disc left", [Item("blue", "square", "right")]])[1][0].phrase
        'a blue square right'
    """
    return [read_caption(each) if isinstance(each, str) else tuple(each) for each in captions]


def word_numbers(captions: Sequence[Sequence[Item]]) -> np.ndarray:
    """Return the eight words of each caption as numbers into `WORDS`: (caption, 8), int64.

    Args:
        captions: The objects of each caption; none at all is the empty caption.

    Example:
        >>> word_numbers([read_caption("a red disc left"), ()]).tolist()
        [[1, 2, 8, 11, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0]]
    """
    table = np.zeros((len(captions), len(SLOTS)), dtype=np.int64)
    for row, items in enumerate(captions):
        numbers = [number for item in items for number in item.words]
        table[row, : len(numbers)] = numbers
    return table


def slot_of(items: Sequence[Item], word: str) -> int:
    """Return the slot of a word in a caption: a word of it, or a slot by name such as ``second colour``.

    Raises:
        TaskError: if the caption has no such word, or has it twice.
    """
    if word in SLOTS:
        slot = SLOTS.index(word)
        if slot // len(ROLES) >= len(items):
            raise TaskError(
                f"the caption has one object; {word!r} is of the second",
                hint="name a word of the caption, or a slot such as first colour",
            )
        return slot
    said = [WORDS[number] for item in items for number in item.words]
    if said.count(word) == 1:
        return said.index(word)
    names = ", ".join(SLOTS[: len(said)])
    if word in said:
        raise TaskError(f"the caption says {word!r} twice", hint=f"say which: one of {names}")
    raise TaskError(
        f"the caption has no word {word!r:.40}; it says {' '.join(said)}", hint=f"or a slot: {names}"
    )


def _form(text: str, found: str) -> TaskError:
    return TaskError(f"caption {text!r:.80} has {found}; expected {FORM}", hint=_EXAMPLE)
