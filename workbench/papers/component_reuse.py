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
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.circuits.addresses import parse_node
from workbench.core.errors import TaskError, WorkbenchError
from workbench.core.loading import lazily
from workbench.core.stats.agreement import spearman
from workbench.core.stats.intervals import SHARE
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, needs
from workbench.papers.kit.criteria import above, at_least, at_most, below, beyond, less, more, permuted
from workbench.papers.registry import add_paper
from workbench.view.pictures import Scatter

with lazily():
    from workbench.edits import scenes
    from workbench.engine import of_task
    from workbench.evaluate import roles
    from workbench.heads import rounds

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    from workbench.engine.paired_runs import PairedRuns

# Criteria, fixed before anything was measured.
OVERLAP = 0.5  # shared over all heads: more shared than not
DOES = 0.9  # share of prompts right, for a circuit to be one
LOOKS = 0.3  # least mean attention that makes a position what a head looks at
KNOWS = 0.8  # accuracy among a scene's colors above which there is nothing to repair
LOST = 0.02  # share of right answers that may become wrong
NOTHING = 0.1  # change of accuracy that counts as none
FEWEST = 5  # heads for a rank correlation
IOI, OBJECTS, AGAIN = "IOI", "Colored Objects", "IOI, other prompts"
PLAIN, EDITED, RANDOM = "as it is", "all", "random heads"
MIXED, THINGS = "the right color and a wrong one instead", "the wrong objects instead"
SHARED, UNRELATED = "overlap of both circuits", "largest overlap of a control task"
BOTH = "heads that write and look at the answer in both"
GAIN, RANDOM_GAIN = f"gain of {EDITED}", "mean gain of random heads"


@dataclass(frozen=True, kw_only=True)
class ReuseSizes:
    """Sizes.

    Attributes:
        share, at_least: Heads kept in each round of path patching: 2 % as in the paper, or so many.
        control_tasks: Tasks that IOI should share less with.
        guessing_model: Where the repair is measured if the model itself answers Colored Objects.
        inhibition, negative: Most heads of each kind that are edited.
    """

    rounds: int = 3
    share: float = 0.02
    at_least: int = 2
    n_circuit: int = 32
    n_test: int = 150
    n_objects: int = 3
    shots: int = 1
    control_tasks: tuple[str, ...] = ("sva", "gendered-pronoun", "induction")
    guessing_model: str = "zoo:elimination"
    inhibition: int = 3
    negative: int = 1
    draws: int = 8


def measure(setting: Setting) -> Conditions:
    """Circuits of both tasks and of controls; then Colored Objects under forced attention."""
    c = Conditions(seed=setting.seed)
    _overlaps(setting, c)
    _repair(setting, c)
    return c


def _runs(
    setting: Setting, model: TransformerBridge, task: str, *, n: int, seed: int = 0, split: str
) -> PairedRuns:
    o: ReuseSizes = setting.options
    more: dict[str, Any] = {"n_objects": o.n_objects, "shots": o.shots} if task == "colored-objects" else {}
    return of_task.paired_runs(model, task, n=n, seed=setting.seed + seed, split=split, **more)


def _circuit(setting: Setting, runs: PairedRuns) -> rounds.TaskCircuit:
    o: ReuseSizes = setting.options
    how: dict[str, Any] = {"rounds": o.rounds, "share": o.share, "at_least": o.at_least}
    return rounds.task_circuit(runs, progress=setting.progress, **how)


def _overlaps(setting: Setting, c: Conditions) -> None:
    """Circuits of both tasks and of the controls, on prompts of the train split: which heads they share."""
    o: ReuseSizes = setting.options
    circuits: dict[str, rounds.TaskCircuit] = {}
    reasons: dict[str, str] = {}
    looks: dict[str, set[str]] = {}
    plan = {IOI: ("ioi", 0), OBJECTS: ("colored-objects", 0), AGAIN: ("ioi", 1)}
    for name, (task, moved) in {**plan, **{task: (task, 0) for task in o.control_tasks}}.items():
        try:
            runs = _runs(setting, setting.model, task, n=o.n_circuit, seed=moved, split="train")
            right = float((setting.begin(runs).clean > 0).mean())
            if right < DOES:
                raise TaskError(f"it does {task} on {right:.0%} of prompts; a circuit needs {DOES:.0%}")
            circuits[name] = _circuit(setting, runs)
        except WorkbenchError as problem:
            reasons[name] = problem.message.split("\n")[0]
            setting.note(f"{name}: {reasons[name]}")
            continue
        if name in (IOI, OBJECTS):
            at = roles.attention_to(runs, "IO" if name == IOI else "color")
            looks[name] = {head for head, value in at.items() if value >= LOOKS}
    c.numbers["circuits"] = {name: list(circuit.heads) for name, circuit in circuits.items()}
    c.tables[f"heads found by rounds of path patching on {setting.name}"] = [
        {"task": name} | row for name, circuit in circuits.items() for row in circuit.rows()
    ]
    if len(looks) == 2:
        _shared(c, circuits, looks)
    else:
        why = reasons.get(OBJECTS) or reasons.get(IOI) or "no circuits were found"
        c.lacking |= dict.fromkeys((SHARED, BOTH), why)


def _shared(c: Conditions, circuits: Mapping[str, rounds.TaskCircuit], looks: Mapping[str, set[str]]) -> None:
    """Shared heads beside chance and control tasks, and the writers of both tasks that look at the answer."""
    own = circuits[IOI]
    found = {n: rounds.overlap(own.heads, one.heads, own.n_heads) for n, one in circuits.items() if n != IOI}
    mine, others = found[OBJECTS], {n: one.jaccard for n, one in found.items() if n not in (OBJECTS, AGAIN)}
    c.tables["heads shared with IOI"] = [{"IOI and": name, **one.row()} for name, one in found.items()]
    again = f"; IOI on other prompts {found[AGAIN].jaccard:.2f}" if AGAIN in found else ""
    c.tell(SHARED, mine.jaccard, control=f"chance {mine.chance:.2f}{again}", n=mine.of, p=mine.p)
    c.numbers |= {"n controls": len(others), UNRELATED: max(others.values(), default=float("nan"))}
    c.numbers["each control"] = ", ".join(f"{name} {jaccard:.2f}" for name, jaccard in others.items())
    if not others:
        c.lack(UNRELATED, "the model does none of the control tasks")
    writers = {name: sorted(circuits[name].rounds[0].kept) for name in (IOI, OBJECTS)}
    both = sorted({*writers[IOI]} & {*writers[OBJECTS]})
    copying = [head for head in both if head in looks[IOI] and head in looks[OBJECTS]]
    told = f"writers of IOI {', '.join(writers[IOI])}; of Colored Objects {', '.join(writers[OBJECTS])}"
    c.tell(BOTH, len(copying), control=told, n=len({*writers[IOI], *writers[OBJECTS]}))
    c.numbers["copying"] = ", ".join(copying) or f"none; writers of both: {', '.join(both) or 'none'}"


def _repair(setting: Setting, c: Conditions) -> None:
    """Heads of IOI on the train split; forced attention on the test split of Colored Objects."""
    o: ReuseSizes = setting.options
    name, model = setting.name, setting.model
    asked, base = _scenes(setting, model)
    if base.among.mean() >= KNOWS:
        name, model = o.guessing_model, setting.open(o.guessing_model)
        setting.note(
            f"{setting.name} answers Colored Objects ({base.among.mean():.0%}); the repair is on {name}"
        )
        asked, base = _scenes(setting, model)
    ioi = setting.begin(_runs(setting, model, "ioi", n=o.n_circuit, split="train"))
    how: dict[str, Any] = {"inhibition": o.inhibition, "negative": o.negative, "looks": LOOKS}
    kinds = roles.steering_heads(ioi, _circuit(setting, ioi), **how)
    heads = tuple(dict.fromkeys([*kinds["inhibition"], *kinds["negative"]]))
    c.numbers |= {"repaired model": "" if name == setting.name else name, "why no repair": ""}
    c.numbers["edited"] = {kind: list(some) for kind, some in kinds.items()}
    parts = "three inhibition heads 0.815, the negative mover 0.781"
    c.numbers["paper's parts"] = parts if kinds["negative"] else None
    if base.among.mean() >= KNOWS:
        c.numbers["why no repair"] = f"{name} answers Colored Objects: {base.among.mean():.0%} right"
    elif not heads:
        why = f"path patching finds no inhibition heads or negative movers for IOI on {name}"
        c.numbers["why no repair"] = why
    else:
        colors = scenes.color_runs(_runs(setting, model, "colored-objects", n=o.n_circuit, split="train"))
        writers = rounds.task_circuit(setting.begin(colors), rounds=1, share=1.0).rounds[0]
        first = min(parse_node(h).depth for h in heads)
        later = [h for h in writers.shares if parse_node(h).depth > first and h not in heads]
        _of_later(c, *_forced(setting, c, asked, kinds, heads, later), writers)


def _scenes(setting: Setting, model: TransformerBridge) -> tuple[PairedRuns, scenes.SceneAnswers]:
    runs = _runs(setting, model, "colored-objects", n=setting.options.n_test, split="test")
    return (found := scenes.scene_runs(runs)), scenes.answers(setting.begin(found))


def _forced(
    setting: Setting,
    c: Conditions,
    asked: PairedRuns,
    kinds: Mapping[str, Sequence[str]],
    heads: Sequence[str],
    later: Sequence[str],
) -> tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]:
    """Answers under every edit, of random heads too; where later heads look, as the model is and edited."""
    o: ReuseSizes = setting.options
    wrong, objects = scenes.wrong_colors(o.n_objects), scenes.wrong_objects(o.n_objects)
    edits = {EDITED: (heads, wrong), THINGS: (heads, objects), MIXED: (heads, ("color", wrong[0]))}
    parts = {f"{kind} only": some for kind, some in kinds.items() if all(kinds.values())}
    parts |= {f"{head} only": (head,) for head in heads if len(heads) > 1}
    edits |= {name: (some, wrong) for name, some in parts.items()}
    found = {PLAIN: scenes.answers(asked, watch=later)}
    for name, (some, columns) in edits.items():
        found[name] = scenes.answers(
            asked, scenes.forced(some, columns), watch=later if name == EDITED else ()
        )
    every = {f"a{parse_node(h).layer}.h{i}" for h in heads for i in range(asked.wiring.n_heads)}
    sets = c.matched(heads, every, draws=o.draws, seed=setting.seed)
    drawn = [scenes.answers(asked, scenes.forced(some, wrong)) for some in sets]
    for what, unit in (("among", "right among the scene's colors"), ("top", "right of all words")):
        c.unit, c.numbers[f"{what}, {RANDOM}"] = unit, float("nan")
        for name, one in found.items():
            c[f"{what}, {name}"] = getattr(one, what)
            c.numbers[f"errors, {what}, {name}"] = 1 - c.mean(f"{what}, {name}")
        c.draws[f"{what}, {RANDOM}"] = [getattr(one, what) for one in drawn]
    gains = {name: c.mean(f"among, {name}", f"among, {PLAIN}") for name in edits}
    random = [float(one.among.mean()) - c.mean(f"among, {PLAIN}") for one in drawn]
    _of_gains(c, gains, {name: gains[name] for name in parts}, random)
    right = found[PLAIN].among == 1
    if right.any():
        c.add(
            "lost",
            found[EDITED].among[right] == 0,
            within=SHARE,
            unit="share of the right ones that are lost",
        )
        lost = [(one.among[right] == 0).mean() for one in drawn]
        c.tell("lost", control=float(np.mean(lost)) if lost else None)
    else:
        c.lack("lost", "no example was right before")
    return found[PLAIN].attention, found[EDITED].attention


def _of_gains(
    c: Conditions, gains: Mapping[str, float], parts: Mapping[str, float], random: Sequence[float]
) -> None:
    """What every edit of attention gains, beside random heads and each part alone."""
    n = c.n(f"among, {PLAIN}")
    for name in (EDITED, THINGS, MIXED):
        c.tell(f"gain of {name}", gains[name], n=n)
    if random:
        c.tell(RANDOM_GAIN, float(np.mean(random)), n=len(random))
        c.numbers["largest gain of random heads"] = max(random)
    else:
        c.lack(RANDOM_GAIN, c.numbers["no random heads"])
    c.numbers |= {"gains": dict(gains), "parts": dict(parts)}
    c.numbers["each part"] = ", ".join(f"{name} {gain:+.2f}" for name, gain in parts.items())
    if parts:
        c.tell("largest gain of a part", max(parts.values()), n=n)
        c.numbers["least gain of a part"] = min(parts.values())
    else:
        c.lack("largest gain of a part", "a single head is edited")


def _of_later(c: Conditions, before: Mapping, after: Mapping, writers: rounds.Round) -> None:
    """What becomes of the heads after the edited ones: attention to the right color, and to the wrong ones."""
    movers = [h for h in writers.kept if writers.shares[h] > 0 and h in before]
    movers = [h for h in movers if before[h].sum(1).mean() >= LOOKS]
    for column, color in enumerate(("right", "wrong")):
        name = f"movers to the {color} color"
        if not movers:
            c.lack(name, "no later head that writes colors looks at them")
            continue
        change = 100 * np.mean([after[h][:, column] - before[h][:, column] for h in movers], 0)
        c.add(name, change, within=(-100, 100), unit="points of attention")
        c.tell(name, control=f"movers {', '.join(movers)}; nothing changes before the edited layer")
    moved = {h: (after[h] - before[h]).mean(0) for h in before}
    c.numbers |= {"n later": len(moved), "writes colors": {h: writers.shares[h] for h in moved}}
    c.numbers["moved to the right"] = {h: float(change[0] - change[1]) for h, change in moved.items()}
    if moved:
        points = [(writers.shares[h], c.numbers["moved to the right"][h], h) for h in moved]
        words = {
            "x_label": "writes colors, share of the gap",
            "y_label": "attention moved to the right color",
        }
        c.pictures["Later heads"] = Scatter.of({"head": points}, **words)


def _agree(moved: np.ndarray, c: Conditions) -> float:
    return spearman(np.array([*c.numbers["writes colors"].values()]), moved)


ORDER = permuted(
    "rank correlation of writing and moving",
    _agree,
    lambda c: [*c.numbers["moved to the right"].values()],
    draws=2000,
)
REPAIR = needs(lambda c: not c.numbers["why no repair"], "{why no repair}")
HEADS = needs(
    at_least("n later", FEWEST), f"{{n later}} heads come after the edited layer; {FEWEST} are needed"
)
Repair = partial(Claim, needs=[REPAIR], model="{repaired model}")


def _repaired(what: str, says: str, paper: str | None, where: str) -> Claim:
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
        at_least(SHARED, OVERLAP) & beyond(SHARED, "random sets of heads"), paper=0.78,
        why="more shared than not; with few heads chance shares many, hence the hypergeometric p. IOI found"
        " again on other prompts is the most that can be asked",
        where="section 4",
    ),
    "unrelated": Claim(
        "they share more than IOI and unrelated tasks do", more(SHARED, UNRELATED),
        paper="0.78; greater-than 0.167, capitals 0.25",
        why="heads of general use, such as those of the first layer, are in every circuit", where="section 4",
        control="{each control}", n="{n controls}",
    ),
    "writers": Claim(
        "heads that write the answer are the same, and look at it in both tasks", at_least(BOTH, 1),
        paper="15.14, 16.15, 17.4, 18.5, 19.15",
        why="the paper's movers attend to the answer token and copy it; one such head is the least",
        where="section 4.2", found="{copying}",
    ),
    "repair": _repaired(
        "among", "making IOI's inhibition heads look at the wrong colors repairs Colored Objects",
        "0.496 to 0.937", "section 5",
    ),
    "top": _repaired(
        "top", "the repair also holds with the whole vocabulary competing", None,
        "an extension of ours of section 5: it is not said what competes",
    ),
    "lost": Repair(
        "no example that was right becomes wrong", at_most("lost", LOST), paper=0,
        why="one in fifty may fall by an accident of the held-out prompts", where="section 5",
    ),
    "random": Repair(
        "random heads with the same edit do not repair",
        at_most(RANDOM_GAIN, GAIN, times=1 / 3) & more(GAIN, "largest gain of random heads") & more(GAIN, 0),
        paper="0.499 ± 0.010 against 0.937",
        why="as many heads in the same layers: any head that reads a color may say something of it",
        where="section 5",
    ),
    "columns": Repair(
        "it is the wrong colors that matter: the same heads on the wrong objects do not repair",
        at_most(f"gain of {THINGS}", GAIN, times=1 / 3) & at_most(f"gain of {MIXED}", 0) & more(GAIN, 0),
        why="if looking anywhere but at the right color repaired, the heads would say nothing of what they read",
        where="a control of ours",
    ),
    "parts": Repair(
        "each part alone repairs less than all together, and more than nothing",
        less("largest gain of a part", GAIN) & more("least gain of a part", NOTHING), paper="{paper's parts}",
        why="every part is claimed to carry some of it", where="section 5", found="{each part}",
    ),
    "wrong": Repair(
        "movers then look less at the wrong colors", below("movers to the wrong color"), paper="-8.7 points",
        why="the sign, clear of chance over prompts", where="section 5",
    ),
    "right": Repair(
        "movers then look more at the right color", above("movers to the right color"), paper="+2.7 points",
        why="the sign, clear of chance over prompts", where="section 5",
    ),
    "order": Repair(
        "the more a head writes colors, the more its attention moves from wrong to right", ORDER,
        paper="0.69, p < 0.01",
        why="a rank correlation of so few heads means little without the permutation test", where="section 5",
        needs=[REPAIR, HEADS], control="heads exchanged at random: 0", n="{n later}",
    ),
}  # fmt: skip
REPLICATION = add_paper(
    Paper(
        name="component-reuse",
        title="Circuit component reuse across tasks",
        source="Merullo, Eickhoff and Pavlick 2023, arXiv:2310.08744",
        authors="arXiv:2310.08744",
        model="zoo:ioi",
        options=ReuseSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
