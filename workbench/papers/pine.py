"""PINE (Wang et al. 2024): position bias comes from the causal mask and rotary positions, and can be taken away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from workbench.circuits.verdicts.statistics import CHANGE, SHARE, mean_interval
from workbench.core.claims import JudgedClaim, judge, source_of, untestable
from workbench.edits.pine import Pine
from workbench.edits.rotary import rotary_of
from workbench.model.probe import probe_tokens, wiring
from workbench.papers.kinds import Findings, Replication, Setting
from workbench.papers.options import PineSizes
from workbench.papers.pine_documents import Answers, Words, in_every_order, questions, words_of
from workbench.view.pictures import Bars, Picture

# Criteria, fixed before anything was measured.
BIASED, EQUAL, APART, KEPT, ANSWERED = 0.10, 1e-3, 100.0, 0.02, 0.5
PAPER = "Wang et al. 2024, arXiv:2407.01100"
CONDITIONS: Mapping[str, dict[str, Any] | None] = {
    "the model as it is": None,
    "PINE": {},
    "bidirectional, positions as given": {"order": "given"},
    "bidirectional, random positions": {"order": "random"},
    "new positions, causal mask": {"between": "earlier"},
    "most important farthest": {"order": "reversed"},
}
PLAIN, PINE, GIVEN, RANDOM, CAUSAL, REVERSED = CONDITIONS
CRITERIA: Mapping[str, tuple[str, str, str, str]] = {
    "bias": (
        "the order of documents decides what a model answers",
        f"the answer to more than {BIASED:.0%} of the questions about documents that contradict each other depends "
        "on their order, lower end of the interval included",
        "documents that say different things about one key leave the choice to the model, and 10 % is well above "
        "what prompts without contradiction show",
        "abstract",
    ),
    "mask": (
        "the causal mask favors distant content",
        "with positions by importance and the causal mask kept, the farther of two documents is believed more: lean "
        "below 0, interval included",
        "what is left of the bias when only the mask knows the order is the mask's",
        "abstract",
    ),
    "rotary": (
        "rotary positions favor nearby content",
        "with the mask opened and positions as given, the nearer of two documents is believed more: lean above 0, "
        "interval included",
        "what is left of the bias when only positions know the order is theirs",
        "abstract",
    ),
    "invariant": (
        "with PINE the output is the same for every order",
        f"no log-probability differs by {EQUAL:g} or more between two orders, and without either part some differ "
        f"at least {APART:g} times as much as with PINE",
        "float32 runs on permuted prompts differ by 1e-5 to 1e-4 here; a wrong order of positions by whole nats",
        "the method",
    ),
    "unequal": (
        "also for documents of different lengths",
        f"no log-probability differs by {EQUAL:g} or more between two orders, and in the model as it is some differ at "
        f"least {APART:g} times as much, on the same documents",
        "the importance of a document is a mean over its tokens, so that its length does not matter",
        "the method; the test is an extension of ours",
    ),
    "one": (
        "with one document PINE is the model itself",
        f"no logit differs by {EQUAL:g} or more, and with the same tokens as two documents some differ at least "
        f"{APART:g} times as much",
        "nothing is left to be put in order; two documents are, so the edit is at work",
        "a check of ours: it follows from the definition",
    ),
    "accuracy": (
        "what is judged becomes more accurate",
        "where two documents of three agree, the value they tell is answered in more orders than without PINE: "
        "paired difference above 0, interval included",
        "the right answer is defined by content alone, so a bias can only harm",
        "abstract",
    ),
    "design": (
        "it matters that the important is near",
        "that accuracy is higher than with the most important farthest: paired difference above 0, interval included",
        "the reversed order is as invariant, so invariance alone cannot make the difference",
        "the method; the comparison is a control of ours",
    ),
    "kept": (
        "what was answered before is still answered",
        f"accuracy where one document has the answer falls by at most {KEPT:.0%}, interval included",
        "the unrelated task: there is no bias to take away, so any change is damage",
        "a control of ours",
    ),
}


def run(setting: Setting) -> Findings:
    """Questions about documents in every order, with PINE and with one part of it at a time.

    Raises:
        ModelError: for models whose positions are not rotary, with the reason.
    """
    options: PineSizes = setting.options
    rotary_of(setting.model, wiring(setting.model).attention_layers[0])  # refused before anything is measured
    words = words_of(setting.model, seed=setting.seed)
    found = _measure(setting, words, options)
    unequal = _unequal(setting, words, options)
    alone = _alone(setting)
    return Findings(
        claims=_claims(found, unequal, alone),
        tables={"Every kind of question, with and without": _rows(found)},
        pictures=_pictures(found),
        numbers={
            "known words": words.known,
            "conditions": {f"{kind}: {name}": _numbers(found, kind, name) for kind, name in found},
            "unequal documents, largest difference": dict(zip(("PINE", "as it is"), unequal, strict=True)),
            "largest difference by PINE": dict(zip(("one document", "two"), alone, strict=True)),
        },
    )


def _measure(setting: Setting, words: Words, options: PineSizes) -> dict[tuple[str, str], Answers]:
    """Every kind of question under every condition; questions of one kind are the same in all."""
    counts = {"conflict": options.conflicts, "majority": options.majorities, "single": options.singles}
    sizes = (options.size,) * options.documents
    orders = int(np.prod(range(1, options.documents + 1)))
    total, done = sum(counts.values()) * len(CONDITIONS) * orders, 0
    found = {}

    def advance(n: int) -> None:
        nonlocal done
        done += n
        setting.progress(done, total, "prompts")

    for kind, n in counts.items():
        asked = questions(words, kind, n=n, sizes=sizes, seed=setting.seed)
        for name, chosen in CONDITIONS.items():
            chosen = chosen if chosen is None or name != RANDOM else {**chosen, "seed": setting.seed}
            found[kind, name] = in_every_order(setting.model, words, asked, chosen, advance=advance)
    return found


def _unequal(setting: Setting, words: Words, options: PineSizes) -> tuple[float, float]:
    """Largest difference between orders of documents of other lengths, in nats: with PINE, and as the model is."""
    sizes = tuple(options.size - 2 + 2 * i for i in range(3))
    asked = questions(words, "conflict", n=3, sizes=sizes, seed=setting.seed + 1)
    made = (
        max(float(in_every_order(setting.model, words, (q,), chosen).spread.max()) for q in asked)
        for chosen in (CONDITIONS[PINE], CONDITIONS[PLAIN])
    )
    return next(made), next(made)


@torch.no_grad()
def _alone(setting: Setting) -> tuple[float, float]:
    """Largest difference of a logit that PINE makes: over a single document, and over the same tokens as two."""
    ids = probe_tokens(setting.model)
    plain, end = setting.model(ids), ids.shape[1] - 1

    def moved(documents: tuple[tuple[int, int], ...]) -> float:
        with Pine(documents=documents).on(setting.model):
            return float((setting.model(ids) - plain).abs().max())

    return moved(((1, end),)), moved(((1, end // 2), (end // 2, end)))


def moved(answers: Answers, plain: Answers) -> float:
    """How far a condition moves what is believed: mean change of the log-probability of right over wrong, in nats."""
    return float(np.abs(answers.difference - plain.difference).mean())


def _claims(
    found: Mapping[tuple[str, str], Answers], unequal: tuple[float, float], alone: tuple[float, float]
) -> tuple[JudgedClaim, ...]:
    def pick(kind: str) -> dict[str, Answers]:
        return {name: found[kind, name] for name in CONDITIONS}

    conflict, majority, single = pick("conflict"), pick("majority"), pick("single")
    answered = float(single[PLAIN].accuracy.mean())
    why = (
        f"the model finds a value in one of the documents in {answered:.0%} of the prompts; half is asked for"
    )
    able = answered >= ANSWERED
    changes = mean_interval(conflict[PLAIN].changes, within=SHARE)
    leans = {name: mean_interval(conflict[name].lean) for name in (PLAIN, CAUSAL, GIVEN)}
    spread = {name: float(answers.spread.max()) for name, answers in conflict.items()}
    parts = min(spread[GIVEN], spread[CAUSAL], spread[RANDOM])
    gain = majority[PINE].accuracy - majority[PLAIN].accuracy
    near = majority[PINE].accuracy - majority[REVERSED].accuracy
    kept = single[PINE].accuracy - single[PLAIN].accuracy

    def shown(
        values: np.ndarray, within: tuple[float, float] | None = CHANGE, unit: str = "of questions"
    ) -> str:
        low, high, _ = mean_interval(values, within=within)
        return f"{values.mean():.3f} ({low:.3f} to {high:.3f}) {unit}"

    n = len(conflict[PLAIN].changes)
    tested = {
        "bias": (
            changes.low > BIASED,
            shown(conflict[PLAIN].changes, SHARE),
            shown(single[PLAIN].changes, SHARE),
            n,
        ),
        "mask": (
            leans[CAUSAL].high < 0,
            shown(conflict[CAUSAL].lean, None, "nats"),
            _leaning(conflict, CAUSAL),
            n,
        ),
        "rotary": (
            leans[GIVEN].low > 0,
            shown(conflict[GIVEN].lean, None, "nats"),
            _leaning(conflict, GIVEN),
            n,
        ),
        "invariant": (
            spread[PINE] < EQUAL and parts >= APART * spread[PINE],
            spread[PINE],
            f"at least {parts:.3g} nats without a part; the model as it is {spread[PLAIN]:.3g} nats",
            n,
        ),
        "unequal": (
            unequal[0] < EQUAL and unequal[1] >= APART * unequal[0],
            unequal[0],
            f"the model as it is, on the same documents, {unequal[1]:.3g} nats",
            3,
        ),
        "one": (
            alone[0] < EQUAL and alone[1] >= APART * alone[0],
            alone[0],
            f"the same tokens as two documents {alone[1]:.3g} nats",
            None,
        ),
        "accuracy": (mean_interval(gain, within=CHANGE).low > 0, shown(gain), _controls(majority), len(gain)),
        "design": (
            mean_interval(near, within=CHANGE).low > 0,
            shown(near),
            f"PINE moves {moved(majority[PINE], majority[PLAIN]):.2f} nats, "
            f"{REVERSED} {moved(majority[REVERSED], majority[PLAIN]):.2f} nats",
            len(near),
        ),
        "kept": (mean_interval(kept, within=CHANGE).low >= -KEPT, shown(kept), None, len(kept)),
    }
    needs_answers = {"bias", "mask", "rotary", "accuracy", "design", "kept"}
    papers = {"accuracy": "8 to 10 points (RewardBench reasoning)", "invariant": "the same"}
    claims = []
    for key, (holds, value, control, count) in tested.items():
        text, criterion, reason, where = CRITERIA[key]
        fixed = {"reason": reason, "source": source_of(PAPER, where), "paper": papers.get(key)}
        if key in needs_answers and not able:
            claims.append(untestable(text, criterion, why, **fixed))
        else:
            claims.append(judge(text, criterion, bool(holds), found=value, control=control, n=count, **fixed))
    return tuple(claims)


def _leaning(conflict: Mapping[str, Answers], name: str) -> str:
    """The lean of the model as it is and of PINE, where nothing knows the order, and how far each condition moves."""
    plain, pine = (float(conflict[one].lean.mean()) for one in (PLAIN, PINE))
    far, whole = (moved(conflict[one], conflict[PLAIN]) for one in (name, PINE))
    return f"as it is {plain:+.3f}, PINE {pine:+.3f}; moves {far:.2f} nats, PINE {whole:.2f} nats"


def _controls(majority: Mapping[str, Answers]) -> str:
    """Accuracy of the model as it is, what each control gains, and how far it moves beside PINE."""
    plain = majority[PLAIN]
    gains = [
        f"{name} {(majority[name].accuracy - plain.accuracy).mean():+.3f}, {moved(majority[name], plain):.2f} nats"
        for name in (GIVEN, RANDOM, CAUSAL, REVERSED)
    ]
    by_pine = f"PINE moves {moved(majority[PINE], plain):.2f} nats"
    return f"as it is {plain.accuracy.mean():.3f}; {by_pine}; " + "; ".join(gains)


def _numbers(found: Mapping[tuple[str, str], Answers], kind: str, name: str) -> dict[str, Any]:
    answers = found[kind, name]
    return {
        "accuracy, share": float(answers.accuracy.mean()),
        "right in every order, share": float(answers.always.mean()),
        "answer depends on order, share": float(answers.changes.mean()),
        "lean to the nearer (above 0) or farther, nats": float(answers.lean.mean())
        if kind == "conflict"
        else None,  # else one side is right
        "largest difference between orders, nats": float(answers.spread.max()),
        "moved from the model as it is, nats": moved(answers, found[kind, PLAIN]),
        "n": len(answers.accuracy),
    }


def _rows(found: Mapping[tuple[str, str], Answers]) -> list[dict[str, Any]]:
    return [{"questions": kind, "condition": name, **_numbers(found, kind, name)} for kind, name in found]


def _pictures(found: Mapping[tuple[str, str], Answers]) -> dict[str, Picture]:
    def bars(kind: str, what: str, unit: str) -> Bars:
        made = []
        for name in CONDITIONS:
            values = getattr(found[kind, name], what)
            low, high, _ = mean_interval(values, within=None if what == "lean" else SHARE)
            made.append((name, float(values.mean()), low, high, f"{values.mean():.3f}"))
        return Bars.of(made, x_label=unit, width=720)

    return {
        "Documents contradict each other: whose word is taken (above 0: the nearer)": bars(
            "conflict", "lean", "lean, nats; above 0: to the nearer document"
        ),
        "Documents contradict each other: the answer depends on their order": bars(
            "conflict", "changes", "share of questions, 0 is best"
        ),
        "Two of three agree: accuracy over all orders": bars(
            "majority", "accuracy", "accuracy, share of answers that are right"
        ),
    }


REPLICATION = Replication(
    name="pine",
    about=(
        "The answer of a language model depends on the order of documents, because of the causal mask and of rotary "
        "positions. PINE lets documents see each other and places them, for each query, by how important they are to "
        "it; the output is then the same for every order. Here documents are a few words with a key and its value: "
        "questions where two contradict each other show the bias, questions where two of three agree what it costs."
    ),
    options=PineSizes,
    controls=(
        "bidirectional attention with positions as given: only rotary positions know the order",
        "bidirectional attention with random positions",
        "positions by importance with the causal mask kept: only the mask knows the order",
        "the most important document farthest: invariant as well, but not PINE",
        "questions that one document answers: nothing to take away",
    ),
    run=run,
)
