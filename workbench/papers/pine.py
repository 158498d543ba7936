"""PINE (Wang et al. 2024): position bias comes from the causal mask and rotary positions, and can be taken away."""

from __future__ import annotations

from collections.abc import Mapping
from math import factorial
from typing import Any

import numpy as np
import torch

from workbench.core.stats.intervals import SHARE
from workbench.edits.documents import DocumentAnswers, Words, in_every_order, questions, words_of
from workbench.edits.pine import Pine
from workbench.edits.rotary import rotary_of
from workbench.model.probe import probe_tokens, wiring
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, above, at_least, below, fact, needs, no_worse
from workbench.papers.options import PineSizes

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
MEASURES = (  # kind of question, what of the answers, range, unit
    (
        "conflict",
        "changes",
        SHARE,
        "conflict: share of questions whose answer depends on the order, 0 is best",
    ),
    ("conflict", "lean", None, "conflict: lean, nats; above 0: to the nearer document"),
    ("majority", "accuracy", SHARE, "majority: share of answers that are right, over all orders"),
    ("single", "changes", SHARE, "single: share of questions whose answer depends on the order, 0 is best"),
    ("single", "accuracy", SHARE, "single: share of answers that are right, over all orders"),
)


def measure(setting: Setting) -> Conditions:
    """Ask questions about documents in every order, with PINE and with one part of it at a time.

    Raises:
        ModelError: for models whose positions are not rotary, with the reason.
    """
    options: PineSizes = setting.options
    rotary_of(setting.model, wiring(setting.model).attention_layers[0])  # refused before anything is measured
    words = words_of(setting.model, seed=setting.seed)
    found = _answers(setting, words)
    c = Conditions()
    for kind, what, within, unit in MEASURES:
        for name in CONDITIONS:
            c.add(f"{kind} {what}: {name}", getattr(found[kind, name], what), within=within, unit=unit)
    for (kind, name), answers in found.items():
        c.numbers[f"{kind} spread: {name}"] = float(answers.spread.max())
        c.numbers[f"{kind} moved: {name}"] = moved(answers, found[kind, PLAIN])
    c.numbers["known words"] = words.known
    for condition in (PINE, PLAIN):
        c.numbers[f"unequal: {condition}"] = _unequal(setting, words, options.size, CONDITIONS[condition])
    c.numbers["one document"], c.numbers["two documents"] = _alone(setting)
    c.tables["How far each condition moves what is believed, and how far orders differ (nats)"] = [
        {
            "questions": kind,
            "condition": name,
            "moved from the model as it is": c.numbers[f"{kind} moved: {name}"],
            "largest difference between orders": c.numbers[f"{kind} spread: {name}"],
            "right in every order, share": float(answers.always.mean()),
        }
        for (kind, name), answers in found.items()
    ]
    return c


def _answers(setting: Setting, words: Words) -> Mapping[tuple[str, str], DocumentAnswers]:
    """Every kind of question under every condition; questions of one kind are the same in all."""
    options: PineSizes = setting.options
    counts = {"conflict": options.conflicts, "majority": options.majorities, "single": options.singles}
    total, done = sum(counts.values()) * len(CONDITIONS) * factorial(options.documents), 0

    def advance(n: int) -> None:
        nonlocal done
        done += n
        setting.progress(done, total, "prompts")

    found = {}
    for kind, n in counts.items():
        asked = questions(words, kind, n=n, sizes=(options.size,) * options.documents, seed=setting.seed)
        for name, chosen in CONDITIONS.items():
            chosen = {**chosen, "seed": setting.seed} if chosen and name == RANDOM else chosen
            found[kind, name] = in_every_order(setting.model, words, asked, chosen, advance=advance)
    return found


def moved(answers: DocumentAnswers, plain: DocumentAnswers) -> float:
    """How far a condition moves what is believed: mean change of the log-probability of right over wrong, in nats."""
    return float(np.abs(answers.difference - plain.difference).mean())


def _unequal(setting: Setting, words: Words, size: int, chosen: dict[str, Any] | None) -> float:
    """Largest difference between orders of documents of other lengths, in nats."""
    sizes = tuple(size - 2 + 2 * i for i in range(3))
    asked = questions(words, "conflict", n=3, sizes=sizes, seed=setting.seed + 1)
    return max(float(in_every_order(setting.model, words, (q,), chosen).spread.max()) for q in asked)


@torch.no_grad()
def _alone(setting: Setting) -> tuple[float, float]:
    """Largest difference of a logit that PINE makes: over a single document, and over the same tokens as two."""
    ids = probe_tokens(setting.model)
    plain, end = setting.model(ids), ids.shape[1] - 1

    def moved_by(documents: tuple[tuple[int, int], ...]) -> float:
        with Pine(documents=documents).on(setting.model):
            return float((setting.model(ids) - plain).abs().max())

    return moved_by(((1, end),)), moved_by(((1, end // 2), (end // 2, end)))


def _without_a_part(c: Conditions) -> float:
    return min(c.numbers[f"conflict spread: {name}"] for name in (GIVEN, CAUSAL, RANDOM))


def _leaning(name: str):
    """The lean of the model as it is and of PINE, where nothing knows the order, and how far each condition moves."""

    def told(c: Conditions) -> str:
        plain, pine = (c.mean(f"conflict lean: {one}") for one in (PLAIN, PINE))
        far, whole = (c.numbers[f"conflict moved: {one}"] for one in (name, PINE))
        return f"as it is {plain:+.3f}, PINE {pine:+.3f}; moves {far:.2f} nats, PINE {whole:.2f} nats"

    return told


def _controls(c: Conditions) -> str:
    """Accuracy of the model as it is, what each control gains, and how far it moves beside PINE."""
    plain, shift = f"majority accuracy: {PLAIN}", "majority moved: "
    gains = [
        f"{name} {c.mean(f'majority accuracy: {name}', plain):+.3f}, {c.numbers[shift + name]:.2f} nats"
        for name in (GIVEN, RANDOM, CAUSAL, REVERSED)
    ]
    return f"as it is {c.mean(plain):.3f}; PINE moves {c.numbers[shift + PINE]:.2f} nats; " + "; ".join(gains)


def _shown(name: str, over: str | None = None, unit: str = "of questions"):
    return lambda c: c.shown(name, over, unit=unit)


def _far_apart(small: str, large) -> Any:
    """No difference with PINE, and a hundred times as much without: what is equal by an idle edit does not count."""
    return fact(
        "equal with PINE, and not without",
        lambda c: c.numbers[small] < EQUAL and large(c) >= APART * c.numbers[small],
    )


def _answered(c: Conditions) -> float:
    return c.mean(f"single accuracy: {PLAIN}")


ABLE = needs(
    at_least(f"single accuracy: {PLAIN}", ANSWERED),
    lambda c: (
        f"the model finds a value in one of the documents in {_answered(c):.0%} of the prompts; half is asked for"
    ),
)
CLAIMS = {
    "bias": Claim(
        "the order of documents decides what a model answers",
        above(f"conflict changes: {PLAIN}", by=BIASED),
        f"the answer to more than {BIASED:.0%} of the questions about documents that contradict each other depends "
        "on their order, lower end of the interval included",
        why="documents that say different things about one key leave the choice to the model, and 10 % is well above "
        "what prompts without contradiction show",
        where="abstract",
        needs=[ABLE],
        found=_shown(f"conflict changes: {PLAIN}"),
        control=_shown(f"single changes: {PLAIN}"),
    ),
    "mask": Claim(
        "the causal mask favors distant content",
        below(f"conflict lean: {CAUSAL}"),
        "with positions by importance and the causal mask kept, the farther of two documents is believed more: lean "
        "below 0, interval included",
        why="what is left of the bias when only the mask knows the order is the mask's",
        where="abstract",
        needs=[ABLE],
        found=_shown(f"conflict lean: {CAUSAL}", unit="nats"),
        control=_leaning(CAUSAL),
    ),
    "rotary": Claim(
        "rotary positions favor nearby content",
        above(f"conflict lean: {GIVEN}"),
        "with the mask opened and positions as given, the nearer of two documents is believed more: lean above 0, "
        "interval included",
        why="what is left of the bias when only positions know the order is theirs",
        where="abstract",
        needs=[ABLE],
        found=_shown(f"conflict lean: {GIVEN}", unit="nats"),
        control=_leaning(GIVEN),
    ),
    "invariant": Claim(
        "with PINE the output is the same for every order",
        _far_apart(f"conflict spread: {PINE}", _without_a_part),
        f"no log-probability differs by {EQUAL:g} or more between two orders, and without either part some differ "
        f"at least {APART:g} times as much as with PINE",
        paper="the same",
        why="float32 runs on permuted prompts differ by 1e-5 to 1e-4 here; a wrong order of positions by whole nats",
        where="the method",
        found=lambda c: c.numbers[f"conflict spread: {PINE}"],
        control=lambda c: (
            f"at least {_without_a_part(c):.3g} nats without a part; "
            f"the model as it is {c.numbers[f'conflict spread: {PLAIN}']:.3g} nats"
        ),
        n=lambda c: c.n(f"conflict changes: {PLAIN}"),
    ),
    "unequal": Claim(
        "also for documents of different lengths",
        _far_apart(f"unequal: {PINE}", lambda c: c.numbers[f"unequal: {PLAIN}"]),
        f"no log-probability differs by {EQUAL:g} or more between two orders, and in the model as it is some differ at "
        f"least {APART:g} times as much, on the same documents",
        why="the importance of a document is a mean over its tokens, so that its length does not matter",
        where="the method; the test is an extension of ours",
        found=lambda c: c.numbers[f"unequal: {PINE}"],
        control=lambda c: (
            f"the model as it is, on the same documents, {c.numbers[f'unequal: {PLAIN}']:.3g} nats"
        ),
        n=3,
    ),
    "one": Claim(
        "with one document PINE is the model itself",
        _far_apart("one document", lambda c: c.numbers["two documents"]),
        f"no logit differs by {EQUAL:g} or more, and with the same tokens as two documents some differ at least "
        f"{APART:g} times as much",
        why="nothing is left to be put in order; two documents are, so the edit is at work",
        where="a check of ours: it follows from the definition",
        found=lambda c: c.numbers["one document"],
        control=lambda c: f"the same tokens as two documents {c.numbers['two documents']:.3g} nats",
        n=None,
    ),
    "accuracy": Claim(
        "what is judged becomes more accurate",
        above(f"majority accuracy: {PINE}", f"majority accuracy: {PLAIN}"),
        "where two documents of three agree, the value they tell is answered in more orders than without PINE: "
        "paired difference above 0, interval included",
        paper="8 to 10 points (RewardBench reasoning)",
        why="the right answer is defined by content alone, so a bias can only harm",
        where="abstract",
        needs=[ABLE],
        found=_shown(f"majority accuracy: {PINE}", f"majority accuracy: {PLAIN}"),
        control=_controls,
    ),
    "design": Claim(
        "it matters that the important is near",
        above(f"majority accuracy: {PINE}", f"majority accuracy: {REVERSED}"),
        "that accuracy is higher than with the most important farthest: paired difference above 0, interval included",
        why="the reversed order is as invariant, so invariance alone cannot make the difference",
        where="the method; the comparison is a control of ours",
        needs=[ABLE],
        found=_shown(f"majority accuracy: {PINE}", f"majority accuracy: {REVERSED}"),
        control=lambda c: (
            f"PINE moves {c.numbers[f'majority moved: {PINE}']:.2f} nats, "
            f"{REVERSED} {c.numbers[f'majority moved: {REVERSED}']:.2f} nats"
        ),
    ),
    "kept": Claim(
        "what was answered before is still answered",
        no_worse(f"single accuracy: {PINE}", f"single accuracy: {PLAIN}", within=KEPT),
        f"accuracy where one document has the answer falls by at most {KEPT:.0%}, interval included",
        why="the unrelated task: there is no bias to take away, so any change is damage",
        where="a control of ours",
        needs=[ABLE],
        found=_shown(f"single accuracy: {PINE}", f"single accuracy: {PLAIN}"),
        control=None,
    ),
}
REPLICATION = Paper(
    name="pine",
    authors="Wang et al. 2024, arXiv:2407.01100",
    about="The answer of a language model depends on the order of documents, because of the causal mask and of rotary "
    "positions. PINE lets documents see each other and places them, for each query, by how important they are to it; "
    "the output is then the same for every order. Here documents are a few words with a key and its value: questions "
    "where two contradict each other show the bias, questions where two of three agree what it costs.",
    options=PineSizes,
    controls=(
        "bidirectional attention with positions as given: only rotary positions know the order",
        "bidirectional attention with random positions",
        "positions by importance with the causal mask kept: only the mask knows the order",
        "the most important document farthest: invariant as well, but not PINE",
        "questions that one document answers: nothing to take away",
    ),
    measure=measure,
    claims=CLAIMS,
)
