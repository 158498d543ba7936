"""Gendered pronoun: the pronoun that goes with a name."""

from __future__ import annotations

from workbench.tasks.draw import Draw, allowed, both, of_split, render
from workbench.tasks.pairs import Pair
from workbench.tasks.registry import blank, task
from workbench.tasks.words import MEN, PLACES, WOMEN

TRAIN = (
    "Then {name} went to the {place} because",
    "Yesterday {name} left the {place} when",
    "Today {name} was late at the {place}, and",
    "In the morning {name} came to the {place}, and later",
    "When {name} came to the {place},",
    "So {name} from the {place} is a really good friend, isn't",
)
HELD_OUT = (
    "Yesterday {name} came to the {place} because",
    "Then {name} left the {place}, and",
    "When {name} was late at the {place},",
    "So {name} is really late at the {place}, isn't",
)
GROUPS = {text: f"gendered-pronoun-{index:02d}" for index, text in enumerate((*TRAIN, *HELD_OUT))}


@task(
    "gendered-pronoun",
    source="Mathwin et al. 2023, A preliminary circuit for gendered pronouns in GPT-2 small",
    corruptions=("other-gender",),
    positions=("name",),
    describe="Say the pronoun, he or she, that goes with a name.",
    texts=(*MEN, *WOMEN, *PLACES, "he she", *map(blank, GROUPS)),
)
def gendered_pronoun(draw: Draw, *, split: str, corruption: str, templates: str = "split") -> Pair:
    """One gendered-pronoun pair; the corrupted prompt has a name of the other gender.

    Held out are combinations of name and place: the gender of a name that was never seen cannot be known.

    Args:
        templates: ``split`` (the split's own), ``train``, ``held-out`` or ``all``.
    """
    template = draw.pick(of_split(split, TRAIN, HELD_OUT, templates))
    kinds = [(MEN, " he"), (WOMEN, " she")]
    (names, correct), (others, incorrect) = draw.sample(kinds, 2)
    while not allowed(split, name := draw.pick(names), place := draw.pick(PLACES)):
        pass
    clean, spans = render(template, {"name": name, "place": place})
    corrupted, corrupted_spans = render(template, {"name": draw.pick(others), "place": place})
    return Pair(
        id="",
        clean=clean,
        corrupted=corrupted,
        correct=(correct,),
        incorrect=(incorrect,),
        positions=both(spans, corrupted_spans, name="name"),
        group=GROUPS[template],
    )
