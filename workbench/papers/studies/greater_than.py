"""Greater-than, step by step as in Hanna, Liu and Variengien 2023, arXiv:2305.00586.

MLPs are parts here, so paths are direct: every part but the sender is frozen. From the answer backwards: who writes
it, which heads feed those, what these heads read where the start year stands.
"""

from __future__ import annotations

import numpy as np

from workbench.circuits.addresses import INPUT, LOGITS, Node, parse_node
from workbench.circuits.circuit import Circuit
from workbench.core.claims import Rows
from workbench.core.loading import lazily
from workbench.papers.kit import Claim, Conditions, at_least, judge_all, more
from workbench.papers.studies.kinds import State, Step, StepResult, Study
from workbench.papers.studies.own_circuit import RULES, compared, faithful_claim
from workbench.papers.studies.paths import (
    ATTENTION,
    ERRORS,
    backwards,
    does_it,
    looks,
    named,
    of_paper,
    published_roles,
    shared,
    weighted,
)
from workbench.papers.studies.registry import add_study

with lazily():
    from workbench.evaluate import faithfulness
    from workbench.evaluate import roles as roles_of_heads

KEYS = ("noun", "XX1", "YY")
LEAST = {"writers": 0.03, "readers": 0.02, "early": 0.01}
PASSES = 0.5  # least mean probability difference of a model that does the task


def parts_of(state: State) -> list[str]:
    """Every head and every MLP."""
    return [*state.heads, *(f"m{layer}" for layer in state.runs.wiring.mlp_layers)]


def task(state: State) -> StepResult:
    """Does the model do it at all?"""
    paper, values = state.published.provenance["reported"], state.runs.clean
    mean, error = float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))
    other, reported = float(state.runs.corrupted.mean()), paper["probability difference"]
    rows = [
        {"probability difference": "clean", "here": mean, "± se": error, "paper": reported},
        {"probability difference": "start year 01", "here": other, "± se": None, "paper": None},
    ]
    numbers = {"probability difference": mean, "its standard error": error, "reported": reported}
    return does_it(state, rows, numbers, {"task": TASK})


DIFFERENCE = "probability difference"
TASK = Claim(
    "greater years are more probable",
    at_least(DIFFERENCE, PASSES) & more(DIFFERENCE, "its standard error", times=ERRORS),
    paper="{reported}",
    control=None,
)


def writers(state: State) -> StepResult:
    """Which heads and MLPs write the answer?"""
    return backwards(
        state,
        step="writers",
        title="Heads and MLPs to logits at the end",
        senders=parts_of(state),
        receivers=["logits"],
        position="end",
        claim="some parts write the answer directly",
        least=LEAST["writers"],
        paper="m8, m9, m10, m11, 9.1",
        key="writers",
        classes=("late MLP",),
        mlps="frozen",
    )


def readers(state: State) -> StepResult:
    """Which heads feed the MLPs that write?"""
    mlps = [p for p in state.found["writers"] if p.startswith("m")]
    return backwards(
        state,
        step="readers",
        title="Heads to the writing MLPs at the end",
        senders=state.heads,
        receivers=mlps,
        position="end",
        claim="heads feed the MLPs that write",
        least=LEAST["readers"],
        paper="5.5, 6.1, 6.9, 7.10, 8.11, 9.1",
        key="readers",
        classes=("year mover",),
        mlps="frozen",
    )


def movers_of(state: State) -> dict[str, float]:
    """Heads that write the answer or feed the MLPs that do, with the larger of their shares."""
    found = dict(state.found.get("readers", {}))
    for part, share in state.found.get("writers", {}).items():
        if part.startswith("a"):
            found[part] = max(share, found.get(part, 0.0))
    return found


def early(state: State) -> StepResult:
    """Which parts write, where the start year ends, what those heads read?"""
    return backwards(
        state,
        step="early",
        title="Heads and MLPs to the year movers' values at YY",
        senders=parts_of(state),
        receivers=shared([f"{head}<v>" for head in movers_of(state)], state),
        position="YY",
        claim="earlier parts prepare the start year",
        least=LEAST["early"],
        paper="0.1, 0.3, 0.5, m0, m1, m2, m3",
        key="early",
        classes=("early head", "early MLP"),
        mlps="frozen",
    )


def behaviour(state: State) -> StepResult:
    """Are the writers late MLPs, and do the heads look at the start year?"""
    writing, movers, roles = state.found["writers"], movers_of(state), published_roles(state)
    late = {p: _is_late(p, state) for p in writing}
    values = roles_of_heads.mean_attention(state.runs, [("end", key) for key in KEYS])
    rows: Rows = []
    for head in movers:
        node = parse_node(head)
        weights = {f"end to {key}": float(values[i, node.layer, node.index]) for i, key in enumerate(KEYS)}
        rows.append({"head": head, "share": movers[head], **weights, **of_paper(state, roles, head)})
    seen = {row["head"]: looks(row, "end", KEYS) == "YY" for row in rows}
    c = Conditions(
        numbers={LATE: weighted(writing, late), "looking": named([h for h, yes in seen.items() if yes])}
    )
    if movers:
        c.numbers[YEARS] = weighted(movers, seen)
    else:
        c.lack(YEARS, "no such heads were found")
    return StepResult(
        name="behaviour",
        title="Where the heads look",
        tables={"mean attention on clean prompts": rows},
        claims=judge_all(BEHAVIOUR, c),
    )


LATE = "share of the writing by MLPs of the last third of the layers"
YEARS = "share of the effect by heads that look from end mostly at YY"
BEHAVIOUR = {
    "late": Claim(
        "late MLPs write the answer", at_least(LATE, 0.5), paper="m8 to m11", found=f"{{{LATE}:.0%}} of it"
    ),
    "years": Claim(
        "those heads look at the end of the start year",
        at_least(YEARS, 0.5),
        found=f"{{looking}} ({{{YEARS}:.0%}} of the effect)",
    ),
}


def _is_late(part: str, state: State) -> bool:
    """Whether a part is an MLP of the last third of the layers."""
    node, last = parse_node(part), max(state.runs.wiring.n_layers - 1, 1)
    return node.kind == "mlp" and (node.layer or 0) / last >= 2 / 3


def circuit(state: State) -> Circuit | None:
    """What the steps found: parts without positions, everything else outside."""
    classes: dict[str, str] = {part: "early part" for part in state.found.get("early", {})}
    classes |= {head: "year mover" for head in movers_of(state)}
    writing = [p for p in state.found.get("writers", {}) if p.startswith("m")]
    classes |= {p: "late MLP" if _is_late(p, state) else "writing MLP" for p in writing}
    if not classes:
        return None
    runs = state.runs
    nodes: dict[Node, float | None] = {INPUT: None, LOGITS: None, **{parse_node(a): None for a in classes}}
    return Circuit.build(
        shape=runs.wiring.node_shape(),
        nodes=nodes,
        edges={},
        roles=classes,
        level="node",
        method="reproduce",
        metric=runs.metric.name,
        task=runs.pairs.pairs.task,
        model=runs.provenance()["model"],
        selection={"rule": "path patching backwards from the answer", "nominal": len(classes)},
        provenance=runs.provenance(),
    )


KEPT = "share of the gap between clean and 01 kept by {}"
OWN, PAPERS = "the parts found here", "the paper's parts"
CIRCUITS = {
    name: faithful_claim(f"{name} are faithful", KEPT.format(name), "{reported}") for name in (OWN, PAPERS)
}


def evaluation(state: State) -> StepResult:
    """What the found (and, on the paper's model, the published) parts keep when all others see start year 01."""
    reported = state.published.provenance["reported"]["share of the probability difference kept"]
    own, c, rows = circuit(state), Conditions(numbers={"reported": reported}), []
    empty = Circuit.build(shape=state.runs.wiring.node_shape(), nodes={}, edges={}, level="node")
    made = {OWN: own, PAPERS: state.published if state.comparable else None}
    c.lack(KEPT.format(OWN), "the steps found no circuit")
    c.lack(KEPT.format(PAPERS), "another model than the paper's")
    for name, one in ((name, one) for name, one in made.items() if one is not None):
        values = faithfulness.run_circuits(state.runs, [one], progress=state.progress)[0]
        nothing = faithfulness.run_circuits(state.runs, [empty])[0]
        full = float(state.runs.clean.mean())
        kept = (float(values.mean()) - float(nothing.mean())) / (full - float(nothing.mean()))
        row = {"circuit": name, "parts": one.size, "F(model)": full, "F(circuit)": float(values.mean())}
        rows.append(row | {"F(nothing)": float(nothing.mean()), "kept": kept})
        c.tell(KEPT.format(name), kept)
    tables = {"everything outside takes its value on the prompt with start year 01": rows}
    return StepResult(name="own", title="The circuits, judged", tables=tables, claims=judge_all(CIRCUITS, c))


def comparison(state: State) -> StepResult:
    """What was found beside what was published."""
    return compared(state, circuit(state))


GREATER_THAN = add_study(
    Study(
        name="greater-than",
        published="greater-than",
        task="greater-than",
        corruption="01",
        positions=(*KEYS, "end"),
        model_names=("gpt2", "gpt-2"),
        circuit=circuit,
        rules={**LEAST, "errors": ERRORS, "attention": ATTENTION, "passes": PASSES, **RULES},
        steps=(
            Step(name="task", title="the task", run=task, passes="2"),
            Step(name="writers", title="heads and MLPs to logits", run=writers, passes="2 per part"),
            Step(name="readers", title="heads to the writing MLPs", run=readers, passes="2 per head"),
            Step(name="early", title="parts to the year movers' values", run=early, passes="2 per part"),
            Step(name="behaviour", title="where the heads look", run=behaviour, passes="2"),
            Step(name="own", title="the circuits, judged", run=evaluation, passes="4"),
            Step(name="comparison", title="beside the published circuit", run=comparison, passes="0"),
        ),
    )
)
