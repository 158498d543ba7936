"""Docstring: continue the list of documented arguments in the order of the definition."""

from __future__ import annotations

from workbench.tasks.draw import Draw, allowed, both, of_split, render
from workbench.tasks.pairs import Pair
from workbench.tasks.registry import blank, task
from workbench.tasks.words import ARGUMENTS, FUNCTIONS

_BODY = '''
    """{w0} {w1} {w2}

    :param {A-doc}: {w3} {w4}
    :param {B-doc}: {w5} {w6}
    :param'''
TRAIN = (
    "def {f}(self, {A}, {B}, {C}, {other}):" + _BODY,
    "def {f}(self, {other}, {A}, {B}, {C}):" + _BODY,
    "def {f}({A}, {B}, {C}, {other}):" + _BODY,
)
HELD_OUT = (
    "def {f}({other}, {A}, {B}, {C}):" + _BODY,
    "def {f}(self, {x}, {A}, {B}, {C}, {other}):" + _BODY,
)
GROUPS = {text: f"docstring-{index:02d}" for index, text in enumerate((*TRAIN, *HELD_OUT))}


@task(
    "docstring",
    source="Heimersheim and Janiak 2023, A circuit for Python docstrings",
    corruptions=("swap", "random"),
    positions=("A", "B", "C", "other", "A-doc", "B-doc"),
    describe="Name the next argument to document, in the order of the function's definition.",
    texts=(*ARGUMENTS, *FUNCTIONS, *map(blank, GROUPS)),
)
def docstring(draw: Draw, *, split: str, corruption: str, templates: str = "split") -> Pair:
    """One docstring pair: A and B are documented, C is next, ``other`` is an argument out of turn.

    ``swap`` exchanges C and the other argument in the definition, so that the incorrect answer becomes right.
    ``random`` gives the definition four unrelated arguments, so that nothing says what comes next. Held out
    are pairs of neighbors (B, C).

    Args:
        templates: ``split`` (the split's own), ``train``, ``held-out`` or ``all``.
    """
    template = draw.pick(of_split(split, TRAIN, HELD_OUT, templates))
    words = draw.sample(ARGUMENTS, 16)
    while not allowed(split, words[1], words[2]):
        words = draw.sample(ARGUMENTS, 16)
    a, b, c, other, *rest = words
    slots = {"f": draw.pick(FUNCTIONS), "A-doc": a, "B-doc": b, "x": rest[11]}
    slots |= {f"w{index}": word for index, word in enumerate(rest[:7])}
    clean, spans = render(template, slots | {"A": a, "B": b, "C": c, "other": other})
    if corruption == "swap":
        changed = {"A": a, "B": b, "C": other, "other": c}
    else:
        changed = dict(zip(("A", "B", "C", "other"), rest[7:11], strict=True))
    corrupted, corrupted_spans = render(template, slots | changed)
    names = {name: name for name in ("A", "B", "C", "other", "A-doc", "B-doc")}
    return Pair(
        id="",
        clean=clean,
        corrupted=corrupted,
        correct=(f" {c}",),
        incorrect=(f" {other}",),
        positions=both(spans, corrupted_spans, **names),
        group=GROUPS[template],
    )
