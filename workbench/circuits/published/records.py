"""The records. Every fact has its source beside it; what is not sure is said in ``uncertain`` and left out.

Heads are written layer.head, both from 0. Positions that a source gives have the names our tasks use: ``end`` is
where the answer is read, ``S2`` the second mention of the subject, ``S1+1`` the token after its first.
"""

from __future__ import annotations

from workbench.circuits.graph import GraphShape
from workbench.circuits.published.kinds import Published, PublishedClass, Way

GPT2_SMALL = GraphShape(n_layers=12, n_heads=12, n_kv_heads=12)
GPT2_MEDIUM = GraphShape(n_layers=24, n_heads=16, n_kv_heads=16)
ATTENTION_4L = GraphShape(n_layers=4, n_heads=8, n_kv_heads=8, mlp_layers=())
ATTENTION_2L = GraphShape(n_layers=2, n_heads=8, n_kv_heads=8, mlp_layers=())

_REUSE = "Merullo, Eickhoff and Pavlick 2024 (Circuit Component Reuse), arXiv:2310.08744"
_REUSE_READ = (
    "An account of the head tables together with the released code; the interpreted heads only. The full lists "
    "(the top 2 % of heads of each round of path patching) are longer."
)
_REUSE_UNSURE = (
    "The text names 13.13 in some places and 13.14 in others; the released code uses 13.13.",
    "Heads 6.15, 7.2, 7.11 and 8.15 are handled in the code as further duplicate-token or induction candidates; "
    "they are left out.",
    "The source patches at the last position; positions of the early heads are not stated, so none is written.",
)

IOI = Published(
    name="ioi",
    title="Indirect object identification in GPT-2 small",
    task="ioi",
    model="gpt2",
    shape=GPT2_SMALL,
    source="Wang, Variengien, Conmy, Shlegeris and Steinhardt 2023, arXiv:2211.00593",
    read="Heads, classes and positions: the released code. Ways between classes: the circuit figure and its text.",
    corruption="abc",
    kept_whole=tuple(range(12)),
    parts=(
        PublishedClass(
            role="previous token",
            parts="2.2 4.11",
            position="S1+1",
            does="copies the subject onto the token after its first mention",
        ),
        PublishedClass(
            role="duplicate token",
            parts="0.1 0.10 3.0",
            position="S2",
            does="looks from the second mention at the first and says that there was one",
        ),
        PublishedClass(
            role="induction",
            parts="5.5 5.8 5.9 6.9",
            position="S2",
            does="looks from the second mention at the token after the first: the same signal by another way",
        ),
        PublishedClass(
            role="S-inhibition",
            parts="7.3 7.9 8.6 8.10",
            position="end",
            does="moves the signal to the end, where it keeps the name movers from the subject",
        ),
        PublishedClass(
            role="name mover",
            parts="9.6 9.9 10.0",
            position="end",
            does="looks at names, copies the one it looks at: the receiver",
        ),
        PublishedClass(
            role="negative name mover",
            parts="10.7 11.10",
            position="end",
            does="looks like a name mover, writes the opposite",
        ),
        PublishedClass(
            role="backup name mover",
            parts="9.0 9.7 10.1 10.2 10.6 10.10 11.2 11.9",
            position="end",
            does="moves names when the name movers are knocked out",
        ),
    ),
    ways=(
        Way(source="previous token", target="induction", slot="k"),
        Way(source="induction", target="S-inhibition", slot="v"),
        Way(source="duplicate token", target="S-inhibition", slot="v"),
        Way(source="S-inhibition", target="name mover", slot="q"),
        Way(source="S-inhibition", target="negative name mover", slot="q"),
        Way(source="S-inhibition", target="backup name mover", slot="q"),
        Way(source="name mover", target="logits"),
        Way(source="negative name mover", target="logits"),
        Way(source="backup name mover", target="logits"),
    ),
    reported={
        "logit difference": 3.56,
        "accuracy": 0.993,
        "logit difference of the circuit": 3.10,
        "share of the logit difference kept": 0.87,
        "attention of name movers from end at IO": 0.59,
        "copy score of name movers, at least": 0.95,
        "copy score of other heads, at most": 0.20,
        "negative copy score of negative name movers": 0.98,
        "fall of the logit difference with the name movers knocked out": 0.05,
    },
    uncertain=(
        "The numbers under `reported` were written down from memory of the paper, not copied from its text.",
        "The paper evaluates the circuit with MLPs left in place, each head kept at its position alone; the twelve "
        "MLPs are therefore in this file as kept whole and are no part of the 26 heads.",
        "The paper names no revision of the weights.",
        "Which backup name movers read S-inhibition heads is drawn for the class, not head by head.",
    ),
)

GREATER_THAN = Published(
    name="greater-than",
    title="Greater-than in GPT-2 small",
    task="greater-than",
    model="gpt2",
    shape=GPT2_SMALL,
    source="Hanna, Liu and Variengien 2023, arXiv:2305.00586",
    read="The groups as the released code of Conmy et al. 2023 (ACDC, arXiv:2304.14997) writes them down as the "
    "reference circuit, from memory.",
    metric="prob-difference",
    corruption="01",
    parts=(
        PublishedClass(role="early head", parts="0.1 0.3 0.5", does="reads the start year"),
        PublishedClass(role="early MLP", parts="m0 m1 m2 m3", does="reads the start year"),
        PublishedClass(
            role="year mover",
            parts="5.5 6.1 6.9 7.10 8.11 9.1",
            position="end",
            does="looks from the end at the last two digits of the start year",
        ),
        PublishedClass(
            role="late MLP",
            parts="m8 m9 m10 m11",
            position="end",
            does="raises the years that are greater",
        ),
    ),
    ways=(
        Way(source="input", target="early head"),
        Way(source="input", target="early MLP"),
        Way(source="early head", target="year mover"),
        Way(source="early MLP", target="year mover"),
        Way(source="year mover", target="late MLP"),
        Way(source="late MLP", target="late MLP"),
        Way(source="late MLP", target="logits"),
    ),
    reported={"probability difference": 0.817, "share of the probability difference kept": 0.895},
    uncertain=(
        "The numbers under `reported` and the groups were written down from memory.",
        "5.1 and 8.8 are named beside the year movers in some accounts of the paper; they are left out here.",
        "The early parts act where the start year stands; the reference lists give no position, so none is written.",
        "Which input (q, k or v) of a year mover reads the early parts is not in the list.",
        "MLPs 4 to 7 are not in the list, so they are outside the circuit here.",
    ),
)

DOCSTRING = Published(
    name="docstring",
    title="Docstring argument completion in a four-layer attention-only model",
    task="docstring",
    model="attn-only-4l",
    shape=ATTENTION_4L,
    source="Heimersheim and Janiak 2023, A circuit for Python docstrings in a 4-layer attention-only transformer "
    "(Alignment Forum)",
    read="Heads that the post and Conmy et al. 2023 (ACDC, arXiv:2304.14997) both name, from memory.",
    parts=(
        PublishedClass(
            role="early head", parts="0.5 1.4 2.0", does="finds which argument the docstring lists next"
        ),
        PublishedClass(
            role="argument mover",
            parts="3.0 3.6",
            position="end",
            does="looks from the end at the next argument of the definition and copies it",
        ),
    ),
    ways=(
        Way(source="early head", target="argument mover"),
        Way(source="argument mover", target="logits"),
    ),
    uncertain=(
        "Written down from memory; only the heads that two accounts agree on.",
        "The post also gives 0.2, 0.4 and 1.2 smaller, mostly positional parts; they are left out.",
        "The post gives each early head a role of its own; those are not repeated here.",
    ),
)

INDUCTION = Published(
    name="induction",
    title="Induction in a two-layer attention-only model",
    task="induction",
    model="redwood-attn-only-2l",
    shape=ATTENTION_2L,
    source="Pattern: Elhage et al. 2021 (A Mathematical Framework for Transformer Circuits) and Olsson et al. 2022, "
    "arXiv:2209.11895. Heads: Goldowsky-Dill, MacLeod, Sato and Arora 2023 (path patching), arXiv:2304.05969",
    read="Head numbers of the two-layer, eight-head model studied there, from memory.",
    parts=(
        PublishedClass(role="previous token", parts="0.0", does="copies each token onto the one after it"),
        PublishedClass(
            role="induction",
            parts="1.5 1.6",
            does="looks at the token after the last mention of the present one and copies it",
        ),
    ),
    ways=(
        Way(source="input", target="previous token", slot="v"),
        Way(source="previous token", target="induction", slot="k"),
        Way(source="input", target="induction", slot="q"),
        Way(source="input", target="induction", slot="v"),
        Way(source="induction", target="logits"),
    ),
    uncertain=(
        "The pattern (previous token -> key of an induction head) holds for many models; the head numbers belong to "
        "one model of that study and were written down from memory.",
        "`model` is a label: that model is not opened by this name.",
    ),
)

COLORED_OBJECTS = Published(
    name="colored-objects",
    title="Colored Objects in GPT-2 medium",
    task="colored-objects",
    model="gpt2-medium",
    shape=GPT2_MEDIUM,
    source=_REUSE,
    read=_REUSE_READ,
    corruption="query",
    parts=(
        PublishedClass(role="duplicate token", parts="6.4"),
        PublishedClass(role="induction", parts="9.3"),
        PublishedClass(
            role="content gatherer",
            parts="11.6 11.7 12.15",
            position="end",
            does="moves the queried object to the end",
        ),
        PublishedClass(
            role="mover",
            parts="15.14 16.15 17.4 18.5 19.15",
            position="end",
            does="looks at the answer and copies it",
        ),
    ),
    kept_whole=tuple(range(24)),
    reported={
        "accuracy": 0.496,
        "heads shared with IOI": 25,
        "heads in either circuit": 32,
        "accuracy when inhibition and negative mover look at the wrong colors": 0.937,
    },
    uncertain=(
        *_REUSE_UNSURE[1:],
        "The source states no ways between classes head by head, so none are written.",
    ),
)

IOI_MEDIUM = Published(
    name="ioi-gpt2-medium",
    title="Indirect object identification in GPT-2 medium",
    task="ioi",
    model="gpt2-medium",
    shape=GPT2_MEDIUM,
    source=_REUSE,
    read=_REUSE_READ,
    corruption="s2-flip",
    parts=(
        PublishedClass(role="duplicate token", parts="6.4"),
        PublishedClass(role="induction", parts="9.3"),
        PublishedClass(role="S-inhibition", parts="12.3 13.4 13.13", position="end"),
        PublishedClass(role="mover", parts="15.14 16.15 17.4 18.5 19.15", position="end"),
        PublishedClass(
            role="negative mover",
            parts="19.1",
            position="end",
            does="looks mainly at the second mention of the subject",
        ),
    ),
    kept_whole=tuple(range(24)),
    reported={"heads shared with Colored Objects": 25, "heads in either circuit": 32},
    uncertain=(
        *_REUSE_UNSURE,
        "The source states no ways between classes head by head, so none are written.",
    ),
)

RECORDS = (IOI, GREATER_THAN, DOCSTRING, INDUCTION, COLORED_OBJECTS, IOI_MEDIUM)
