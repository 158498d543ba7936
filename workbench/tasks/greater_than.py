"""Greater-than: an end year must come after the start year."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from workbench.tasks.draw import Draw, allowed, both, choose, of_split, render
from workbench.tasks.pairs import Pair, Span
from workbench.tasks.registry import blank, task
from workbench.tasks.words import EVENTS, TWO_DIGITS

TRAIN = (
    "The {noun} began in the year {start} and lasted to the year {XX}",
    "From the year {start} the {noun} lasted to the year {XX}",
    "The {noun} went on from the year {start} to the year {XX}",
    "In the year {start} the {noun} began, and it went on to the year {XX}",
)
HELD_OUT = (  # the first is the paper's
    "The {noun} lasted from the year {start} to the year {XX}",
    "In the year {start} the {noun} began and it lasted to the year {XX}",
    "From the year {start} the {noun} went on to the year {XX}",
)
GROUPS = {text: f"greater-than-{index:02d}" for index, text in enumerate((*TRAIN, *HELD_OUT))}
CENTURIES = tuple(str(century) for century in range(11, 18))
YEARS = TWO_DIGITS[2:99]
STYLES = ("joined", "spaced", "open")


@task(
    "greater-than",
    source="Hanna, Liu and Variengien 2023, arXiv:2305.00586",
    metric="prob-difference",
    corruptions=("01", "later", "unrelated"),
    positions=("noun", "XX1", "YY"),
    describe="Complete the last two digits of an end year: they must be greater than the start year's.",
    texts=(*EVENTS, *TWO_DIGITS, *map(blank, GROUPS)),
    alternatives={"style": STYLES},
)
def greater_than(
    draw: Draw, *, split: str, corruption: str, style: str = "joined", templates: str = "split"
) -> Pair:
    """One greater-than pair.

    ``correct`` are all two-digit endings above the start year's, ``incorrect`` all others; held out are
    combinations of century and ending. ``01`` makes the start year end in 01, so that nearly every ending is
    right; ``later`` puts a greater ending there, so that endings in between become wrong; ``unrelated`` is the same
    sentence of another event, another century and a smaller ending.

    Args:
        style: ``joined`` writes 1741 and asks for ``42``: for tokenizers that split years into two digits
            and two digits, as GPT-2's does for most. ``spaced`` writes ``17 41`` and asks for `` 42``: for
            word-level tokenizers. ``open`` writes ``17 41``, ends the prompt in a space and asks for ``42``: for
            tokenizers that never join a space and a digit, as Llama 3's.
        templates: ``split`` (the split's own), ``train``, ``held-out`` or ``all``.
    """
    choose("style", style, STYLES)
    template = draw.pick(of_split(split, TRAIN, HELD_OUT, templates))
    noun = draw.pick(EVENTS)
    while not allowed(split, century := draw.pick(CENTURIES), "-" + (year := draw.pick(YEARS))):
        pass
    other = noun, century, _ending(draw, corruption, int(year))
    if corruption == "unrelated":
        other = _other(draw, EVENTS, noun), _other(draw, CENTURIES, century), other[2]
    gap, tail, before = {"joined": ("", "", ""), "spaced": (" ", "", " "), "open": (" ", " ", "")}[style]
    clean, spans = render(template, {"noun": noun, "start": century + gap + year, "XX": century})
    event, hundreds, end = other
    corrupted, there = render(template, {"noun": event, "start": hundreds + gap + end, "XX": hundreds})
    return Pair(
        id="",
        clean=clean + tail,
        corrupted=corrupted + tail,
        correct=tuple(before + number for number in TWO_DIGITS if number > year),
        incorrect=tuple(before + number for number in TWO_DIGITS if number <= year),
        positions=both(_places(spans), _places(there), noun="noun", XX1="XX1", YY="YY"),
        group=GROUPS[template],
    )


def _places(spans: Mapping[str, Span]) -> dict[str, Span]:
    first, last = spans["start"]
    return {"noun": spans["noun"], "XX1": (first, first + 2), "YY": (last - 2, last)}


def _ending(draw: Draw, corruption: str, year: int) -> str:
    """The corrupted start year's ending."""
    if corruption == "01":
        return "01"
    low, high = (year + 1, 100) if corruption == "later" else (0, year)
    return TWO_DIGITS[low + draw.below(high - low)]


def _other(draw: Draw, known: Sequence[str], taken: str) -> str:
    return draw.pick([word for word in known if word != taken])
