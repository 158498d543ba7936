"""Global and local: which object a phrase means, by each object alone, in its context, or both mixed.

Objects are cut out by their true masks. *Alone*, the rest of the picture is painted over with its mean colour and a
frozen CLIP sees what is left; *in context*, the patches of the object in the whole picture are averaged. The object
whose direction is most like the phrase is chosen. Phrases of attributes (*large red star*) are of pictures with three
or four objects. Phrases of place (*large red star left of small blue disc*) are of pictures with two objects that look
the same: only the place tells which is meant, and the spatial prior knows which way a word of place points. Share of
the mix and weight of the prior are chosen on other pictures. Only the abstract of the paper was read.

Controls:
- each object alone, and each in its context
- the prior with a word of place drawn at random
- one of the two that look the same, at random
"""

from __future__ import annotations

from dataclasses import dataclass

from workbench.core.loading import lazily
from workbench.core.stats.intervals import SHARE
from workbench.papers.kinds import Setting
from workbench.papers.kit import Conditions, Paper, needs, untried
from workbench.papers.kit.criteria import above, at_least
from workbench.papers.kit.frames import RECONSTRUCTED, Control, Reconstructed, room
from workbench.papers.options import Sizes, size
from workbench.papers.registry import add_paper

with lazily():
    from workbench.heads import image_text, phrase_choice

# Criteria, fixed before anything was measured.
CHANCE, ROOM = 0.5, 0.98
FIRST_SEED = 37_000_000  # pictures of this paper: no other seed of pictures is near
MIXES, WEIGHTS = (0.25, 0.5, 0.75), (0.02, 0.05, 0.1, 0.2)
ALONE, CONTEXT, MIXED = "alone", "in context", "mixed"
PRIOR, RANDOM_PRIOR = "mixed, with the prior", "mixed, random prior"
ATTRIBUTES, PLACES = "attributes", "places"


@dataclass(frozen=True, kw_only=True)
class GlobalLocalSizes(Sizes):
    """Pictures of each kind of phrase."""

    choosing: int = size(80, "on which shares and weights are chosen", least=2)
    pictures: int = size(240, "others that are reported", least=2)


def measure(setting: Setting) -> Conditions:
    """Choose the object that a phrase means, in every way.

    Raises:
        ModelError: for a model that has no space for pictures and phrases.
    """
    o, model, seed = setting.options, setting.model, FIRST_SEED + setting.seed
    image_text.require_clip(model)
    c, first = Conditions(within=SHARE, seed=setting.seed), slice(0, o.choosing)
    n = o.choosing + o.pictures
    made = {ATTRIBUTES: phrase_choice.attribute_phrases(model, n=n, seed=seed)}
    made[PLACES] = phrase_choice.place_phrases(model, n=n, seed=seed + 500_000)
    rows = []
    for i, (kind, asked) in enumerate(made.items()):
        setting.progress(i, len(made), kind)
        kept = slice(o.choosing, None)
        tried = {share: asked.right(share) for share in (0.0, *MIXES, 1.0)}
        best = max(MIXES, key=lambda share: tried[share][first].mean())
        for name, share in ((ALONE, 0.0), (CONTEXT, 1.0), (MIXED, best)):
            c[f"{kind}, {name}"] = tried[share][kept]
        rows += [
            {"phrases": kind, "share of context": share, "right": float(x[kept].mean())}
            for share, x in tried.items()
        ]
        c.numbers[f"share, {kind}"] = best
    places, share = made[PLACES], c.numbers[f"share, {PLACES}"]
    weight = max(WEIGHTS, key=lambda w: places.right(share, prior=w)[first].mean())
    c[f"{PLACES}, {PRIOR}"] = places.right(share, prior=weight)[o.choosing :]
    c[f"{PLACES}, {RANDOM_PRIOR}"] = places.right(share, prior=weight, seed=setting.seed)[o.choosing :]
    c.numbers["weight of the prior"] = weight
    c.tables["Every share of context"] = rows
    return c


BY_ATTRIBUTES = f"{ATTRIBUTES}, {ALONE}"
SEES = needs(
    at_least(BY_ATTRIBUTES, CHANCE),
    f"the model chooses the object that attributes name in {{{BY_ATTRIBUTES}:.0%}} of the pictures; half is asked for",
)
CHOSEN = f"alone, the right object is chosen in {{{BY_ATTRIBUTES}:.1%}} of the pictures"
GAIN = room(BY_ATTRIBUTES, ROOM, CHOSEN, "found", "control", "n")
SHARES = f"; share of context {{share, {PLACES}:g}}"
CLAIMS = {
    "context": Reconstructed(
        "mixed representations choose better than objects in their context",
        above(f"{ATTRIBUTES}, {MIXED}", f"{ATTRIBUTES}, {CONTEXT}"),
        why="patches of a CLIP also hold what stands elsewhere",
        needs=[SEES],
    ),
    "alone": Reconstructed(
        "mixed representations choose better than objects alone",
        above(f"{ATTRIBUTES}, {MIXED}", f"{ATTRIBUTES}, {ALONE}"),
        why="an object alone has lost its surroundings",
        needs=[SEES, GAIN],
    ),
    "places": Reconstructed(
        "where only the place tells which object is meant, context helps",
        above(f"{PLACES}, {MIXED}", f"{PLACES}, {ALONE}"),
        why="alone, two objects that look the same are the same; only context can tell them apart",
        needs=[SEES],
        found=f"{{{PLACES}, {MIXED}:.3f}}{SHARES}",
    ),
    "prior": Reconstructed(
        "words of place need guidance",
        above(f"{PLACES}, {PRIOR}", f"{PLACES}, {MIXED}"),
        "with the spatial prior more of the objects that are meant are chosen than without: paired difference above 0, "
        "interval included",
        why="the same representations and phrases; only the prior is added",
        needs=[SEES],
    ),
    "word": Control(
        "the direction of the word of place guides better than any direction",
        above(f"{PLACES}, {PRIOR}", f"{PLACES}, {RANDOM_PRIOR}"),
        why="a random word moves scores as far",
        needs=[SEES],
    ),
    "benchmarks": untried(
        "zero-shot referring segmentation of photographs improves",
        "IoU on the benchmarks of the paper",
        "photographs and proposals of masks cannot be had here; masks are the true ones",
        where=RECONSTRUCTED,
    ),
}
REPLICATION = add_paper(
    Paper(
        name="global-local",
        source="HybridGL 2025",
        model="zoo:clip",
        options=GlobalLocalSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
