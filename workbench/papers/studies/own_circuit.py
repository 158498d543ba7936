"""The circuit that the steps found, judged as the paper judges its own, and compared with the paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workbench.circuits.addresses import INPUT, LOGITS, Node, mlp, parse_node
from workbench.circuits.circuit import Circuit
from workbench.circuits.compare import compare
from workbench.circuits.published.kinds import KEPT_WHOLE, claimed_nodes
from workbench.circuits.rows import class_rows_shown
from workbench.core.claims import Rows
from workbench.core.errors import OptionError
from workbench.core.loading import lazily
from workbench.core.stats.matched import matched_heads
from workbench.papers.kit import Claim, Conditions, at_least, at_most, between, judge_all, less
from workbench.papers.studies.kinds import State, StepResult

with lazily():
    from workbench.papers.studies import kept_parts

DRAWS = 10  # random circuits beside each
FAITHFUL = 0.8  # least share of the model's metric that a faithful circuit keeps
INCOMPLETE = (
    0.2  # most difference, as a share of the model's metric, that a complete circuit shows for any class
)
MINIMAL = 0.01  # least share of the model's metric that hangs on each part once the rest of its class is gone
RULES = {"draws": DRAWS, "faithful": FAITHFUL, "incomplete": INCOMPLETE, "minimal": MINIMAL}


def own_circuit(state: State, classes: Mapping[str, str], effects: Mapping[str, float]) -> Circuit | None:
    """The circuit that the steps found, in the form of the published one: parts at positions, MLPs kept whole."""
    if not classes:
        return None
    wiring = state.runs.wiring
    nodes: dict[Node, float | None] = {INPUT: None, LOGITS: None}
    nodes |= {mlp(layer): None for layer in wiring.mlp_layers}
    nodes |= {parse_node(a): effects.get(a) for a in classes}
    roles = {f"m{layer}": KEPT_WHOLE for layer in wiring.mlp_layers} | dict(classes)
    return Circuit.build(
        shape=wiring.node_shape(),
        nodes=nodes,
        edges={},
        roles=roles,
        level="node",
        method="reproduce",
        unit="share of the clean metric",
        metric=state.runs.metric.name,
        task=state.runs.pairs.pairs.task,
        model=state.runs.provenance()["model"],
        selection={"rule": "path patching backwards from the answer", "nominal": len(classes)},
        provenance={**state.runs.provenance(), "kept_whole": [f"m{layer}" for layer in wiring.mlp_layers]},
    )


def judged(state: State, circuit: Circuit | None, *, name: str, title: str) -> StepResult:
    """Faithfulness, completeness and minimality of a circuit of parts at positions.

    ``F`` is the mean metric with every head ablated wherever the circuit does not have it; MLPs stay. Ablated to
    means of the same template over prompts of other names (the paper), and to the paired corrupted prompt (ours).
    """
    paper = state.published.provenance["reported"].get("share of the logit difference kept")
    c = Conditions(numbers={"reported": paper}, why="" if circuit else "the steps found no circuit")
    if circuit is None:
        return StepResult(name=name, title=title, claims=judge_all(circuit_claims(name), c))
    parts = claimed_nodes(circuit)
    groups = _groups(circuit, parts)
    keeper = kept_parts.Keeper(state=state)
    faithful, full = _faithful(state, parts, keeper)
    complete = _complete(keeper, parts, groups, full)
    minimal = _minimal(keeper, parts, groups, full)
    worst = max(abs(row["share of F(model)"]) for row in complete)
    needed = [row for row in minimal if abs(row["share of F(model)"]) >= MINIMAL]
    kept = {row["ablation"]: row["F(circuit) / F(model)"] for row in faithful}
    c.numbers |= {f"share of F(model) kept under {kind}": share for kind, share in kept.items()} | {
        "worst class": worst
    }
    c.numbers |= {"parts needed": len(needed), "parts": len(minimal)}
    return StepResult(
        name=name,
        title=title,
        tables={
            f"faithfulness; random: {DRAWS} circuits of other heads of the same layers and positions": faithful,
            "completeness: a class K taken from the circuit C and from the model M alike": complete,
            "minimality: a part taken away when the rest of its class is gone": minimal,
        },
        claims=judge_all(circuit_claims(name), c),
        found={f"{name}_kept": kept},
    )


def circuit_claims(name: str) -> dict[str, Claim]:
    """What is claimed of a circuit: that it is faithful under two ablations, complete, and minimal."""
    who = {"own": "the heads found here", "published": "the paper's heads"}[name]
    gap, each = (
        f"at most {INCOMPLETE:.0%} of F(model) for every class K",
        f"{MINIMAL:.0%} of F(model) or more",
    )
    resampled = f"{who} are faithful under resample ablation (not tested in the paper)"
    return {
        "mean": faithful_claim(
            f"{who} are faithful under mean ablation",
            "share of F(model) kept under mean-per-template",
            "{reported}",
        ),
        "resample": faithful_claim(resampled, "share of F(model) kept under resample", None),
        "complete": Claim(
            f"{who} are complete, class by class",
            at_most("worst class", INCOMPLETE),
            f"|F(C without K) - F(M without K)| {gap}",
        ),
        "minimal": Claim(
            f"{who} are each needed",
            at_least("parts needed", "parts"),
            f"each part moves F by {each} once the rest of its class is gone",
            found="{parts needed} of {parts} parts",
            control=None,
        ),
    }


def faithful_claim(says: str, name: str, paper: Any) -> Claim:
    """Make the claim that parts keep the metric: a share near 1."""
    return Claim(says, between(name, FAITHFUL, 2 - FAITHFUL), paper=paper)


def _groups(circuit: Circuit, parts: Sequence[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for part in parts:
        groups.setdefault(circuit.nodes[part]["role"], []).append(part)
    return groups


def _faithful(state: State, parts: Sequence[str], keeper: kept_parts.Keeper) -> tuple[Rows, float]:
    full, rows = float(state.runs.clean.mean()), []
    drawn = _random(state, parts)
    for kind in ("mean-per-template", "resample"):
        runner = keeper if kind == keeper.kind else kept_parts.Keeper(state=state, kind=kind)
        masks = [runner.mask(chosen) for chosen in (parts, (), *drawn)]
        values = runner.run(masks).mean(1)
        rows.append(
            {
                "ablation": kind,
                "F(model)": full,
                "F(circuit)": float(values[0]),
                "F(no heads)": float(values[1]),
                "F(random)": float(values[2:].mean()) if drawn else None,
                "F(circuit) / F(model)": float(values[0]) / full,
                "parts": len(parts),
            }
        )
    return rows, full


def _random(state: State, parts: Sequence[str]) -> list[list[str]]:
    """As many other heads of the same layers at the same positions; none where a layer has too few others."""
    places: dict[Any, list[str]] = {}
    for node in map(parse_node, parts):
        places.setdefault(node.position, []).append(str(node.at(None)))
    how: dict[str, Any] = {"draws": DRAWS, "seed": state.seed}
    try:
        drawn = {place: matched_heads(heads, state.heads, **how) for place, heads in places.items()}
    except OptionError:
        return []
    n = max(map(len, drawn.values()))
    return [[f"{h}@{place}" for place, sets in drawn.items() for h in sets[i % len(sets)]] for i in range(n)]


def _complete(
    keeper: kept_parts.Keeper, parts: Sequence[str], groups: Mapping[str, list[str]], full: float
) -> Rows:
    sets = {"nothing": [], **groups}
    masks = [keeper.mask([p for p in parts if p not in gone]) for gone in sets.values()]
    masks += [keeper.everything_but(gone) for gone in sets.values()]
    values = keeper.run(masks).mean(1)
    rows = []
    for i, (role, gone) in enumerate(sets.items()):
        here, there = float(values[i]), float(values[len(sets) + i])
        if role != "nothing":  # the difference without K = {} is the faithfulness, reported above
            rows.append(
                {
                    "class taken": role,
                    "parts": len(gone),
                    "F(C without K)": here,
                    "F(M without K)": there,
                    "share of F(model)": (here - there) / full,
                }
            )
    return rows


def _minimal(
    keeper: kept_parts.Keeper, parts: Sequence[str], groups: Mapping[str, list[str]], full: float
) -> Rows:
    of = {part: role for role, members in groups.items() for part in members}
    masks = []
    for part in parts:
        rest = [p for p in groups[of[part]] if p != part]
        with_it = [p for p in parts if p not in rest]
        masks += [keeper.mask(with_it), keeper.mask([p for p in with_it if p != part])]
    values = keeper.run(masks).mean(1)
    return [
        {
            "part": part,
            "class": of[part],
            "F with it": float(values[2 * i]),
            "F without it": float(values[2 * i + 1]),
            "share of F(model)": float(values[2 * i] - values[2 * i + 1]) / full,
        }
        for i, part in enumerate(parts)
    ]


BACKUP = Claim(
    "something takes over when the writers are knocked out (backup)",
    less("what the metric falls by", "what the writers carry by direct paths", times=1 / 2),
    paper="falls by 5 %",
    found="falls by {what the metric falls by:.0%} of {what the writers carry by direct paths:.0%}",
    control=None,
)


def backups(state: State) -> StepResult:
    """Measure what is left when the heads that write the answer are taken away."""
    writers, tables, c = state.found.get("writers", {}), {}, Conditions()
    if writers:
        keeper = kept_parts.Keeper(state=state)
        full = float(state.runs.clean.mean())
        gone = float(keeper.run([keeper.everything_but([f"{h}@end" for h in writers])]).mean())
        falls, carried = (full - gone) / full, sum(writers.values())
        c.numbers = {"what the metric falls by": falls, "what the writers carry by direct paths": carried}
        row = {"F(model)": full, "F(writers gone)": gone, "falls by": falls}
        tables[""] = [{**row, "carried by direct paths": carried}]
    else:
        c.lack("what the metric falls by", "no head writes the answer directly")
    claims = judge_all({"backup": BACKUP}, c)
    return StepResult(name="backups", title="Writers knocked out", tables=tables, claims=claims)


COMPARED = Claim(
    "the same heads are found",
    less("p of the overlap", 1e-3),
    "overlap of heads has a chance below 0.1 % (hypergeometric)",
    found="{shared} of {here}, p {p of the overlap:.1e}",
)


def compared(state: State, circuit: Circuit | None) -> StepResult:
    """The circuit found here beside the published one: by head where the model is the paper's, else by class."""
    c, tables = Conditions(), {}
    if not state.comparable:
        c.lack("p of the overlap", "cannot be compared head by head: other model")
    if circuit is None:
        c.lack("p of the overlap", "the steps found no circuit")
    else:
        found = compare(state.published, circuit)
        heads = found.overlap["heads"]
        c.numbers = {"p of the overlap": heads.p_value, "shared": heads.shared, "here": heads.n_here}
        tables = (
            {"by head": [heads.to_dict()], "by class: A is the paper's": class_rows_shown(found)}
            if state.comparable
            else {"by class": _class_sizes(found)}
        )
    claims = judge_all({"compared": COMPARED}, c)
    return StepResult(name="comparison", title="Beside the published circuit", tables=tables, claims=claims)


def _class_sizes(found: Any) -> Rows:
    return [
        {
            "class": row.role,
            "heads in the paper": len(row.here),
            "heads here": len(row.there),
            "mean depth in the paper": row.depth_here,
            "mean depth here": row.depth_there,
        }
        for row in found.classes
    ]
