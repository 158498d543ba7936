"""Circuit component reuse: do two tasks use the same heads, and can the heads of one repair the other?

Merullo, Eickhoff and Pavlick 2023, arXiv:2310.08744: indirect objects (IOI) and Colored Objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from transformer_lens.model_bridge import TransformerBridge

from workbench.agreement import spearman
from workbench.claims import Claim, judge, untestable
from workbench.errors import WorkbenchError
from workbench.evaluate.roles import mean_attention
from workbench.names import parse_node
from workbench.replications.component_reuse_circuit import Overlap, TaskCircuit, overlap, task_circuit
from workbench.replications.component_reuse_repair import (
    Answers,
    answers,
    color_runs,
    forced,
    matched_heads,
    scene_runs,
    wrong_colors,
    wrong_objects,
)
from workbench.replications.kinds import Findings, Replication, Setting
from workbench.statistics import CHANGE, SHARE, Interval, mean_interval
from workbench.study import paired_runs
from workbench.sweep.runs import PairedRuns
from workbench.view.bars import bars_svg
from workbench.view.heatmap import heatmap_svg
from workbench.view.scatter import scatter_svg

PAPER = "arXiv:2310.08744"
OVERLAP = 0.5  # shared over all heads: more shared than not
CHANCE = 0.05
DOES = 0.9  # share of prompts right, for a circuit to be one
KNOWS = 0.8  # accuracy among a scene's colors above which there is nothing to repair
LOOKS = 0.3  # least mean attention that makes a position what a head looks at
LOST = 0.02  # share of right answers that may become wrong
NOTHING = 0.1  # change of accuracy that counts as none
FEWEST = 5  # heads for a rank correlation


@dataclass(frozen=True, kw_only=True)
class ComponentReuse:
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


def run(setting: Setting) -> Findings:
    """Measure every claim."""
    overlap_claims, circuits, overlaps = _overlap_part(setting)
    repair = _repair_part(setting)
    circuit_rows = [{"task": name} | row for name, c in circuits.items() for row in c.rows()]
    return Findings(
        claims=(*overlap_claims, *repair.claims),
        tables={
            f"heads found by rounds of path patching on {setting.name}": circuit_rows,
            "heads shared with IOI": overlaps,
            **repair.tables,
        },
        pictures={**_importance_picture(circuits), **repair.pictures},
        numbers={
            "circuits": {name: list(c.heads) for name, c in circuits.items()},
            "overlaps": overlaps,
            **repair.numbers,
        },
    )


# -- the same heads? -----------------------------------------------------------------------------------------


def _runs(model: TransformerBridge, task: str, options: ComponentReuse, *, n: int, seed: int, split: str):
    more = {"n_objects": options.n_objects, "shots": options.shots} if task == "colored-objects" else {}
    return paired_runs(model, task, n=n, seed=seed, split=split, **more)


def _circuit(runs: PairedRuns, options: ComponentReuse, setting: Setting) -> TaskCircuit:
    return task_circuit(
        runs,
        rounds=options.rounds,
        share=options.share,
        at_least=options.at_least,
        progress=setting.progress,
    )


def _overlap_part(setting: Setting) -> tuple[list[Claim], dict[str, TaskCircuit], list[dict]]:
    """Circuits of both tasks and of the controls, on prompts of the train split."""
    options: ComponentReuse = setting.options
    circuits: dict[str, TaskCircuit] = {}
    reasons: dict[str, str] = {}
    looks: dict[str, dict[str, float]] = {}
    plan = {"IOI": ("ioi", 0), "Colored Objects": ("colored-objects", 0), "IOI, other prompts": ("ioi", 1)}
    plan |= {task: (task, 0) for task in options.control_tasks}
    for name, (task, more) in plan.items():
        try:
            runs = _runs(
                setting.model, task, options, n=options.n_circuit, seed=setting.seed + more, split="train"
            )
            right = float((runs.clean > 0).mean())
            if right < DOES:
                reasons[name] = f"it does {task} on {right:.0%} of prompts; a circuit needs {DOES:.0%}"
                continue
            circuits[name] = _circuit(runs, options, setting)
        except WorkbenchError as problem:
            reasons[name] = problem.message.split("\n")[0]
            continue
        answer = {"ioi": "IO", "colored-objects": "color"}.get(task)
        if answer and more == 0:
            looks[name] = _attention(runs, answer)
    for name, why in reasons.items():
        setting.note(f"{name}: {why}")
    found = {
        name: overlap(circuits["IOI"].heads, c.heads, c.n_heads)
        for name, c in circuits.items()
        if name != "IOI" and "IOI" in circuits
    }
    rows = [
        {
            "IOI and": name,
            "shared": len(o.shared),
            "of": len(o.shared) + len(o.only_here) + len(o.only_there),
            "Jaccard": o.jaccard,
            "by chance": o.chance,
            "p": o.p,
            "heads": ", ".join(o.shared) or "none",
        }
        for name, o in found.items()
    ]
    return _overlap_claims(found, reasons, circuits, looks), circuits, rows


def _attention(runs: PairedRuns, key: str) -> dict[str, float]:
    """Head -> mean attention from the last position to a named one."""
    values = mean_attention(runs, [("end", key)])[0]
    return {f"a{n}.h{h}": float(values[n, h]) for n in range(values.shape[0]) for h in range(values.shape[1])}


def _overlap_claims(
    found: Mapping[str, Overlap],
    reasons: Mapping[str, str],
    circuits: Mapping[str, TaskCircuit],
    looks: Mapping[str, Mapping[str, float]],
) -> list[Claim]:
    claims = (
        "the circuits of IOI and Colored Objects share most of their heads",
        "they share more than IOI and unrelated tasks do",
        "heads that write the answer are the same, and look at it in both tasks",
    )
    rules = (
        f"shared over all heads at least {OVERLAP}, and as many shared by chance with p < {CHANCE}",
        "its Jaccard index is above that of IOI with every control task",
        f"a head kept in round 1 of both tasks; from the end it looks at the answer in both (mean at least {LOOKS})",
    )
    papers = (0.78, "0.78; greater-than 0.167, capitals 0.25", "15.14, 16.15, 17.4, 18.5, 19.15")
    if "Colored Objects" not in found:
        why = reasons.get("Colored Objects") or reasons.get("IOI") or "no circuits were found"
        return [
            untestable(c, r, why, paper=p, source=PAPER)
            for c, r, p in zip(claims, rules, papers, strict=True)
        ]
    mine = found["Colored Objects"]
    again = found.get("IOI, other prompts")
    controls = {n: o.jaccard for n, o in found.items() if n not in ("Colored Objects", "IOI, other prompts")}
    total = len(mine.shared) + len(mine.only_here) + len(mine.only_there)
    made = [
        judge(
            claims[0],
            rules[0],
            mine.jaccard >= OVERLAP and mine.p < CHANCE,
            paper=papers[0],
            found=f"{len(mine.shared)} of {total} ({mine.jaccard:.2f}), p {mine.p:.2g}",
            control=f"chance {mine.chance:.2f}; IOI on other prompts {again.jaccard:.2f}"
            if again
            else mine.chance,
            n=total,
            reason="more shared than not; with few heads chance shares many, hence the hypergeometric p. IOI found "
            "again on other prompts is the most that can be asked",
            source=f"{PAPER}, section 4",
        )
    ]
    if controls:
        made.append(
            judge(
                claims[1],
                rules[1],
                mine.jaccard > max(controls.values()),
                paper=papers[1],
                found=mine.jaccard,
                control=", ".join(f"{n} {j:.2f}" for n, j in controls.items()),
                n=len(controls),
                reason="heads of general use, such as those of the first layer, are in every circuit",
                source=f"{PAPER}, section 4",
            )
        )
    else:
        made.append(untestable(claims[1], rules[1], "the model does none of the control tasks", source=PAPER))
    first = [set(circuits[name].rounds[0].kept) for name in ("IOI", "Colored Objects")]
    both = sorted(first[0] & first[1])
    movers = [h for h in both if all(looks[n][h] >= LOOKS for n in ("IOI", "Colored Objects"))]
    made.append(
        judge(
            claims[2],
            rules[2],
            bool(movers),
            paper=papers[2],
            found=", ".join(movers) or f"none; writers of both: {', '.join(both) or 'none'}",
            control=f"writers of IOI {', '.join(sorted(first[0]))}; of Colored Objects {', '.join(sorted(first[1]))}",
            n=len(first[0] | first[1]),
            reason="the paper's movers attend to the answer token and copy it; one such head is the least",
            source=f"{PAPER}, section 4.2",
        )
    )
    return made


# -- the repair ----------------------------------------------------------------------------------------------


def _repair_part(setting: Setting) -> Findings:
    """Heads of IOI on the train split; forced attention on the test split of Colored Objects."""
    options: ComponentReuse = setting.options
    scenes = scene_runs(
        _runs(setting.model, "colored-objects", options, n=options.n_test, seed=setting.seed, split="test")
    )
    name, model, base = setting.name, setting.model, answers(scenes)
    if base.among.mean() >= KNOWS:
        name, model = options.guessing_model, setting.open(options.guessing_model)
        setting.note(
            f"{setting.name} answers Colored Objects ({base.among.mean():.0%}); the repair is on {name}"
        )
        scenes = scene_runs(
            _runs(model, "colored-objects", options, n=options.n_test, seed=setting.seed, split="test")
        )
        base = answers(scenes)
    ioi = _runs(model, "ioi", options, n=options.n_circuit, seed=setting.seed, split="train")
    kinds = steering_heads(
        ioi, _circuit(ioi, options, setting), inhibition=options.inhibition, negative=options.negative
    )
    heads = tuple(dict.fromkeys([*kinds["inhibition"], *kinds["negative"]]))
    if base.among.mean() >= KNOWS or not heads:
        why = (
            f"{name} answers Colored Objects: {base.among.mean():.0%} right"
            if base.among.mean() >= KNOWS
            else f"path patching finds no inhibition heads or negative movers for IOI on {name}"
        )
        elsewhere = "" if name == setting.name else name
        return Findings(
            claims=tuple(untestable(c, r, why, source=PAPER, model=elsewhere) for c, r in _REPAIRS.values())
        )
    colors = color_runs(
        _runs(model, "colored-objects", options, n=options.n_circuit, seed=setting.seed, split="train")
    )
    writers = task_circuit(colors, rounds=1, share=1.0).rounds[0]
    first = min(int(parse_node(h).layer) for h in heads)
    later = [h for h in writers.shares if int(parse_node(h).layer) > first and h not in heads]
    conditions = _conditions(setting, scenes, kinds, heads, later)
    claims = _repair_claims(name, setting.seed, conditions, heads, kinds, later, writers)
    elsewhere = "" if name == setting.name else name
    return Findings(
        claims=tuple(replace(claim, model=elsewhere) for claim in claims),
        tables={
            f"accuracy on Colored Objects under forced attention, {name}": _condition_rows(
                conditions, setting.seed
            ),
            f"later heads: attention to colors before and after, {name}": _attention_rows(
                conditions, later, writers.shares
            ),
        },
        pictures=_repair_pictures(conditions, later, writers.shares, name, setting.seed),
        numbers={
            "repaired model": name,
            "edited": {kind: list(h) for kind, h in kinds.items()},
            "accuracy": {k: a.accuracy(seed=setting.seed) for k, a in conditions.items()},
        },
    )


def steering_heads(
    runs: PairedRuns, circuit: TaskCircuit, *, inhibition: int = 3, negative: int = 1
) -> dict[str, tuple[str, ...]]:
    """Of a circuit of IOI, the heads that say what not to answer, most important first.

    ``inhibition``: those that look from the end mostly at the subject's second mention. ``negative``: those that write
    against the answer in round 1.
    """
    at = {name: _attention(runs, name) for name in ("IO", "S1", "S2")}
    ordered = sorted(circuit.heads, key=lambda head: -circuit.importance[head])
    inhibits = [h for h in ordered if at["S2"][h] >= LOOKS and at["S2"][h] > max(at["IO"][h], at["S1"][h])]
    first = circuit.rounds[0]
    against = [h for h in first.kept if first.shares[h] < 0 and h not in inhibits]
    return {"inhibition": tuple(inhibits[:inhibition]), "negative": tuple(against[:negative])}


def _conditions(
    setting: Setting,
    scenes: PairedRuns,
    kinds: Mapping[str, Sequence[str]],
    heads: Sequence[str],
    later: Sequence[str],
) -> dict[str, Answers]:
    """Answers under every edit; the names are what tables show."""
    options: ComponentReuse = setting.options
    wrong, objects = wrong_colors(options.n_objects), wrong_objects(options.n_objects)
    found = {
        "as it is": answers(scenes, watch=later),
        "all": answers(scenes, forced(heads, wrong), watch=later),
        "the wrong objects instead": answers(scenes, forced(heads, objects)),
        "the right color and a wrong one instead": answers(scenes, forced(heads, ("color", wrong[0]))),
    }
    if all(kinds.values()):
        found |= {f"{kind} only": answers(scenes, forced(some, wrong)) for kind, some in kinds.items()}
    if len(heads) > 1:
        found |= {f"{head} only": answers(scenes, forced([head], wrong)) for head in heads}
    try:
        drawn = matched_heads(heads, n_heads=scenes.wiring.n_heads, draws=options.draws, seed=setting.seed)
    except WorkbenchError as problem:
        setting.note(problem.message)
        drawn = []
    for i, some in enumerate(drawn, start=1):
        found[f"random {i}: {', '.join(some)}"] = answers(scenes, forced(some, wrong))
        setting.progress(i, len(drawn), "random heads, same edit")
    return found


_REPAIRS = {
    "repair": (
        "making IOI's inhibition heads look at the wrong colors repairs Colored Objects",
        "errors among the scene's colors at least halved, and the paired interval of the gain above 0",
    ),
    "top": (
        "the repair also holds with the whole vocabulary competing",
        "the same of the most likely word",
    ),
    "lost": (
        "no example that was right becomes wrong",
        f"at most {LOST:.0%} of the right ones",
    ),
    "random": (
        "random heads with the same edit do not repair",
        "their mean gain at most a third of the repair's, and the repair above every draw",
    ),
    "columns": (
        "it is the wrong colors that matter: the same heads on the wrong objects do not repair",
        "gain at most a third of the repair's; with the right color among the columns, no gain at all",
    ),
    "parts": (
        "each part alone repairs less than all together, and more than nothing",
        f"every part's gain above {NOTHING} and below that of all",
    ),
    "wrong": (
        "movers then look less at the wrong colors",
        "paired interval of the change, mean of the movers, below 0",
    ),
    "right": (
        "movers then look more at the right color",
        "paired interval of the change, mean of the movers, above 0",
    ),
    "order": (
        "the more a head writes colors, the more its attention moves from wrong to right",
        f"Spearman's correlation over later heads above 0 with permutation p < {CHANCE}",
    ),
}


def _gain(now: np.ndarray, before: np.ndarray, seed: int) -> tuple[float, Interval]:
    return float((now - before).mean()), mean_interval(now - before, within=CHANGE, seed=seed)


def _repair_claims(
    name: str,
    seed: int,
    conditions: Mapping[str, Answers],
    heads: Sequence[str],
    kinds: Mapping[str, Sequence[str]],
    later: Sequence[str],
    writers,
) -> list[Claim]:
    base, best = conditions["as it is"], conditions["all"]
    n, source = len(base.among), f"{PAPER}, section 5; here {name}, heads {', '.join(heads)}"
    claims = []
    for key, value, paper in (("repair", "among", "0.496 to 0.937"), ("top", "top", None)):
        before, after = getattr(base, value), getattr(best, value)
        gain, (low, high, _) = _gain(after, before, seed)
        claims.append(
            judge(
                *_REPAIRS[key],
                1 - after.mean() <= (1 - before.mean()) / 2 and low > 0,
                paper=paper,
                found=f"{before.mean():.2f} to {after.mean():.2f}; {gain:+.2f} [{low:+.2f}, {high:+.2f}]",
                control=f"random heads {_random(conditions, value):.2f}",
                n=n,
                reason="a repair that leaves most errors is none; the paper's removes nine of ten. On zoo:elimination "
                "names and colors were trained alike, which helps",
                source=source
                if key == "repair"
                else f"an extension of ours of {source}: it is not said what competes",
            )
        )
    gain = float(best.among.mean() - base.among.mean())
    right = base.among == 1
    lost = float((best.among[right] == 0).mean()) if right.any() else 0.0
    low, high, _ = mean_interval(best.among[right] == 0, within=SHARE, seed=seed)
    claims.append(
        judge(
            *_REPAIRS["lost"],
            lost <= LOST,
            paper=0,
            found=f"{lost:.0%} [{low:.0%}, {high:.0%}]" if right.any() else None,
            control=_lost_by_random(conditions),
            n=int(right.sum()),
            reason="one in fifty may fall by an accident of the held-out prompts",
            source=source,
        )
    )
    claims += [
        _random_claim(conditions, gain, source),
        _column_claim(conditions, gain, source),
        _part_claim(conditions, gain, source, kinds),
    ]
    return claims + _mover_claims(conditions, later, writers, seed, source)


def _draws(conditions: Mapping[str, Answers]) -> list[Answers]:
    return [a for name, a in conditions.items() if name.startswith("random ")]


def _random(conditions: Mapping[str, Answers], value: str) -> float:
    return float(np.mean([getattr(a, value).mean() for a in _draws(conditions)] or [np.nan]))


def _lost_by_random(conditions: Mapping[str, Answers]) -> str | None:
    right = conditions["as it is"].among == 1
    drawn = [float((a.among[right] == 0).mean()) for a in _draws(conditions)]
    return f"random heads {np.mean(drawn):.2f}" if drawn and right.any() else None


def _random_claim(conditions: Mapping[str, Answers], gain: float, source: str) -> Claim:
    drawn = [float(a.among.mean() - conditions["as it is"].among.mean()) for a in _draws(conditions)]
    if not drawn:
        return untestable(*_REPAIRS["random"], "too few other heads in the edited layers", source=source)
    return judge(
        *_REPAIRS["random"],
        gain > max(0.0, *drawn) and np.mean(drawn) <= gain / 3,
        paper="0.499 ± 0.010 against 0.937",
        found=f"mean gain {np.mean(drawn):+.2f}, largest {max(drawn):+.2f}",
        control=f"the repair {gain:+.2f}",
        n=len(drawn),
        reason="as many heads in the same layers: any head that reads a color may say something of it",
        source=source,
    )


def _column_claim(conditions: Mapping[str, Answers], gain: float, source: str) -> Claim:
    base = conditions["as it is"].among.mean()
    objects = float(conditions["the wrong objects instead"].among.mean() - base)
    mixed = float(conditions["the right color and a wrong one instead"].among.mean() - base)
    return judge(
        *_REPAIRS["columns"],
        gain > 0 and objects <= gain / 3 and mixed <= 0,
        found=f"wrong objects {objects:+.2f}; right color and a wrong one {mixed:+.2f}",
        control=f"the repair {gain:+.2f}",
        n=len(conditions["all"].among),
        reason="if looking anywhere but at the right color repaired, the heads would say nothing of what they read",
        source="a control of ours",
    )


def _part_claim(
    conditions: Mapping[str, Answers], gain: float, source: str, kinds: Mapping[str, Sequence[str]]
) -> Claim:
    base = conditions["as it is"].among.mean()
    gains = {name: float(a.among.mean() - base) for name, a in conditions.items() if name.endswith(" only")}
    if not gains:
        return untestable(*_REPAIRS["parts"], "a single head is edited", paper="0.815, 0.781", source=source)
    return judge(
        *_REPAIRS["parts"],
        min(gains.values()) > NOTHING and max(gains.values()) < gain,
        paper="three inhibition heads 0.815, the negative mover 0.781" if kinds["negative"] else None,
        found=", ".join(f"{name} {value:+.2f}" for name, value in gains.items()),
        control=f"all {gain:+.2f}",
        n=len(conditions["all"].among),
        reason="every part is claimed to carry some of it",
        source=source if kinds["negative"] else f"{source}; no negative mover was found",
    )


def _mover_claims(
    conditions: Mapping[str, Answers], later: Sequence[str], writers, seed: int, source: str
) -> list[Claim]:
    """What becomes of the heads after the edited ones."""
    before, after = conditions["as it is"].attention, conditions["all"].attention
    movers = [h for h in writers.kept if writers.shares[h] > 0 and h in later]
    movers = [h for h in movers if before[h].sum(1).mean() >= LOOKS]
    claims = []
    for key, column, sign, paper in (("wrong", 1, -1, "-8.7 points"), ("right", 0, 1, "+2.7 points")):
        if not movers:
            why = "no later head that writes colors looks at them"
            claims.append(untestable(*_REPAIRS[key], why, paper=paper, source=source))
            continue
        change = np.mean([after[h][:, column] - before[h][:, column] for h in movers], 0)
        low, high, _ = mean_interval(change, within=CHANGE, seed=seed)
        claims.append(
            judge(
                *_REPAIRS[key],
                (low > 0) if sign > 0 else (high < 0),
                paper=paper,
                found=f"{100 * change.mean():+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]",
                control=f"movers {', '.join(movers)}; nothing changes before the edited layer",
                n=len(change),
                reason="the sign, clear of chance over prompts",
                source=source,
            )
        )
    return [*claims, _order_claim(before, after, later, writers.shares, seed, source)]


def _moved(before: np.ndarray, after: np.ndarray) -> float:
    """Mean change of attention to the right color less that to the wrong ones."""
    change = (after - before).mean(0)
    return float(change[0] - change[1])


def _order_claim(
    before, after, later: Sequence[str], shares: Mapping[str, float], seed: int, source: str
) -> Claim:
    if len(later) < FEWEST:
        why = f"{len(later)} heads come after the edited layer; {FEWEST} are needed"
        return untestable(*_REPAIRS["order"], why, paper=0.69, source=source)
    x = np.array([shares[h] for h in later])
    y = np.array([_moved(before[h], after[h]) for h in later])
    found = spearman(x, y)
    rng = np.random.default_rng(seed)
    above = sum(spearman(x, rng.permutation(y)) >= found - 1e-12 for _ in range(2000))
    p = (1 + above) / 2001
    return judge(
        *_REPAIRS["order"],
        found > 0 and p < CHANCE,
        paper="0.69, p < 0.01",
        found=f"{found:.2f}, p {p:.2g}",
        control="heads exchanged at random: 0",
        n=len(later),
        reason="a rank correlation of so few heads means little without the permutation test",
        source=source,
    )


# -- what is shown -------------------------------------------------------------------------------------------


def _condition_rows(conditions: Mapping[str, Answers], seed: int) -> list[dict]:
    rows = []
    for name, found in conditions.items():
        a = found.accuracy(seed=seed)
        rows.append(
            {
                "forced to look at the wrong colors": name,
                "right among the scene's colors": a["among"],
                "low": a["low"],
                "high": a["high"],
                "right of all words": a["top"],
            }
        )
    return rows


def _attention_rows(
    conditions: Mapping[str, Answers], later: Sequence[str], shares: Mapping[str, float]
) -> list[dict]:
    before, after = conditions["as it is"].attention, conditions["all"].attention
    return [
        {
            "head": head,
            "writes colors (share)": shares[head],
            "to the right color": float(before[head][:, 0].mean()),
            "after": float(after[head][:, 0].mean()),
            "to the wrong colors": float(before[head][:, 1].mean()),
            "after, wrong": float(after[head][:, 1].mean()),
        }
        for head in later
    ]


def _importance_picture(circuits: Mapping[str, TaskCircuit]) -> dict[str, str]:
    if not circuits:
        return {}
    heads = sorted(
        {h for c in circuits.values() for h in c.importance},
        key=lambda h: (parse_node(h).layer, parse_node(h).index),
    )
    matrix = np.array([[c.importance[h] if h in c.heads else 0.0 for h in heads] for c in circuits.values()])
    picture = heatmap_svg(matrix, list(circuits), heads, unit="share of the gap, largest of all rounds")
    return {"Heads of each task": picture}


def _repair_pictures(
    conditions: Mapping[str, Answers], later: Sequence[str], shares: Mapping[str, float], name: str, seed: int
) -> dict[str, str]:
    bars = []
    for condition, found in conditions.items():
        a = found.accuracy(seed=seed)
        bars.append((condition, a["among"], a["low"], a["high"], ""))
    pictures = {
        f"Colored Objects under forced attention, {name}": bars_svg(
            bars, x_label="right among the scene's colors, 95 % interval"
        )
    }
    before, after = conditions["as it is"].attention, conditions["all"].attention
    if later:
        points = [(shares[h], _moved(before[h], after[h]), h) for h in later]
        pictures["Later heads"] = scatter_svg(
            {"head": points},
            x_label="writes colors, share of the gap",
            y_label="attention moved to the right color",
        )
    return pictures


REPLICATION = Replication(
    name="component-reuse",
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
    run=run,
)
