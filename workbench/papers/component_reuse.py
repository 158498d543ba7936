"""Circuit component reuse: do two tasks use the same heads, and can the heads of one repair the other?

Merullo, Eickhoff and Pavlick 2023, arXiv:2310.08744: indirect objects (IOI) and Colored Objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.circuits.addresses import parse_node
from workbench.core.errors import WorkbenchError
from workbench.core.stats.agreement import spearman
from workbench.core.stats.intervals import CHANGE, SHARE
from workbench.core.stats.matched import matched_heads
from workbench.edits.scenes import (
    SceneAnswers,
    answers,
    color_runs,
    forced,
    scene_runs,
    wrong_colors,
    wrong_objects,
)
from workbench.engine.of_task import paired_runs
from workbench.engine.paired_runs import PairedRuns
from workbench.evaluate.roles import mean_attention
from workbench.heads.rounds import Round, TaskCircuit, overlap, task_circuit
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, above, below, fact, needs, permuted
from workbench.papers.options import ComponentReuse
from workbench.view.pictures import Heatmap, Scatter

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

# Criteria, fixed before anything was measured.
OVERLAP = 0.5  # shared over all heads: more shared than not
CHANCE = 0.05
DOES = 0.9  # share of prompts right, for a circuit to be one
LOOKS = 0.3  # least mean attention that makes a position what a head looks at
KNOWS = 0.8  # accuracy among a scene's colors above which there is nothing to repair
LOST = 0.02  # share of right answers that may become wrong
NOTHING = 0.1  # change of accuracy that counts as none
FEWEST = 5  # heads for a rank correlation
IOI, OBJECTS, AGAIN = "IOI", "Colored Objects", "IOI, other prompts"
PLAIN, EDITED, RANDOM = "as it is", "all", "random heads"
MIXED, THINGS = "the right color and a wrong one instead", "the wrong objects instead"


def measure(setting: Setting) -> Conditions:
    """Circuits of both tasks and of controls; then Colored Objects under forced attention."""
    c = Conditions(seed=setting.seed)
    _overlaps(setting, c)
    _repair(setting, c)
    return c


def _runs(model: TransformerBridge, task: str, options: ComponentReuse, *, n: int, seed: int, split: str):
    more = {"n_objects": options.n_objects, "shots": options.shots} if task == "colored-objects" else {}
    return paired_runs(model, task, n=n, seed=seed, split=split, **more)


def _circuit(runs: PairedRuns, setting: Setting) -> TaskCircuit:
    o: ComponentReuse = setting.options
    how = {"rounds": o.rounds, "share": o.share, "at_least": o.at_least}
    return task_circuit(runs, progress=setting.progress, **how)


def attention_to(runs: PairedRuns, key: str) -> dict[str, float]:
    """Head -> mean attention from the last position to a named one."""
    values = mean_attention(runs, [("end", key)])[0]
    return {f"a{n}.h{h}": float(values[n, h]) for n in range(values.shape[0]) for h in range(values.shape[1])}


# -- which heads two tasks share ----------------------------------------------------------------------------


def _overlaps(setting: Setting, c: Conditions) -> None:
    """Circuits of both tasks and of the controls, on prompts of the train split."""
    options: ComponentReuse = setting.options
    circuits: dict[str, TaskCircuit] = {}
    reasons: dict[str, str] = {}
    looks: dict[str, dict[str, float]] = {}
    plan = {IOI: ("ioi", 0), OBJECTS: ("colored-objects", 0), AGAIN: ("ioi", 1)}
    for name, (task, more) in {**plan, **{task: (task, 0) for task in options.control_tasks}}.items():
        try:
            seed = setting.seed + more
            runs = _runs(setting.model, task, options, n=options.n_circuit, seed=seed, split="train")
            right = float((setting.begin(runs).clean > 0).mean())
            if right < DOES:
                reasons[name] = f"it does {task} on {right:.0%} of prompts; a circuit needs {DOES:.0%}"
                continue
            circuits[name] = _circuit(runs, setting)
        except WorkbenchError as problem:
            reasons[name] = problem.message.split("\n")[0]
            continue
        if name in (IOI, OBJECTS):
            looks[name] = attention_to(runs, "IO" if name == IOI else "color")
    for name, why in reasons.items():
        setting.note(f"{name}: {why}")
    c.numbers["why no circuit"] = reasons
    c.numbers["circuits"] = {name: list(circuit.heads) for name, circuit in circuits.items()}
    c.numbers["overlaps"] = {
        name: _overlap(circuits[IOI], circuit)
        for name, circuit in circuits.items()
        if name != IOI and IOI in circuits
    }
    c.numbers["writers"] = {name: sorted(circuits[name].rounds[0].kept) for name in looks}
    c.numbers["looks at the answer"] = {
        name: [head for head, value in own.items() if value >= LOOKS] for name, own in looks.items()
    }
    c.tables[f"heads found by rounds of path patching on {setting.name}"] = [
        {"task": name} | row for name, circuit in circuits.items() for row in circuit.rows()
    ]
    c.tables["heads shared with IOI"] = [
        {"IOI and": name, **found, "heads": ", ".join(found["heads"]) or "none"}
        for name, found in c.numbers["overlaps"].items()
    ]
    if circuits:
        c.pictures["Heads of each task"] = _importance(circuits)


def _overlap(here: TaskCircuit, there: TaskCircuit) -> dict[str, Any]:
    found = overlap(here.heads, there.heads, there.n_heads)
    union = len(found.shared) + len(found.only_here) + len(found.only_there)
    numbers = {"shared": len(found.shared), "of": union, "Jaccard": found.jaccard, "by chance": found.chance}
    return {**numbers, "p": found.p, "heads": list(found.shared)}


def _importance(circuits: Mapping[str, TaskCircuit]) -> Heatmap:
    heads = sorted(
        {h for c in circuits.values() for h in c.importance},
        key=lambda h: (parse_node(h).layer, parse_node(h).index),
    )
    matrix = np.array([[c.importance[h] if h in c.heads else 0.0 for h in heads] for c in circuits.values()])
    return Heatmap.of(matrix, list(circuits), heads, unit="share of the gap, largest of all rounds")


# -- whether the heads of one task repair the other -----------------------------------------------------------


def _repair(setting: Setting, c: Conditions) -> None:
    """Heads of IOI on the train split; forced attention on the test split of Colored Objects."""
    options: ComponentReuse = setting.options
    name, model = setting.name, setting.model
    scenes, base = _scenes(setting, model)
    if base.among.mean() >= KNOWS:
        name, model = options.guessing_model, setting.open(options.guessing_model)
        setting.note(
            f"{setting.name} answers Colored Objects ({base.among.mean():.0%}); the repair is on {name}"
        )
        scenes, base = _scenes(setting, model)
    ioi = _runs(model, "ioi", options, n=options.n_circuit, seed=setting.seed, split="train")
    setting.begin(ioi)
    kinds = steering_heads(
        ioi, _circuit(ioi, setting), inhibition=options.inhibition, negative=options.negative
    )
    heads = tuple(dict.fromkeys([*kinds["inhibition"], *kinds["negative"]]))
    c.numbers |= {
        "repaired model": name,
        "asked": setting.name,
        "edited": {k: list(h) for k, h in kinds.items()},
    }
    c.numbers["why no repair"] = (
        f"{name} answers Colored Objects: {base.among.mean():.0%} right"
        if base.among.mean() >= KNOWS
        else ""
        if heads
        else f"path patching finds no inhibition heads or negative movers for IOI on {name}"
    )
    if c.numbers["why no repair"]:
        return
    colors = _runs(model, "colored-objects", options, n=options.n_circuit, seed=setting.seed, split="train")
    colors = color_runs(colors)
    setting.begin(colors)
    writers = task_circuit(colors, rounds=1, share=1.0).rounds[0]
    first = min(int(parse_node(h).layer) for h in heads)
    later = [h for h in writers.shares if int(parse_node(h).layer) > first and h not in heads]
    found = _forced(setting, c, scenes, kinds, heads, later)
    _of_movers(c, found[PLAIN].attention, found[EDITED].attention, later, writers)


def _scenes(setting: Setting, model: TransformerBridge) -> tuple[PairedRuns, SceneAnswers]:
    o: ComponentReuse = setting.options
    runs = scene_runs(_runs(model, "colored-objects", o, n=o.n_test, seed=setting.seed, split="test"))
    return runs, answers(setting.begin(runs))


def steering_heads(
    runs: PairedRuns, circuit: TaskCircuit, *, inhibition: int = 3, negative: int = 1
) -> dict[str, tuple[str, ...]]:
    """Of a circuit of IOI, the heads that say what not to answer, most important first.

    ``inhibition``: those that look from the end mostly at the subject's second mention. ``negative``: those that write
    against the answer in round 1.
    """
    at = {name: attention_to(runs, name) for name in ("IO", "S1", "S2")}
    ordered = sorted(circuit.heads, key=lambda head: -circuit.importance[head])
    inhibits = [h for h in ordered if at["S2"][h] >= LOOKS and at["S2"][h] > max(at["IO"][h], at["S1"][h])]
    first = circuit.rounds[0]
    against = [h for h in first.kept if first.shares[h] < 0 and h not in inhibits]
    return {"inhibition": tuple(inhibits[:inhibition]), "negative": tuple(against[:negative])}


def _forced(
    setting: Setting,
    c: Conditions,
    scenes: PairedRuns,
    kinds: Mapping[str, Sequence[str]],
    heads: Sequence[str],
    later: Sequence[str],
) -> dict[str, SceneAnswers]:
    """Answers under every edit; the names are what tables show."""
    options: ComponentReuse = setting.options
    wrong, objects = wrong_colors(options.n_objects), wrong_objects(options.n_objects)
    found = {
        PLAIN: answers(scenes, watch=later),
        EDITED: answers(scenes, forced(heads, wrong), watch=later),
        THINGS: answers(scenes, forced(heads, objects)),
        MIXED: answers(scenes, forced(heads, ("color", wrong[0]))),
    }
    if all(kinds.values()):
        found |= {f"{kind} only": answers(scenes, forced(some, wrong)) for kind, some in kinds.items()}
    if len(heads) > 1:
        found |= {f"{head} only": answers(scenes, forced([head], wrong)) for head in heads}
    every = [f"a{parse_node(h).layer}.h{i}" for h in heads for i in range(scenes.wiring.n_heads)]
    try:
        sets = matched_heads(heads, {*every}, draws=options.draws, seed=setting.seed)
    except WorkbenchError as problem:
        setting.note(problem.message)
        sets = []
    drawn = []
    for i, some in enumerate(sets, start=1):
        drawn.append(answers(scenes, forced(some, wrong)))
        setting.progress(i, len(sets), "random heads, same edit")
    for what, unit in (("among", "right among the scene's colors"), ("top", "right of all words")):
        for name, one in found.items():
            c.add(f"{what}: {name}", getattr(one, what), within=SHARE, unit=unit)
        c.unit = unit
        c.draws[f"{what}: {RANDOM}"] = [getattr(one, what) for one in drawn]
    right = found[PLAIN].among == 1
    if right.any():
        c.add(
            "lost",
            found[EDITED].among[right] == 0,
            within=SHARE,
            unit="share of the right ones that are lost",
        )
        c.numbers["lost by random heads"] = [float((one.among[right] == 0).mean()) for one in drawn]
    return found


def _of_movers(c: Conditions, before: Mapping, after: Mapping, later: Sequence[str], writers: Round) -> None:
    """What becomes of the heads after the edited ones: attention to the right color, and to the wrong ones."""
    movers = [h for h in writers.kept if writers.shares[h] > 0 and h in later]
    movers = [h for h in movers if before[h].sum(1).mean() >= LOOKS]
    for column, color in enumerate(("right", "wrong")):
        if movers:
            change = np.mean([after[h][:, column] - before[h][:, column] for h in movers], 0)
            c.add(f"movers to the {color} color", change, within=CHANGE, unit="change of attention")
    moved = {h: (after[h] - before[h]).mean(0) for h in later}
    c.numbers["movers"] = movers
    c.numbers["writes colors"] = {h: writers.shares[h] for h in later}
    c.numbers["moved to the right"] = {h: float(change[0] - change[1]) for h, change in moved.items()}
    c.tables["later heads: attention to colors before and after"] = [
        {
            "head": h,
            "writes colors (share)": writers.shares[h],
            "to the right color": float(before[h][:, 0].mean()),
            "after": float(after[h][:, 0].mean()),
            "to the wrong colors": float(before[h][:, 1].mean()),
            "after, wrong": float(after[h][:, 1].mean()),
        }
        for h in later
    ]
    if later:
        c.pictures["Later heads"] = Scatter.of(
            {"head": [(writers.shares[h], c.numbers["moved to the right"][h], h) for h in later]},
            x_label="writes colors, share of the gap",
            y_label="attention moved to the right color",
        )


# -- claims -------------------------------------------------------------------------------------------------


def _mine(c: Conditions) -> dict[str, Any]:
    return c.numbers["overlaps"][OBJECTS]


def _others(c: Conditions) -> dict[str, float]:
    """Jaccard of IOI with every control task."""
    found = c.numbers["overlaps"]
    return {name: own["Jaccard"] for name, own in found.items() if name not in (OBJECTS, AGAIN)}


def _chance(c: Conditions) -> str | float:
    chance, again = _mine(c)["by chance"], c.numbers["overlaps"].get(AGAIN)
    return f"chance {chance:.2f}; IOI on other prompts {again['Jaccard']:.2f}" if again else chance


def _both(c: Conditions) -> list[str]:
    writers = c.numbers["writers"]
    return sorted({*writers[IOI]} & {*writers[OBJECTS]})


def _copying(c: Conditions) -> list[str]:
    looks = c.numbers["looks at the answer"]
    return [head for head in _both(c) if head in looks[IOI] and head in looks[OBJECTS]]


def _no_circuit(c: Conditions) -> str:
    reasons = c.numbers["why no circuit"]
    return reasons.get(OBJECTS) or reasons.get(IOI) or "no circuits were found"


def _gain(c: Conditions, name: str = EDITED, what: str = "among") -> float:
    return c.mean(f"{what}: {name}", f"{what}: {PLAIN}")


def _drawn(c: Conditions) -> list[float]:
    plain = c.mean(f"among: {PLAIN}")
    return [float(draw.mean()) - plain for draw in c.draws[f"among: {RANDOM}"]]


def _parts(c: Conditions) -> dict[str, float]:
    names = [name.removeprefix("among: ") for name in c.values if name.startswith("among: ")]
    return {name: _gain(c, name) for name in names if name.endswith(" only")}


def _elsewhere(c: Conditions) -> str:
    return "" if c.numbers["repaired model"] == c.numbers["asked"] else c.numbers["repaired model"]


def _halved(what: str):
    """The errors are at least halved."""
    return fact(
        "errors at least halved",
        lambda c: 1 - c.mean(f"{what}: {EDITED}") <= (1 - c.mean(f"{what}: {PLAIN}")) / 2,
    )


def _repaired(what: str, says: str, criterion: str, paper: str | None, where: str) -> Claim:
    edited, plain = f"{what}: {EDITED}", f"{what}: {PLAIN}"

    def found(c: Conditions) -> str:
        around = c.interval(edited, plain).shown("+.2f", between=", ")
        gain = _gain(c, what=what)
        return f"{c.mean(plain):.2f} to {c.mean(edited):.2f}; {gain:+.2f} [{around}]"

    return Claim(
        says,
        _halved(what) & above(edited, plain),
        criterion,
        paper=paper,
        why="a repair that leaves most errors is none; the paper's removes nine of ten. On zoo:elimination names and "
        "colors were trained alike, which helps",
        where=where,
        needs=[REPAIR],
        found=found,
        control=lambda c: f"random heads {np.mean(c.draws[f'{what}: {RANDOM}'] or [np.nan]):.2f}",
        n=lambda c: c.n(plain),
        model=_elsewhere,
    )


def _lost(c: Conditions) -> str | None:
    if "lost" not in c:
        return None
    return f"{c.mean('lost'):.0%} [{c.interval('lost').shown('.0%', between=', ')}]"


def _mover(color: str, by: Any, more: str, paper: str) -> Claim:
    name = f"movers to the {color} color"

    def found(c: Conditions) -> str:
        low, high, _ = (100 * x for x in c.interval(name))
        return f"{100 * c.mean(name):+.1f} points [{low:+.1f}, {high:+.1f}]"

    return Claim(
        f"movers then look {more} at the {color} color{'s' if color == 'wrong' else ''}",
        by,
        f"paired interval of the change, mean of the movers, {'below' if color == 'wrong' else 'above'} 0",
        paper=paper,
        why="the sign, clear of chance over prompts",
        where="section 5",
        needs=[
            REPAIR,
            needs(lambda c: c.numbers["movers"], "no later head that writes colors looks at them"),
        ],
        found=found,
        control=lambda c: f"movers {', '.join(c.numbers['movers'])}; nothing changes before the edited layer",
        model=_elsewhere,
    )


def _agree(moved: np.ndarray, c: Conditions) -> float:
    return spearman(np.array(list(c.numbers["writes colors"].values())), moved)


def _moved(c: Conditions) -> np.ndarray:
    return np.array(list(c.numbers["moved to the right"].values()))


ORDER = permuted("rank correlation of writing and moving", _agree, _moved, draws=2000)
CIRCUITS = needs(lambda c: OBJECTS in c.numbers["overlaps"], _no_circuit)
REPAIR = needs(lambda c: not c.numbers["why no repair"], lambda c: c.numbers["why no repair"])
CLAIMS = {
    "shared": Claim(
        "the circuits of IOI and Colored Objects share most of their heads",
        fact("most are shared", lambda c: _mine(c)["Jaccard"] >= OVERLAP and _mine(c)["p"] < CHANCE),
        f"shared over all heads at least {OVERLAP}, and as many shared by chance with p < {CHANCE}",
        paper=0.78,
        why="more shared than not; with few heads chance shares many, hence the hypergeometric p. IOI found again on "
        "other prompts is the most that can be asked",
        where="section 4",
        needs=[CIRCUITS],
        found=lambda c: (
            f"{_mine(c)['shared']} of {_mine(c)['of']} ({_mine(c)['Jaccard']:.2f}), p {_mine(c)['p']:.2g}"
        ),
        control=_chance,
        n=lambda c: _mine(c)["of"],
    ),
    "unrelated": Claim(
        "they share more than IOI and unrelated tasks do",
        fact("more than any control", lambda c: _mine(c)["Jaccard"] > max(_others(c).values())),
        "its Jaccard index is above that of IOI with every control task",
        paper="0.78; greater-than 0.167, capitals 0.25",
        why="heads of general use, such as those of the first layer, are in every circuit",
        where="section 4",
        needs=[CIRCUITS, needs(_others, "the model does none of the control tasks")],
        found=lambda c: _mine(c)["Jaccard"],
        control=lambda c: ", ".join(f"{name} {jaccard:.2f}" for name, jaccard in _others(c).items()),
        n=lambda c: len(_others(c)),
    ),
    "writers": Claim(
        "heads that write the answer are the same, and look at it in both tasks",
        fact("one copying head in both", _copying),
        f"a head kept in round 1 of both tasks; from the end it looks at the answer in both (mean at least {LOOKS})",
        paper="15.14, 16.15, 17.4, 18.5, 19.15",
        why="the paper's movers attend to the answer token and copy it; one such head is the least",
        where="section 4.2",
        needs=[CIRCUITS],
        found=lambda c: ", ".join(_copying(c)) or f"none; writers of both: {', '.join(_both(c)) or 'none'}",
        control=lambda c: (
            f"writers of IOI {', '.join(c.numbers['writers'][IOI])}; "
            f"of Colored Objects {', '.join(c.numbers['writers'][OBJECTS])}"
        ),
        n=lambda c: len({*c.numbers["writers"][IOI], *c.numbers["writers"][OBJECTS]}),
    ),
    "repair": _repaired(
        "among",
        "making IOI's inhibition heads look at the wrong colors repairs Colored Objects",
        "errors among the scene's colors at least halved, and the paired interval of the gain above 0",
        "0.496 to 0.937",
        "section 5",
    ),
    "top": _repaired(
        "top",
        "the repair also holds with the whole vocabulary competing",
        "the same of the most likely word",
        None,
        "an extension of ours of section 5: it is not said what competes",
    ),
    "lost": Claim(
        "no example that was right becomes wrong",
        fact("few are lost", lambda c: "lost" not in c or c.mean("lost") <= LOST),
        f"at most {LOST:.0%} of the right ones",
        paper=0,
        why="one in fifty may fall by an accident of the held-out prompts",
        where="section 5",
        needs=[REPAIR],
        found=_lost,
        control=lambda c: (
            f"random heads {np.mean(c.numbers['lost by random heads']):.2f}"
            if c.numbers.get("lost by random heads")
            else None
        ),
        n=lambda c: c.n("lost") if "lost" in c else 0,
        model=_elsewhere,
    ),
    "random": Claim(
        "random heads with the same edit do not repair",
        fact(
            "draws gain little",
            lambda c: _gain(c) > max(0.0, *_drawn(c)) and np.mean(_drawn(c)) <= _gain(c) / 3,
        ),
        "their mean gain at most a third of the repair's, and the repair above every draw",
        paper="0.499 ± 0.010 against 0.937",
        why="as many heads in the same layers: any head that reads a color may say something of it",
        where="section 5",
        needs=[REPAIR, needs(_drawn, "too few other heads in the edited layers")],
        found=lambda c: f"mean gain {np.mean(_drawn(c)):+.2f}, largest {max(_drawn(c)):+.2f}",
        control=lambda c: f"the repair {_gain(c):+.2f}",
        n=lambda c: len(_drawn(c)),
        model=_elsewhere,
    ),
    "columns": Claim(
        "it is the wrong colors that matter: the same heads on the wrong objects do not repair",
        fact(
            "other columns gain little",
            lambda c: _gain(c) > 0 and _gain(c, THINGS) <= _gain(c) / 3 and _gain(c, MIXED) <= 0,
        ),
        "gain at most a third of the repair's; with the right color among the columns, no gain at all",
        why="if looking anywhere but at the right color repaired, the heads would say nothing of what they read",
        where="a control of ours",
        needs=[REPAIR],
        found=lambda c: (
            f"wrong objects {_gain(c, THINGS):+.2f}; right color and a wrong one {_gain(c, MIXED):+.2f}"
        ),
        control=lambda c: f"the repair {_gain(c):+.2f}",
        n=lambda c: c.n(f"among: {EDITED}"),
        model=_elsewhere,
    ),
    "parts": Claim(
        "each part alone repairs less than all together, and more than nothing",
        fact(
            "every part gains some",
            lambda c: min(_parts(c).values()) > NOTHING and max(_parts(c).values()) < _gain(c),
        ),
        f"every part's gain above {NOTHING} and below that of all",
        paper=lambda c: (
            "three inhibition heads 0.815, the negative mover 0.781"
            if c.numbers["edited"]["negative"]
            else None
        ),
        why="every part is claimed to carry some of it",
        where="section 5",
        needs=[REPAIR, needs(_parts, "a single head is edited")],
        found=lambda c: ", ".join(f"{name} {value:+.2f}" for name, value in _parts(c).items()),
        control=lambda c: f"all {_gain(c):+.2f}",
        n=lambda c: c.n(f"among: {EDITED}"),
        model=_elsewhere,
    ),
    "wrong": _mover("wrong", below("movers to the wrong color"), "less", "-8.7 points"),
    "right": _mover("right", above("movers to the right color"), "more", "+2.7 points"),
    "order": Claim(
        "the more a head writes colors, the more its attention moves from wrong to right",
        ORDER,
        f"Spearman's correlation over later heads above 0 with permutation p < {CHANCE}",
        paper="0.69, p < 0.01",
        why="a rank correlation of so few heads means little without the permutation test",
        where="section 5",
        needs=[
            REPAIR,
            needs(
                lambda c: len(_moved(c)) >= FEWEST,
                lambda c: f"{len(_moved(c))} heads come after the edited layer; {FEWEST} are needed",
            ),
        ],
        found=lambda c: f"{_agree(_moved(c), c):.2f}, p {ORDER(c).p:.2g}",
        control="heads exchanged at random: 0",
        n=lambda c: len(_moved(c)),
        model=_elsewhere,
    ),
}
REPLICATION = Paper(
    name="component-reuse",
    authors="arXiv:2310.08744",
    about="In GPT-2 medium most heads that do indirect objects also do Colored Objects; what the second task lacks is "
    "inhibition, and making the first task's inhibition heads look at the wrong colors repairs it. Circuits are found "
    "here by rounds of path patching, heads of IOI are chosen on other prompts than those that are repaired, and the "
    "repair is measured on a model that guesses Colored Objects where the model itself does not. That model, "
    "zoo:elimination, was trained to name the person or color not mentioned again, which makes it likely that heads "
    "treat colors as they treat names: a repair there shows that the edit can work, not that pretraining brings it "
    "about.",
    options=ComponentReuse,
    controls=(
        "chance: random sets of heads of the same sizes; IOI found again on other prompts; unrelated tasks",
        "as many random heads in the same layers with the same edit",
        "the same heads looking at the wrong objects, or at the right color and a wrong one",
        "each part alone",
    ),
    measure=measure,
    claims=CLAIMS,
)
