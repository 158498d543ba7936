"""Whether two tasks use the same heads: circuits of both and of unrelated tasks, and what is claimed of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from workbench.circuits.addresses import parse_node
from workbench.core.claims import JudgedClaim, judge, untestable
from workbench.core.errors import WorkbenchError
from workbench.engine.of_task import paired_runs
from workbench.engine.runs import PairedRuns
from workbench.evaluate.roles import mean_attention
from workbench.papers.component_reuse_circuit import Overlap, TaskCircuit, overlap, task_circuit
from workbench.papers.kinds import Setting
from workbench.papers.options import ComponentReuse
from workbench.view.pictures import Heatmap, Picture

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

PAPER = "arXiv:2310.08744"
OVERLAP = 0.5  # shared over all heads: more shared than not
CHANCE = 0.05
DOES = 0.9  # share of prompts right, for a circuit to be one
LOOKS = 0.3  # least mean attention that makes a position what a head looks at


def runs_of(model: TransformerBridge, task: str, options: ComponentReuse, *, n: int, seed: int, split: str):
    more = {"n_objects": options.n_objects, "shots": options.shots} if task == "colored-objects" else {}
    return paired_runs(model, task, n=n, seed=seed, split=split, **more)


def circuit_of(runs: PairedRuns, options: ComponentReuse, setting: Setting) -> TaskCircuit:
    return task_circuit(
        runs,
        rounds=options.rounds,
        share=options.share,
        at_least=options.at_least,
        progress=setting.progress,
    )


def overlap_part(setting: Setting) -> tuple[list[JudgedClaim], dict[str, TaskCircuit], list[dict]]:
    """Circuits of both tasks and of the controls, on prompts of the train split."""
    options: ComponentReuse = setting.options
    circuits: dict[str, TaskCircuit] = {}
    reasons: dict[str, str] = {}
    looks: dict[str, dict[str, float]] = {}
    plan = {"IOI": ("ioi", 0), "Colored Objects": ("colored-objects", 0), "IOI, other prompts": ("ioi", 1)}
    plan |= {task: (task, 0) for task in options.control_tasks}
    for name, (task, more) in plan.items():
        try:
            runs = runs_of(
                setting.model, task, options, n=options.n_circuit, seed=setting.seed + more, split="train"
            )
            right = float((setting.begin(runs).clean > 0).mean())
            if right < DOES:
                reasons[name] = f"it does {task} on {right:.0%} of prompts; a circuit needs {DOES:.0%}"
                continue
            circuits[name] = circuit_of(runs, options, setting)
        except WorkbenchError as problem:
            reasons[name] = problem.message.split("\n")[0]
            continue
        answer = {"ioi": "IO", "colored-objects": "color"}.get(task)
        if answer and more == 0:
            looks[name] = mean_attention_to(runs, answer)
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


def mean_attention_to(runs: PairedRuns, key: str) -> dict[str, float]:
    """Head -> mean attention from the last position to a named one."""
    values = mean_attention(runs, [("end", key)])[0]
    return {f"a{n}.h{h}": float(values[n, h]) for n in range(values.shape[0]) for h in range(values.shape[1])}


def _overlap_claims(
    found: Mapping[str, Overlap],
    reasons: Mapping[str, str],
    circuits: Mapping[str, TaskCircuit],
    looks: Mapping[str, Mapping[str, float]],
) -> list[JudgedClaim]:
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


def importance_picture(circuits: Mapping[str, TaskCircuit]) -> dict[str, Picture]:
    if not circuits:
        return {}
    heads = sorted(
        {h for c in circuits.values() for h in c.importance},
        key=lambda h: (parse_node(h).layer, parse_node(h).index),
    )
    matrix = np.array([[c.importance[h] if h in c.heads else 0.0 for h in heads] for c in circuits.values()])
    picture = Heatmap.of(matrix, list(circuits), heads, unit="share of the gap, largest of all rounds")
    return {"Heads of each task": picture}
