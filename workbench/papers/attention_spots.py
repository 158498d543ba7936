"""Attention spots: an instruction names spots, and somebody who walks looks for them one after the other.

The paper's agent has four parts, none of them trained for the task: a language model finds the spots of an instruction,
a CLIP chooses among twelve views the one that is most like the current spot, a monitor takes the next spot when the
likeness falls, and a map of what is occupied, from depth, keeps the agent from collisions. Only the abstract was read.
Here a walk is drawn: panoramas of twelve views, two spots such as *large red star*, which move from view to view, grow
as they come near, and are gone once they are passed. The spots are given as phrases, since nothing has to be found in
words that are drawn. The collisions are drawn apart from the walks: round obstacles, depth with noise of 5 %, one step.

One thing stands in every view. The CLIP was trained to match whole pictures with all that they show, so with two things
in a view fewer spots are found (a row of the table), and with three next to none were on other walks, before criteria
were fixed. How far the likeness has to fall, and the step of the fixed schedule, are chosen on other walks.

Controls:
- the instruction of another walk
- a fixed schedule: the next spot is taken at the step that is best for other walks
- the monitor's own steps, dealt to other walks
- no mask, and the mask of another place
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from workbench.core.loading import lazily
from workbench.core.stats.intervals import SHARE
from workbench.core.stats.permutation import derangement
from workbench.masks.occupancy import occupancy_mask, step_among
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, needs, untried
from workbench.papers.kit.criteria import above, at_least, below
from workbench.papers.kit.frames import RECONSTRUCTED, Control
from workbench.papers.options import Sizes, size
from workbench.papers.registry import add_paper
from workbench.tasks.scenes.walks import VIEWS, draw_obstacles, draw_walks

with lazily():
    from workbench.heads import attention_spots, image_text

# Criteria, fixed before anything was measured.
SEES = 2 / VIEWS
FIRST_SEED = 59_000_000  # walks of this paper: no other seed of walks is near
FALLS = (0.02, 0.05, 0.1, 0.2)
RIGHT, OTHERS = "right view", "right view, instruction of another walk"
MONITOR, FIXED, DEALT = "switches right", "switches right, fixed schedule", "switches right, dealt steps"
FACES, FACES_FIXED = "faces the right spot", "faces the right spot, fixed schedule"
MASK, PLAIN, ANOTHER = "collides, mask", "collides, no mask", "collides, mask of another place"
GOES, GOES_PLAIN = "goes on, mask", "goes on, no mask"
STEP, BODY, RAYS = 1.0, 0.15, 180
Drawn = partial(Claim, where=f"{RECONSTRUCTED}; on drawn walks, an extension of ours")


@dataclass(frozen=True, kw_only=True)
class SpotSizes(Sizes):
    """Walks and places that are drawn."""

    choosing: int = size(40, "walks on which fall and schedule are chosen", least=4)
    walks: int = size(80, "others that are reported", least=4)
    steps: int = size(7, "of a walk", least=4)
    crowded: int = size(12, "walks with two things in every view, for the table", least=1)
    places: int = size(400, "places with obstacles", least=4)
    noise: float = size(0.05, "of depth, as a share of the distance")


def measure(setting: Setting) -> Conditions:
    """Walk with monitor and with fixed schedule; step among obstacles with and without the mask.

    Raises:
        ModelError: for a model that has no space for pictures and phrases.
    """
    o, model, seed = setting.options, setting.model, FIRST_SEED + 1000 * setting.seed
    image_text.require_clip(model)
    c = Conditions(within=SHARE, unit="share of walks", seed=setting.seed)
    rng = np.random.default_rng(seed)
    draw = {"steps": o.steps}
    first = draw_walks(n=o.choosing, seed=seed + 1, **draw)
    told = attention_spots.walk_similarities(model, first)[:, 0].max(-1)
    setting.progress(1, 3, "walks")
    fall, f1 = attention_spots.choose_fall(told, first.passed, FALLS)
    schedule = int(np.bincount(first.passed).argmax())
    walks = draw_walks(n=o.walks, seed=seed + 3, **draw)
    alike = attention_spots.walk_similarities(model, walks)
    setting.progress(2, 3, "walks")
    right = attention_spots.right_views(alike, walks.seen_in)
    c[RIGHT] = np.nanmean(right, (1, 2))
    moved = replace(walks, phrases=tuple(walks.phrases[i] for i in derangement(o.walks, rng)))
    c[OTHERS] = np.nanmean(attention_spots.spots_found(model, moved), (1, 2))
    said = attention_spots.falls_at(alike[:, 0].max(-1), fall=fall)
    fixed = np.full(o.walks, schedule)
    for name, steps in ((MONITOR, said), (FIXED, fixed), (DEALT, said[derangement(o.walks, rng)])):
        c[name] = (steps == walks.passed).astype(float)
        c.numbers[f"F1, {name}"] = attention_spots.switch_f1(steps, walks.passed)
    for name, steps in ((FACES, said), (FACES_FIXED, fixed)):
        faced = attention_spots.share_faced(right, steps, walks.passed)
        c.add(name, faced, within=SHARE, unit="share of steps")
    c.numbers |= {"fall": fall, "schedule": schedule}
    crowded = draw_walks(n=o.crowded, things=2, seed=seed + 5, **draw)
    two = float(np.nanmean(attention_spots.spots_found(model, crowded)))
    c.tables["Things in every view"] = [
        {"things": 1, "right view": c.mean(RIGHT), "walks": o.walks},
        {"things": 2, "right view": two, "walks": o.crowded},
    ]
    c.tables["F1 of the switch on the walks for choosing"] = [{"fall": f, "F1": x} for f, x in f1.items()]
    _collide(c, o, seed + 7)
    return c


def _collide(c: Conditions, o: SpotSizes, seed: int) -> None:
    """One step in every place: straight on, by the mask, by the mask of another place."""
    rng, angles = np.random.default_rng(seed), np.linspace(0, 360, RAYS, endpoint=False)
    places = draw_obstacles(n=o.places, seed=seed)
    depth = places.depth(angles, noise=o.noise, seed=seed + 1)
    wanted = rng.integers(0, VIEWS, o.places) * 360.0 / VIEWS
    masks = [occupancy_mask(one, angles) for one in depth]
    others = [masks[i] for i in derangement(o.places, rng)]
    unit = "share of places"
    for name, seen in ((PLAIN, None), (MASK, masks), (ANOTHER, others)):
        hit, goes = step_among(places, wanted, seen, step=STEP, body=BODY)
        c.add(name, hit, within=SHARE, unit=unit)
        c.add(name.replace("collides", "goes on"), goes, unit="part of a step in the wanted direction")


ABLE = needs(
    at_least(RIGHT, SEES),
    f"the view of a spot is chosen in {{{RIGHT}:.0%}} of the steps; two in twelve are asked for",
)
CLAIMS = {
    "view": Drawn(
        "the view that shows the spot is chosen",
        above(RIGHT, by=1 / VIEWS),
        why="one view of twelve is right by chance",
    ),
    "spot": Control(
        "spots of this instruction are found more often than those of another walk's",
        above(RIGHT, OTHERS),
        why="phrases of another walk are as good phrases; they name what is mostly not there",
    ),
    "monitor": Drawn(
        "the monitor takes the next spot at the right step, better than a fixed schedule",
        above(MONITOR, FIXED),
        why="the same walks; the schedule has the step that was most often right for others",
        needs=[ABLE],
        found=f"{{{MONITOR}:.3f}}, F1 {{F1, {MONITOR}:.3f}}",
        control=f"{{{FIXED}:.3f}}, F1 {{F1, {FIXED}:.3f}}",
    ),
    "dealt": Control(
        "the likeness of this walk tells the step better than steps dealt at random",
        above(MONITOR, DEALT),
        why="the monitor's own steps, dealt so that no walk keeps its own; often they are right by chance",
        needs=[ABLE],
    ),
    "faces": Drawn(
        "with the monitor the spot that is due is faced more often",
        above(FACES, FACES_FIXED),
        why="choice of view and monitor together, over all steps of a walk",
        needs=[ABLE],
    ),
    "collisions": Drawn(
        "with the occupancy mask fewer steps collide",
        below(MASK, PLAIN),
        why="the same places and wanted directions; depth has noise, cells are a tenth wide",
    ),
    "own mask": Control(
        "the mask of this place prevents collisions better than that of another place",
        below(MASK, ANOTHER),
        why="the mask of another place turns and stops as often",
    ),
    "goes on": Control(
        "what is won is not lost by standing still or turning away",
        above(GOES, GOES_PLAIN),
        why="who never moves never collides; a collision and a stop count as no step, a turn as its part ahead",
    ),
    "language": untried(
        "a language model finds the spots of an instruction",
        "instructions of people",
        "no model here reads instructions of people; spots are given as phrases",
        where=RECONSTRUCTED,
    ),
    "benchmark": untried(
        "success in continuous environments rises and collisions fall, without training",
        "success rate on the benchmark of the paper",
        "scanned houses and the models of the paper cannot be had here",
        where=RECONSTRUCTED,
    ),
}
REPLICATION = add_paper(
    Paper(
        name="attention-spots",
        source="VLN-CM 2024",
        model="zoo:clip",
        options=SpotSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
