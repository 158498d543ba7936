"""The scene magnifier: the region that the model itself looks at is read again in finer resolution.

All objects are six pixels wide. The head whose look prefers the asked object most is chosen on other pictures, and so
is the share of fine patches in the mixture. Its window of half a picture's side is enlarged and read by the same tower.
Then its patches become a mixture of coarse and fine, or the enlarged window is shown in a second pass and
log-probabilities are added. On text the chunk of two words that the last token looks at most is repeated before the
question. Only the abstract of the paper was read. On another seed, seen while this was written, mixtures gained
nothing and the second pass gained only with a window around the asked object.

Controls:
- a window at a random place, and a random chunk
- the whole picture in finer resolution, at four times the cost
- a window around the asked object itself
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.core.loading import lazily
from workbench.core.stats.intervals import SHARE
from workbench.heads.crops import window_masks
from workbench.heads.localisation import mass_inside
from workbench.papers.kinds import Setting
from workbench.papers.kit import Conditions, Paper, untried
from workbench.papers.kit.criteria import above, no_worse
from workbench.papers.kit.frames import RECONSTRUCTED, Control, Extension, Reconstructed, answers, room
from workbench.papers.options import Sizes, size
from workbench.papers.registry import add_paper
from workbench.tasks.scenes.layout import World

with lazily():
    from workbench.edits import closer_looks
    from workbench.heads import asked_pictures

# Criteria, fixed before anything was measured.
RIGHT, ROOM, WITHIN, MIXES = 0.4, 0.98, 0.02, (0.1, 0.25, 0.5)
FIRST_SEED = 41_000_000  # pictures of this paper: no other seed of pictures is near
PLAIN, OWN, RANDOM, ALL, TRUE = "as it is", "looked at", "at random", "everywhere", "around the asked object"
TWICE = {name: f"second pass, {name}" for name in (OWN, RANDOM, TRUE)}
TEXT, AGAIN, ANY = "text as it is", "the chunk looked at, again", "a random chunk, again"


@dataclass(frozen=True, kw_only=True)
class MagnifierSizes(Sizes):
    """Numbers of questions."""

    choosing: int = size(120, "questions on which head and mixture are chosen", least=4)
    questions: int = size(400, "others that are reported", least=4)
    noise: float = size(0.08, "of pixels")
    texts: int = size(400, "texts with keys", least=4)
    keys: int = size(20, "of each text")
    words: int = size(64, "of each text")
    text_model: str = size("zoo:kv", "finds values of keys in texts")


def measure(setting: Setting) -> Conditions:
    """Magnify what is looked at in pictures, and repeat it in texts.

    Raises:
        ModelError: for a model that does not read a picture and words.
    """
    o, model, seed = setting.options, setting.model, FIRST_SEED + 10 * setting.seed
    c, world = Conditions(seed=setting.seed), World(objects=(0, 1, 1, 1), noise=o.noise, tiny=True)
    first, looks = (
        closer_looks.CloserLooks(
            model=model,
            asked=asked_pictures.ask_pictures(model, world, kinds=["colour", "shape"], n=n, seed=seed + i),
        )
        for i, n in enumerate((o.choosing, o.questions))
    )
    setting.progress(0, 3, "head and mixture")
    head = first.best_head()
    tried = {mix: float(first.mixed(first.by_head(head), mix).mean()) for mix in MIXES}
    mix = max(tried, key=lambda each: tried[each])
    c.numbers |= {"head": "a{}.h{}".format(*head), "mixture": mix}
    rows = [
        {"share of fine patches": 0.0, "right": float(asked_pictures.answered(model, first.asked).mean())}
    ]
    rows += [{"share of fine patches": each, "right": right} for each, right in tried.items()]
    c.tables["Every mixture, on the pictures for choosing"] = rows
    setting.progress(1, 3, "windows")
    c[PLAIN] = asked_pictures.answered(model, looks.asked)
    windows = {OWN: looks.by_head(head), RANDOM: looks.at_random([seed, 1]), TRUE: looks.around_asked()}
    for name, those in windows.items():
        c[name], c[TWICE[name]] = looks.mixed(those, mix), looks.seen_twice(those)
    c[ALL] = looks.mixed(looks.everywhere(), mix)
    seen = window_masks([each for (each,) in windows[OWN]], looks.asked.grid)
    inside = mass_inside(looks.asked.own.astype(float), seen)
    c.add("asked object in the window", np.asarray(inside), within=SHARE, unit="share of its patches")
    setting.progress(2, 3, "texts")
    keys = closer_looks.ask_keys(
        setting.open(o.text_model), n=o.texts, seed=setting.seed, needles=o.keys, context=o.words
    )
    c[TEXT], c[AGAIN] = keys.answered(), keys.answered(keys.attended())
    anywhere = np.random.default_rng([seed, 2]).integers(1, keys.end - 1, size=o.texts)
    c[ANY] = keys.answered(anywhere)
    return c


ANSWERS = answers(PLAIN, RIGHT)
GAIN = room(PLAIN, ROOM, f"{{{PLAIN}:.1%}} are answered rightly")
TEXT_GAIN = room(TEXT, ROOM, f"{{{TEXT}:.1%}} of the values are found")
CHOSEN = "; head {head}, {mixture:g} of fine patches; {asked object in the window:.0%} of the object is in its window"
CLAIMS = {
    "gain": Reconstructed(
        "magnified patches of the region that is looked at raise accuracy on small objects",
        above(OWN, PLAIN),
        why="the same questions; the patches of one window alone differ",
        needs=[ANSWERS, GAIN],
        found=f"{{shown of {OWN}}}{CHOSEN}",
    ),
    "random": Control(
        "magnified patches of the region looked at raise accuracy more than of a random region",
        above(OWN, RANDOM),
        why="windows of one size; what is looked at is all that differs",
        needs=[ANSWERS, GAIN],
    ),
    "everywhere": Reconstructed(
        "the region that is looked at is enough: the whole picture in finer resolution is no better",
        no_worse(OWN, ALL, within=WITHIN),
        why="four windows cost four times as much",
        needs=[ANSWERS],
    ),
    "right region": Extension(
        "magnified patches around the asked object raise accuracy",
        above(TRUE, PLAIN),
        why="what a perfect choice of the region would give; without it no choice could help",
        needs=[ANSWERS, GAIN],
    ),
    "second pass": Reconstructed(
        "a second pass with the region that is looked at alone raises accuracy",
        above(TWICE[OWN], PLAIN),
        why="the model was trained on pictures seen through a window; mixed patches are new to it",
        needs=[ANSWERS, GAIN],
    ),
    "second pass, random": Control(
        "a second pass gains more with the region that is looked at than with a random one",
        above(TWICE[OWN], TWICE[RANDOM]),
        why="both passes cost as much",
        needs=[ANSWERS, GAIN],
    ),
    "text": Extension(
        "on text: the chunk that is looked at, repeated before the question, raises accuracy",
        above(AGAIN, TEXT),
        why="a text has no resolution; nearness is what repeating can give",
        needs=[TEXT_GAIN],
    ),
    "text, random": Control(
        "on text: the chunk that is looked at raises accuracy more than a random chunk",
        above(AGAIN, ANY),
        why="prompts of one length; what is repeated alone differs",
        needs=[TEXT_GAIN],
    ),
    "scenes": untried(
        "understanding of large scenes in three dimensions improves",
        "accuracy on the benchmarks of the paper",
        "scans of rooms and models that read them cannot be had here",
        where=RECONSTRUCTED,
    ),
}
REPLICATION = add_paper(
    Paper(
        name="scene-magnifier",
        source="LSceneLLM 2024",
        model="zoo:vlm",
        options=MagnifierSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
