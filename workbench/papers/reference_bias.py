"""A reference moves attention: one picture of an object, and a model looks at the same object in other pictures.

The scores of every key grow with its similarity to the reference, which is the mean of the residual stream over the
object's patches in one other picture. The model names the object in the white frame; the reference is of another
object, which it has no reason of its own to look at. How strong the bias is was chosen on other pictures, by the
attention on the object. Then two numbers are fitted on the reference picture: they mix similarities at three depths,
as the paper mixes masks of three scales. Only the abstract of the paper was read. While this was written, pictures of
another seed were looked at: the bias moved attention there, and the two numbers did not beat equal weights.

Controls:
- no bias
- the reference of another pair of pictures
- random directions in place of the reference
- equal weights, and weights that were fitted on another pair's reference picture
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workbench.core.loading import lazily
from workbench.core.stats.intervals import SHARE
from workbench.papers.kinds import Setting
from workbench.papers.kit import Conditions, Paper, needs, untried
from workbench.papers.kit.criteria import above, at_most
from workbench.papers.kit.frames import RECONSTRUCTED, Control, Extension, Reconstructed
from workbench.papers.options import Sizes, size
from workbench.papers.registry import add_paper

with lazily():
    from workbench.edits import reference_scenes

if TYPE_CHECKING:
    from workbench.edits.edit import ModelEdit

# Criteria, fixed before anything was measured.
ROOM = 0.5  # of attention that is on the object already
FIRST_SEED = 38_000_000  # pictures of this paper: no other seed of pictures is near
STRENGTHS = (5.0, 10.0, 20.0, 40.0, 80.0)
PLAIN, OWN, OTHER, RANDOM = "no bias", "its reference", "another reference", "random directions"
FITTED, EQUAL, LAST, DEALT = "fitted", "equal weights", "last layer", "fitted on another reference"


@dataclass(frozen=True, kw_only=True)
class ReferenceSizes(Sizes):
    """Pairs of pictures that are drawn."""

    choosing: int = size(80, "on which the strength is chosen", least=2)
    pictures: int = size(300, "others that are reported", least=2)
    draws: int = size(3, "random directions of each layer and picture", least=1)


def measure(setting: Setting) -> Conditions:
    """Bias attention towards a reference, and mix similarities by two fitted numbers.

    Raises:
        ModelError: for a model that does not read pictures alone, or has no names for what it puts out.
    """
    o, model, seed = setting.options, setting.model, FIRST_SEED + 10 * setting.seed
    c = Conditions(unit="share of attention on the object", within=SHARE, seed=setting.seed)
    drawn = reference_scenes.draw_references(model, n=o.choosing + o.pictures, seed=seed)
    first, kept = drawn[: o.choosing], drawn[o.choosing :]
    rows = []
    for i, beta in enumerate((0.0, *STRENGTHS)):
        setting.progress(i, 2 + len(STRENGTHS), "strengths")
        lies, named = first.looks(first.bias(beta))
        rows.append(
            {"strength": beta, "on the object": float(lies.mass.mean()), "named": float(named.mean())}
        )
        rows[-1] |= {"on another object": float(lies.other_mass.mean())}
    c.tables["Every strength, on the pictures for choosing"] = rows
    beta = STRENGTHS[int(np.argmax([row["on the object"] for row in rows[1:]]))]
    c.numbers["strength"] = beta
    edits: dict[str, list[ModelEdit | None]] = {
        PLAIN: [None],
        OWN: [kept.bias(beta)],
        OTHER: [kept.bias(beta, kept.reference.roll(1, dims=0))],
        RANDOM: [kept.bias(beta, each) for each in kept.random_directions(o.draws, seed)],
    }
    for name, those in edits.items():
        looked = [kept.looks(edit) for edit in those]
        c[name] = np.mean([lies.mass for lies, _ in looked], axis=0)
        named = np.mean([share for _, share in looked], axis=0)
        c.add(f"named, {name}", named, within=SHARE, unit="share of answers that name the object")
    setting.progress(1 + len(STRENGTHS), 2 + len(STRENGTHS), "two numbers")
    fitted = kept.fitted()
    equal, last = reference_scenes.unfitted(fitted)
    mixed = {FITTED: fitted, EQUAL: equal, LAST: last, DEALT: fitted.roll(1, 0)}
    for name, weights in mixed.items():
        unit = "overlap of mask and object"
        c.add(f"overlap, {name}", kept.overlap(weights), within=SHARE, unit=unit)
    c.numbers["weights"] = [round(each, 3) for each in fitted.mean(0).tolist()]
    return c


UNSEEN = needs(
    at_most(PLAIN, ROOM),
    f"the model looks at the object by itself, with {{{PLAIN}:.0%}} of its attention; at most half is allowed",
)
STRENGTH = "; strength {strength:g}"
CLAIMS = {
    "moves": Reconstructed(
        "one reference moves attention to the same object in another picture",
        above(OWN, PLAIN),
        why="the same pictures and heads; only the bias is added",
        needs=[UNSEEN],
        found=f"{{shown of {OWN}}}{STRENGTH}",
    ),
    "object": Control(
        "the object's own reference moves attention to it more than that of another object",
        above(OWN, OTHER),
        why="another reference is of an object, too, and the bias is as strong",
        needs=[UNSEEN],
    ),
    "random": Control(
        "the reference moves attention to the object more than random directions do",
        above(OWN, RANDOM),
        why="random directions, one of each layer and picture; the bias is as strong",
        needs=[UNSEEN],
    ),
    "named": Extension(
        "with its reference the model's answer names that object more often than with another",
        above(f"named, {OWN}", f"named, {OTHER}"),
        why="attention that moves need not change an answer; the answers with another reference are the control",
        needs=[UNSEEN],
    ),
    "fitted": Reconstructed(
        "fitting two numbers on the one reference finds the object better than one scale alone",
        above(f"overlap, {FITTED}", f"overlap, {LAST}"),
        why="the last layer alone has nothing that is fitted; thresholds are the best ones for both",
    ),
    "equal": Control(
        "fitting two numbers on the one reference finds the object better than equal weights",
        above(f"overlap, {FITTED}", f"overlap, {EQUAL}"),
        why="equal weights are where fitting begins; what is mixed is the same",
    ),
    "dealt": Control(
        "two numbers fitted on this reference are better than those fitted on another",
        above(f"overlap, {FITTED}", f"overlap, {DEALT}"),
        why="numbers that were fitted on another pair's reference, on the same pictures",
    ),
    "photographs": untried(
        "segmentation of personal objects in photographs and videos improves",
        "IoU on the benchmarks of the paper",
        "photographs, videos and the Segment Anything Model cannot be had here",
        where=RECONSTRUCTED,
    ),
}
REPLICATION = add_paper(
    Paper(
        name="reference-bias",
        source="PerSAM 2023",
        model="zoo:marked",
        options=ReferenceSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
