"""PINE: position bias comes from the causal mask and from rotary positions, and can be taken away.

The answer of a language model depends on the order of documents. PINE lets documents see each other and places them,
for each query, by how important they are to it; the output is then the same for every order. Here documents are a few
words with a key and its value: questions where two contradict each other show the bias, questions where two of three
agree what it costs, and questions that one document answers leave nothing to take away.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from workbench.core.errors import OptionError
from workbench.core.loading import lazily
from workbench.core.stats.intervals import SHARE
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, needs
from workbench.papers.kit.criteria import Criterion, above, at_least, below, less, no_worse
from workbench.papers.registry import add_paper

with lazily():
    from workbench.edits import documents, pine, rotary
    from workbench.model import probe

# Criteria, fixed before anything was measured.
BIASED, EQUAL, APART, KEPT, ANSWERED = 0.10, 1e-3, 100.0, 0.02, 0.5
CONDITIONS: dict[str, dict[str, Any] | None] = {
    "the model as it is": None,
    "PINE": {},
    "bidirectional, positions as given": {"order": "given"},
    "bidirectional, random positions": {"order": "random"},
    "new positions, causal mask": {"between": "earlier"},
    "most important farthest": {"order": "reversed"},
}
PLAIN, PINE, GIVEN, RANDOM, CAUSAL, REVERSED = CONDITIONS
WITHOUT = {  # largest difference of a log-probability, or of a logit, with PINE: the same where it is not at work
    "nats between orders": "nats between orders without one of its parts",
    "nats between orders of unequal documents": "nats between these orders as it is",
    "change by PINE of one document": "change by PINE of the same tokens as two documents",
}
ORDERS, UNEQUAL, ONE = WITHOUT
MEASURES = {  # of the answers to each question, over all orders of its documents: range, unit
    "changes": (SHARE, "share of questions whose answer depends on the order, 0 is best"),
    "accuracy": (SHARE, "share of answers that are right, over all orders"),
    "lean": (None, "lean, nats; above 0: to the nearer document"),
    "spread": (None, "largest difference of a log-probability between two orders, nats"),
}


@dataclass(frozen=True, kw_only=True)
class PineSizes:
    """Questions of each kind, documents of a prompt, and tokens of each document.

    With fewer than 183 singles it could not be shown that at most 2 % is lost, even if none is.
    """

    conflicts: int = 60
    majorities: int = 120
    singles: int = 200
    documents: int = 3
    size: int = 8

    def __post_init__(self) -> None:
        if min(self.conflicts, self.majorities, self.singles) < 2:
            raise OptionError(
                f"conflicts is {self.conflicts}, majorities {self.majorities}, singles {self.singles}; "
                "at least 2 of each are needed for an interval",
                hint="--set conflicts=2 --set majorities=2 --set singles=2, or more",
            )
        if not 3 <= self.documents <= 5:
            raise OptionError(
                f"documents is {self.documents}; 3 to 5 can be asked in every order", hint="--set documents=3"
            )


def measure(setting: Setting) -> Conditions:
    """Ask questions about documents in every order, with PINE and with one part of it at a time."""
    o, model, seed, c = setting.options, setting.model, setting.seed, Conditions()
    rotary.rotary_of(model, probe.wiring(model).attention_layers[0])  # refused before anything is measured
    words = documents.words_of(model, seed=seed)
    numbers: dict[documents.Kind, int]
    numbers = {"conflict": o.conflicts, "majority": o.majorities, "single": o.singles}
    for kind, n in numbers.items():
        asked = documents.questions(words, kind, n=n, sizes=(o.size,) * o.documents, seed=seed)
        answers: dict[str, documents.DocumentAnswers] = {}
        for name in setting.each([*CONDITIONS], f"conditions of {kind} questions"):
            answers[name] = found = documents.in_every_order(model, words, asked, CONDITIONS[name], seed=seed)
            for what, (within, unit) in MEASURES.items():
                c.add(f"{kind} {what}, {name}", getattr(found, what), within=within, unit=f"{kind}: {unit}")
            moved, unit = found.moved_from(answers[PLAIN]), f"{kind}: moved from the model as it is, nats"
            c.add(f"{kind} moved, {name}", moved, unit=unit)
    c.numbers["known words"] = words.known
    most = {name: float(c[f"conflict spread, {name}"].max()) for name in CONDITIONS}
    lengths = partial(documents.unequal_spread, model, words, o.size, seed=seed)
    for name, (here, without) in {
        ORDERS: (most[PINE], min(most[GIVEN], most[CAUSAL], most[RANDOM])),
        UNEQUAL: (lengths(CONDITIONS[PINE]), lengths(CONDITIONS[PLAIN])),
        ONE: pine.moved_alone(model),
    }.items():
        c.tell(name, here, control=without, n={ORDERS: o.conflicts, UNEQUAL: 3}.get(name))
        c.numbers[WITHOUT[name]] = without
    return c


ABLE = needs(
    at_least(f"single accuracy, {PLAIN}", ANSWERED),
    f"the model finds a value in {{single accuracy, {PLAIN}:.0%}} of single documents; half is asked for",
)
Asked = partial(Claim, needs=[ABLE])


def _equal(name: str) -> Criterion:
    """Nothing differs with PINE, and without it something does: what an idle edit leaves equal does not count."""
    return less(name, EQUAL) & at_least(WITHOUT[name], name, times=APART)


CLAIMS = {
    "bias": Asked(
        "the order of documents decides what a model answers", above(f"conflict changes, {PLAIN}", by=BIASED),
        why="documents that say different things about one key leave the choice to the model, and 10 % is "
        "well above what prompts without contradiction show",
        where="abstract", control=f"{{single changes, {PLAIN}}}",
    ),
    "mask": Asked(
        "the causal mask favors distant content", below(f"conflict lean, {CAUSAL}"),
        why="what is left of the bias when only the mask knows the order is the mask's; the control is the whole bias",
        where="abstract", control=f"{{conflict lean, {PLAIN}}}",
    ),
    "rotary": Asked(
        "rotary positions favor nearby content", above(f"conflict lean, {GIVEN}"),
        why="what is left of the bias when only positions know the order is theirs; the control is the whole bias",
        where="abstract", control=f"{{conflict lean, {PLAIN}}}",
    ),
    "invariant": Claim(
        "with PINE the output is the same for every order", _equal(ORDERS), paper="the same",
        why="float32 runs on permuted prompts differ by 1e-5 to 1e-4 here; a wrong order of positions by whole nats",
        where="the method",
    ),
    "unequal": Claim(
        "with PINE the output is the same also for documents of different lengths", _equal(UNEQUAL),
        why="the importance of a document is a mean over its tokens, so that its length does not matter",
        where="the method; the test is an extension of ours",
    ),
    "one": Claim(
        "with one document PINE is the model itself", _equal(ONE),
        why="nothing is left to be put in order; two documents are, so the edit is at work",
        where="a check of ours: it follows from the definition",
    ),
    "accuracy": Asked(
        "with PINE more is answered rightly where two of three documents agree",
        above(f"majority accuracy, {PINE}", f"majority accuracy, {PLAIN}"),
        paper="8 to 10 points (RewardBench reasoning)",
        why="the right answer is defined by content alone, so a bias can only harm", where="abstract",
    ),
    "design": Asked(
        "it matters that PINE puts the most important document nearest",
        above(f"majority accuracy, {PINE}", f"majority accuracy, {REVERSED}"),
        why="the reversed order is as invariant, so invariance alone cannot make the difference",
        where="the method; the comparison is a control of ours",
    ),
    "kept": Asked(
        "questions that one document answers are still answered with PINE",
        no_worse(f"single accuracy, {PINE}", f"single accuracy, {PLAIN}", within=KEPT),
        why="the unrelated task: there is no bias to take away, so any change is damage",
        where="a control of ours",
    ),
}  # fmt: skip
REPLICATION = add_paper(Paper(
    name="pine", source="Wang et al. 2024, arXiv:2407.01100", model="zoo:kv", options=PineSizes,
    controls=(GIVEN, RANDOM, CAUSAL, REVERSED, "questions that one document answers"), measure=measure,
    claims=CLAIMS,
))  # fmt: skip
