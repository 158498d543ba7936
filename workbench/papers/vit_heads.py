"""How attention works in a vision transformer: which heads matter, how far they look, what their patterns look like.

Every head is pruned by itself (its output is zero) and what the model says is compared with the whole model: accuracy,
probability of the right class, Jensen-Shannon divergence, the class token's representation. How far heads look is
measured by rings of distance around each patch. Patterns are sorted into families by their main axes. Only the abstract
of the paper was read: its claims are reconstructed from there, and criteria and controls are ours.

The pictures are drawn: one object of two to four stands in a white frame and is to be named. Heads are chosen on other
pictures than those reported. Pixel noise is 0.12: with less the model is always right, and hardly a head is missed.

Controls:
- random heads of the same layers
- half of what all heads lose, where a quarter of the heads is claimed to lose more
- the heads' layers and importances dealt anew
- planted families of patterns
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.core.loading import lazily
from workbench.core.stats.intervals import CHANGE, SHARE
from workbench.heads import pattern_space, tower_pictures, tower_profile
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper
from workbench.papers.kit.criteria import above, below, groups_agree, interval_excludes, permuted
from workbench.papers.kit.frames import Control, Extension, Reconstructed, answers, untried_reconstructed
from workbench.papers.options import Sizes, size
from workbench.papers.registry import add_paper

with lazily():
    from workbench.edits import pruning
    from workbench.heads import drawn_pictures, observe

# Criteria, fixed before anything was measured.
QUARTER, MOST, FOUND_AGAIN, RIGHT = 0.25, 0.5, 0.9, 0.5
FIRST_SEED = 31_000_000  # pictures of this paper: no other seed of pictures is near
TOP, RANDOM, LOST = "a head of the top quarter", "a random head of the same layers", "probability lost"
TOGETHER, HALF = "the top quarter's loss", "half of all heads' loss"
WHOLE, WITHOUT, WITHOUT_RANDOM = "all heads", "without the top quarter", "without random heads"


@dataclass(frozen=True, kw_only=True)
class VitHeadSizes(Sizes):
    """How much is drawn, pruned and sorted."""

    choosing: int = size(200, "pictures on which heads are chosen", least=2)
    pictures: int = size(300, "others on which everything is reported", least=2)
    noise: float = size(0.12, "of pixels")
    draws: int = size(10, "random sets of heads")
    patterns: int = size(20, "pictures whose patterns are sorted into families", least=2)
    families: int = size(4, "of the model's own patterns")
    planted: int = size(15, "planted patterns of each family")
    mixed: float = size(0.5, "share of random attention in planted patterns")


def measure(setting: Setting) -> Conditions:
    """Prune every head, alone and in sets; look at how far each looks; sort patterns.

    Raises:
        ModelError: for a model that reads no pictures.
    """
    o, model, c = setting.options, setting.model, Conditions(seed=setting.seed)
    c.unit, c.within = "nats of divergence", (0.0, float(np.log(2)))
    n, seed = o.choosing + o.pictures, FIRST_SEED + setting.seed
    drawn = drawn_pictures.draw_framed(model, n=n, seed=seed, noise=o.noise)
    pruned, shown = pruning.Pruning.of_drawn(model, drawn), drawn[o.choosing :]
    how = {"choosing": o.choosing, "draws": o.draws, "seed": setting.seed}
    own = pruned.choose(QUARTER, each=lambda heads: setting.each(heads, "heads pruned"), **how)
    _pruned(c, pruned, own)
    seen = observe.patterns_of(model, shown.prompt).by_head()
    profile = tower_profile.tower_profile(seen, shown)
    c.add("slope of distance", tower_profile.distance_slopes(profile), unit="hops per layer, between patches")
    far = tower_profile.mean_distances(profile)
    c.numbers["distances"] = list(far.values())
    c.draw_heads("Mean distance that patches look", far, unit="hops")
    c.keep(tower_pictures.ring_curves(profile), tower_pictures.class_token_maps(seen, shown))
    c.tables["Every head"] = pruning.head_rows(pruned, own, {head: x.row() for head, x in profile.items()})
    for name, unit in pruning.METRICS.items():
        c.draw_heads(f"Lost without a head: {name}", own.by_head(name), unit=unit)
    planted = pattern_space.find_planted(shown.grid, each=o.planted, noise=o.mixed, seed=setting.seed)
    few = pattern_space.few_patterns(seen, n=o.patterns, first=shown.sight.first)
    _families(c, planted, few, own.by_head(), o.families)
    return c


def _pruned(c: Conditions, pruned: pruning.Pruning, own: pruning.ChosenHeads) -> None:
    """What heads lose that are pruned one by one and together: those chosen on other pictures, random ones, all."""
    heads, added_up = pruned.heads, "nats, heads pruned one by one and added up"
    c.numbers |= {"heads": len(heads), "layers": pruned.layers, "chosen": own.chosen}
    c.numbers |= {"losses": pruning.mean_by_measure(own.losses), "share": own.share}
    c[TOP], c.draws[RANDOM] = own.mean(own.chosen), [own.mean(drawn) for drawn in own.draws]
    c.add(TOGETHER, own.added(own.chosen), unit=added_up)
    c.add(HALF, MOST * own.added(heads), unit=added_up)
    c.add(LOST, own.mean(own.chosen, "probability"), within=CHANGE, unit="probability of the right class")
    right = pruned.answers_of_sets(own.chosen, own.draws)
    for name, values in zip((WHOLE, WITHOUT, WITHOUT_RANDOM), right, strict=True):
        c.add(name, values[-c.n(TOP) :], within=SHARE, unit="share of right answers")


def _families(c: Conditions, planted: pattern_space.FoundFamilies, few, loss, families: int) -> None:
    """Planted patterns, whose families are known, and the model's own."""
    c.add("planted family", planted.planted, unit="number of the family")
    c.add("family found", planted.found, unit="number of the family")
    c.numbers["adjusted Rand index"] = planted.agreement
    space, rows = pattern_space.head_families(few, loss, families=families, seed=c.seed)
    c.keep(tower_pictures.family_exemplars(few, space, loss))
    c.tables["Families of the model's own patterns"] = rows


ABLE = answers(WHOLE, RIGHT, said="the model names the marked object in {} of the pictures")
CLAIMS = {
    "matters": Control(
        "pruning a head changes what the model says",
        above(LOST),
        "without a head of the top quarter the right class loses probability: above 0, interval included",
        why="whether pruning does anything here at all; heads are chosen on other pictures",
        found=f"{{shown of {LOST}}} lost",
    ),
    "few": Reconstructed(
        "a few heads matter most",
        above(TOGETHER, HALF),
        "a quarter of the heads has more than half of what all heads lose when they are pruned one by one "
        "(divergence): paired difference above 0, interval included",
        why="even heads would have a quarter; more than half for a quarter is what 'most' says",
        found="{share:.0%} of the loss",
        control="{heads} heads, 25% if all mattered alike",
    ),
    "random": Control(
        "the heads found important are more so than random heads of their layers",
        above(TOP, RANDOM),
        why="layers differ in what a head can lose, so the control has as many heads of each layer",
    ),
    "together": Extension(
        "without the important heads together the model names fewer objects than without as many others",
        below(WITHOUT, WITHOUT_RANDOM),
        why="losses of single heads may be of the same pictures; sets say what is lost together",
    ),
    "agree": Reconstructed(
        "measures of importance agree",
        permuted(
            "mean rank correlation over heads of divergence and the other three",
            lambda own, c: pruning.agreement(c.numbers["losses"] | {"divergence": own}),
            lambda c: c.numbers["losses"]["divergence"],
        ),
        why="four measures of one thing should order heads alike; with importances dealt anew they would not",
        found=lambda c: f"{pruning.agreement(c.numbers['losses']):.2f}",
        control="0 with importances dealt anew",
        n="{heads}",
    ),
    "hops": Reconstructed(
        "how far heads look changes with the layer",
        permuted(
            "size of the slope of mean distance over layers",
            lambda layers, c: tower_profile.steepness(layers, c.numbers["distances"]),
            lambda c: c.numbers["layers"],
        )
        & interval_excludes("slope of distance"),
        "the slope of the mean distance over layers is larger than with the heads' layers dealt anew (p below 0.05), "
        "and its interval over pictures excludes 0",
        why="any twelve numbers have some slope; heads, not pictures, are what a trend over layers is about",
        found="{shown of slope of distance} hops per layer",
        n="{heads}",
    ),
    "families": Claim(
        "heads' patterns fall into families that can be told apart",
        groups_agree("family found", "planted family", least=FOUND_AGAIN),
        "four planted families of patterns, half of each pattern random, are found again: adjusted Rand index at least "
        "0.9, p below 0.05 (permuted labels)",
        why="in planted patterns the families are known; in the model's own nobody knows them",
        where="abstract, reconstructed; on planted patterns, an extension of ours",
        found="{adjusted Rand index:.2f}",
        control=None,
        alone=True,
    ),
    "experts": untried_reconstructed(
        "experts find insights with the tool that they would not find without it",
        "people who use the page name more heads rightly than people who do not",
        "it needs people who work with the page, and nobody was asked",
    ),
    "imagenet": untried_reconstructed(
        "the same holds in large models of photographs",
        "the claims above in a ViT trained on ImageNet",
        "photographs and models of them cannot be had here; -m takes any ViT whose classes are the drawn objects",
    ),
}
REPLICATION = add_paper(
    Paper(
        name="vit-heads",
        source="Li, Wang, Dai, Wang, Yeh, Zheng, Zhang and Ma 2023",
        model="zoo:marked",
        options=VitHeadSizes,
        measure=measure,
        needs=[ABLE],
        claims=CLAIMS,
    )
)
