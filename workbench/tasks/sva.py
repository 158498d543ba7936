"""Subject-verb agreement: the verb agrees with the subject, not with the noun that stands nearer."""

from __future__ import annotations

from workbench.tasks.draw import Draw, allowed, both, choose, of_split, render
from workbench.tasks.pairs import Pair
from workbench.tasks.registry import blank, task
from workbench.tasks.words import NOUNS

TRAIN = (
    "The {subject} near the {attractor}",
    "The {subject} behind the {attractor}",
    "The {subject} with the {attractor}",
    "Today the {subject} from the {attractor}",
    "Yesterday the {subject} before the {attractor}",
    "Later, the {subject} at the {attractor}",
)
HELD_OUT = (
    "The {subject} from the {attractor}",
    "Today the {subject} near the {attractor}",
    "Yesterday the {subject} with the {attractor}",
    "Later, the {subject} behind the {attractor}",
)
GROUPS = {text: f"sva-{index:02d}" for index, text in enumerate((*TRAIN, *HELD_OUT))}
VERBS = ((" is", " was", " has"), (" are", " were", " have"))


@task(
    "sva",
    source="Linzen, Dupoux and Goldberg 2016, arXiv:1611.01368",
    corruptions=("number",),
    positions=("subject", "attractor"),
    describe="Agree the verb in number with the subject, past a nearer noun.",
    texts=(*(word for pair in NOUNS for word in pair), *VERBS[0], *VERBS[1], *map(blank, GROUPS)),
)
def sva(
    draw: Draw, *, split: str, corruption: str, attractor: str = "mixed", templates: str = "split"
) -> Pair:
    """One agreement pair; the corrupted prompt has the subject in the other number.

    ``correct`` are is, was, has or are, were, have; ``incorrect`` the other three. Held out are pairs of
    nouns.

    Args:
        attractor: Number of the second noun: ``same`` as the subject's, ``opposite`` or ``mixed``.
        templates: ``split`` (the split's own), ``train``, ``held-out`` or ``all``.
    """
    template = draw.pick(of_split(split, TRAIN, HELD_OUT, templates))
    subject, other = draw.sample(NOUNS, 2)
    while not allowed(split, subject[0], other[0]):
        subject, other = draw.sample(NOUNS, 2)
    number = draw.below(2)
    if choose("attractor", attractor, ("mixed", "same", "opposite")) == "mixed":
        attractor = draw.pick(("same", "opposite"))
    second = other[number if attractor == "same" else 1 - number]
    clean, spans = render(template, {"subject": subject[number], "attractor": second})
    corrupted, corrupted_spans = render(template, {"subject": subject[1 - number], "attractor": second})
    return Pair(
        id="",
        clean=clean,
        corrupted=corrupted,
        correct=VERBS[number],
        incorrect=VERBS[1 - number],
        positions=both(spans, corrupted_spans, subject="subject", attractor="attractor"),
        group=f"{GROUPS[template]}-{attractor}",
    )
