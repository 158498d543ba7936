"""Greater-than: an end year must come after the start year."""

from __future__ import annotations

from workbench.tasks.draw import Draw, allowed, choose, of_split, render
from workbench.tasks.pairs import Pair
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
    corruptions=("01", "later"),
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
    right; ``later`` puts a greater ending there, so that endings in between become wrong.

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
    end = "01" if corruption == "01" else TWO_DIGITS[int(year) + 1 + draw.below(99 - int(year))]
    gap, tail, before = {"joined": ("", "", ""), "spaced": (" ", "", " "), "open": (" ", " ", "")}[style]
    clean, spans = render(template, {"noun": noun, "start": century + gap + year, "XX": century})
    corrupted, _ = render(template, {"noun": noun, "start": century + gap + end, "XX": century})
    first, last = spans["start"]
    places = {"noun": spans["noun"], "XX1": (first, first + 2), "YY": (last - 2, last)}
    return Pair(
        id="",
        clean=clean + tail,
        corrupted=corrupted + tail,
        correct=tuple(before + number for number in TWO_DIGITS if number > year),
        incorrect=tuple(before + number for number in TWO_DIGITS if number <= year),
        positions={name: (place, place) for name, place in places.items()},
        group=GROUPS[template],
    )
