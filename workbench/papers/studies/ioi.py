"""Indirect object identification, step by step as in Wang et al. 2023, arXiv:2211.00593.

From the answer backwards: who writes it, who steers those, what these read, who made that findable. Each step
takes the heads whose effect through that path alone is large enough, and the next step looks at what they read.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from workbench.circuits.circuit import Circuit
from workbench.core.loading import lazily
from workbench.papers.kit import Claim, Conditions, at_least, at_most, judge_all, more, needs
from workbench.papers.studies.kinds import State, Step, StepResult, Study
from workbench.papers.studies.names_read import COPIES, NAMES, attention_along, behaviour
from workbench.papers.studies.own_circuit import RULES, backups, circuit_claims, compared, judged, own_circuit
from workbench.papers.studies.paths import (
    ATTENTION,
    ERRORS,
    backwards,
    does_it,
    listed,
    looks,
    of_paper,
    path_rows,
    published_roles,
    recall_claims,
    shared,
    take,
)
from workbench.papers.studies.registry import add_study

with lazily():
    from workbench.evaluate import roles as roles_of_heads

# Least share of the clean metric that a path must carry for its sender to be taken up: the further from the
# answer, the more parts share the work.
LEAST = {"writers": 0.03, "movers-q": 0.02, "inhibition-v": 0.01, "induction-k": 0.005}
NEAR = 0.25  # most relative distance from a number of the paper on the paper's own model


# -- 1 the task -------------------------------------------------------------------------------------------


def task(state: State) -> StepResult:
    """Does the model do it at all?"""
    runs, paper = state.runs, state.published.provenance["reported"]
    difference = runs.clean
    mean, error = float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(len(difference)))
    accuracy = float((difference > 0).mean())
    other, reported = float(runs.corrupted.mean()), paper["logit difference"]
    cells = {
        "logit difference, clean": (mean, error, reported),
        "receiver above subject": (accuracy, None, paper["accuracy"]),
        "logit difference, other names": (other, None, None),
    }
    rows = [
        {"measure": k, "here": here, "± se": se, "paper": there} for k, (here, se, there) in cells.items()
    ]
    numbers = {ACCURACY: accuracy, "mean difference": mean, "its standard error": error, "reported": paper}
    numbers["comparable"] = state.comparable
    # our prompts are worded otherwise than the paper's, so the difference is not the same to the digit
    numbers[AWAY] = abs(mean - reported) / reported
    return does_it(state, rows, numbers, TASK)


ACCURACY, AWAY = (
    "share of prompts with the receiver above the subject",
    "share by which it differs from the paper's",
)
OTHER_MODEL = needs(lambda c: c.numbers["comparable"], "another model")
TASK = {
    "names": Claim(
        "the model names the receiver",
        at_least(ACCURACY, 0.9) & more("mean difference", "its standard error", times=ERRORS),
        paper="{reported[accuracy]}",
        control=None,
    ),
    "size": Claim(
        "the logit difference is the paper's",
        at_most(AWAY, NEAR),
        paper="{reported[logit difference]}",
        needs=[OTHER_MODEL],
        found="{mean difference}",
    ),
}


# -- 2 to 4 path patching backwards -----------------------------------------------------------------------


def writers(state: State) -> StepResult:
    """Which heads write the answer at the end, by paths that no other head takes part in?"""
    effects = state.path_patches("writers", state.heads, ["logits"], ("end",))
    supports, against = take(effects, LEAST["writers"])
    c = Conditions(numbers={"lower it": len(supports), "raise it": len(against)})
    c.numbers |= {"lowering": listed(supports), "raising": listed(against)}
    claims = (
        *judge_all(WRITE, c),
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


BY = f"by at least {LEAST['writers']:.0%} of the clean difference and three standard errors"
WRITE = {
    "for": Claim(
        "some heads write the receiver directly",
        at_least("lower it", 1),
        f"a head whose removal lowers it {BY}",
        paper="9.9, 9.6, 10.0",
        found="{lowering}",
    ),
    "against": Claim(
        "some heads write against it",
        at_least("raise it", 1),
        f"a head whose removal raises it {BY}",
        paper="10.7, 11.10",
        found="{raising}",
    ),
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
    attention = attention_along(state)
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
            **of_paper(state, names, r.head),
        }
        for r in found
    ]
    measured = {r.head: r.role for r in found}
    both = [h for h in measured if h in names]
    same = [h for h in both if measured[h] == names[h] or names[h] == f"backup {measured[h]}"]
    c = Conditions(numbers={"heads with a role in both": len(both), "heads with the paper's role": len(same)})
    if not state.comparable:
        c.lack("heads with the paper's role", "another model: its heads have other numbers")
    return StepResult(
        name="roles",
        title="Roles by measurement",
        tables={"": rows},
        claims=judge_all({"roles": ROLES}, c),
        found={"roles": measured},
    )


ROLES = Claim(
    "roles by measurement agree with the paper's classes",
    at_least("heads with the paper's role", "heads with a role in both", times=1 / 2)
    & at_least("heads with a role in both", 1),
    found="{heads with the paper's role} of {heads with a role in both}",
    control=None,
)


def classes(state: State) -> dict[str, str]:
    """Part at its position -> class, named by what was measured of it."""
    attention, found = attention_along(state), state.found
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


STEPS = (
    ("task", "the task", task, "2"),
    ("writers", "heads to logits", writers, "2 per head"),
    ("movers-q", "heads to the writers' queries", inhibition, "2 per head"),
    ("inhibition-v", "heads to the steering heads' values", signals, "4 per head"),
    ("induction-k", "heads to the induction heads' keys", previous, "2 per head"),
    ("behaviour", "attention and copy scores", behaviour, "2"),
    ("backups", "the writers knocked out", backups, "4"),
    ("roles", "roles by measurement", roles, "2 per head"),
    ("own", "the circuit found here, judged", evaluation, "100"),
    ("published", "the paper's circuit, judged", published_evaluation, "100"),
    ("comparison", "beside the published circuit", comparison, "0"),
)
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
        steps=tuple(Step(name=n, title=title, run=run, passes=passes) for n, title, run, passes in STEPS),
    )
)
