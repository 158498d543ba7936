"""What is measured for the claims about retrieval heads: scores, masking, models beside each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.circuits.addresses import parse_node
from workbench.circuits.verdicts.statistics import resamples
from workbench.core.errors import WorkbenchError
from workbench.core.stats.agreement import pearson
from workbench.heads.retrieval import Needle, RetrievalScores, retrieval_scores
from workbench.papers.kinds import Setting
from workbench.papers.options import RetrievalSizes
from workbench.papers.retrieval_heads_masking import (
    Mode,
    answers,
    cells,
    mask,
    matched_heads,
    recalls,
)
from workbench.papers.retrieval_heads_needles import fact_questions, knows_task, longest, needles
from workbench.tasks.words import TWO_DIGITS

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Cells = dict[tuple[int, int], np.ndarray]
FACTS = 80  # questions: twenty facts, each after four texts


@dataclass(frozen=True, kw_only=True)
class Masked:
    """Recall with nothing, the top heads and matched random heads masked.

    Attributes:
        top: The heads masked as top heads.
        draws: Sets of matched heads.
        plain, masked: One recall per sample.
        random: Recall per draw and sample.
        texts: What was written with the top heads masked.
    """

    top: tuple[str, ...]
    draws: list[tuple[str, ...]]
    samples: Sequence[Any]
    plain: np.ndarray
    masked: np.ndarray
    random: np.ndarray
    texts: list[list[int]]

    @property
    def p(self) -> float:
        """How likely a matched random set does as much harm."""
        means = self.random.mean(1)
        return float((1 + (means <= self.masked.mean() + 1e-12).sum()) / (1 + len(means)))

    @property
    def extra(self) -> np.ndarray:
        """What the top heads take from the recall of each sample beyond what random ones take."""
        return self.random.mean(0) - self.masked


def contexts_of(model: TransformerBridge, options: RetrievalSizes) -> tuple[int, ...]:
    """The contexts that fit the model; its longest if none does."""
    most = longest(model, options.values)
    return tuple(c for c in options.contexts if c <= most) or (most,)


def scored(
    model: TransformerBridge, options: RetrievalSizes, *, seed: int, most: int | None = None
) -> RetrievalScores:
    """Retrieval scores on prompts of all contexts that fit (up to ``most``), from combinations seen in training."""
    own = contexts_of(model, options)
    own = tuple(c for c in own if most is None or c <= most) or own[:1]
    n = -(-options.samples // len(own))
    samples = [s for c in own for s in drawn(model, options, n=n, context=c, split="train", seed=seed)]
    return retrieval_scores(model, samples, count=options.count)


def drawn(
    model: TransformerBridge, options: RetrievalSizes, *, n: int, context: int, **more: Any
) -> tuple[Needle, ...]:
    return needles(model, n=n, context=context, values=options.values, keys=options.keys, **more)


def top_heads(scores: RetrievalScores, options: RetrievalSizes) -> tuple[str, ...]:
    """A twentieth of all heads, at least one: those with the highest scores, or what a control masks instead."""
    k = max(1, round(0.05 * scores.score.size))
    ranked = [name for name, _ in scores.ranked()]
    if options.masked == "retrieval":
        return tuple(ranked[:k])
    if options.masked == "lowest":
        return tuple(ranked[-k:])
    return matched_heads(ranked[:k], rest(scores, ranked[:k]), draws=1, seed=99)[0]


def rest(scores: RetrievalScores, top: Sequence[str]) -> list[str]:
    """Heads to draw random sets from: all but ``top`` and as many again from the head of the ranking.

    The paper masks up to 50 heads and draws from those after the first 100. In a layer with too few of these, all but
    ``top`` are drawn from.
    """
    ranked = [name for name, _ in scores.ranked()]
    later = [head for head in ranked[2 * len(top) :] if head not in top]
    there, wanted = (Counter(parse_node(head).layer for head in heads) for heads in (later, top))
    short = {layer for layer in wanted if there[layer] < wanted[layer]}
    return [h for h in ranked if h in later or (h not in top and parse_node(h).layer in short)]


def masking(
    setting: Setting, scores: RetrievalScores, samples: Sequence[Any], *, draws: int | None = None
) -> Masked:
    """Recall on other prompts than the heads were selected on."""
    model, options = setting.model, setting.options
    top = top_heads(scores, options)
    sets = matched_heads(top, rest(scores, top), draws=draws or options.draws, seed=setting.seed)
    random = []
    for i, heads in enumerate(sets, start=1):
        random.append(recalls(model, samples, _mask(setting, heads, scores)))
        setting.progress(i, len(sets), "matched heads masked")
    edit = _mask(setting, top, scores)
    return Masked(
        top=top,
        draws=sets,
        samples=samples,
        plain=recalls(model, samples),
        masked=recalls(model, samples, edit),
        random=np.array(random),
        texts=answers(model, samples, edit),
    )


def _mask(setting: Setting, heads: Sequence[str], scores: RetrievalScores, **change: str):
    kind = {"mode": setting.options.mode, "when": setting.options.when, **change}
    return mask(setting.model, heads, reference=scores.samples[:24], **kind)


def ways(setting: Setting, scores: RetrievalScores, samples: Sequence[Needle]) -> list[dict[str, Any]]:
    """Recall for every meaning of "masked", and with one matched set for comparison."""
    top = top_heads(scores, setting.options)
    other = matched_heads(top, rest(scores, top), draws=1, seed=setting.seed)[0]
    rows = []
    modes: tuple[Mode, ...] = ("uniform", "zero", "mean")
    for mode in modes:
        for when in ("decode", "all"):
            own, random = (
                recalls(setting.model, samples, _mask(setting, heads, scores, mode=mode, when=when)).mean()
                for heads in (top, other)
            )
            rows.append(
                {"mode": mode, "when": when, "recall, top heads": own, "recall, matched heads": random}
            )
    return rows


def by_number(
    setting: Setting, scores: RetrievalScores, samples: Sequence[Needle], *, draws: int = 5
) -> list[dict[str, Any]]:
    """Recall by how many heads are masked, from the top of the ranking and at random among the rest."""
    ranked, rows = [h for h, _ in scores.ranked()], []
    below = [h for h in ranked if h not in scores.heads(setting.options.threshold)]
    rng = np.random.default_rng([setting.seed, 7])
    for k in (1, 2, 3, 5, 8, 12, 16):
        if k > len(below):
            break
        sets = [tuple(str(h) for h in rng.choice(below, k, replace=False)) for _ in range(draws)]
        random = [recalls(setting.model, samples, _mask(setting, s, scores)).mean() for s in sets]
        top = recalls(setting.model, samples, _mask(setting, ranked[:k], scores)).mean()
        rows.append(
            {
                "heads": k,
                "top": float(top),
                "random": float(np.mean(random)),
                "random, lowest": float(min(random)),
            }
        )
    return rows


def grid(setting: Setting, scores: RetrievalScores, other: Sequence[str]) -> Mapping[str, Cells]:
    """Recall by context and depth: nothing, the top heads, one matched set masked."""
    options, model = setting.options, setting.model
    depths = options.depths if knows_task(model) else (-1,)
    samples = {
        (context, depth): drawn(
            model, options, n=options.cell, context=context, depth=depth, seed=setting.seed + 50
        )
        for context in contexts_of(model, options)
        for depth in depths
    }
    top = top_heads(scores, options)
    edits = {"nothing masked": None, "top heads masked": _mask(setting, top, scores)}
    edits["matched heads masked"] = _mask(setting, other, scores)
    return {name: cells(samples, model, edit) for name, edit in edits.items()}


def facts(setting: Setting, scores: RetrievalScores, samples: Sequence[Needle]) -> Masked | str:
    """The same with questions that are answered from memory, or why there are none."""
    try:
        asked = fact_questions(setting.model, samples, n=FACTS)
    except WorkbenchError as problem:
        return problem.message
    plain = recalls(setting.model, asked)
    if plain.mean() < 0.5:
        return f"the model answers {plain.mean():.0%} of the questions about facts"
    return masking(setting, scores, asked, draws=1)  # facts are compared with needles, not with matched heads


def neighbors(setting: Setting, own: RetrievalScores) -> dict[str, RetrievalScores | str]:
    """Scores of the other models, on prompts of lengths that they know; or why there are none."""
    found: dict[str, RetrievalScores | str] = {setting.name: own}
    for name in dict.fromkeys((setting.options.derived, setting.options.other, *setting.options.models)):
        if name in found:
            continue
        try:
            found[name] = scored(setting.open(name), setting.options, seed=setting.seed, most=120)
        except WorkbenchError as problem:
            found[name] = problem.message
    return found


def correlation(
    here: RetrievalScores, there: RetrievalScores | str, *, seed: int, draws: int = 2000
) -> dict[str, Any] | str:
    """Pearson's r of two models' scores head by head, with a permutation test of heads within their layer.

    Within the layer: which layer retrieves is no news about heads. Or why there is none.
    """
    if isinstance(there, str):
        return there
    if here.score.shape != there.score.shape:
        return (
            f"{here.score.shape[0]} layers of {here.score.shape[1]} heads against {there.score.shape[0]} of "
            f"{there.score.shape[1]}: heads have no counterparts"
        )
    if not (here.counted.any() and there.counted.any()):
        return "one of the models answers no needle"
    a, b = here.score, there.score
    r = pearson(a.ravel(), b.ravel())
    rng = np.random.default_rng([seed, 3])
    null = np.array([pearson(a.ravel(), rng.permuted(b, axis=1).ravel()) for _ in range(draws)])
    low, high = _interval(here, there, seed)
    return {
        "r": r,
        "low": low,
        "high": high,
        "p": float((1 + (null >= r - 1e-12).sum()) / (1 + draws)),
        "r of layers alone": float(null.mean()),
    }


def _interval(here: RetrievalScores, there: RetrievalScores, seed: int) -> tuple[float, float]:
    """95 % interval of r over resamples of the prompts of each model."""
    sides = [s.per_sample[s.counted] for s in (here, there)]
    drawn_ = [resamples(len(side), draws=500, seed=seed + i) for i, side in enumerate(sides)]
    found = [
        pearson(*(side[index[k]].mean(0).ravel() for side, index in zip(sides, drawn_, strict=True)))
        for k in range(500)
    ]
    low, high = np.nanpercentile(found, [2.5, 97.5])
    return float(low), float(high)


def share_interval(scores: RetrievalScores, threshold: float, *, seed: int) -> tuple[float, float]:
    """95 % interval, over resamples of the prompts, of the share of heads that reach the threshold."""
    kept = scores.per_sample[scores.counted]
    found = [
        (kept[index].mean(0) >= threshold).mean() for index in resamples(len(kept), draws=1000, seed=seed)
    ]
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


def invented(model: TransformerBridge, masked: Masked) -> dict[str, float]:
    """Of the wrong tokens written with the top heads masked: how many are numbers, how many stand in the text."""
    numbers = set(model.tokenizer.convert_tokens_to_ids(list(TWO_DIGITS))) if knows_task(model) else set()
    wrong = [
        (token, sample.prompt)
        for tokens, sample in zip(masked.texts, masked.samples, strict=True)
        for token in tokens
        if token not in sample.answer
    ]
    if not wrong or not numbers:
        return {"wrong": float(len(wrong))}
    return {
        "wrong": float(len(wrong)),
        "numbers": float(np.mean([token in numbers for token, _ in wrong])),
        "in the text": float(np.mean([token in prompt for token, prompt in wrong])),
    }
