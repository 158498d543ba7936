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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from workbench.core.errors import OptionError
from workbench.core.loading import lazily
from workbench.core.stats.agreement import spearman
from workbench.core.stats.association import adjusted_rand, slope
from workbench.core.stats.intervals import CHANGE, SHARE
from workbench.core.stats.matched import layer_of, matched_heads
from workbench.heads import grid_maps, pattern_space, tower_profile
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, needs, untried
from workbench.papers.kit.criteria import (
    above,
    at_least,
    below,
    groups_agree,
    interval_excludes,
    permuted,
)
from workbench.papers.kit.frames import RECONSTRUCTED, Control, Extension, Reconstructed
from workbench.papers.registry import add_paper
from workbench.tasks.scenes.layout import World
from workbench.view.pictures import Curves, HeadMaps

with lazily():
    from workbench.edits import off
    from workbench.heads import drawn_pictures, observe, prune_metrics

# Criteria, fixed before anything was measured.
QUARTER, MOST, FOUND_AGAIN, RIGHT = 0.25, 0.5, 0.9, 0.5
METRICS = {
    "accuracy": "right answers lost",
    "probability": "probability of the right class lost",
    "divergence": "Jensen-Shannon divergence, nats",
    "representation": "1 - cosine of the class token",
}
EXEMPLARS = 5  # of each family that are drawn
Losses = dict[str, np.ndarray]
FIRST_SEED = 31_000_000  # pictures of this paper: no other seed of pictures is near
TOP, RANDOM, LOST = "a head of the top quarter", "a random head of the same layers", "probability lost"
TOGETHER, HALF = "the top quarter's loss", "half of all heads' loss"
ANSWERS = "share of right answers"
WHOLE, WITHOUT, WITHOUT_RANDOM = "all heads", "without the top quarter", "without random heads"


@dataclass(frozen=True, kw_only=True)
class VitHeadSizes:
    """Sizes.

    Attributes:
        choosing, pictures: Pictures on which heads are chosen, and others on which everything is reported.
        noise: Of pixels.
        draws: Random sets of heads.
        patterns: Pictures whose patterns are sorted into families.
        planted, mixed: Planted patterns of each family, and the share of random attention in them.
    """

    choosing: int = 200
    pictures: int = 300
    noise: float = 0.12
    draws: int = 10
    patterns: int = 20
    families: int = 4
    planted: int = 15
    mixed: float = 0.5

    def __post_init__(self) -> None:
        if min(self.choosing, self.pictures, self.patterns) < 2:
            raise OptionError("two pictures are the least that has an interval")


def measure(setting: Setting) -> Conditions:
    """Prune every head, alone and in sets; look at how far each looks; sort patterns.

    Raises:
        ModelError: for a model that reads no pictures.
    """
    o: VitHeadSizes = setting.options
    model, world = setting.model, World(marked=True, objects=(0, 1, 1, 1), noise=o.noise)
    seed, n = FIRST_SEED + setting.seed, o.choosing + o.pictures
    shown = drawn_pictures.draw_pictures(model, world, n=n, seed=seed)
    right = drawn_pictures.classes_of(model, shown.names())
    full = prune_metrics.predictions(model, shown.prompt)

    def lost(pruned: Sequence[str]) -> Losses:
        with off.turn_off(model, pruned, mode="zero").on(model):
            said = prune_metrics.predictions(model, shown.prompt)
        return dict(zip(METRICS, prune_metrics.prune_metrics(full, said, right), strict=True))

    heads = prune_metrics.every_head(model)
    alone: dict[str, Losses] = {}
    for i, head in enumerate(heads):
        setting.progress(i, len(heads), f"without {head}")
        alone[head] = lost([head])
    before = {head: found["divergence"][: o.choosing].mean() for head, found in alone.items()}
    chosen = sorted(heads, key=lambda head: -before[head])[: ceil(QUARTER * len(heads))]
    draws = matched_heads(chosen, heads, draws=o.draws, seed=setting.seed, short="all")
    own = {head: {name: x[o.choosing :] for name, x in found.items()} for head, found in alone.items()}
    c = Conditions(unit="nats of divergence", within=(0.0, float(np.log(2))), seed=setting.seed)
    c.numbers |= {"heads": len(heads), "layers": [layer_of(h) for h in heads], "chosen": chosen}
    c.numbers["losses"] = {name: [float(own[h][name].mean()) for h in heads] for name in METRICS}
    _by_themselves(c, own, chosen, draws)
    was = (full.probabilities.argmax(-1) == right).astype(float)
    c.add(WHOLE, was[o.choosing :], within=SHARE, unit=ANSWERS)
    c.add(WITHOUT, (was - lost(chosen)["accuracy"])[o.choosing :], within=SHARE, unit=ANSWERS)
    sets = [(was - lost(drawn)["accuracy"])[o.choosing :] for drawn in draws]
    c.add(WITHOUT_RANDOM, np.mean(sets, axis=0), within=SHARE, unit=ANSWERS)
    kept = [
        float(lost(prune_metrics.others_of_layer(h, heads))["divergence"][o.choosing :].mean()) for h in heads
    ]
    seen = observe.patterns_of(model, shown.prompt[o.choosing :]).by_head()
    profile = tower_profile.tower_profile(seen, shown[o.choosing :])
    _far(c, profile)
    c.tables["Every head"] = [
        {"head": h, **{f"{m} lost": c.numbers["losses"][m][i] for m in METRICS}}
        | {"divergence, alone in its layer": kept[i], **profile[h].row()}
        for i, h in enumerate(heads)
    ]
    for name, unit in METRICS.items():
        c.draw_heads(
            f"Lost without a head: {name}",
            dict(zip(heads, c.numbers["losses"][name], strict=True)),
            unit=unit,
        )
    _families(c, setting, shown.grid)
    few = {
        head: grid_maps.between_patches(A[: o.patterns], first=shown.sight.first) for head, A in seen.items()
    }
    space = pattern_space.pattern_space(np.concatenate(list(few.values())), families=o.families, seed=c.seed)
    loss = dict(zip(heads, c.numbers["losses"]["divergence"], strict=True))
    _pictures(c, shown[o.choosing :], few, seen, space)
    c.tables["Families of the model's own patterns"] = pattern_space.family_rows(few, loss, space)
    return c


def _by_themselves(
    c: Conditions, own: Mapping[str, Losses], chosen: Sequence[str], draws: Sequence[Sequence[str]]
) -> None:
    """What heads lose when they are pruned one by one: those chosen, random ones, all."""

    def mean(heads: Sequence[str], name: str = "divergence") -> np.ndarray:
        return np.mean([own[head][name] for head in heads], axis=0)

    c[TOP], c.draws[RANDOM] = mean(chosen), [mean(drawn) for drawn in draws]
    every = len(own) * mean(list(own))
    c.add(TOGETHER, len(chosen) * c[TOP], unit="nats, heads pruned one by one and added up")
    c.add(HALF, MOST * every, unit="nats, heads pruned one by one and added up")
    c.add(LOST, mean(chosen, "probability"), within=CHANGE, unit="probability of the right class")
    c.numbers["share"] = float(c[TOGETHER].sum() / every.sum()) if every.sum() else 0.0


def _far(c: Conditions, profile: Mapping[str, tower_profile.HeadOnPictures]) -> None:
    """How far heads look, and how that goes with their layers."""
    of_layer = {head: layer_of(head) for head in profile}
    layers = np.array(list(of_layer.values()), dtype=float)
    slopes = [slope(layers, far) for far in np.stack([each.distance for each in profile.values()], axis=1)]
    c.add("slope of distance", np.array(slopes), unit="hops per layer, between patches")
    far = {head: float(each.distance.mean()) for head, each in profile.items()}
    c.numbers["distances"] = list(far.values())
    c.draw_heads("Mean distance that patches look", far, unit="hops")
    rings = {
        f"layer {n}": enumerate(
            np.mean([profile[h].rings.strength.mean(0) for h in profile if of_layer[h] == n], 0)
        )
        for n in sorted(set(of_layer.values()))
    }
    caption = "Attention of a patch to one patch so many hops away, mean of a layer"
    c.pictures[caption] = Curves.of(rings, x_label="hops", y_label="attention to one patch", title=caption)


def _pictures(
    c: Conditions,
    shown: drawn_pictures.DrawnPictures,
    few: Mapping[str, np.ndarray],
    seen: Mapping[str, np.ndarray],
    space: pattern_space.PatternSpace,
) -> None:
    """Where class tokens look on the first picture, and exemplars of every family with what is lost without them."""
    heads, n = list(seen), len(next(iter(few.values())))
    caption = "Where the class token of every head looks"
    rows = [grid_maps.over_grid(seen[head][0, 0], shown.grid, first=shown.sight.first) for head in heads]
    c.pictures[caption] = HeadMaps.of_heads(
        dict(zip(heads, rows, strict=True)), pixels=shown.pixels[0], title=caption
    )
    exemplars = [family[:EXEMPLARS] for family in space.exemplars if len(family) >= EXEMPLARS]
    patterns, loss = np.concatenate(list(few.values())), c.numbers["losses"]["divergence"]
    caption = "Exemplars of every family: head, and what is lost without it"
    c.pictures[caption] = HeadMaps.of(
        np.array([[pattern_space.resized(patterns[k], 18) for k in family] for family in exemplars]),
        [f"family {i}" for i in range(len(exemplars))],
        [str(i + 1) for i in range(EXEMPLARS)],
        under=[[f"{heads[k // n]} {loss[k // n]:.3f}" for k in family] for family in exemplars],
        title=caption,
    )


def _families(c: Conditions, setting: Setting, grid: tuple[int, int]) -> None:
    """Sort planted patterns, whose families are known."""
    o: VitHeadSizes = setting.options
    made, planted = pattern_space.planted_patterns(grid, each=o.planted, noise=o.mixed, seed=setting.seed)
    found = pattern_space.pattern_space(made, families=len(pattern_space.PLANTED), seed=setting.seed)
    c.add("planted family", planted, unit="number of the family")
    c.add("family found", found.families, unit="number of the family")
    c.numbers["adjusted Rand index"] = adjusted_rand(found.families.tolist(), planted.tolist())


def _agreement(divergence: np.ndarray, c: Conditions) -> float:
    """Mean rank correlation over heads of one measure, in the order given, with the other three."""
    others = [np.array(losses) for name, losses in c.numbers["losses"].items() if name != "divergence"]
    return float(np.mean([spearman(divergence, other) for other in others]))


def _trend(layers: np.ndarray, c: Conditions) -> float:
    """How steeply the mean distance of heads goes with their layers, up or down."""
    return abs(slope(layers.astype(float), np.array(c.numbers["distances"])))


ABLE = needs(
    at_least(WHOLE, RIGHT),
    f"the model names the marked object in {{{WHOLE}:.0%}} of the pictures; half is asked for",
)
CLAIMS = {
    "matters": Control(
        "pruning a head changes what the model says",
        above(LOST),
        "without a head of the top quarter the right class loses probability: above 0, interval included",
        why="whether pruning does anything here at all; heads are chosen on other pictures",
        needs=[ABLE],
        found=f"{{shown of {LOST}}} lost",
    ),
    "few": Reconstructed(
        "a few heads matter most",
        above(TOGETHER, HALF),
        "a quarter of the heads has more than half of what all heads lose when they are pruned one by one "
        "(divergence): paired difference above 0, interval included",
        why="even heads would have a quarter; more than half for a quarter is what 'most' says",
        needs=[ABLE],
        found="{share:.0%} of the loss",
        control="{heads} heads, 25% if all mattered alike",
    ),
    "random": Control(
        "the heads found important are more so than random heads of their layers",
        above(TOP, RANDOM),
        why="layers differ in what a head can lose, so the control has as many heads of each layer",
        needs=[ABLE],
    ),
    "together": Extension(
        "without the important heads together the model names fewer objects than without as many others",
        below(WITHOUT, WITHOUT_RANDOM),
        why="losses of single heads may be of the same pictures; sets say what is lost together",
        needs=[ABLE],
    ),
    "agree": Reconstructed(
        "measures of importance agree",
        permuted(
            "mean rank correlation over heads of divergence and the other three",
            _agreement,
            lambda c: c.numbers["losses"]["divergence"],
        ),
        why="four measures of one thing should order heads alike; with importances dealt anew they would not",
        needs=[ABLE],
        found=lambda c: f"{_agreement(np.array(c.numbers['losses']['divergence']), c):.2f}",
        control="0 with importances dealt anew",
        n="{heads}",
    ),
    "hops": Reconstructed(
        "how far heads look changes with the layer",
        permuted("size of the slope of mean distance over layers", _trend, lambda c: c.numbers["layers"])
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
    ),
    "experts": untried(
        "experts find insights with the tool that they would not find without it",
        "people who use the page name more heads rightly than people who do not",
        "nobody is asked here",
        where=RECONSTRUCTED,
    ),
    "imagenet": untried(
        "the same holds in large models of photographs",
        "the claims above in a ViT trained on ImageNet",
        "photographs and models of them cannot be had here; -m takes any ViT whose classes are the drawn objects",
        where=RECONSTRUCTED,
    ),
}
REPLICATION = add_paper(
    Paper(
        name="vit-heads",
        source="Li, Wang, Dai, Wang, Yeh, Zheng, Zhang and Ma 2023",
        model="zoo:marked",
        options=VitHeadSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
