"""Whether a picture can be edited by the difference of two velocities, and whether an attention mask keeps the rest.

The paper edits video without inverting it and lets attention say which region may change. Here one attribute of the
first of two objects changes, its colour in half of the pictures and its shape in the other half. The mask is the
patches that look most at that word, in the one head whose map fits objects best on other pictures; it has as many
patches as the largest object and what is beside it. The painter makes 24 x 24 pixels and there is no video.

Controls:
- no mask
- the mask of another picture
- the patches of the object itself: the most that a mask can give
- equal captions
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.core.loading import lazily
from workbench.papers.kinds import Setting
from workbench.papers.kit import (
    Claim,
    Conditions,
    Control,
    Extension,
    Paper,
    above,
    at_most,
    no_worse,
    room,
    untried,
)
from workbench.papers.kit.frames import RECONSTRUCTED
from workbench.papers.options import Sizes, size
from workbench.papers.registry import add_paper
from workbench.tasks.canvas.flat_shapes import changed, draw_many

with lazily():
    from workbench.edits import flow_edit
    from workbench.heads import word_maps

# Criteria, fixed before anything was measured.
CAN, MOST, WITHIN, NOTHING = 0.5, 0.95, 0.1, 1e-4
FIRST_SEED = 52_000_000
PATCHES = 20  # of a mask: an object covers 9 to 16, and its edge moves
MASKS = ("no mask", "attention mask", "mask of another picture", "the object's own patches")


@dataclass(frozen=True, kw_only=True)
class FlowDirectorSizes(Sizes):
    """How much is edited."""

    choosing: int = size(32, "pictures on which the head is chosen", least=4)
    pictures: int = size(100, "others that are edited", least=4)
    first: int = size(4, "the step at which editing begins", least=0)


def measure(setting: Setting) -> Conditions:
    """Choose the head, edit the same pictures under each mask, and read what has changed.

    Raises:
        ModelError: for a model that does not paint.
    """
    import torch

    o, model, seed = setting.options, setting.model, FIRST_SEED + 1000 * setting.seed
    choosing = [drawing.items for drawing in draw_many(seed, range(o.choosing), objects=2)]
    head = word_maps.map_fit(*word_maps.word_maps(model, choosing, seed=FIRST_SEED)).best()
    drawings = draw_many(seed + 1, range(o.pictures), objects=2)
    pictures = torch.from_numpy(np.stack([drawing.pixels for drawing in drawings]))
    source = [drawing.items for drawing in drawings]
    target = [changed(items, i) for i, items in enumerate(source)]
    slots = [
        1 if i % 2 == 0 else 2 for i in range(len(drawings))
    ]  # of the word that changes: colour or shape
    looks = flow_edit.looks_at_one(model, pictures, source, slots=slots, head=head)
    objects = [word_maps.around(word_maps.covered_patches(drawing.masks[0])) for drawing in drawings]
    own = torch.from_numpy(np.stack(objects))
    attention = flow_edit.strongest(looks, PATCHES)
    masks = dict(zip(MASKS, (None, attention, attention.roll(1, 0), own), strict=True))
    c = Conditions(unit="share of pictures", seed=setting.seed)
    c.numbers |= {"head": "cross:a{}.h{}".format(*head)}
    for done, (name, mask) in enumerate(masks.items(), start=1):
        made = flow_edit.flow_edit(model, pictures, source, target, mask=mask, seed=seed, first=o.first)
        new, kept = flow_edit.read_changes(made, target)
        c[f"changed, {name}"], c[f"kept, {name}"], c[f"both, {name}"] = new, kept, new * kept
        setting.progress(done, len(masks), name)
    same = flow_edit.flow_edit(model, pictures[:8], source[:8], source[:8], seed=seed, first=o.first)
    c.numbers["moved by equal captions"] = float((same - pictures[:8]).abs().max())
    return c


PLAIN, MASKED, OTHER, OWN = MASKS
CLAIMS = {
    "nothing": Claim(
        "equal captions leave the picture as it is",
        at_most("moved by equal captions", NOTHING),
        why="the difference of two equal velocities is zero",
        where="the method itself",
    ),
    "changes": Claim(
        "the asked attribute changes",
        above(f"changed, {PLAIN}", by=0.5),
        why="read off the picture: the first object has the new colour or shape, and its side",
        where=RECONSTRUCTED,
    ),
    "keeps": Claim(
        "a mask by attention keeps the rest better",
        above(f"kept, {MASKED}", f"kept, {PLAIN}"),
        why="the second object is what it was; the same pictures, paired",
        where=RECONSTRUCTED,
        needs=[
            room(f"kept, {PLAIN}", MOST, "{kept, " + PLAIN + ":.0%} keep the other object without a mask")
        ],
    ),
    "still changes": Claim(
        "with the mask the asked attribute changes nearly as often as without",
        no_worse(f"changed, {MASKED}", f"changed, {PLAIN}", within=WITHIN),
        why="a tenth may be lost",
        where=RECONSTRUCTED,
    ),
    "own mask": Control(
        "the picture's own mask serves better than that of another picture",
        above(f"both, {MASKED}", f"both, {OTHER}"),
        why="as many patches, where another picture's word is looked at",
    ),
    "ceiling": Extension(
        "attention is as good a mask as the object itself",
        no_worse(f"both, {MASKED}", f"both, {OWN}", within=WITHIN),
        why="the object's own patches and those beside them",
    ),
    "video": untried(
        "edits are the same in all frames of a video",
        "consistency over frames",
        "the painter makes single pictures",
        where=RECONSTRUCTED,
    ),
}
REPLICATION = add_paper(
    Paper(
        name="flow-director",
        source="FlowDirector 2025",
        model="zoo:painter",
        options=FlowDirectorSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
