"""Colored Objects: what color is the object that is asked about."""

from __future__ import annotations

from collections.abc import Callable

from workbench.core.errors import OptionError
from workbench.tasks.draw import Draw, allowed, of_split, render
from workbench.tasks.pairs import Pair, Span
from workbench.tasks.registry import blank, task
from workbench.tasks.words import COLORS, OBJECTS, SURFACES

TRAIN = (
    "Q: On the {surface}, I see {scene}. What color is the {query}? A:",
    "Q: On the {surface}, there is {scene}. What color is the {query}? A:",
    "Q: On the {surface}, you see {scene}. What color is the {query}? A:",
    "Q: There, on the {surface}, I see {scene}. What color is the {query}? A:",
)
HELD_OUT = (
    "Q: I see {scene} on the {surface}. What color is the {query}? A:",
    "Q: There is {scene} on the {surface}. What color is the {query}? A:",
    "Q: On the {surface} you see {scene}. What color is the {query}? A:",
)
GROUPS = {text: f"colored-objects-{index:02d}" for index, text in enumerate((*TRAIN, *HELD_OUT))}
Scene = list[tuple[str, str]]


@task(
    "colored-objects",
    source="Merullo, Eickhoff and Pavlick 2023, arXiv:2310.08744",
    corruptions=("query", "colors"),
    positions=("color", "object", "query", "other-color", "other-object"),
    describe="Say the color of the object that is asked about, among several objects.",
    texts=(
        *COLORS,
        *OBJECTS,
        *SURFACES,
        *(color.capitalize() for color in COLORS),
        "a an and",
        *map(blank, GROUPS),
    ),
)
def colored_objects(
    draw: Draw,
    *,
    split: str,
    corruption: str,
    n_objects: int = 3,
    shots: int = 1,
    capitalize: bool = False,
    templates: str = "split",
) -> Pair:
    """One Colored Objects pair.

    ``query`` asks about another object of the same scene, so that one token differs (the paper's minimal
    pair). ``colors`` gives the object another color: it exchanges the colors of two objects, or, with a
    single object, takes a new one. The paper's answers are capitalized; here they are only with
    ``capitalize``, because copying the color's own token is the simpler behavior.

    Args:
        n_objects: Objects in a scene, 1 to 5; with one, only the corruption ``colors`` exists.
        shots: Answered questions before the one that counts, 0 to 2; all use the same template.
        capitalize: Answer `` Orange`` instead of `` orange``.
        templates: ``split`` (the split's own), ``train``, ``held-out`` or ``all``.
    """
    _check(corruption, n_objects, shots)
    template = draw.pick(of_split(split, TRAIN, HELD_OUT, templates))
    show = str.capitalize if capitalize else str
    before = "".join(_shot(draw, template, n_objects, show) for _ in range(shots))
    asked, surface = draw.below(n_objects), draw.pick(SURFACES)
    scene = _scene(draw, split, n_objects, asked)
    other = (asked + 1 + draw.below(n_objects - 1)) % n_objects if n_objects > 1 else None
    color, name = scene[asked]

    changed, query = list(scene), name
    if other is None:
        wrong = draw.pick([each for each in COLORS if each != color])
        changed[asked] = (wrong, name)
    elif corruption == "query":
        wrong, query = scene[other]
    else:
        wrong = scene[other][0]
        changed[asked], changed[other] = (wrong, name), (color, scene[other][1])
    clean, clean_spans = _question(template, surface, scene, name, before)
    corrupted, spans = _question(template, surface, changed, query, before)
    slots = {"color": f"color{asked}", "object": f"object{asked}", "query": "query"}
    if other is not None:
        slots |= {"other-color": f"color{other}", "other-object": f"object{other}"}
    return Pair(
        id="",
        clean=clean,
        corrupted=corrupted,
        correct=(f" {show(color)}",),
        incorrect=(f" {show(wrong)}",),
        positions={key: (clean_spans[slot], spans[slot]) for key, slot in slots.items()},
        group=f"{GROUPS[template]}-n{n_objects}-shots{shots}",
    )


def _check(corruption: str, n_objects: int, shots: int) -> None:
    """Do nothing if there is such a question.

    Raises:
        OptionError: for a number that cannot be.
    """
    if not 1 <= n_objects <= 5:
        raise OptionError(
            f"n_objects is {n_objects}; expected 1 to 5", hint="n_objects=3 (--task-option n_objects=3)"
        )
    if not 0 <= shots <= 2:
        raise OptionError(f"shots is {shots}; expected 0, 1 or 2", hint="shots=0 (--task-option shots=0)")
    if n_objects == 1 and corruption == "query":
        raise OptionError(
            "with one object there is no other to ask about",
            hint="n_objects=2 (--task-option n_objects=2), or corruption='colors' (--corruption colors)",
        )


def _shot(draw: Draw, template: str, n_objects: int, show: Callable[[str], str]) -> str:
    """A question that is answered, before the one that counts."""
    asked = draw.below(n_objects)
    scene = _scene(draw, "train", n_objects, asked)
    text, _ = _question(template, draw.pick(SURFACES), scene, scene[asked][1])
    return f"{text} {show(scene[asked][0])}\n"


def _scene(draw: Draw, split: str, n: int, asked: int) -> Scene:
    """Colors and objects, all different.

    The combination asked about belongs to the split; a training scene holds no other split's combinations
    at all, so that training never shows what is held out.
    """
    while True:
        scene = list(zip(draw.sample(COLORS, n), draw.sample(OBJECTS, n), strict=True))
        if all(allowed(split, *scene[i]) for i in range(n) if i == asked or split == "train"):
            return scene


def _question(
    template: str, surface: str, scene: Scene, query: str, before: str = ""
) -> tuple[str, dict[str, Span]]:
    text, spans = "", {}
    for index, (color, name) in enumerate(scene):
        joint = (
            ""
            if index == 0
            else " and "
            if len(scene) == 2
            else ", and "
            if index == len(scene) - 1
            else ", "
        )
        text += f"{joint}{'an' if color[0] in 'aeiou' else 'a'} "
        spans[f"color{index}"] = (len(text), len(text) + len(color))
        text += f"{color} "
        spans[f"object{index}"] = (len(text), len(text) + len(name))
        text += name
    whole, outer = render(template, {"surface": surface, "scene": text, "query": query})
    shift = outer["scene"][0] + len(before)
    placed = {key: (start + shift, end + shift) for key, (start, end) in spans.items()}
    start, end = outer["query"]
    return before + whole, placed | {"query": (start + len(before), end + len(before))}
