"""Circuit component reuse: do two tasks use the same heads, and can the heads of one repair the other?

In GPT-2 medium most heads that do indirect objects (IOI) also do Colored Objects; what the second task lacks is
inhibition, and making the first task's inhibition heads look at the wrong colors repairs it. Circuits are found here by
rounds of path patching, heads of IOI are chosen on other prompts than those that are repaired, and the repair is
measured on a model that guesses Colored Objects where the model itself does not. That model, zoo:elimination, was
trained to name the person or color not mentioned again, which makes it likely that heads treat colors as they treat
names: a repair there shows that the edit can work, not that pretraining brings it about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.circuits.addresses import parse_node
from workbench.core.errors import WorkbenchError
from workbench.core.loading import lazily
from workbench.core.stats.agreement import spearman
from workbench.core.stats.intervals import SHARE
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, needs
from workbench.papers.kit.criteria import above, at_least, at_most, below, fact, given_p, order, permuted
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
    more = {"n_objects": o.n_objects, "shots": o.shots} if task == "colored-objects" else {}
    return of_task.paired_runs(model, task, n=n, seed=setting.seed + seed, split=split, **more)


def _circuit(setting: Setting, runs: PairedRuns) -> rounds.TaskCircuit:
    o: ReuseSizes = setting.options
    how = {"rounds": o.rounds, "share": o.share, "at_least": o.at_least}
    return rounds.task_circuit(runs, progress=setting.progress, **how)


def _overlaps(setting: Setting, c: Conditions) -> None:
    """Circuits of both tasks and of the controls, on prompts of the train split: which heads they share."""
    o: ReuseSizes = setting.options
    circuits: dict[str, rounds.TaskCircuit] = {}
    reasons: dict[str, str] = {}
    looks: dict[str, set[str]] = {}
    plan = {IOI: ("ioi", 0), OBJECTS: ("colored-objects", 0), AGAIN: ("ioi", 1)}
    for name, (task, more) in {**plan, **{task: (task, 0) for task in o.control_tasks}}.items():
        try:
            runs = _runs(setting, setting.model, task, n=o.n_circuit, seed=more, split="train")
            right = float((setting.begin(runs).clean > 0).mean())
            if right < DOES:
                reasons[name] = f"it does {task} on {right:.0%} of prompts; a circuit needs {DOES:.0%}"
                continue
            circuits[name] = _circuit(setting, runs)
        except WorkbenchError as problem:
            reasons[name] = problem.message.split("\n")[0]
            continue
        if name in (IOI, OBJECTS):
            at = roles.attention_to(runs, "IO" if name == IOI else "color")
            looks[name] = {head for head, value in at.items() if value >= LOOKS}
    for name, why in reasons.items():
        setting.note(f"{name}: {why}")
    c.numbers["circuits"] = {name: list(circuit.heads) for name, circuit in circuits.items()}
    c.numbers["why no circuit"] = reasons.get(OBJECTS) or reasons.get(IOI) or "no circuits were found"
    c.tables[f"heads found by rounds of path patching on {setting.name}"] = [
        {"task": name} | row for name, circuit in circuits.items() for row in circuit.rows()
    ]
    for name, circuit in circuits.items():
        c.draw_heads(
            f"{name}: effect through the heads found before", circuit.importance, unit="share of the gap"
        )
    if len(looks) == 2:
        _shared(c, circuits, looks)


def _shared(c: Conditions, circuits: Mapping[str, rounds.TaskCircuit], looks: Mapping[str, set[str]]) -> None:
    """Shared heads beside chance and control tasks, and the writers of both tasks that look at the answer."""
    found = {name: _overlap(circuits[IOI], circuit) for name, circuit in circuits.items() if name != IOI}
    mine, again = found[OBJECTS], found.get(AGAIN)
    others = {name: own["Jaccard"] for name, own in found.items() if name not in (OBJECTS, AGAIN)}
    c.tables["heads shared with IOI"] = [{"IOI and": name, **own} for name, own in found.items()]
    c.numbers |= {"shared heads": mine, "controls": others, "n controls": len(others)}
    c.numbers["largest Jaccard of a control task"] = max(others.values(), default=float("nan"))
    c.numbers["each control"] = ", ".join(f"{name} {jaccard:.2f}" for name, jaccard in others.items())
    c.numbers["chance"] = mine["by chance"]
    if again:
        c.numbers["chance"] = f"chance {mine['by chance']:.2f}; IOI on other prompts {again['Jaccard']:.2f}"
    writers = {name: sorted(circuits[name].rounds[0].kept) for name in (IOI, OBJECTS)}
    both = sorted({*writers[IOI]} & {*writers[OBJECTS]})
    copying = [head for head in both if head in looks[IOI] and head in looks[OBJECTS]]
    c.numbers |= {"writers": {name: ", ".join(heads) for name, heads in writers.items()}}
    c.numbers |= {"n copying": len(copying), "n writers": len({*writers[IOI], *writers[OBJECTS]})}
    c.numbers["copying"] = ", ".join(copying) or f"none; writers of both: {', '.join(both) or 'none'}"


def _overlap(here: rounds.TaskCircuit, there: rounds.TaskCircuit) -> dict[str, Any]:
    found = rounds.overlap(here.heads, there.heads, here.n_heads)
    union = len(found.shared) + len(found.only_here) + len(found.only_there)
    numbers = {"shared": len(found.shared), "of": union, "Jaccard": found.jaccard, "by chance": found.chance}
    return {**numbers, "p": found.p, "heads": ", ".join(found.shared) or "none"}


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
    how = {"inhibition": o.inhibition, "negative": o.negative, "looks": LOOKS}
    kinds = roles.steering_heads(ioi, _circuit(setting, ioi), **how)
    heads = tuple(dict.fromkeys([*kinds["inhibition"], *kinds["negative"]]))
    c.numbers |= {
        "repaired model": "" if name == setting.name else name,
        "edited": {k: list(h) for k, h in kinds.items()},
    }
    c.numbers["paper's parts"] = (
        "three inhibition heads 0.815, the negative mover 0.781" if kinds["negative"] else None
    )
    c.numbers["why no repair"] = ""
    if base.among.mean() >= KNOWS:
        c.numbers["why no repair"] = f"{name} answers Colored Objects: {base.among.mean():.0%} right"
    elif not heads:
        c.numbers["why no repair"] = (
            f"path patching finds no inhibition heads or negative movers for IOI on {name}"
        )
    else:
        colors = scenes.color_runs(_runs(setting, model, "colored-objects", n=o.n_circuit, split="train"))
        writers = rounds.task_circuit(setting.begin(colors), rounds=1, share=1.0).rounds[0]
        first = min(int(parse_node(h).layer) for h in heads)
        later = [h for h in writers.shares if int(parse_node(h).layer) > first and h not in heads]
        found = _forced(setting, c, asked, kinds, heads, later)
        _of_movers(c, found[PLAIN].attention, found[EDITED].attention, later, writers)


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
) -> dict[str, scenes.SceneAnswers]:
    """Answers under every edit, of random heads too, and what each gains."""
    o: ReuseSizes = setting.options
    wrong, objects = scenes.wrong_colors(o.n_objects), scenes.wrong_objects(o.n_objects)
    edits = {EDITED: (heads, wrong), THINGS: (heads, objects), MIXED: (heads, ("color", wrong[0]))}
    if all(kinds.values()):
        edits |= {f"{kind} only": (some, wrong) for kind, some in kinds.items()}
    if len(heads) > 1:
        edits |= {f"{head} only": ([head], wrong) for head in heads}
    found = {PLAIN: scenes.answers(asked, watch=later)}
    for name, (some, columns) in edits.items():
        watch = later if name == EDITED else ()
        found[name] = scenes.answers(asked, scenes.forced(some, columns), watch=watch)
    every = {f"a{parse_node(h).layer}.h{i}" for h in heads for i in range(asked.wiring.n_heads)}
    sets = c.matched(heads, every, draws=o.draws, seed=setting.seed)
    drawn = [scenes.answers(asked, scenes.forced(some, wrong)) for some in sets]
    for what, unit in (("among", "right among the scene's colors"), ("top", "right of all words")):
        for name, one in found.items():
            c.add(f"{what}, {name}", getattr(one, what), within=SHARE, unit=unit)
        c.unit, c.numbers[f"{what}, {RANDOM}"] = unit, float("nan")
        c.draws[f"{what}, {RANDOM}"] = [getattr(one, what) for one in drawn]
    gains = {name: c.mean(f"among, {name}", f"among, {PLAIN}") for name in edits}
    parts = {name: gain for name, gain in gains.items() if name.endswith(" only")}
    random = [float(one.among.mean()) - c.mean(f"among, {PLAIN}") for one in drawn]
    c.numbers |= {
        "gains": gains,
        "parts": parts,
        "gain": gains[EDITED],
        "random gains": random,
        "n draws": len(drawn),
    }
    c.numbers["each part"] = ", ".join(f"{name} {gain:+.2f}" for name, gain in parts.items())
    if random:
        c.numbers |= {"mean random gain": float(np.mean(random)), "largest random gain": max(random)}
    right = found[PLAIN].among == 1
    if right.any():
        c.add(
            "lost",
            found[EDITED].among[right] == 0,
            within=SHARE,
            unit="share of the right ones that are lost",
        )
        lost = [float((one.among[right] == 0).mean()) for one in drawn]
        c.numbers["lost by random heads"] = float(np.mean(lost)) if lost else float("nan")
    return found


def _of_movers(
    c: Conditions, before: Mapping, after: Mapping, later: Sequence[str], writers: rounds.Round
) -> None:
    """What becomes of the heads after the edited ones: attention to the right color, and to the wrong ones."""
    movers = [h for h in writers.kept if writers.shares[h] > 0 and h in later]
    movers = [h for h in movers if before[h].sum(1).mean() >= LOOKS]
    for column, color in enumerate(("right", "wrong")):
        if movers:
            change = np.mean([after[h][:, column] - before[h][:, column] for h in movers], 0)
            c.add(
                f"movers to the {color} color", 100 * change, within=(-100, 100), unit="points of attention"
            )
    moved = {h: (after[h] - before[h]).mean(0) for h in later}
    c.numbers |= {"movers": ", ".join(movers), "writes colors": {h: writers.shares[h] for h in later}}
    c.numbers["moved to the right"] = {h: float(change[0] - change[1]) for h, change in moved.items()}
    c.numbers |= {"n later": len(later), "writing and moving": {}}
    if len(later) >= FEWEST:
        agree, p = _agree(np.array([*c.numbers["moved to the right"].values()]), c), ORDER(c).p
        c.numbers["writing and moving"] = {"correlation": agree, "p": p}
    if later:
        points = [(writers.shares[h], c.numbers["moved to the right"][h], h) for h in later]
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
CIRCUITS = needs(lambda c: "shared heads" in c.numbers, "{why no circuit}")
REPAIR = needs(lambda c: not c.numbers["why no repair"], "{why no repair}")
Repair = partial(Claim, needs=[REPAIR], model="{repaired model}")


def _repaired(what: str, says: str, paper: str | None, where: str) -> Claim:
    edited, plain = f"{what}, {EDITED}", f"{what}, {PLAIN}"
    halved = fact(
        f"errors (1 minus {edited}) at most half of those as it is",
        lambda c: 1 - c.mean(edited) <= (1 - c.mean(plain)) / 2,
        edited,
    )
    gain = f"{edited} minus {plain}"
    return Repair(
        says,
        halved & above(edited, plain),
        paper=paper,
        why="a repair that leaves most errors is none; the paper's removes nine of ten. On zoo:elimination names and "
        "colors were trained alike, which helps",
        where=where,
        found=f"{{{plain}:.2f}} to {{{edited}:.2f}}; {{{gain}:+.2f}} [{{around of {gain}:+.2f}}]",
        control=f"random heads {{{what}, {RANDOM}:.2f}}",
    )


def _mover(color: str, says: str, by: Any, paper: str) -> Claim:
    name = f"movers to the {color} color"
    return Repair(
        says,
        by(name),
        paper=paper,
        why="the sign, clear of chance over prompts",
        where="section 5",
        needs=[
            REPAIR,
            needs(lambda c: c.numbers["movers"], "no later head that writes colors looks at them"),
        ],
        found=f"{{{name}:+.1f}} points [{{around of {name}:+.1f}}]",
        control="movers {movers}; nothing changes before the edited layer",
    )


CLAIMS = {
    "shared": Claim(
        "the circuits of IOI and Colored Objects share most of their heads",
        at_least("shared heads[Jaccard]", OVERLAP) & given_p("shared heads[p]"),
        paper=0.78,
        why="more shared than not; with few heads chance shares many, hence the hypergeometric p. IOI found again on "
        "other prompts is the most that can be asked",
        where="section 4",
        needs=[CIRCUITS],
        found="{shared heads[shared]} of {shared heads[of]} ({shared heads[Jaccard]:.2f}), p {shared heads[p]:.2g}",
        control="{chance}",
        n="{shared heads[of]}",
    ),
    "unrelated": Claim(
        "they share more than IOI and unrelated tasks do",
        order("shared heads[Jaccard]", "largest Jaccard of a control task"),
        paper="0.78; greater-than 0.167, capitals 0.25",
        why="heads of general use, such as those of the first layer, are in every circuit",
        where="section 4",
        needs=[CIRCUITS, needs(at_least("n controls", 1), "the model does none of the control tasks")],
        control="{each control}",
        n="{n controls}",
    ),
    "writers": Claim(
        "heads that write the answer are the same, and look at it in both tasks",
        at_least("n copying", 1),
        f"a head kept in round 1 of both tasks; from the end it looks at the answer in both (mean at least {LOOKS})",
        paper="15.14, 16.15, 17.4, 18.5, 19.15",
        why="the paper's movers attend to the answer token and copy it; one such head is the least",
        where="section 4.2",
        needs=[CIRCUITS],
        found="{copying}",
        control=f"writers of IOI {{writers[{IOI}]}}; of Colored Objects {{writers[{OBJECTS}]}}",
        n="{n writers}",
    ),
    "repair": _repaired(
        "among",
        "making IOI's inhibition heads look at the wrong colors repairs Colored Objects",
        "0.496 to 0.937",
        "section 5",
    ),
    "top": _repaired(
        "top",
        "the repair also holds with the whole vocabulary competing",
        None,
        "an extension of ours of section 5: it is not said what competes",
    ),
    "lost": Repair(
        "no example that was right becomes wrong",
        at_most("lost", LOST),
        paper=0,
        why="one in fifty may fall by an accident of the held-out prompts",
        where="section 5",
        needs=[REPAIR, needs(lambda c: "lost" in c, "no example was right before")],
        found="{lost:.0%} [{around of lost:.0%}]",
        control="random heads {lost by random heads:.2f}",
    ),
    "random": Repair(
        "random heads with the same edit do not repair",
        fact(
            "their mean gain at most a third of the repair's, and the repair above every draw",
            lambda c: (
                c.mean("gain") > max(0.0, c.mean("largest random gain"))
                and c.mean("mean random gain") <= c.mean("gain") / 3
            ),
        ),
        paper="0.499 ± 0.010 against 0.937",
        why="as many heads in the same layers: any head that reads a color may say something of it",
        where="section 5",
        needs=[REPAIR, needs(at_least("n draws", 1), "{no random heads}")],
        found="mean gain {mean random gain:+.2f}, largest {largest random gain:+.2f}",
        control="the repair {gain:+.2f}",
        n="{n draws}",
    ),
    "columns": Repair(
        "it is the wrong colors that matter: the same heads on the wrong objects do not repair",
        fact(
            "gain at most a third of the repair's; with the right color among the columns, no gain at all",
            lambda c: (
                c.mean("gain") > 0
                and c.mean(f"gains[{THINGS}]") <= c.mean("gain") / 3
                and c.mean(f"gains[{MIXED}]") <= 0
            ),
        ),
        why="if looking anywhere but at the right color repaired, the heads would say nothing of what they read",
        where="a control of ours",
        found=f"wrong objects {{gains[{THINGS}]:+.2f}}; right color and a wrong one {{gains[{MIXED}]:+.2f}}",
        control="the repair {gain:+.2f}",
        n=f"{{n of among, {EDITED}}}",
    ),
    "parts": Repair(
        "each part alone repairs less than all together, and more than nothing",
        fact(
            f"every part's gain above {NOTHING} and below that of all",
            lambda c: all(NOTHING < gain < c.mean("gain") for gain in c.numbers["parts"].values()),
        ),
        paper="{paper's parts}",
        why="every part is claimed to carry some of it",
        where="section 5",
        needs=[REPAIR, needs(lambda c: c.numbers["parts"], "a single head is edited")],
        found="{each part}",
        control="all {gain:+.2f}",
        n=f"{{n of among, {EDITED}}}",
    ),
    "wrong": _mover("wrong", "movers then look less at the wrong colors", below, "-8.7 points"),
    "right": _mover("right", "movers then look more at the right color", above, "+2.7 points"),
    "order": Repair(
        "the more a head writes colors, the more its attention moves from wrong to right",
        ORDER,
        paper="0.69, p < 0.01",
        why="a rank correlation of so few heads means little without the permutation test",
        where="section 5",
        needs=[
            REPAIR,
            needs(
                at_least("n later", FEWEST),
                f"{{n later}} heads come after the edited layer; {FEWEST} are needed",
            ),
        ],
        found="{writing and moving[correlation]:.2f}, p {writing and moving[p]:.2g}",
        control="heads exchanged at random: 0",
        n="{n later}",
    ),
}
REPLICATION = add_paper(
    Paper(
        name="component-reuse",
        title="Circuit component reuse across tasks",
        source="Merullo, Eickhoff and Pavlick 2023, arXiv:2310.08744",
        authors="arXiv:2310.08744",
        model="zoo:ioi",
        options=ReuseSizes,
        controls=(
            "chance: random sets of heads of the same sizes; IOI found again on other prompts; unrelated tasks",
            "as many random heads in the same layers with the same edit",
            "the same heads looking at the wrong objects, or at the right color and a wrong one",
            "each part alone",
        ),
        measure=measure,
        claims=CLAIMS,
    )
)
