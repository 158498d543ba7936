"""Circuit component reuse: do two tasks use the same heads, and can the heads of one repair the other?

Merullo, Eickhoff and Pavlick 2023, arXiv:2310.08744: indirect objects (IOI) and Colored Objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from workbench.circuits.addresses import parse_node
from workbench.core.claims import untestable
from workbench.core.errors import WorkbenchError
from workbench.engine.runs import PairedRuns
from workbench.papers.component_reuse_circuit import TaskCircuit, task_circuit
from workbench.papers.component_reuse_claims import REPAIRS, moved_to_right, repair_claims
from workbench.papers.component_reuse_overlap import (
    LOOKS,
    PAPER,
    circuit_of,
    importance_picture,
    mean_attention_to,
    overlap_part,
    runs_of,
)
from workbench.papers.component_reuse_repair import (
    Answers,
    answers,
    color_runs,
    forced,
    matched_heads,
    scene_runs,
    wrong_colors,
    wrong_objects,
)
from workbench.papers.kinds import Findings, Replication, Setting
from workbench.papers.options import ComponentReuse
from workbench.view.pictures import Bars, Picture, Scatter

KNOWS = 0.8  # accuracy among a scene's colors above which there is nothing to repair


def run(setting: Setting) -> Findings:
    """Measure every claim."""
    overlap_claims, circuits, overlaps = overlap_part(setting)
    repair = _repair_part(setting)
    circuit_rows = [{"task": name} | row for name, c in circuits.items() for row in c.rows()]
    return Findings(
        claims=(*overlap_claims, *repair.claims),
        tables={
            f"heads found by rounds of path patching on {setting.name}": circuit_rows,
            "heads shared with IOI": overlaps,
            **repair.tables,
        },
        pictures={**importance_picture(circuits), **repair.pictures},
        numbers={
            "circuits": {name: list(c.heads) for name, c in circuits.items()},
            "overlaps": overlaps,
            **repair.numbers,
        },
    )


def _repair_part(setting: Setting) -> Findings:
    """Heads of IOI on the train split; forced attention on the test split of Colored Objects."""
    options: ComponentReuse = setting.options
    scenes = scene_runs(
        runs_of(setting.model, "colored-objects", options, n=options.n_test, seed=setting.seed, split="test")
    )
    name, model, base = setting.name, setting.model, answers(setting.begin(scenes))
    if base.among.mean() >= KNOWS:
        name, model = options.guessing_model, setting.open(options.guessing_model)
        setting.note(
            f"{setting.name} answers Colored Objects ({base.among.mean():.0%}); the repair is on {name}"
        )
        scenes = scene_runs(
            runs_of(model, "colored-objects", options, n=options.n_test, seed=setting.seed, split="test")
        )
        base = answers(setting.begin(scenes))
    ioi = runs_of(model, "ioi", options, n=options.n_circuit, seed=setting.seed, split="train")
    setting.begin(ioi)
    kinds = steering_heads(
        ioi, circuit_of(ioi, options, setting), inhibition=options.inhibition, negative=options.negative
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
            claims=tuple(untestable(c, r, why, source=PAPER, model=elsewhere) for c, r in REPAIRS.values())
        )
    colors = color_runs(
        runs_of(model, "colored-objects", options, n=options.n_circuit, seed=setting.seed, split="train")
    )
    setting.begin(colors)
    writers = task_circuit(colors, rounds=1, share=1.0).rounds[0]
    first = min(int(parse_node(h).layer) for h in heads)
    later = [h for h in writers.shares if int(parse_node(h).layer) > first and h not in heads]
    conditions = _conditions(setting, scenes, kinds, heads, later)
    claims = repair_claims(name, setting.seed, conditions, heads, kinds, later, writers)
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
    at = {name: mean_attention_to(runs, name) for name in ("IO", "S1", "S2")}
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


def _repair_pictures(
    conditions: Mapping[str, Answers], later: Sequence[str], shares: Mapping[str, float], name: str, seed: int
) -> dict[str, Picture]:
    bars = []
    for condition, found in conditions.items():
        a = found.accuracy(seed=seed)
        bars.append((condition, a["among"], a["low"], a["high"], ""))
    pictures: dict[str, Picture] = {
        f"Colored Objects under forced attention, {name}": Bars.of(
            bars, x_label="right among the scene's colors, 95 % interval"
        )
    }
    before, after = conditions["as it is"].attention, conditions["all"].attention
    if later:
        points = [(shares[h], moved_to_right(before[h], after[h]), h) for h in later]
        pictures["Later heads"] = Scatter.of(
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
