"""Indirect object identification, step by step as in Wang et al. 2023, arXiv:2211.00593.

From the answer backwards: who writes it, who steers those, what these read, who made that findable. Each step
takes the heads whose effect through that path alone is large enough, and the next step looks at what they read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from workbench.circuits.addresses import parse_node
from workbench.circuits.circuit import Circuit
from workbench.core.errors import ModelError
from workbench.core.loading import lazily
from workbench.papers.kit import Claim, Conditions, fact, judge_all, needs
from workbench.papers.studies.kinds import State, Step, StepResult, Study
from workbench.papers.studies.own_circuit import RULES, backups, circuit_claims, compared, judged, own_circuit
from workbench.papers.studies.paths import (
    ATTENTION,
    ERRORS,
    backwards,
    listed,
    looks,
    named,
    path_rows,
    published_roles,
    recall_claims,
    shared,
    take,
    weighted,
)
from workbench.papers.studies.registry import add_study

with lazily():
    from workbench.evaluate import roles as roles_of_heads
    from workbench.heads import copy_scores

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
    c = Conditions(numbers={"mean": mean, "error": error, "accuracy": accuracy})
    c.numbers |= {"reported": paper, "comparable": state.comparable}
    claims = judge_all(TASK, c)
    found = {"does_task": claims[0].verdict == "holds", "clean": mean}
    return StepResult(name="task", title="The task", tables={"": rows}, claims=claims, found=found)


TASK = {
    "names": Claim(
        "the model names the receiver",
        fact(
            "receiver above subject in at least 90 % of prompts, mean difference above zero by three standard errors",
            lambda c: c.numbers["accuracy"] >= 0.9 and c.numbers["mean"] > ERRORS * c.numbers["error"],
        ),
        paper=lambda c: c.numbers["reported"]["accuracy"],
        found=lambda c: c.numbers["accuracy"],
    ),
    # our prompts are worded otherwise than the paper's, so the difference is not the same to the digit
    "size": Claim(
        "the logit difference is the paper's",
        fact(
            f"within {NEAR:.0%} of it",
            lambda c: (
                abs(c.numbers["mean"] - c.numbers["reported"]["logit difference"])
                <= NEAR * c.numbers["reported"]["logit difference"]
            ),
        ),
        paper=lambda c: c.numbers["reported"]["logit difference"],
        needs=[needs(lambda c: c.numbers["comparable"], "another model")],
        found=lambda c: c.numbers["mean"],
    ),
}


# -- 2 to 4 path patching backwards -----------------------------------------------------------------------


def writers(state: State) -> StepResult:
    """Which heads write the answer at the end, by paths that no other head takes part in?"""
    effects = state.path_patches("writers", state.heads, ["logits"], ("end",))
    supports, against = take(effects, LEAST["writers"])
    claims = (
        *judge_all(WRITE, Conditions(numbers={"lowers": supports, "raises": against})),
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


def _write(says: str, does: str, paper: str) -> Claim:
    least = f"at least {LEAST['writers']:.0%} of the clean difference and three standard errors"
    return Claim(
        says,
        fact(f"a head whose removal {does} it by {least}", lambda c: c.numbers[does]),
        paper=paper,
        found=lambda c: listed(c.numbers[does]),
    )


WRITE = {
    "for": _write("some heads write the receiver directly", "lowers", "9.9, 9.6, 10.0"),
    "against": _write("some heads write against it", "raises", "10.7, 11.10"),
}


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
        values = roles_of_heads.mean_attention(state.runs, LOOKS)
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
        copies, problem = copy_scores.copy_scores(state.runs, state.heads, NAMES), ""
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
    others = [h for h in copies if h not in groups["writers"] and h not in groups["against"]]
    c = Conditions(numbers={"groups": groups, "attention": attention, "copies": copies, "problem": problem})
    c.numbers["other copies"] = [copies[h]["copy"] for h in others]
    claims = judge_all(BEHAVIOUR, c)
    return StepResult(
        name="behaviour",
        title="Where the heads look, what they copy",
        tables={"mean attention on clean prompts; copy scores of the name tokens": rows},
        claims=claims,
        found={"copies": copies},
    )


def _looking(c: Conditions, key: str, query: str, keys: Sequence[str], wanted: str) -> dict[str, bool]:
    """Head of a group -> whether it looks mostly at the wanted place."""
    return {h: looks(c.numbers["attention"][h], query, keys) == wanted for h in c.numbers["groups"][key]}


def _mover_share(c: Conditions) -> float:
    return weighted(c.numbers["groups"]["writers"], _looking(c, "writers", "end", NAMES, "IO"))


def _to_receiver(c: Conditions) -> float:
    return float(np.mean([c.numbers["attention"][h]["end to IO"] for h in c.numbers["groups"]["writers"]]))


def _copying(says: str, key: str, score: str, paper: str) -> Claim:
    """Make the claim that the heads of a group copy."""
    kind = "copy score" if score == "copy" else "negative copy score"

    def share(c: Conditions) -> float:
        heads = c.numbers["groups"][key]
        return weighted(heads, {h: c.numbers["copies"][h][score] >= COPIES for h in heads})

    def scores(c: Conditions) -> str:
        return ", ".join(f"{c.numbers['copies'][h][score]:.2f}" for h in c.numbers["groups"][key])

    return Claim(
        says,
        fact(
            f"heads with a {kind} of {COPIES} or more carry half of the writing",
            lambda c: share(c) >= 0.5,
        ),
        paper=paper,
        needs=[
            needs(
                lambda c: c.numbers["groups"][key] and c.numbers["copies"],
                lambda c: c.numbers["problem"] or "no such heads were found",
            )
        ],
        found=lambda c: f"{share(c):.0%} of it; scores {scores(c)}",
    )


def _look(says: str, key: str, query: str, keys: Sequence[str], wanted: str, *, half: bool) -> Claim:
    """Make the claim that the heads of a group look at one place: half of their effect, or one of them."""
    many = "carry half of the effect" if half else "one of them is enough"

    def seen(c: Conditions) -> dict[str, bool]:
        return _looking(c, key, query, keys, wanted)

    def share(c: Conditions) -> float:
        return weighted(c.numbers["groups"][key], seen(c))

    return Claim(
        says,
        fact(
            f"heads that look from {query} mostly at {wanted}, at least {ATTENTION}: {many}",
            lambda c: share(c) >= 0.5 if half else any(seen(c).values()),
        ),
        needs=[needs(lambda c: c.numbers["groups"][key], "the path-patching step found no such heads")],
        found=lambda c: f"{named([h for h, yes in seen(c).items() if yes])} ({share(c):.0%} of the effect)",
    )


BEHAVIOUR = {
    "movers": Claim(
        "the writers look at the receiver (name movers)",
        fact(
            f"heads that look from end mostly at IO, at least {ATTENTION}, carry half of the writing",
            lambda c: _mover_share(c) >= 0.5,
        ),
        paper=lambda c: "mean attention 0.59" if c.numbers["groups"]["writers"] else 0.59,
        needs=[needs(lambda c: c.numbers["groups"]["writers"], "no head writes the answer directly")],
        found=lambda c: f"{_mover_share(c):.0%} of the writing; mean attention {_to_receiver(c):.2f}",
    ),
    "copy": _copying("the writers copy the names they read", "writers", "copy", "above 0.95"),
    "negative": _copying("the heads that write against it copy negatively", "against", "negative", "0.98"),
    "others": Claim(
        "other heads do not copy names",
        fact(
            "mean copy score of all other heads at most 0.2",
            lambda c: np.mean(c.numbers["other copies"]) <= 0.2,
        ),
        paper="below 0.2",
        needs=[
            needs(
                lambda c: c.numbers["other copies"],
                lambda c: c.numbers["problem"] or "there are no other heads",
            )
        ],
        found=lambda c: float(np.mean(c.numbers["other copies"])),
    ),
    "steering": _look(
        "the steering heads look at S2 (S-inhibition)", "inhibition", "end", NAMES, "S2", half=True
    ),
    "duplicate": _look(
        "duplicate-token heads are among the signals", "signals", "S2", ("S1", "S1+1"), "S1", half=False
    ),
    "induction": _look(
        "induction heads are among the signals", "signals", "S2", ("S1", "S1+1"), "S1+1", half=False
    ),
    "previous": _look(
        "previous-token heads feed the induction heads", "previous", "S1+1", ("S1",), "S1", half=True
    ),
}


# -- 6 roles by the general rules -------------------------------------------------------------------------


def roles(state: State) -> StepResult:
    """The roles that the workbench measures on any model, beside the paper's."""
    found = roles_of_heads.head_roles(state.runs)
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
    both = [h for h in measured if h in names]
    same = [h for h in both if measured[h] == names[h] or names[h] == f"backup {measured[h]}"]
    c = Conditions(numbers={"comparable": state.comparable, "both": len(both), "same": len(same)})
    return StepResult(
        name="roles",
        title="Roles by measurement",
        tables={"": rows},
        claims=judge_all({"roles": ROLES}, c),
        found={"roles": measured},
    )


ROLES = Claim(
    "roles by measurement agree with the paper's classes",
    fact(
        "at least half of the paper's heads that get a role get the paper's",
        lambda c: 2 * c.numbers["same"] >= c.numbers["both"] > 0,
    ),
    needs=[needs(lambda c: c.numbers["comparable"], "another model: its heads have other numbers")],
    found=lambda c: f"{c.numbers['same']} of {c.numbers['both']}",
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
    return StepResult(
        name="published", title=title, claims=judge_all(circuit_claims("published"), Conditions(why=why))
    )


def comparison(state: State) -> StepResult:
    """What was found beside what was published."""
    return compared(state, circuit(state))


IOI = add_study(
    Study(
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
                name="inhibition-v",
                title="heads to the steering heads' values",
                run=signals,
                passes="4 per head",
            ),
            Step(
                name="induction-k",
                title="heads to the induction heads' keys",
                run=previous,
                passes="2 per head",
            ),
            Step(name="behaviour", title="attention and copy scores", run=behaviour, passes="2"),
            Step(name="backups", title="the writers knocked out", run=backups, passes="4"),
            Step(name="roles", title="roles by measurement", run=roles, passes="2 per head"),
            Step(name="own", title="the circuit found here, judged", run=evaluation, passes="100"),
            Step(
                name="published", title="the paper's circuit, judged", run=published_evaluation, passes="100"
            ),
            Step(name="comparison", title="beside the published circuit", run=comparison, passes="0"),
        ),
    )
)
