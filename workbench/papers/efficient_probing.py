"""Efficient probing: a few learned queries look at frozen patches and read a class from them, with few parameters.

The class of a picture is the object in its white frame, beside one to three others, so a probe has to find it. What is
probed are the patches of a frozen tower after its second layer; the class token is left out. This layer was chosen
because there the mean of all patches does not already say it: after the last layer it does, and no probe gains; the
table has every layer. Probes are trained on some pictures and judged on others, with two seeds each.

Controls:
- a linear probe of the mean of all patches
- attention pooling with projections of keys and queries
- the other objects of the picture, for where queries look
- queries of a probe trained with another seed, for how much maps overlap
- labels dealt anew
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.core.errors import OptionError
from workbench.core.loading import lazily
from workbench.core.stats.intervals import SHARE
from workbench.heads.localisation import locate
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, needs, untried
from workbench.papers.kit.criteria import above, at_least, below, fact, no_worse
from workbench.papers.kit.frames import Control
from workbench.papers.options import Sizes, size
from workbench.papers.registry import add_paper
from workbench.tasks.scenes.layout import World
from workbench.view.pictures import HeadMaps

with lazily():
    from workbench.heads import attentive_probe, drawn_pictures, probe_set

# Criteria, fixed before anything was measured.
EQUAL, LEARNED, APART, SEEDS = 0.02, 0.5, 0.05, (0, 1)
FIRST_SEED = 21_000_000  # pictures of this paper: no other seed of pictures is near
MEAN, EFFICIENT, POOLING = "linear probe of the mean", "efficient probe", "attention pooling"
DEALT = "efficient probe, labels dealt anew"
OWN, OTHERS = "weight on the marked object", "weight on another object"
WITHIN, BETWEEN = "overlap of two queries", "overlap of queries of two seeds"


@dataclass(frozen=True, kw_only=True)
class ProbingSizes(Sizes):
    """How much is drawn and trained."""

    training: int = size(1200, "pictures that probes are trained on", least=2)
    pictures: int = size(400, "others that they are judged on", least=2)
    layer: int = size(1, "after which the patches are probed; every layer stands in the table")
    queries: int = size(8, "of the efficient probe; heads of the pooling", least=2)
    steps: int = size(300, "of training")
    batch: int = size(128, "pictures of a step")
    lr: float = size(3e-3, "rate of learning")


def measure(setting: Setting) -> Conditions:
    """Train the probes on every layer, and look at their maps on the layer that is asked for.

    Raises:
        ModelError: for a model that reads no pictures.
    """
    o: ProbingSizes = setting.options
    world = World(marked=True, objects=(0, 1, 1, 1))
    seed, model, n = FIRST_SEED + setting.seed, setting.model, o.training + o.pictures
    if not 0 <= o.layer < model.cfg.n_layers:
        raise OptionError(
            f"layer is {o.layer}; the model has layers 0 to {model.cfg.n_layers - 1}",
            hint=f"--set layer={model.cfg.n_layers - 1}",
        )
    shown = drawn_pictures.draw_pictures(model, world, n=n, seed=seed)
    right = np.unique(shown.names(), return_inverse=True)[1]
    training = attentive_probe.ProbeTraining(steps=o.steps, batch=o.batch, lr=o.lr)
    c, rows = Conditions(seed=setting.seed), []
    for layer in range(model.cfg.n_layers):
        setting.progress(layer, model.cfg.n_layers, f"probes after layer {layer}")
        features = attentive_probe.patch_features(model, shown, layer)
        own = probe_set.ProbeSet(features, right, n=o.training, queries=o.queries, training=training)
        found = {name: own.accuracy(name, SEEDS if layer == o.layer else SEEDS[:1]) for name in own.makers}
        rows.append({"layer": layer, **{name: float(x.mean()) for name, x in found.items()}})
        if layer == o.layer:
            for name, values in found.items():
                c[name] = values
            c[DEALT] = own.accuracy(EFFICIENT, SEEDS[:1], dealt=True)
            c.numbers["parameters"] = own.sizes()
            _maps(c, own, shown[o.training :])
    c.tables["Accuracy after every layer"] = rows
    return c


def _maps(c: Conditions, own: probe_set.ProbeSet, shown: drawn_pictures.DrawnPictures) -> None:
    """Where queries look, and how much they overlap."""
    first, second = (own.maps(seed) for seed in SEEDS)
    grids = first.reshape(*first.shape[:2], *shown.grid)
    found = locate(grids.mean(1), shown.own, shown.others)
    c.add(OWN, found.lift, unit="weight of a patch, 1 is an even map")
    c.add(OTHERS, found.other_lift, unit="weight of a patch, 1 is an even map")
    c.numbers["pointing"] = float(found.pointing.mean())
    for name, other in ((WITHIN, first), (BETWEEN, second)):
        shared = probe_set.shared_maps(first, other)
        c.add(name, shared, within=SHARE, unit="share of two maps that is common")
    caption = "Where the queries look, on the first picture"
    labels = [f"query {j + 1}" for j in range(grids.shape[1])]
    c.pictures[caption] = HeadMaps.of(grids[:1], ["weight"], labels, pixels=shown.pixels[0], title=caption)


FIT = needs(
    at_least(POOLING, LEARNED),
    f"attention pooling, the reference, is right in {{{POOLING}:.0%}} of the pictures; half is asked for",
)
NUMBERS = f"{{parameters[{EFFICIENT}]:,}} learned numbers; {POOLING} has {{parameters[{POOLING}]:,}}"
CLAIMS = {
    "learned": Control(
        "the probe reads what is there, not what it could learn by heart",
        above(EFFICIENT, DEALT),
        why="with labels dealt anew there is nothing to read; what is right then is chance",
    ),
    "linear": Claim(
        "efficient probing beats a linear probe of the mean of all patches",
        above(EFFICIENT, MEAN),
        paper="75.5 against 67.8 (ImageNet-1k, MAE ViT-B)",
        why="both read the same frozen patches; only one may choose among them",
        where="the results on ImageNet-1k",
        needs=[FIT],
        found=f"{{shown of {EFFICIENT} minus {MEAN}}} of the pictures",
    ),
    "pooling": Claim(
        "efficient probing is as good as attention pooling",
        no_worse(EFFICIENT, POOLING, within=EQUAL),
        f"accuracy at most {EQUAL:.0%} below attention pooling with as many maps, interval included",
        why="two points are what a probe may lack and still count as equal",
        where="abstract",
        needs=[FIT],
    ),
    "fewer": Claim(
        "efficient probing has fewer parameters than attention pooling",
        fact(
            "it has fewer learned numbers than attention pooling",
            lambda c: c.numbers["parameters"][EFFICIENT] < c.numbers["parameters"][POOLING],
        ),
        why="one projection in place of two or three; counted, classifier included",
        where="abstract",
        found=NUMBERS,
        control=f"{MEAN} {{parameters[{MEAN}]:,}}",
    ),
    "localise": Claim(
        "the queries of the probe find the object",
        above(OWN, OTHERS),
        "the mean map of the queries gives a patch of the marked object more than one of the other objects: paired "
        "difference above 0, interval included",
        why="any map that prefers objects to the ground would have much weight on them; the other objects have not",
        where="the maps of its queries; on marked objects, an extension of ours",
        needs=[FIT],
        found=f"{{shown of {OWN}}}; the largest weight is on it in {{pointing:.0%}}",
    ),
    "complementary": Claim(
        "the queries of the probe look at different parts",
        below(WITHIN, BETWEEN, by=-APART),
        f"two queries of one probe share at least {APART:g} less of their maps than queries of two probes that know "
        "nothing of each other: paired difference, interval included",
        why="queries that learn together can divide the work; those of two trainings cannot. On other pictures a "
        "difference of 0.003 was clear of 0, at 0.94 in common: 0.05 is the least that means anything",
        where="the maps of its queries",
        needs=[FIT],
    ),
    "faster": untried(
        "it is up to ten times faster than attentive probing",
        "time of a training step beside attention pooling, at ImageNet size",
        "with 36 patches of 64 numbers, time goes into starting operations, not into computing",
        paper="up to 10 times",
        where="abstract",
    ),
    "imagenet": untried(
        "the order of probes is the same on photographs and large towers",
        "the claims above on MAE ViT-B and ViT-L",
        "photographs and models of them cannot be had here",
        paper="76.0 to 79.5 (ViT-L)",
        where="the results on ImageNet-1k",
    ),
}
REPLICATION = add_paper(
    Paper(
        name="efficient-probing",
        source="Psomas et al. 2025",
        model="zoo:marked",
        options=ProbingSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
