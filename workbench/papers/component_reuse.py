"""Circuit component reuse: do two tasks use the same heads, and can the heads of one repair the other?

In GPT-2 medium most heads that do indirect objects (IOI) also do Colored Objects; what the second task lacks is
inhibition, and making the first task's inhibition heads look at the wrong colors repairs it. Circuits are found here by
rounds of path patching, heads of IOI are chosen on other prompts than those that are repaired, and the repair is
measured on a model that guesses Colored Objects where the model itself does not. That model, zoo:elimination, was
trained to name the person or color not mentioned again, which makes it likely that heads treat colors as they treat
names: a repair there shows that the edit can work, not that pretraining brings it about.

Controls:
- chance: random sets of heads of the same sizes; IOI found again on other prompts; unrelated tasks
- as many random heads in the same layers with the same edit
- the same heads looking at the wrong objects, or at the right color and a wrong one
- each part alone
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from workbench.core.loading import lazily
from workbench.core.stats.agreement import spearman
from workbench.core.stats.intervals import SHARE
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, needs
from workbench.papers.kit.criteria import above, at_least, at_most, below, beyond, less, more, permuted
from workbench.papers.kit.refusals import tell_or_lack
from workbench.papers.options import size
from workbench.papers.registry import add_paper

with lazily():
    from workbench.edits import scenes
    from workbench.engine import of_task
    from workbench.evaluate import roles, task_circuits
    from workbench.heads import prune_metrics, rounds

# Heads in each round: 2 % of all as in the paper, at least two.
ROUNDS: dict[str, Any] = {"rounds": 3, "at_least": 2}
DOES = 0.9  # share of prompts right, for a circuit to be one
LOOKS = 0.3  # least mean attention that makes a position what a head looks at
KNOWS = 0.8  # accuracy among a scene's colors above which there is nothing to repair
OBJECTS = 3  # of a scene
IOI, COLORED, AGAIN = "IOI", "Colored Objects", "IOI, other prompts"
PLAIN, EDITED, RANDOM = "as it is", "all", "random heads"
MIXED, THINGS = "the right color and a wrong one instead", "the wrong objects instead"
SHARED, UNRELATED = "overlap of both circuits", "largest overlap of a control task"
BOTH = "heads that write and look at the answer in both"
GAIN, RANDOM_GAIN = f"gain of {EDITED}", "mean gain of random heads"


@dataclass(frozen=True, kw_only=True)
class ReuseSizes:
    """How much is asked. The repair is measured on ``guessing_model`` if the model answers Colored Objects."""

    n_circuit: int = size(32, "prompts to find circuits")
    n_test: int = size(150, "prompts to judge the repair")
    draws: int = size(8, "random heads")
    control_tasks: tuple[str, ...] = size(
        ("sva", "gendered-pronoun", "induction"), "IOI should share less with"
    )
    guessing_model: str = size("zoo:elimination", "a model that guesses Colored Objects")


def measure(setting: Setting) -> Conditions:
    """Circuits of both tasks and of controls; then Colored Objects under forced attention."""
    c = Conditions(seed=setting.seed)
    _overlaps(setting, c)
    _repair(setting, c)
    return c


def _runs(setting: Setting, task: str, *, seed: int = 0) -> of_task.PairedRuns:
    """Prompts of the train split, on which circuits are found."""
    how = {"n": setting.options.n_circuit, "seed": setting.seed + seed}
    return of_task.paired_runs(setting.model, task, split="train", **how)


def _overlaps(setting: Setting, c: Conditions) -> None:
    """Circuits of both tasks and of the controls: which heads they share."""
    plan = {IOI: ("ioi", 0), COLORED: ("colored-objects", 0), AGAIN: ("ioi", 1)}
    plan |= {task: (task, 0) for task in setting.options.control_tasks}
    runs = {name: partial(_runs, setting, task, seed=moved) for name, (task, moved) in plan.items()}
    how = {"begin": setting.begin, "progress": setting.progress, **ROUNDS}
    answers = {IOI: "IO", COLORED: "color"}
    found = task_circuits.circuits_of_tasks(runs, DOES, answers=answers, looks=LOOKS, **how)
    for name, why in found.reasons.items():
        setting.note(f"{name}: {why}")
    c.tables[f"heads found by rounds of path patching on {setting.name}"] = found.rows()
    if len(found.looks) < 2:
        why = found.reasons.get(COLORED) or found.reasons.get(IOI) or "no circuits were found"
        c.lacking |= dict.fromkeys((SHARED, BOTH), why)
        return
    shared, wrote = found.shared_with(IOI), found.writers(IOI, COLORED)
    c.tables["heads shared with IOI"] = [{"IOI and": name, **one.row()} for name, one in shared.items()]
    mine, others = shared[COLORED], {n: one.jaccard for n, one in shared.items() if n not in (COLORED, AGAIN)}
    again = f"; IOI on other prompts {shared[AGAIN].jaccard:.2f}" if AGAIN in shared else ""
    c.tell(SHARED, mine.jaccard, control=f"chance {mine.chance:.2f}{again}", n=mine.of, p=mine.p)
    c.numbers["each control"] = ", ".join(f"{name} {jaccard:.2f}" for name, jaccard in others.items())
    why = "the model does none of the control tasks"
    tell_or_lack(c, UNRELATED, max(others.values(), default=None), why, n=len(others))
    told = f"writers of IOI {', '.join(wrote.here)}; of Colored Objects {', '.join(wrote.there)}"
    c.tell(BOTH, len(wrote.looking), control=told, n=len({*wrote.here, *wrote.there}))
    none = f"none; writers of both: {', '.join(wrote.both) or 'none'}"
    c.numbers["copying"] = ", ".join(wrote.looking) or none


def _repair(setting: Setting, c: Conditions) -> None:
    """Heads of IOI on the train split; forced attention on the test split of Colored Objects."""
    own, (asked, right) = setting.name, _asked(setting)
    if right >= KNOWS:
        other = setting.options.guessing_model
        setting.note(f"{own} answers Colored Objects ({right:.0%}); the repair is on {other}")
        setting = replace(setting, name=other, model=setting.open(other))
        asked, right = _asked(setting)
    ioi = setting.begin(_runs(setting, "ioi"))
    circuit = rounds.task_circuit(ioi, **ROUNDS, progress=setting.progress)
    kinds = roles.steering_heads(ioi, circuit, inhibition=3, negative=1, looks=LOOKS)
    c.numbers["edited"] = {kind: list(some) for kind, some in kinds.items()}
    parts = "three inhibition heads 0.815, the negative mover 0.781"
    c.numbers["paper's parts"] = parts if kinds["negative"] else None
    why = f"{setting.name} answers Colored Objects: {right:.0%} right" if right >= KNOWS else ""
    if not why and not any(kinds.values()):
        why = f"path patching finds no inhibition heads or negative movers for IOI on {setting.name}"
    c.numbers |= {"repaired model": "" if setting.name == own else setting.name, "why no repair": why}
    if not why:
        _forced(setting, c, asked, kinds)


def _asked(setting: Setting) -> tuple[of_task.PairedRuns, float]:
    """Held-out scenes, and the share that the model answers rightly as it is."""
    runs = of_task.paired_runs(setting.model, "colored-objects", n=setting.options.n_test, seed=setting.seed)
    found = setting.begin(scenes.scene_runs(runs))
    return found, float(scenes.answers(found).among.mean())


def _forced(
    setting: Setting, c: Conditions, asked: of_task.PairedRuns, kinds: Mapping[str, Sequence]
) -> None:
    """Answers under every edit and under that of random heads; where later heads look, as it is and edited."""
    colors = setting.begin(scenes.color_runs(_runs(setting, "colored-objects")))
    writers = rounds.task_circuit(colors, rounds=1, share=1.0).rounds[0]
    heads, wrong = scenes.heads_of(kinds), scenes.wrong_colors(OBJECTS)
    later = writers.later_than(heads)
    parts = scenes.forced_in_parts(kinds, wrong)
    looks = {EDITED: wrong, THINGS: scenes.wrong_objects(OBJECTS), MIXED: ("color", wrong[0])}
    edits = {PLAIN: None} | {name: scenes.forced(heads, to) for name, to in looks.items()} | parts
    found = {name: scenes.answers(asked, edit, watch=later) for name, edit in edits.items()}
    every = prune_metrics.every_head(setting.model)
    sets = c.matched(heads, every, draws=setting.options.draws, seed=setting.seed)
    drawn = [scenes.answers(asked, scenes.forced(some, wrong)) for some in sets]
    for what, unit in (("among", "right among the scene's colors"), ("top", "right of all words")):
        c.unit, c.numbers[f"{what}, {RANDOM}"] = unit, float("nan")
        for name, one in found.items():
            c[f"{what}, {name}"] = getattr(one, what)
            c.numbers[f"errors, {what}, {name}"] = 1 - c.mean(f"{what}, {name}")
        c.draws[f"{what}, {RANDOM}"] = [getattr(one, what) for one in drawn]
    _of_gains(
        c, {name: c.mean(f"among, {name}", f"among, {PLAIN}") for name in edits if name != PLAIN}, [*parts]
    )
    lost, *others = (found[PLAIN].lost(one) for one in (found[EDITED], *drawn))
    if len(lost):
        c.add("lost", lost, within=SHARE, unit="share of the right ones that are lost")
        c.tell("lost", control=float(np.mean(others)) if others else None)
    else:
        c.lack("lost", "no example was right before")
    _of_later(c, found[PLAIN].attention, found[EDITED].attention, writers)


def _of_gains(c: Conditions, gains: Mapping[str, float], parts: Sequence[str]) -> None:
    """What every edit of attention gains, beside random heads and each part alone."""
    n, plain = c.n(f"among, {PLAIN}"), c.mean(f"among, {PLAIN}")
    for name in (EDITED, THINGS, MIXED):
        c.tell(f"gain of {name}", gains[name], n=n)
    random = [float(one.mean()) - plain for one in c.draws[f"among, {RANDOM}"]]
    none = c.numbers.get("no random heads", "")
    tell_or_lack(c, RANDOM_GAIN, float(np.mean(random)) if random else None, none, n=len(random))
    c.numbers["largest gain of random heads"] = max(random, default=float("nan"))
    c.numbers["gains"] = dict(gains)
    c.numbers["each part"] = ", ".join(f"{name} {gains[name]:+.2f}" for name in parts)
    largest = max((gains[name] for name in parts), default=None)
    tell_or_lack(c, "largest gain of a part", largest, "a single head is edited", n=n)
    c.numbers["least gain of a part"] = min((gains[name] for name in parts), default=float("nan"))


def _of_later(c: Conditions, before: Mapping, after: Mapping, writers: rounds.Round) -> None:
    """What becomes of the heads after the edited ones: attention to the right color, and to the wrong ones."""
    movers = scenes.color_movers(before, writers.kept, writers.shares, looks=LOOKS)
    for column, color in enumerate(("right", "wrong")):
        name = f"movers to the {color} color"
        if not movers:
            c.lack(name, "no later head that writes colors looks at them")
            continue
        change = scenes.mean_change(before, after, movers, column)
        c.add(name, change, within=(-100, 100), unit="points of attention")
        c.tell(name, control=f"movers {', '.join(movers)}; nothing changes before the edited layer")
    moved = scenes.moved_to_the_right(before, after)
    c.numbers |= {"n later": len(moved), "writes colors": {h: writers.shares[h] for h in moved}}
    c.numbers["moved to the right"] = moved


ORDER = permuted(
    "rank correlation of writing and moving",
    lambda moved, c: spearman(np.array([*c.numbers["writes colors"].values()]), moved),
    lambda c: [*c.numbers["moved to the right"].values()],
    draws=2000,
)
REPAIR = needs(lambda c: not c.numbers["why no repair"], "{why no repair}")
HEADS = needs(at_least("n later", 5), "{n later} heads come after the edited layer; 5 are needed")
Repair = partial(Claim, needs=[REPAIR], model="{repaired model}", where="section 5")


def _repaired(what: str, says: str, paper: str | None, where: str = "section 5") -> Claim:
    edited, plain = f"{what}, {EDITED}", f"{what}, {PLAIN}"
    gain = f"{edited} minus {plain}"
    return Repair(
        says,
        above(edited, plain) & at_most(f"errors, {edited}", f"errors, {plain}", times=1 / 2),
        paper=paper,
        why="a repair that leaves most errors is none; the paper's removes nine of ten. On zoo:elimination names and "
        "colors were trained alike, which helps",
        where=where,
        found=f"{{{plain}:.2f}} to {{{edited}:.2f}}; {{{gain}:+.2f}} [{{around of {gain}:+.2f}}]",
        control=f"random heads {{{what}, {RANDOM}:.2f}}",
    )


CLAIMS = {
    "shared": Claim(
        "the circuits of IOI and Colored Objects share most of their heads",
        at_least(SHARED, 0.5) & beyond(SHARED, "random sets of heads"), paper=0.78,
        why="more shared than not; with few heads chance shares many, hence the hypergeometric p. IOI found"
        " again on other prompts is the most that can be asked",
        where="section 4",
    ),
    "unrelated": Claim(
        "they share more than IOI and unrelated tasks do", more(SHARED, UNRELATED),
        paper="0.78; greater-than 0.167, capitals 0.25",
        why="heads of general use, such as those of the first layer, are in every circuit", where="section 4",
        control="{each control}", n=f"{{n of {UNRELATED}}}",
    ),
    "writers": Claim(
        "heads that write the answer are the same, and look at it in both tasks", at_least(BOTH, 1),
        paper="15.14, 16.15, 17.4, 18.5, 19.15",
        why="the paper's movers attend to the answer token and copy it; one such head is the least",
        where="section 4.2", found="{copying}",
    ),
    "repair": _repaired(
        "among", "making IOI's inhibition heads look at the wrong colors repairs Colored Objects",
        "0.496 to 0.937",
    ),
    "top": _repaired(
        "top", "the repair also holds with the whole vocabulary competing", None,
        "an extension of ours of section 5: it is not said what competes",
    ),
    "lost": Repair(
        "no example that was right becomes wrong", at_most("lost", 0.02), paper=0,
        why="one in fifty may fall by an accident of the held-out prompts",
    ),
    "random": Repair(
        "random heads with the same edit do not repair",
        at_most(RANDOM_GAIN, GAIN, times=1 / 3) & more(GAIN, "largest gain of random heads") & more(GAIN, 0),
        paper="0.499 ± 0.010 against 0.937",
        why="as many heads in the same layers: any head that reads a color may say something of it",
    ),
    "columns": Repair(
        "it is the wrong colors that matter: the same heads on the wrong objects do not repair",
        at_most(f"gain of {THINGS}", GAIN, times=1 / 3) & at_most(f"gain of {MIXED}", 0) & more(GAIN, 0),
        why="if looking anywhere but at the right color repaired, the heads would say nothing of what they read",
        where="a control of ours",
    ),
    "parts": Repair(
        "each part alone repairs less than all together, and more than nothing",
        less("largest gain of a part", GAIN) & more("least gain of a part", 0.1), paper="{paper's parts}",
        why="every part is claimed to carry some of it", found="{each part}",
    ),
    "wrong": Repair(
        "movers then look less at the wrong colors", below("movers to the wrong color"), paper="-8.7 points",
        why="the sign, clear of chance over prompts",
    ),
    "right": Repair(
        "movers then look more at the right color", above("movers to the right color"), paper="+2.7 points",
        why="the sign, clear of chance over prompts",
    ),
    "order": Repair(
        "the more a head writes colors, the more its attention moves from wrong to right", ORDER,
        paper="0.69, p < 0.01",
        why="a rank correlation of so few heads means little without the permutation test",
        needs=[REPAIR, HEADS], control="heads exchanged at random: 0", n="{n later}",
    ),
}  # fmt: skip
REPLICATION = add_paper(Paper(
    name="component-reuse", source="Merullo, Eickhoff and Pavlick 2023, arXiv:2310.08744", model="zoo:ioi",
    options=ReuseSizes, measure=measure, claims=CLAIMS,
))  # fmt: skip
