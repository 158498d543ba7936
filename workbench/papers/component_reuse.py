"""Circuit component reuse: do two tasks use the same heads, and can the heads of one repair the other?

In GPT-2 medium most heads that do indirect objects (IOI) also do Colored Objects; what the second task lacks is
inhibition, and making the first task's inhibition heads look at the wrong colors repairs it. Circuits are found here by
rounds of path patching, heads of IOI are chosen on other prompts than those that are repaired, and the repair is
measured on a model that guesses Colored Objects where the model itself does not. That model, zoo:elimination, was
trained to name the person or color not mentioned again, which makes it likely that heads treat colors as they treat
names: a repair there shows that the edit can work, not that pretraining brings it about. Answers are read *among* the
scene's colors, or at the *top* of the whole vocabulary.

Controls:
- chance: random sets of heads of the same sizes; IOI found again on other prompts; unrelated tasks
- as many random heads in the same layers with the same edit
- the same heads looking at the wrong objects, or at the right color and a wrong one
- each part alone
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from workbench.core.loading import lazily
from workbench.core.stats.agreement import spearman
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, from_to, needs
from workbench.papers.kit.criteria import above, at_least, at_most, below, beyond, dealt, less, more
from workbench.papers.kit.refusals import tell_all
from workbench.papers.options import size
from workbench.papers.registry import add_paper

with lazily():
    from workbench.edits import scenes
    from workbench.engine import of_task
    from workbench.evaluate import roles, scene_repairs, task_circuits
    from workbench.heads import prune_metrics, rounds

# Heads in each round: 2 % of all as in the paper, at least two.
ROUNDS: dict[str, Any] = {"rounds": 3, "at_least": 2}
KNOWS = 0.8  # accuracy among a scene's colors above which there is nothing to repair
IOI, COLORED, AGAIN = "IOI", "Colored Objects", "IOI on other prompts"
PLAIN, EDITED, RANDOM = "as it is", "all", "random heads"
MIXED, THINGS = "gain of the right color and a wrong one instead", "gain of the wrong objects instead"
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
    plan = {IOI: ("ioi", 0), COLORED: ("colored-objects", 0), AGAIN: ("ioi", 1)}
    plan |= {task: (task, 0) for task in setting.options.control_tasks}
    runs = {name: partial(_runs, setting, task, seed=moved) for name, (task, moved) in plan.items()}
    how = {"begin": setting.begin, "progress": setting.progress, **ROUNDS}
    found = task_circuits.circuits_of_tasks(runs, answers={IOI: "IO", COLORED: "color"}, **how)
    for name, why in found.reasons.items():
        setting.note(f"{name}: {why}")
    c.tables[f"heads found by rounds of path patching on {setting.name}"] = found.rows()
    with c.unless_refused(SHARED, BOTH):
        tell_all(c, found.compared(IOI, COLORED, again=AGAIN))
        c.numbers["copying"] = found.writers(IOI, COLORED).looking_told()
        shared = found.shared_with(IOI)
        c.tables["heads shared with IOI"] = [{"IOI and": name, **one.row()} for name, one in shared.items()]
    _repair(setting, c)
    return c


def _runs(setting: Setting, task: str, *, seed: int = 0) -> of_task.PairedRuns:
    """Prompts of the train split, on which circuits are found."""
    how = {"n": setting.options.n_circuit, "seed": setting.seed + seed}
    return of_task.paired_runs(setting.model, task, split="train", **how)


def _repair(setting: Setting, c: Conditions) -> None:
    """Heads of IOI on the train split; forced attention on the test split of Colored Objects."""
    own, o = setting.name, setting.options
    how = {"n": o.n_test, "seed": setting.seed, "begin": setting.begin}
    asked, right = scene_repairs.held_out(setting.model, **how)
    if right >= KNOWS:
        setting.note(f"{own} answers Colored Objects ({right:.0%}); the repair is on {o.guessing_model}")
        setting = replace(setting, name=o.guessing_model, model=setting.open(o.guessing_model))
        asked, right = scene_repairs.held_out(setting.model, **how)
    ioi = setting.begin(_runs(setting, "ioi"))
    circuit = rounds.task_circuit(ioi, **ROUNDS, progress=setting.progress)
    kinds = roles.steering_heads(ioi, circuit, inhibition=3, negative=1)
    why = f"{setting.name} answers Colored Objects: {right:.0%} right" if right >= KNOWS else ""
    if not why and not any(kinds.values()):
        why = f"path patching finds no inhibition heads or negative movers for IOI on {setting.name}"
    c.numbers |= {"edited": {kind: list(some) for kind, some in kinds.items()}, "why no repair": why}
    c.numbers["repaired model"] = "" if setting.name == own else setting.name
    if why:
        return
    colors = setting.begin(scenes.color_runs(_runs(setting, "colored-objects")))
    heads, every = scene_repairs.edited_heads(kinds), prune_metrics.every_head(setting.model)
    sets = c.matched(heads, every, draws=o.draws, seed=setting.seed)
    tried = scene_repairs.try_repair(asked, colors, kinds, sets)
    c.numbers |= tried.numbers()
    tell_all(c, tried.measured())


REPAIR = needs(lambda c: not c.numbers["why no repair"], "{why no repair}")
HEADS = needs(at_least("n later", 5), "{n later} heads come after the edited layer; 5 are needed")
Repair = partial(Claim, needs=[REPAIR], model="{repaired model}", where="section 5")


def _repaired(what: str, says: str, **told: Any) -> Claim:
    edited, plain = f"{what}, {EDITED}", f"{what}, {PLAIN}"
    better = above(edited, plain) & at_most(f"errors, {edited}", f"errors, {plain}", times=1 / 2)
    why = "a repair that leaves most errors is none; the paper's removes nine of ten. On zoo:elimination names and "
    why += "colors were trained alike, which helps"
    random = f"random heads {{{what}, {RANDOM}:.2f}}"
    return Repair(says, better, why=why, found=from_to(plain, edited), control=random, **told)


CLAIMS = {
    "shared": Claim(
        "the circuits of IOI and Colored Objects share most of their heads",
        at_least(SHARED, 0.5) & beyond(SHARED, "random sets of heads"), paper=0.78,
        why="more shared than not; with few heads chance shares many, hence the hypergeometric p. IOI found"
        " again on other prompts is the most that can be asked",
        where="section 4",
    ),
    "unrelated": Claim(
        "the circuits of these two share more heads than those of IOI and unrelated tasks do", more(SHARED, UNRELATED),
        paper="0.78; greater-than 0.167, capitals 0.25",
        why="heads of general use, such as those of the first layer, are in every circuit", where="section 4",
        control=lambda c: c.beside[UNRELATED].control, n=f"{{n of {UNRELATED}}}",
    ),
    "writers": Claim(
        "the same heads write the answer in both tasks, and look at it", at_least(BOTH, 1),
        paper="15.14, 16.15, 17.4, 18.5, 19.15",
        why="the paper's movers attend to the answer token and copy it; one such head is the least",
        where="section 4.2", found="{copying}",
    ),
    "repair": _repaired(
        "among", "making IOI's inhibition heads look at the wrong colors repairs Colored Objects",
        paper="0.496 to 0.937",
    ),
    "top": _repaired(
        "top", "the repair also holds with the whole vocabulary competing",
        where="an extension of ours of section 5: it is not said what competes",
    ),
    "lost": Repair(
        "with the repair no example that was right becomes wrong", at_most("lost", 0.02), paper=0,
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
        at_most(THINGS, GAIN, times=1 / 3) & at_most(MIXED, 0) & more(GAIN, 0),
        why="if looking anywhere but at the right color repaired, the heads would say nothing of what they read",
        where="a control of ours",
    ),
    "parts": Repair(
        "each part alone repairs less than all together, and more than nothing",
        less("largest gain of a part", GAIN) & more("least gain of a part", 0.1),
        paper="three inhibition heads 0.815, the negative mover 0.781",
        why="every part is claimed to carry some of it", found="{each part}",
    ),
    "wrong": Repair(
        "after the repair the writing heads (movers) look less at the wrong colors",
        below("movers to the wrong color"), paper="-8.7 points", why="the sign, clear of chance over prompts",
    ),
    "right": Repair(
        "after the repair movers look more at the right color", above("movers to the right color"), paper="+2.7 points",
        why="the sign, clear of chance over prompts",
    ),
    "order": Repair(
        "the more a head writes colors, the more its attention moves from wrong to right",
        dealt("rank correlation of writing and moving", spearman, "writes colors", "moved to the right", draws=2000),
        paper="0.69, p < 0.01",
        why="a rank correlation of so few heads means little without the permutation test",
        needs=[REPAIR, HEADS], control="heads exchanged at random: 0", n="{n later}",
    ),
}  # fmt: skip
REPLICATION = add_paper(Paper(
    name="component-reuse", source="Merullo, Eickhoff and Pavlick 2023, arXiv:2310.08744", model="zoo:ioi",
    options=ReuseSizes, measure=measure, claims=CLAIMS,
))  # fmt: skip
