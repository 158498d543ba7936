"""Indirect object identification, step by step as in Wang et al. 2023, arXiv:2211.00593.

From the answer backwards: who writes it, who steers those, what these read, who made that findable. Each step
takes the heads whose effect through that path alone is large enough, and the next step looks at what they read.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from workbench.circuits.addresses import parse_node
from workbench.circuits.circuit import Circuit
from workbench.core.claims import JudgedClaim, judge, untestable
from workbench.core.errors import ModelError
from workbench.evaluate.roles import head_roles, mean_attention
from workbench.heads.copy import copy_scores
from workbench.papers.studies.judging import RULES, backups, compared, judged, own_circuit, wordings
from workbench.papers.studies.kinds import State, Step, StepResult, Study
from workbench.papers.studies.paths import (
    ATTENTION,
    ERRORS,
    backwards,
    listed,
    looks,
    path_rows,
    published_roles,
    recall_claims,
    shared,
    take,
    weighted,
)

LOOKS = (("end", "IO"), ("end", "S1"), ("end", "S2"), ("S2", "S1"), ("S2", "S1+1"), ("S1+1", "S1"))
NAMES = ("IO", "S1", "S2")
# Least share of the clean metric that a path must carry for its sender to be taken up: the further from the
# answer, the more parts share the work.
LEAST = {"writers": 0.03, "movers-q": 0.02, "inhibition-v": 0.01, "induction-k": 0.005}
NEAR = 0.25  # most relative distance from a number of the paper on the paper's own model
COPIES = 0.8  # least copy score of a head that copies


# -- 1 the task -------------------------------------------------------------------------------------------


def task(state: State) -> StepResult:
    """Does the model do it at all?"""
    runs, paper = state.runs, state.published.provenance["reported"]
    difference = runs.clean
    mean, error = float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(len(difference)))
    accuracy = float((difference > 0).mean())
    rows = [
        {
            "measure": "logit difference, clean",
            "here": mean,
            "± se": error,
            "paper": paper["logit difference"],
        },
        {"measure": "receiver above subject", "here": accuracy, "± se": None, "paper": paper["accuracy"]},
        {
            "measure": "logit difference, other names",
            "here": float(runs.corrupted.mean()),
            "± se": None,
            "paper": None,
        },
    ]
    claim = judge(
        "the model names the receiver",
        "receiver above subject in at least 90 % of prompts, mean difference above zero by three standard errors",
        accuracy >= 0.9 and mean > ERRORS * error,
        paper=paper["accuracy"],
        found=accuracy,
    )
    found = {"does_task": claim.verdict == "holds", "clean": mean}
    claims = (claim, _same_size(state, mean, paper["logit difference"]))
    return StepResult(name="task", title="The task", tables={"": rows}, claims=claims, found=found)


def _same_size(state: State, mean: float, paper: float) -> JudgedClaim:
    """Whether the logit difference is the paper's; our prompts are worded otherwise, so not to the digit."""
    claim, rule = "the logit difference is the paper's", f"within {NEAR:.0%} of it"
    if not state.comparable:
        return untestable(claim, rule, "another model", paper=paper)
    return judge(claim, rule, abs(mean - paper) <= NEAR * paper, paper=paper, found=mean)


# -- 2 to 4 path patching backwards -----------------------------------------------------------------------


def writers(state: State) -> StepResult:
    """Which heads write the answer at the end, by paths that no other head takes part in?"""
    effects = state.path_patches("writers", state.heads, ["logits"], ("end",))
    supports, against = take(effects, LEAST["writers"])
    rule = f"at least {LEAST['writers']:.0%} of the clean difference and three standard errors"
    claims = (
        judge(
            "some heads write the receiver directly",
            f"a head whose removal lowers it by {rule}",
            bool(supports),
            paper="9.9, 9.6, 10.0",
            found=listed(supports),
        ),
        judge(
            "some heads write against it",
            f"a head whose removal raises it by {rule}",
            bool(against),
            paper="10.7, 11.10",
            found=listed(against),
        ),
        *recall_claims(state, supports, ("name mover",)),
        *recall_claims(state, against, ("negative name mover",)),
    )
    return StepResult(
        name="writers",
        title="Heads to logits at the end",
        tables={effects.title: path_rows(effects, state, supports | against)},
        claims=claims,
        found={"writers": supports, "against": against},
    )


def inhibition(state: State) -> StepResult:
    """Which heads reach the answer through the queries of the heads that write it?"""
    receivers = [f"{head}<q>" for head in state.found["writers"]]
    return backwards(
        state,
        senders=state.heads,
        least=LEAST["movers-q"],
        step="movers-q",
        title="Heads to the writers' queries at the end",
        receivers=receivers,
        position="end",
        claim="heads act on the writers' queries",
        paper="7.3, 7.9, 8.6, 8.10",
        key="inhibition",
        classes=("S-inhibition",),
    )


def signals(state: State) -> StepResult:
    """Which heads reach the answer through what those heads read at the subject's second mention?

    As values, as in the paper; and as keys, which the paper does not claim, so that no head is overlooked.
    """
    values = _signals(state, "v", "heads write a signal at S2 that the steering heads read as values")
    keys = _signals(state, "k", "")
    both = {**keys.found["signals"], **values.found["signals"]}
    tables = {
        **values.tables,
        **{f"{caption} (not in the paper)": rows for caption, rows in keys.tables.items()},
    }
    found = {"signals": both, "read as keys": list(keys.found["signals"])}
    return replace(values, tables=tables, found=found)


def _signals(state: State, slot: str, claim: str) -> StepResult:
    receivers = shared([f"{head}<{slot}>" for head in state.found.get("inhibition", ())], state)
    return backwards(
        state,
        step=f"inhibition-{slot}",
        title="Heads to the steering heads' values at S2",
        senders=state.heads,
        receivers=receivers,
        position="S2",
        claim=claim,
        least=LEAST["inhibition-v"],
        paper="0.1, 0.10, 3.0 (duplicate token), 5.5, 5.8, 5.9, 6.9 (induction)",
        key="signals",
        classes=("duplicate token", "induction") if claim else (),
    )


def previous(state: State) -> StepResult:
    """Which heads reach the answer through the keys that induction heads look for at S1+1?"""
    attention = _attention(state)
    induction = [
        h for h in state.found.get("signals", ()) if looks(attention[h], "S2", ("S1", "S1+1")) == "S1+1"
    ]
    return backwards(
        state,
        senders=state.heads,
        least=LEAST["induction-k"],
        step="induction-k",
        title="Heads to the induction heads' keys at S1+1",
        receivers=shared([f"{head}<k>" for head in induction], state),
        position="S1+1",
        claim="heads write at S1+1 what induction heads look for",
        paper="2.2, 4.11",
        key="previous",
        classes=("previous token",),
    )


# -- 5 what they look at and copy -------------------------------------------------------------------------


def _attention(state: State) -> dict[str, dict[str, float]]:
    """Head -> mean attention along each of ``LOOKS``, measured once."""
    if "attention" not in state.found:
        values = mean_attention(state.runs, LOOKS)
        state.found["attention"] = {
            head: {
                f"{q} to {k}": float(values[i, parse_node(head).layer, parse_node(head).index])
                for i, (q, k) in enumerate(LOOKS)
            }
            for head in state.heads
        }
    return state.found["attention"]


def behaviour(state: State) -> StepResult:
    """Where does each head look, and does it copy the names it reads?"""
    attention, found = _attention(state), state.found
    groups = {key: found.get(key, {}) for key in ("writers", "against", "inhibition", "signals", "previous")}
    try:
        copies, problem = copy_scores(state.runs, state.heads, NAMES), ""
    except ModelError as refused:
        copies, problem = {}, refused.message
    roles = published_roles(state)
    rows = []
    for group, heads in groups.items():
        for head, share in heads.items():
            row = {"found as": group, "head": head, "share": share, **attention[head]}
            row |= (
                {"copy score": copies[head]["copy"], "negative": copies[head]["negative"]} if copies else {}
            )
            rows.append(row | ({"class in the paper": roles.get(head, "–")} if state.comparable else {}))
    claims = (
        *_mover_claims(groups, attention),
        *_copy_claims(groups, copies, problem),
        *_look_claims(groups, attention),
    )
    return StepResult(
        name="behaviour",
        title="Where the heads look, what they copy",
        tables={"mean attention on clean prompts; copy scores of the name tokens": rows},
        claims=claims,
        found={"copies": copies},
    )


def _mover_claims(groups, attention) -> list[JudgedClaim]:
    claim, rule = (
        "the writers look at the receiver (name movers)",
        f"heads that look from end mostly at IO, at least {ATTENTION}, carry half of the writing",
    )
    if not groups["writers"]:
        return [untestable(claim, rule, "no head writes the answer directly", paper=0.59)]
    seen = {h: looks(attention[h], "end", NAMES) == "IO" for h in groups["writers"]}
    mean = float(np.mean([attention[h]["end to IO"] for h in groups["writers"]]))
    share = weighted(groups["writers"], seen)
    found = f"{share:.0%} of the writing; mean attention {mean:.2f}"
    return [judge(claim, rule, share >= 0.5, paper="mean attention 0.59", found=found)]


def _copy_claims(groups, copies, problem) -> list[JudgedClaim]:
    found = []
    for key, score, claim, paper in (
        ("writers", "copy", "the writers copy the names they read", "above 0.95"),
        ("against", "negative", "the heads that write against it copy negatively", "0.98"),
    ):
        kind = "copy score" if score == "copy" else "negative copy score"
        rule = f"heads with a {kind} of {COPIES} or more carry half of the writing"
        if not groups[key] or not copies:
            found.append(untestable(claim, rule, problem or "no such heads were found", paper=paper))
            continue
        share = weighted(groups[key], {h: copies[h][score] >= COPIES for h in groups[key]})
        scores = ", ".join(f"{copies[h][score]:.2f}" for h in groups[key])
        found.append(
            judge(claim, rule, share >= 0.5, paper=paper, found=f"{share:.0%} of it; scores {scores}")
        )
    others = [h for h in copies if h not in groups["writers"] and h not in groups["against"]]
    claim, rule = "other heads do not copy names", "mean copy score of all other heads at most 0.2"
    if others:
        mean = float(np.mean([copies[h]["copy"] for h in others]))
        found.append(judge(claim, rule, mean <= 0.2, paper="below 0.2", found=mean))
    else:
        found.append(untestable(claim, rule, problem or "there are no other heads", paper="below 0.2"))
    return found


def _look_claims(groups, attention) -> list[JudgedClaim]:
    """Steering heads look at S2; signals come from duplicate-token and induction heads; previous-token heads."""
    table = (
        ("inhibition", "the steering heads look at S2 (S-inhibition)", "end", NAMES, "S2", "half"),
        ("signals", "duplicate-token heads are among the signals", "S2", ("S1", "S1+1"), "S1", "one"),
        ("signals", "induction heads are among the signals", "S2", ("S1", "S1+1"), "S1+1", "one"),
        ("previous", "previous-token heads feed the induction heads", "S1+1", ("S1",), "S1", "half"),
    )
    found = []
    for key, claim, query, keys, wanted, least in table:
        many = "carry half of the effect" if least == "half" else "one of them is enough"
        rule = f"heads that look from {query} mostly at {wanted}, at least {ATTENTION}: {many}"
        heads = groups[key]
        if not heads:
            found.append(untestable(claim, rule, "the path-patching step found no such heads"))
            continue
        seen = {h: looks(attention[h], query, keys) == wanted for h in heads}
        share = weighted(heads, seen)
        text = f"{listed({h: 0.0 for h, yes in seen.items() if yes})} ({share:.0%} of the effect)"
        found.append(judge(claim, rule, share >= 0.5 if least == "half" else any(seen.values()), found=text))
    return found


# -- 6 roles by the general rules -------------------------------------------------------------------------


def roles(state: State) -> StepResult:
    """The roles that the workbench measures on any model, beside the paper's."""
    found = head_roles(state.runs)
    names = published_roles(state)
    rows = [
        {
            "head": r.head,
            "role by measurement": r.role,
            "looks": f"{r.query} at {r.key}",
            "attention": r.attention,
            f"direct effect ({r.unit})": r.direct_effect,
            **({"class in the paper": names.get(r.head, "–")} if state.comparable else {}),
        }
        for r in found
    ]
    measured = {r.head: r.role for r in found}
    rule = "at least half of the paper's heads that get a role get the paper's"
    claim = "roles by measurement agree with the paper's classes"
    if not state.comparable:
        tested = untestable(claim, rule, "another model: its heads have other numbers")
    else:
        both = [h for h in measured if h in names]
        same = [h for h in both if measured[h] == names[h] or names[h] == f"backup {measured[h]}"]
        tested = judge(claim, rule, 2 * len(same) >= len(both) > 0, found=f"{len(same)} of {len(both)}")
    return StepResult(
        name="roles",
        title="Roles by measurement",
        tables={"": rows},
        claims=(tested,),
        found={"roles": measured},
    )


def classes(state: State) -> dict[str, str]:
    """Part at its position -> class, named by what was measured of it."""
    attention, found = _attention(state), state.found
    copies, made = found.get("copies", {}), dict[str, str]()
    for head in found["writers"]:
        looked = looks(attention[head], "end", NAMES)
        name = {"IO": "name mover", "S1": "S1 mover", "S2": "S2 mover", None: "writer"}[looked]
        made[f"{head}@end"] = name
    for head in found["against"]:
        negative = (
            looks(attention[head], "end", NAMES) == "IO" or copies.get(head, {}).get("negative", 0) >= COPIES
        )
        made.setdefault(f"{head}@end", "negative name mover" if negative else "writes against")
    for head in found.get("inhibition", {}):
        looked = looks(attention[head], "end", NAMES)
        made.setdefault(f"{head}@end", "S-inhibition" if looked == "S2" else "steers the writers")
    for head in found.get("signals", {}):
        looked = looks(attention[head], "S2", ("S1", "S1+1"))
        made[f"{head}@S2"] = {"S1": "duplicate token", "S1+1": "induction", None: "signal at S2"}[looked]
    for head in found.get("previous", {}):
        looked = looks(attention[head], "S1+1", ("S1",))
        made[f"{head}@S1+1"] = "previous token" if looked else "writes at S1+1"
    return made


# -- 7 and 8 the circuit ----------------------------------------------------------------------------------


def circuit(state: State) -> Circuit | None:
    """The circuit that the steps found, classes named by measurement; None where no head writes the answer."""
    if not state.found.get("writers"):
        return None
    shares: dict[str, float] = {}
    places = {"writers": "end", "against": "end", "inhibition": "end", "signals": "S2", "previous": "S1+1"}
    for key, place in places.items():
        for head, share in state.found.get(key, {}).items():
            shares.setdefault(f"{head}@{place}", share)
    return own_circuit(state, classes(state), shares)


def evaluation(state: State) -> StepResult:
    """The heads found here, judged."""
    return judged(state, circuit(state), name="own", title="The circuit found here, judged")


def published_evaluation(state: State) -> StepResult:
    """The paper's heads on this model, judged; only where they name the same weights."""
    title = "The paper's circuit on this model, judged"
    if state.comparable:
        return judged(state, state.published, name="published", title=title)
    why = "another model: the paper's head numbers mean nothing here"
    gaps = tuple(untestable(claim, rule, why) for claim, rule in wordings("published").values())
    return StepResult(name="published", title=title, claims=gaps)


def comparison(state: State) -> StepResult:
    """What was found beside what was published."""
    return compared(state, circuit(state))


IOI = Study(
    name="ioi",
    published="ioi",
    task="ioi",
    corruption="abc",
    positions=("IO", "S1", "S1+1", "S2", "end"),
    model_names=("gpt2", "gpt-2"),
    circuit=circuit,
    rules={**LEAST, "errors": ERRORS, "attention": ATTENTION, "copies": COPIES, "near": NEAR, **RULES},
    steps=(
        Step(name="task", title="the task", run=task, passes="2"),
        Step(name="writers", title="heads to logits", run=writers, passes="2 per head"),
        Step(name="movers-q", title="heads to the writers' queries", run=inhibition, passes="2 per head"),
        Step(
            name="inhibition-v", title="heads to the steering heads' values", run=signals, passes="4 per head"
        ),
        Step(
            name="induction-k", title="heads to the induction heads' keys", run=previous, passes="2 per head"
        ),
        Step(name="behaviour", title="attention and copy scores", run=behaviour, passes="2"),
        Step(name="backups", title="the writers knocked out", run=backups, passes="4"),
        Step(name="roles", title="roles by measurement", run=roles, passes="2 per head"),
        Step(name="own", title="the circuit found here, judged", run=evaluation, passes="100"),
        Step(name="published", title="the paper's circuit, judged", run=published_evaluation, passes="100"),
        Step(name="comparison", title="beside the published circuit", run=comparison, passes="0"),
    ),
)
