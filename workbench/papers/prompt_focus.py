"""Prompt focus: patches that see the question hold more of what is asked, and need less room for it.

In `zoo:vlm-mutual` patches see the question behind them. What a question changes in each patch is compared with a
general instruction, and where the last token looks with patches that are made blind to the question. The layer of
each map is chosen on other pictures. Then small towers are trained over frozen patches of `zoo:vlm`: two layers look
at a prompt by cross-attention, and six numbers, the mean over patches, are all that the reader of the answer gets.
Objects are tiny. The arms have equal starts, questions and shapes; two trainings of each are shipped. The width of the
mean was set before any run; on another seed the seeing arm was at .75 and the blind one at .43 while this was written.
Only the abstract of the paper was read.

Controls:
- the question of another picture
- the other objects of the picture
- patches that are blind to the question
- a tower that sees the question of another picture, while its reader gets the right one
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.core.loading import lazily
from workbench.core.stats.intervals import SHARE
from workbench.papers.kinds import Setting
from workbench.papers.kit import Conditions, Paper, needs, untried
from workbench.papers.kit.criteria import above, at_least
from workbench.papers.kit.frames import RECONSTRUCTED, Control, Extension, Reconstructed, answers
from workbench.papers.kit.trained_arms import OfTrainings, in_each, of_training
from workbench.papers.options import Sizes, size
from workbench.papers.registry import add_paper
from workbench.tasks.scenes.layout import World

with lazily():
    from workbench.edits import mutual
    from workbench.heads import asked_pictures, prompt_saliency
    from workbench.training import prompted_reader

# Criteria, fixed before anything was measured.
RIGHT, LEARNED = 0.6, 0.5
FIRST_SEED = 40_000_000  # pictures of this paper: no other seed of pictures is near
OWN, OTHER = "change by the question", "change by another question"
SEES, BLIND = "look, patches see the question", "look, patches are blind"
ARMS = ("the tower sees the question", "the tower is blind", "the tower sees another question")


@dataclass(frozen=True, kw_only=True)
class PromptFocusSizes(Sizes):
    """Numbers of questions and pictures, and how towers are trained anew."""

    choosing: int = size(100, "questions on which the layer of each map is chosen", least=4)
    questions: int = size(300, "others that are reported", least=4)
    pictures: int = size(250, "on which trained towers are judged, several questions each", least=4)
    retrain: bool = size(False, "train the towers anew, with seeds that no shipped one has")
    steps: int = size(1200, "of a training anew")


def measure(setting: Setting) -> Conditions:
    """Compare patches with and without the question, and judge towers that were trained with it in sight.

    Raises:
        ModelError: for a model that does not read a picture and words.
    """
    o, model, seed = setting.options, setting.model, FIRST_SEED + 10 * setting.seed
    c, world = (
        Conditions(unit="weight of a patch, 1 for an even map", within=None, seed=setting.seed),
        World(objects=(0, 1, 1, 1)),
    )
    first, asked = (
        asked_pictures.ask_pictures(model, world, kinds=["colour", "shape"], n=n, seed=seed + i)
        for i, n in enumerate((o.choosing, o.questions))
    )
    sees, blind = mutual.mutual_mask(model, asked), mutual.causal_mask(model, asked)
    setting.progress(0, 2, "what questions change")
    with sees.on(model):
        c.numbers["right"] = float(asked_pictures.answered(model, asked).mean())
    made = {
        OWN: lambda those: prompt_saliency.question_maps(model, those, under=lambda rows: sees.on(model)),
        OTHER: lambda those: prompt_saliency.question_maps(
            model, those, under=lambda rows: sees.on(model), shift=1
        ),
        SEES: lambda those: prompt_saliency.last_looks(model, those, under=lambda rows: sees.on(model)),
        BLIND: lambda those: prompt_saliency.last_looks(model, those, under=lambda rows: blind.on(model)),
    }
    rows, layers = [], dict[str, int]()
    for name, maps_of in made.items():
        layers[name] = layers[OWN] if name == OTHER else prompt_saliency.best_layer(maps_of(first), first)
        found = maps_of(asked)
        lies = prompt_saliency.lies_at(found, asked, layers[name])
        c[name], c[f"{name}, on others"] = lies.lift, lies.other_lift
        c.add(f"mass, {name}", lies.mass, within=SHARE, unit="share of the map on the asked object")
        rows += [
            {"map": name, "layer": n, "chosen": "yes" if n == layers[name] else ""}
            | {"on the asked object": float(each.lift.mean()), "on another": float(each.other_lift.mean())}
            for n in range(found.shape[1])
            if (each := prompt_saliency.lies_at(found, asked, n))
        ]
    c.tables["Every layer, 1 for an even map"] = rows
    fresh = asked_pictures.ask_pictures(
        model, world, kinds=["colour", "shape"], n=o.questions, seed=seed + 7_000
    )
    for name in (SEES, BLIND):  # patches have seen the question from the second layer on
        later = prompt_saliency.best_layer(made[name](first)[:, 1:], first) + 1
        c.numbers[f"later layer, {name}"] = later
        unit = "share of the map on the asked object"
        mass = prompt_saliency.lies_at(made[name](fresh), fresh, later).mass
        c.add(f"later mass, {name}", mass, within=SHARE, unit=unit)
    no_path = prompt_saliency.question_maps(model, asked[:8], under=lambda rows: blind.on(model))
    c.numbers["change without a path"] = float(no_path.max())
    _judge(c, setting)
    return c


def _judge(c: Conditions, setting: Setting) -> None:
    """Add right answers of every trained tower."""
    o, tower = setting.options, setting.open(prompted_reader.MODEL)
    reading = prompted_reader.PromptedReading(steps=o.steps)
    seeds = [1000 + 10 * setting.seed + i for i in range(2)] if o.retrain else prompted_reader.SEEDS
    how = {"retrain": o.retrain, "seeds": seeds, "reading": reading if o.retrain else None}
    arms = prompted_reader.readers(tower, **how, progress=setting.progress)
    held = prompted_reader.patch_questions(
        tower, o.pictures, seed=FIRST_SEED + 5_000 + setting.seed, noise=reading.noise
    )
    pictures = held.picture.tolist()
    for arm in ARMS:
        found = np.array([prompted_reader.right_of(arm, own[arm], held) for own in arms.values()])
        named = {arm: found.mean(0)} | {of_training(arm, i): each for i, each in enumerate(found)}
        for name, values in named.items():
            c.add(name, values, within=SHARE, unit="share of right answers", clusters=pictures)


ANSWERS = answers("right", RIGHT)
READS = needs(
    at_least(ARMS[0], LEARNED),
    f"the tower that sees the question is right in {{{ARMS[0]}:.0%}}; half is asked for",
)
CLAIMS = {
    "changes": Reconstructed(
        "the question changes the patches of the asked object more than those of others",
        above(OWN, f"{OWN}, on others"),
        why="by size; the other objects are the control, since any question may change objects more than the ground",
        needs=[ANSWERS],
    ),
    "question": Control(
        "the question changes the patches of its object more than another question does",
        above(OWN, OTHER),
        why="the question of another picture, about the same object's patches, at the same layer",
        needs=[ANSWERS],
    ),
    "looks": Reconstructed(
        "with the question in sight of the patches attention moves to the asked object",
        above(f"mass, {SEES}", f"mass, {BLIND}"),
        why="the last token's look, each at its best layer; the mask alone differs",
        needs=[ANSWERS],
        found=f"{{shown of mass, {SEES}}}; nothing is changed without a path: {{change without a path:g}}",
    ),
    "looks later": Extension(
        "from the second layer on, where patches saw the question, attention moves to its object",
        above(f"later mass, {SEES}", f"later mass, {BLIND}"),
        why="set after the first run, in which both best layers were the first and nothing can differ; judged on "
        "pictures that were drawn for it",
        needs=[ANSWERS],
        found=f"{{shown of later mass, {SEES}}}; layer {{later layer, {SEES}}}, blind {{later layer, {BLIND}}}",
    ),
    "trained": OfTrainings(
        "a tower that sees the question brings what is asked through a narrow pool: more right answers",
        in_each(above, ARMS[0], ARMS[1]),
        why="equal starts, shapes and questions; the reader of the answer gets the question in both",
        where=RECONSTRUCTED,
        needs=[READS],
    ),
    "another": OfTrainings(
        "any prompt is not enough: the question of another picture does not help",
        in_each(above, ARMS[0], ARMS[2]),
        why="a prompt that varies as much and says nothing about what is asked",
        where="a control of ours",
        needs=[READS],
    ),
    "documents": untried(
        "answers about dense documents improve without reading their letters first",
        "ANLS on the benchmarks of the paper",
        "scanned documents and a model that reads their letters cannot be had here",
        where=RECONSTRUCTED,
    ),
}
REPLICATION = add_paper(
    Paper(
        name="prompt-focus",
        source="VisFocus 2024",
        model="zoo:vlm-mutual",
        options=PromptFocusSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
