"""Where the heads of indirect object identification look, and whether they copy the names that they read.

Source: Wang et al. 2023, arXiv:2211.00593, sections 3.1 to 3.4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from workbench.circuits.addresses import parse_node
from workbench.core.errors import ModelError
from workbench.core.loading import lazily
from workbench.papers.kit import Claim, Conditions, at_least, at_most, judge_all
from workbench.papers.studies.kinds import State, StepResult
from workbench.papers.studies.paths import ATTENTION, looks, named, of_paper, published_roles, weighted

with lazily():
    from workbench.evaluate import roles as roles_of_heads
    from workbench.heads import copy_scores

LOOKS = (("end", "IO"), ("end", "S1"), ("end", "S2"), ("S2", "S1"), ("S2", "S1+1"), ("S1+1", "S1"))
NAMES = ("IO", "S1", "S2")
COPIES = 0.8  # least copy score of a head that copies


def attention_along(state: State) -> dict[str, dict[str, float]]:
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
    attention, found = attention_along(state), state.found
    groups = {key: found.get(key, {}) for key in ("writers", "against", "inhibition", "signals", "previous")}
    try:
        copies, problem = copy_scores.copy_scores(state.runs, state.heads, NAMES), ""
    except ModelError as refused:
        copies, problem = {}, refused.message
    roles = published_roles(state)
    rows = []
    for group, heads in groups.items():
        for head, share in heads.items():
            copied = {k: copies[head][k] for k in ("copy", "negative")} if copies else {}
            score = {"copy score" if k == "copy" else k: value for k, value in copied.items()}
            row = {"found as": group, "head": head, "share": share, **attention[head], **score}
            rows.append(row | of_paper(state, roles, head))
    c = Conditions()
    _of_copying(c, groups, copies, problem)
    for key, query, keys, wanted in LOOKING.values():
        _of_looking(c, attention, groups[key], key, query, keys, wanted)
    if groups["writers"]:
        c.numbers["attention"] = float(np.mean([attention[h]["end to IO"] for h in groups["writers"]]))
    claims = judge_all(BEHAVIOUR, c)
    return StepResult(
        name="behaviour",
        title="Where the heads look, what they copy",
        tables={"mean attention on clean prompts; copy scores of the name tokens": rows},
        claims=claims,
        found={"copies": copies},
    )


LOOKING = {
    "movers": ("writers", "end", NAMES, "IO"),
    "steering": ("inhibition", "end", NAMES, "S2"),
    "duplicate": ("signals", "S2", ("S1", "S1+1"), "S1"),
    "induction": ("signals", "S2", ("S1", "S1+1"), "S1+1"),
    "previous": ("previous", "S1+1", ("S1",), "S1"),
}


def _of_looking(
    c: Conditions,
    attention: Mapping[str, Mapping[str, float]],
    heads: Mapping[str, float],
    key: str,
    query: str,
    keys: Sequence[str],
    wanted: str,
) -> None:
    """Which heads of a group look mostly at the wanted place, and what share of its effect they carry."""
    seen = {h: looks(attention[h], query, keys) == wanted for h in heads}
    share, some = f"share of {key} that look at {wanted}", f"{key} that look at {wanted}"
    if not heads:
        c.lacking |= dict.fromkeys((share, some), "the path-patching step found no such heads")
        return
    c.numbers |= {share: weighted(heads, seen), some: sum(seen.values())}
    c.numbers[f"which {some}"] = named([h for h, yes in seen.items() if yes])


def _of_copying(c: Conditions, groups: Mapping, copies: Mapping, problem: str) -> None:
    """What share of the writing is by heads that copy, and how much other heads copy."""
    for key, score in (("writers", "copy"), ("against", "negative")):
        heads, share = groups[key], f"share of {key} that copy"
        if not heads or not copies:
            c.lack(share, problem or "no such heads were found")
            continue
        c.numbers[share] = weighted(heads, {h: copies[h][score] >= COPIES for h in heads})
        c.numbers[f"scores of {key}"] = ", ".join(f"{copies[h][score]:.2f}" for h in heads)
    others = [copies[h]["copy"] for h in copies if h not in groups["writers"] and h not in groups["against"]]
    if others:
        c.numbers["mean copy score of all other heads"] = float(np.mean(others))
    else:
        c.lack("mean copy score of all other heads", problem or "there are no other heads")


def _copying(says: str, key: str, kind: str, paper: str) -> Claim:
    """Make the claim that the heads of a group copy."""
    share, words = (
        f"share of {key} that copy",
        f"heads with a {kind} of {COPIES} or more carry half of the writing",
    )
    found = f"{{{share}:.0%}} of it; scores {{scores of {key}}}"
    return Claim(says, at_least(share, 0.5), words, paper=paper, found=found)


def _look(says: str, which: str, *, half: bool = True, **told: Any) -> Claim:
    """Make the claim that the heads of a group look at one place: half of their effect, or one of them."""
    key, query, _, wanted = LOOKING[which]
    share, some = f"share of {key} that look at {wanted}", f"{key} that look at {wanted}"
    many = "carry half of the effect" if half else "one of them is enough"
    words = f"heads that look from {query} mostly at {wanted}, at least {ATTENTION}: {many}"
    told = {"found": f"{{which {some}}} ({{{share}:.0%}} of the effect)", **told}
    return Claim(says, at_least(share, 0.5) if half else at_least(some, 1), words, **told)


BEHAVIOUR = {
    "movers": _look(
        "the writers look at the receiver (name movers)",
        "movers",
        paper="mean attention 0.59",
        found="{share of writers that look at IO:.0%} of the writing; mean attention {attention:.2f}",
    ),
    "copy": _copying("the writers copy the names they read", "writers", "copy score", "above 0.95"),
    "negative": _copying(
        "the heads that write against it copy negatively", "against", "negative copy score", "0.98"
    ),
    "others": Claim(
        "other heads do not copy names", at_most("mean copy score of all other heads", 0.2), paper="below 0.2"
    ),
    "steering": _look("the steering heads look at S2 (S-inhibition)", "steering"),
    "duplicate": _look("duplicate-token heads are among the signals", "duplicate", half=False),
    "induction": _look("induction heads are among the signals", "induction", half=False),
    "previous": _look("previous-token heads feed the induction heads", "previous"),
}
