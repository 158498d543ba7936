"""A picture and its depth painted together by shared weights, and a loss that draws their attention maps to each other.

The paper generates video and depth of people together, with one network and a label for the modality, and aligns the
attention of both. Here `zoo:painter` is trained on with patches of a picture and of its depth in one row: objects
further down are nearer, which no caption says. Arms start from the painter and see the same pictures, times and noise;
two trainings of each are shipped. Weight and steps were set before any arm was seen. Maps are told as a ratio: how
differently the streams look at a word, over how differently they look with the maps of another caption, since maps that
are all alike differ little from any.

Controls:
- the same training without the loss
- the same loss towards the maps of another caption's picture
- the depth of another caption's picture
- the streams cut off from each other's patches, in the same weights
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workbench.core.loading import lazily
from workbench.core.stats.intervals import SHARE
from workbench.papers.kinds import Setting
from workbench.papers.kit import Conditions, Control, Extension, Paper, above, no_worse, room, untried
from workbench.papers.kit.claims import Claim
from workbench.papers.kit.criteria import at_most, below
from workbench.papers.kit.frames import NO_PHOTOGRAPHS, RECONSTRUCTED, answers
from workbench.papers.kit.picture_verdicts import add_verdicts
from workbench.papers.kit.trained_arms import TRAININGS, add_means, in_each, of_training
from workbench.papers.options import Sizes, size
from workbench.papers.registry import add_paper
from workbench.tasks.canvas.captions import word_numbers
from workbench.tasks.canvas.flat_shapes import Drawing, draw_many
from workbench.tasks.canvas.picture_reader import judge, read_picture

with lazily():
    from workbench.heads import concept_mask, map_consistency
    from workbench.model.flow_painter import joint
    from workbench.training import joint_streams

# Criteria, fixed before anything was measured.
LEARNED, MOST, WITHIN, NOTHING = 0.5, 0.98, 0.05, 1e-6
FIRST_SEED, TIME = 54_000_000, 0.5
INK, NEAR = 0.4, 0.2  # from here on a pixel of a picture is of an object, and one of a depth
NONE, LOSS, OTHER, CUT = (
    "no consistency loss",
    "consistency loss",
    "another caption's maps",
    "streams cut apart",
)
SAME = "difference of equal streams"


@dataclass(frozen=True, kw_only=True)
class JointSizes(Sizes):
    """How much is painted and looked at, and how arms are trained anew."""

    pictures: int = size(24, "captions that are painted with their depth", least=4)
    maps: int = size(32, "drawn pictures, made noisy once, on which maps are compared", least=4)
    retrain: bool = size(False, "train anew in place of the shipped arms, with seeds that none of them has")
    steps: int = size(240, "of a training anew", least=1)


def measure(setting: Setting) -> Conditions:
    """Paint and compare maps with every arm of both trainings."""
    import torch

    o, seed = setting.options, FIRST_SEED + 1000 * setting.seed
    seeds = [1000 + 10 * setting.seed + i for i in range(TRAININGS)] if o.retrain else joint_streams.SEEDS
    tuning = joint_streams.JointTuning(steps=o.steps)
    arms = joint_streams.joint_arms(retrain=o.retrain, seeds=seeds, tuning=tuning, progress=setting.progress)
    c = Conditions(unit="share of pictures", within=SHARE, seed=setting.seed)
    captions = draw_many(seed, range(o.pictures), objects=2)
    drawings = draw_many(seed + 1, range(o.maps), objects=2)
    for i, models in enumerate(arms.values()):
        for arm, model in models.items():
            _paint(c, of_training(arm, i), model, captions, seed)
            _maps(c, of_training(arm, i), model, drawings, seed)
        uncut = models["no consistency loss"]
        uncut.together = False
        _paint(c, of_training(CUT, i), uncut, captions, seed)
        uncut.together = True
        setting.progress(i + 1, len(arms), "trainings")
    add_means(c, len(arms))
    looks = torch.rand(2, 8, 4, generator=torch.Generator().manual_seed(0)).softmax(-1)
    c.numbers[SAME] = float(map_consistency.map_consistency(looks, looks).abs().max())
    return c


def _paint(c: Conditions, name: str, model: Any, drawings: Sequence[Drawing], seed: int) -> None:
    """How well depth fits the picture's objects and those of another picture, and what the reader reads."""
    made = joint.paint_joint(model, [d.items for d in drawings], seed=seed)
    objects, near = (made.pictures.amax(-1) > INK).flatten(1), (made.depths > NEAR).flatten(1)
    for what, depth in (("depth fits", near), ("another's depth fits", near.roll(1, 0))):
        fit = concept_mask.mask_overlap(objects, depth).numpy()
        c.add(f"{what}, {name}", fit, within=SHARE, unit="intersection over union")
    seen = [read_picture(picture) for picture in made.pictures.numpy()]
    verdicts = [judge(one, d.items) for one, d in zip(seen, drawings, strict=True)]
    add_verdicts(c, name, verdicts, ("binding", "intact"))


def _maps(c: Conditions, name: str, model: Any, drawings: Sequence[Drawing], seed: int) -> None:
    """How differently both streams look at the words, over the same with another picture's maps."""
    import torch

    clean, words = joint_streams.streams_of(drawings), word_numbers([d.items for d in drawings])
    picture, depth = joint.looks_of_streams(model, clean, torch.from_numpy(words), t=TIME, seed=seed)
    own, other = (
        map_consistency.map_consistency(each, depth).mean((1, 2)).double().numpy()
        for each in (picture, picture.roll(1, 0))
    )
    c.add(f"maps apart, {name}", own, unit="nats")
    c.add(f"maps apart from another's, {name}", other, unit="nats")
    c.add(f"ratio of maps, {name}", own / other, unit="of another caption's")


FIT = [answers(f"binding, {NONE}", LEARNED)]
ROOM = [
    *FIT,
    room(f"depth fits, {NONE}", MOST, "depth fits by {depth fits, " + NONE + ":.2f} without the loss"),
]
CLAIMS = {
    "same": Claim(
        "equal streams differ by nothing",
        at_most(SAME, NOTHING),
        why="an identity, up to rounding of float32",
        where="definition",
        models=None,
    ),
    "together": Claim(
        "depth is that of its own picture",
        in_each(above, f"depth fits, {NONE}", f"another's depth fits, {NONE}"),
        why="which pixels are of an object; the depth of another caption's picture",
        where=RECONSTRUCTED,
        needs=FIT,
        models=TRAININGS,
    ),
    "cut": Control(
        "depth fits its picture better than when the streams cannot look at each other",
        in_each(above, f"depth fits, {NONE}", f"depth fits, {CUT}"),
        why="the same weights, captions and noise; no caption says where in its half an object is",
        needs=FIT,
        models=TRAININGS,
    ),
    "maps": Claim(
        "with the consistency loss the attention maps of the streams agree more",
        in_each(below, f"ratio of maps, {LOSS}", f"ratio of maps, {NONE}"),
        why="the ratio to another caption's maps, so that maps that are all alike gain nothing",
        where=RECONSTRUCTED,
        needs=FIT,
        models=TRAININGS,
    ),
    "own maps": Control(
        "the maps agree more than with a loss towards another caption's maps",
        in_each(below, f"ratio of maps, {LOSS}", f"ratio of maps, {OTHER}"),
        why="the same loss and weight towards the maps of another caption's picture",
        needs=FIT,
        models=TRAININGS,
    ),
    "aligned": Claim(
        "with the loss depth fits the picture better",
        in_each(above, f"depth fits, {LOSS}", f"depth fits, {NONE}"),
        why="the same captions and noise; maps that agree and pictures that do not would be an answer",
        where=RECONSTRUCTED,
        needs=ROOM,
        models=TRAININGS,
    ),
    "own": Control(
        "depth fits the picture better than with a loss towards another caption's maps",
        in_each(above, f"depth fits, {LOSS}", f"depth fits, {OTHER}"),
        why="the same loss and weight",
        needs=ROOM,
        models=TRAININGS,
    ),
    "kept": Extension(
        "pictures do not suffer from the loss",
        in_each(no_worse, f"binding, {LOSS}", f"binding, {NONE}", within=WITHIN),
        why="colours, shapes and sides of both objects; a twentieth may be lost",
        needs=FIT,
        models=TRAININGS,
    ),
    "people": untried(
        "videos of people and their depth are better than those of separate models",
        "errors of depth and quality of videos of people",
        NO_PHOTOGRAPHS,
        where=RECONSTRUCTED,
    ),
}
REPLICATION = add_paper(
    Paper(
        name="joint-streams",
        source="IDOL 2024",
        model="zoo:painter",
        options=JointSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
