"""Pairs of pictures and questions: finding a picture with the wanted answer, and a partner that changes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from workbench.core.errors import OptionError
from workbench.tasks.draw import Draw
from workbench.tasks.pairs import Pair, Span
from workbench.tasks.pictures.image import Picture
from workbench.tasks.scenes.layout import World
from workbench.tasks.scenes.questions import ANSWERS, SceneQuestion, askable
from workbench.tasks.scenes.truth import FIELDS, Scene, Thing
from workbench.tasks.scenes.words import COLOURS, N_CELLS, PATCH, PLACES, SIDE, SIZES

SEEDS = {"train": 900_001, "validation": 900_002, "test": 900_003}
"""Pictures of the splits; the recipes of the built-in models draw from others."""
CORRUPTIONS = ("changed", "recoloured", "moved", "picture", "question", "blank")
_FIELDS = {"changed": ("colour", "shape", "size", "cell"), "recoloured": ("colour",), "moved": ("cell",)}
ALL = "how many things"
NEVER = {
    "shape": ("recoloured", "moved"),
    "size": ("recoloured", "moved"),
    "colour": ("moved",),
    "count": ("moved",),
    "exist": ("moved",),
    "place": ("recoloured",),
    "relation": ("recoloured",),
    ALL: ("changed", "recoloured", "moved"),
}
"""Corruptions that change no answer of a kind of question."""
IMAGE = "<image>"
GRID = (SIDE // PATCH, SIDE // PATCH)
TRIES = 400
Asked = tuple[Scene, SceneQuestion]


def scene_in(draw: Draw, split: str, world: World) -> Scene:
    """Return a picture of a split."""
    return Scene(SEEDS[split], draw.below(10**9), world)


def find(draw: Draw, split: str, kind: str, world: World, answer: str, of: str = "") -> Asked:
    """Return a picture and a question of a kind with that answer, and with these words in it.

    Raises:
        OptionError: if pictures of this world hardly ever have it.
    """
    for _ in range(10 * TRIES):
        scene = scene_in(draw, split, world)
        found = [q for q in askable(scene.things, kind, world) if q.answer == answer and of in q.text]
        if found:
            return scene, draw.pick(found)
    raise OptionError(
        f"pictures of this world have no question of kind {kind!r} whose answer is {answer!r}",
        hint="another seed, or a world with more kinds of objects",
    )


def possible_answers(kind: str, world: World) -> tuple[str, ...]:
    """List the answers that pictures of a world can have."""
    most = len(world.objects)
    return ANSWERS[kind][: most + 1] if kind == "count" else ANSWERS[kind]


def corrupted(draw: Draw, split: str, corruption: str, asked: Asked) -> Asked:
    """Return the partner in which the answer is another.

    Raises:
        OptionError: if there is none; `has_partners` says so before.
    """
    scene, question = asked
    if corruption == "blank":
        return scene.blank(), question
    if corruption == "question":
        return scene, draw.pick(_other_questions(asked))
    if corruption == "picture":
        for _ in range(10 * TRIES):
            other = scene_in(draw, split, scene.world)
            found = same_question(other, question)
            if found is not None and found.answer != question.answer:
                return other, found
        raise OptionError(
            f"no picture of this world answers {question.text!r} in another way",
            hint="corruption='question' changes the question instead (--corruption question)",
        )
    slot, field, value, found = draw.pick(_partners(asked, corruption))
    return scene.changed(slot, **{field: value}), found


def has_partners(asked: Asked, corruptions: Sequence[str]) -> bool:
    """Say whether a picture and its question have a partner of each of these corruptions, as far as it can be seen."""
    changed = [corruption for corruption in corruptions if corruption in _FIELDS]
    if "question" in corruptions and not _other_questions(asked):
        return False
    return all(_partners(asked, corruption) for corruption in changed)


def _other_questions(asked: Asked) -> list[SceneQuestion]:
    scene, question = asked
    return [q for q in askable(scene.things, question.kind, scene.world) if q.answer != question.answer]


def _partners(asked: Asked, corruption: str) -> list[tuple[int, str, str, SceneQuestion]]:
    """The changes after which the question has another answer, and the question then."""
    scene, question = asked
    return [
        (slot, field, value, found)
        for slot, field, value, things in changes(scene.things, _FIELDS[corruption])
        if (found := _answered(things, question, scene.world)) is not None and found.answer != question.answer
    ]


def changes(
    things: Sequence[Thing], fields: Sequence[str]
) -> Iterator[tuple[int, str, str, tuple[Thing, ...]]]:
    """List every change of one value of one object: slot, field, new value, and the objects after it."""
    taken = {thing.place for thing in things}
    for thing in things:
        for field in fields:
            now = thing.place if field == "cell" else getattr(thing, field)
            for value in FIELDS[field]:
                if value == now or (field == "cell" and value in taken):
                    continue
                new = with_value(thing, field, value)
                after = sorted((new if t is thing else t for t in things), key=lambda t: t.cell)
                yield thing.slot, field, value, tuple(after)


def with_value(thing: Thing, field: str, value: str) -> Thing:
    """Return the object with another word for one of its fields."""
    if field == "cell":
        return replace(thing, cell=PLACES.index(value))
    return Thing(**{**vars(thing), field: value})


def same_question(scene: Scene, question: SceneQuestion) -> SceneQuestion | None:
    """Return the question of the same words about another picture, if it may be asked of it."""
    return _answered(scene.things, question, scene.world)


def _answered(things: Sequence[Thing], question: SceneQuestion, world: World) -> SceneQuestion | None:
    return next((q for q in askable(things, question.kind, world) if q.text == question.text), None)


def question_pair(
    draw: Draw,
    *,
    split: str,
    corruption: str,
    kind: str,
    world: World,
    group: str,
    of: str = "",
    corruptions: Sequence[str] = CORRUPTIONS,
) -> Pair:
    """Return a pair about one question; pictures without a partner of every corruption of its kind are passed over.

    The clean picture therefore does not depend on the corruption.

    Args:
        of: Only questions whose text has this in it.
        corruptions: Those of the task; what changes no answer of this kind does not count.

    Raises:
        OptionError: if the corruption changes no answer of that kind.
    """
    possible = [name for name in corruptions if name not in NEVER.get(of, NEVER.get(kind, ()))]
    if corruption not in possible:
        raise OptionError(
            f"corruption {corruption!r} changes no answer to questions about {of or kind!r}",
            hint=f"corruption={possible[0]!r} (--corruption {possible[0]}) does; all that do: {', '.join(possible)}",
        )
    answer = draw.pick(possible_answers(kind, world) if of != ALL else ANSWERS["count"][1:])
    for _ in range(TRIES):
        clean = find(draw, split, kind, world, answer, of)
        if has_partners(clean, possible):
            other = corrupted(draw, split, corruption, clean)
            return make_pair(draw, clean, other, group=group, blank=corruption == "blank")
    raise OptionError(
        f"pictures of this world have no partners for the answer {answer!r} of kind {kind!r}",
        hint="more objects (--task-option objects=0 draws from one to four), or another seed (--seed 1)",
    )


def make_pair(draw: Draw, clean: Asked, other: Asked, *, group: str, blank: bool = False) -> Pair:
    """Return the pair of two pictures with their questions; for a blank one the incorrect answer is any other."""
    question, wrong = clean[1], other[1].answer
    if blank:
        wrong = draw.pick([a for a in ANSWERS[question.kind] if a != question.answer])
    texts, spans = zip(*(_said(q) for q in (question, other[1])), strict=True)
    regions = [regions_of(scene, q.asked, q.answered_by) for scene, q in (clean, other)]
    return Pair(
        id="",
        clean=texts[0],
        corrupted=texts[1],
        correct=(f" {question.answer}",),
        incorrect=(f" {wrong}",),
        positions={name: (spans[0][name], spans[1][name]) for name in spans[0] if name in spans[1]},
        group=group,
        image=(picture_of(clean[0]), picture_of(other[0])),
        grid=GRID,
        regions={name: (regions[0][name], regions[1][name]) for name in regions[0]},
    )


def picture_of(scene: Scene) -> Picture:
    """Return the picture of a drawn scene."""
    return Picture(f"scene:{scene.text}")


REGIONS = ("object", "answer", "others", "rings", "edges")
"""Named sets of patches that every pair of drawn pictures has."""


def regions_of(scene: Scene, asked: Sequence[int], answered_by: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Named sets of patches, none in two of them; what is left is the background.

    Returns:
        ``object`` (asked about), ``answer`` (its attribute is the answer and it is not asked about), ``others``,
        ``rings``, and ``edges``, of which nothing covers an eighth. Nothing is empty silently: a set may be empty.
    """
    here = {thing.slot for thing in scene.things}
    own, answer = here & set(asked), (here & set(answered_by)) - set(asked)
    sets = {"object": own, "answer": answer, "others": here - own - answer}
    found = {
        name: tuple(sorted(patch for slot in slots for patch in scene.patches(slot)))
        for name, slots in sets.items()
    }
    taken = {patch for patches in found.values() for patch in patches}
    rings = tuple(patch for patch in scene.patches(N_CELLS) if patch not in taken)
    return found | {"rings": rings, "edges": scene.edges}


def _said(question: SceneQuestion) -> tuple[str, dict[str, Span]]:
    """The whole prompt, and where the words stand that say what is meant."""
    text = f"{IMAGE} {question.text}"
    spans = {}
    for word in question.words:
        name = "colour" if word in COLOURS else "size" if word in SIZES else "shape"
        start = text.index(f" {word} ") + 1
        spans[name] = (start, start + len(word))
    return text, spans


def kind_of(draw: Draw, wanted: str, known: Sequence[str]) -> str:
    """Return the kind that is asked for; ``mixed`` draws one.

    Raises:
        OptionError: if it is neither.
    """
    if wanted == "mixed":
        return draw.pick(known)
    if wanted not in known:
        raise OptionError(
            f"about is {wanted!r}; expected one of mixed, {', '.join(known)}",
            hint=f"about={known[0]} (--task-option about={known[0]})",
        )
    return wanted


def hundredths(name: str, value: int, most: int = 100) -> float:
    """Return an option in hundredths as a number.

    Raises:
        OptionError: if it is out of range.
    """
    if not 0 <= value <= most:
        raise OptionError(
            f"{name} is {value}; expected hundredths from 0 to {most}",
            hint=f"{name}=0 (--task-option {name}=0)",
        )
    return value / 100
