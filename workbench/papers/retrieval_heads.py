"""Retrieval heads (Wu et al. 2024): few heads copy from far back, and without them the needle is lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from workbench.circuits.verdicts.statistics import CHANGE, SHARE, at_least, holm, mean_interval
from workbench.core.claims import JudgedClaim, PaperClaims
from workbench.heads.retrieval import RetrievalScores
from workbench.papers.kinds import Findings, Replication, Setting
from workbench.papers.options import RetrievalSizes
from workbench.papers.retrieval_heads_masking import keep_freed
from workbench.papers.retrieval_heads_measures import (
    Masked,
    by_number,
    contexts_of,
    correlation,
    drawn,
    facts,
    grid,
    invented,
    masking,
    neighbors,
    scored,
    share_interval,
    ways,
)
from workbench.papers.retrieval_heads_pictures import pictures

# Criteria, fixed before anything was measured.
SPARSE, SILENT, STRONG = 0.05, 0.45, 0.5
SAME, FOREIGN = 0.8, 0.1
HALF, BARELY, ALPHA = 0.5, 0.05, 0.05
ANSWERED = 0.5  # a model that answers fewer needles has nothing to be scored on
PAPER = "Wu et al. 2024, arXiv:2404.15574"

CRITERIA: Mapping[str, tuple[str, str, str, str]] = {  # claim, criterion, reason, where in the paper
    "sparse": (
        "retrieval heads are few",
        f"less than {SPARSE:.0%} of all heads have a retrieval score of at least the threshold",
        "the paper's own words; its models have 3 to 6 %",
        "abstract, property 2",
    ),
    "silent": (
        "most other heads never copy",
        f"at least {SILENT:.0%} of all heads have a score of exactly 0",
        "the lowest of the paper's models has 45 %",
        "section 3.1",
    ),
    "strong": (
        "very few heads copy most of the needle",
        f"at least one head and less than {SPARSE:.0%} of all have a score above {STRONG:g}",
        "the paper's words",
        "section 3.1",
    ),
    "universal": (
        "every model that retrieves has retrieval heads",
        "each built-in model that answers at least half of its needles has a head at the threshold",
        "a single counterexample would refute it; models that do not answer are left out, as in the paper",
        "abstract, property 1",
    ),
    "intrinsic": (
        "a model made from another one by further training has the same retrieval heads",
        f"r of the two models' scores above {SAME:g}, lower end of the interval included, and p < {ALPHA:g} against "
        "heads shuffled within layers",
        "the paper's number; the shuffle asks for heads, not for layers",
        "section 3.3",
    ),
    "foreign": (
        "models of other origin have other retrieval heads",
        f"r of the scores with a model of the same shape from another seed below {FOREIGN:g}",
        "the paper's number across families; another seed is the closest stranger there is",
        "section 3.3",
    ),
    "dynamic": (
        "some retrieval heads are always active, others depend on the text",
        "a head at the threshold copies in every sample, and another one in less than 95 % of them",
        "always means always; 5 % of samples is more than chance",
        "section 3.2",
    ),
    "loss": (
        "without the top 5 % of heads the needle is lost",
        f"recall of new needles below {HALF:.0%} with them masked, upper end of the interval included",
        "the paper's number for its top 50 heads, about 5 %",
        "section 4.1",
    ),
    "causal": (
        "random heads do not matter so much",
        f"of matched random sets less than {ALPHA:.0%} do as much harm, and the extra loss is above 0 in 95 % of "
        "resamples",
        "sets of as many heads in the same layers, none of them among twice as many top heads (the paper's rule)",
        "section 4.1",
    ),
    "lengths": (
        "at every length of the text",
        f"in each context more samples lose more than under matched masks than not (sign test, Holm, p < {ALPHA:g})",
        "an effect of one length alone would be of position, not of retrieval",
        "an extension of ours: the paper shows lengths and depths in one grid and tests none by itself",
    ),
    "memory": (
        "what is answered from memory barely moves",
        f"facts lose at most {BARELY:.0%} of recall, and less than needles do, in 95 % of resamples",
        "an unrelated task with the same answer words in the same texts; all twenty facts that the weights know, each "
        "after several texts, so that the interval is over texts (with fewer than 73 prompts it could not hold)",
        "section 4.2",
    ),
    "invented": (
        "without retrieval heads the model makes things up in the right form",
        "at least 90 % of the wrong tokens are numbers, and fewer than half of them stand in the text",
        "made up: of the right kind and from nowhere",
        "section 4.1",
    ),
    "extractive": (
        "extractive question answering gets worse",
        "F1 on passages falls more than under random masks",
        "as in the paper",
        "section 4.2",
    ),
    "reasoning": (
        "reasoning in steps gets worse, because it reads what was written before",
        "accuracy with written steps falls more than without",
        "as in the paper",
        "section 4.3",
    ),
}
PAPERS = {
    "sparse": "3-6 %",
    "silent": "45-73 %",
    "strong": "under 5 %",
    "intrinsic": "above 0.8",
    "foreign": "below 0.1",
    "dynamic": "12 of 33 always (Llama-2-7B-80K)",
    "loss": "below 50 %",
    "extractive": "F1 -9.2 % and -23.1 %",
}
CLAIMS = PaperClaims(paper=PAPER, criteria=CRITERIA, numbers=PAPERS)


def run(setting: Setting) -> Findings:
    """Every claim, on prompts of the key-value task or, where the model does not know it, of random tokens."""
    options: RetrievalSizes = setting.options
    keep_freed()
    scores = scored(setting.model, options, seed=setting.seed)
    answered = float(scores.counted.mean())
    if answered < ANSWERED:
        why = f"the model answers {answered:.0%} of the needles; nothing is copied, so nothing can be scored"
        return Findings(
            claims=tuple(CLAIMS.untestable(key, why) for key in CRITERIA), numbers={"answered": answered}
        )
    contexts = contexts_of(setting.model, options)
    tests = [
        sample
        for context in contexts
        for sample in drawn(
            setting.model, options, n=options.evaluated, context=context, seed=setting.seed + 1
        )
    ]
    masked = masking(setting, scores, tests)
    others = neighbors(setting, scores)
    remembered = facts(setting, scores, tests)
    made_up = invented(setting.model, masked)
    known_to_all = scored(
        setting.model, options, seed=setting.seed, most=120
    )  # texts that its relatives know too
    related = {
        role: correlation(known_to_all, others[getattr(options, role)], seed=setting.seed)
        for role in ("derived", "other")
    }
    claims = (
        *_of_scores(scores, setting),
        _universal(others),
        _intrinsic(related["derived"], options.derived),
        _foreign(related["other"], options.other),
        dynamic(scores, options.threshold),
        lost(masked),
        causal(masked),
        lengths(masked),
        memory(masked, remembered),
        _invented(made_up),
        CLAIMS.untestable("extractive", "no built-in model reads prose and answers questions about it"),
        CLAIMS.untestable("reasoning", "no built-in model reasons in written steps"),
    )
    short = [s for s in tests if s.context <= 128]
    tables = {
        "Heads by retrieval score": scores.to_rows()[:16],
        "Masking by context": _by_context(masked),
        'What "masked" means': ways(setting, scores, short),
        "How many heads are masked": (numbers := by_number(setting, scores, short)),
        "Models": _model_rows(others, options),
    }
    cells = grid(setting, scores, masked.draws[0])
    return Findings(
        claims=claims,
        tables=tables,
        pictures=pictures(scores, masked, cells, numbers, others, options),
        numbers={
            "answered": answered,
            "top": list(masked.top),
            "correlation": related,
            "made up": made_up,
            "p of matched heads": masked.p,
        },
    )


def _of_scores(scores: RetrievalScores, setting: Setting) -> list[JudgedClaim]:
    """Sparse, silent, strong; each with the number of heads behind it."""
    threshold, size = setting.options.threshold, scores.score.size
    few = float((scores.score >= threshold).mean())
    low, high = share_interval(scores, threshold, seed=setting.seed)
    zero, strong = float((scores.score == 0).mean()), int((scores.score > STRONG).sum())
    chance = f"{np.mean([1 / len(s.prompt) for s in scores.samples]):.3f} (a head that looks anywhere)"
    too_few = f"the model has {size} heads: one of them is {1 / size:.0%} already"
    if SPARSE * size <= 1:
        return [
            CLAIMS.untestable("sparse", too_few),
            CLAIMS.judge("silent", zero >= SILENT, zero, n=size),
            CLAIMS.untestable("strong", too_few),
        ]
    return [
        CLAIMS.judge("sparse", few < SPARSE, f"{few:.1%} [{low:.1%}, {high:.1%}]", n=size, control=chance),
        CLAIMS.judge("silent", zero >= SILENT, f"{zero:.0%}", n=size),
        CLAIMS.judge("strong", 0 < strong < SPARSE * size, f"{strong} of {size}", n=size),
    ]


def _universal(others: Mapping[str, RetrievalScores | str], threshold: float = 0.1) -> JudgedClaim:
    """Over the models that answer; those that do not are named."""
    scored_ = {n: s for n, s in others.items() if not isinstance(s, str) and s.counted.mean() >= ANSWERED}
    have = {name: len(s.heads(threshold)) for name, s in scored_.items()}
    told = ", ".join(f"{name} {count} of {scored_[name].score.size}" for name, count in have.items())
    return CLAIMS.judge("universal", all(have.values()), told, n=len(have))


def _intrinsic(found: Mapping[str, Any] | str, name: str) -> JudgedClaim:
    if isinstance(found, str):
        return CLAIMS.untestable("intrinsic", f"{name}: {found}")
    holds = found["low"] > SAME and found["p"] < ALPHA
    return CLAIMS.judge("intrinsic", holds, _r(found), control=found["r of layers alone"])


def _foreign(found: Mapping[str, Any] | str, name: str) -> JudgedClaim:
    if isinstance(found, str):
        return CLAIMS.untestable("foreign", f"{name}: {found}")
    return CLAIMS.judge("foreign", found["r"] < FOREIGN, _r(found), control=found["r of layers alone"])


def _r(found: Mapping[str, Any]) -> str:
    return f"{found['r']:.2f} [{found['low']:.2f}, {found['high']:.2f}], p {found['p']:.3g}"


def dynamic(scores: RetrievalScores, threshold: float) -> JudgedClaim:
    """Needs two retrieval heads at least."""
    active = scores.frequency[scores.score >= threshold]
    if active.size < 2:
        return CLAIMS.untestable(
            "dynamic", f"the model has {active.size} retrieval heads; two are needed to differ"
        )
    always, sometimes = int((active == 1).sum()), int((active < 0.95).sum())
    told = f"{always} always, {sometimes} below 95 %, of {active.size}"
    return CLAIMS.judge("dynamic", always > 0 and sometimes > 0, told, n=int(scores.counted.sum()))


def lost(masked: Masked) -> JudgedClaim:
    high = mean_interval(masked.masked, within=SHARE).high
    told = f"{masked.masked.mean():.0%} (at most {high:.0%}; unmasked {masked.plain.mean():.0%})"
    control = f"{masked.random.mean():.0%} with matched heads masked"
    return CLAIMS.judge("loss", high < HALF, told, control=control, n=len(masked.plain))


def causal(masked: Masked) -> JudgedClaim:
    extra = mean_interval(masked.extra, within=CHANGE)
    told = f"{masked.extra.mean():.0%} more [{extra.low:.0%}, {extra.high:.0%}], p {masked.p:.3g}"
    control = f"worst of {len(masked.draws)} matched sets: recall {masked.random.mean(1).min():.0%}"
    if 1 / (1 + len(masked.draws)) >= ALPHA:
        return CLAIMS.untestable("causal", f"only {len(masked.draws)} different matched sets exist")
    return CLAIMS.judge(
        "causal", masked.p < ALPHA and extra.low > 0, told, control=control, n=len(masked.plain)
    )


def lengths(masked: Masked) -> JudgedClaim:
    """One sign test per context, corrected together."""
    rows = _by_context(masked)
    ps = holm([row["p"] for row in rows])
    told = ", ".join(f"{row['context']}: {row['lost beyond matched']:.0%}" for row in rows)
    return CLAIMS.judge(
        "lengths", bool((ps < ALPHA).all()), f"{told}; largest p {ps.max():.3g}", n=len(masked.plain)
    )


def _by_context(masked: Masked) -> list[dict[str, Any]]:
    contexts = np.array([s.context for s in masked.samples])
    rows = []
    for context in sorted(set(contexts.tolist())):
        at = contexts == context
        moved = masked.extra[at][masked.extra[at] != 0]  # ties say nothing
        rows.append(
            {
                "context": context,
                "unmasked": masked.plain[at].mean(),
                "top heads masked": masked.masked[at].mean(),
                "matched heads masked": masked.random[:, at].mean(),
                "lost beyond matched": masked.extra[at].mean(),
                "p": at_least(int((moved > 0).sum()), len(moved), 0.5) if len(moved) else 1.0,
                "n": int(at.sum()),
            }
        )
    return rows


def memory(masked: Masked, facts_: Masked | str) -> JudgedClaim:
    """Facts against needles, both with the same heads masked."""
    if isinstance(facts_, str):
        return CLAIMS.untestable("memory", facts_)
    fall, needle = facts_.plain - facts_.masked, masked.plain - masked.masked
    high = mean_interval(fall, within=CHANGE).high
    low = mean_interval(needle, within=CHANGE).low
    told = f"facts lose {fall.mean():.0%} (at most {high:.0%})"
    holds = high <= BARELY and high < low
    return CLAIMS.judge("memory", holds, told, control=f"needles lose {needle.mean():.0%}", n=len(fall))


def _invented(found: Mapping[str, float]) -> JudgedClaim:
    if "numbers" not in found or found["wrong"] < 10:
        return CLAIMS.untestable(
            "invented", f"{found['wrong']:.0f} wrong tokens with the top heads masked; 10 are needed"
        )
    holds = found["numbers"] >= 0.9 and found["in the text"] < 0.5
    told = f"{found['numbers']:.0%} numbers, {found['in the text']:.0%} stand in the text"
    return CLAIMS.judge("invented", holds, told, n=int(found["wrong"]))


def _model_rows(others: Mapping[str, RetrievalScores | str], options: RetrievalSizes) -> list[dict[str, Any]]:
    rows = []
    for name, scores in others.items():
        if isinstance(scores, str):
            rows.append({"model": name, "note": scores})
            continue
        heads = scores.heads(options.threshold)
        rows.append(
            {
                "model": name,
                "answers": scores.counted.mean(),
                "heads": scores.score.size,
                "at the threshold": len(heads),
                "which": ", ".join(heads[:6]),
                "highest": float(np.nanmax(np.nan_to_num(scores.score))),
            }
        )
    return rows


_RUN: Callable[[Setting], Findings] = run
REPLICATION = Replication(
    name="retrieval-heads",
    about="A few heads copy what a long text said earlier; masking them loses the needle, masking others does not. "
    "Here the needle is a key's three values among fillers; heads are scored while the model writes the answer, masked "
    "as in the paper's code (uniform attention, while decoding), and compared with random heads of the same layers, "
    "on other prompts than they were selected on.",
    options=RetrievalSizes,
    controls=(
        "random heads: as many in each layer, none among twice as many top heads, many draws",
        "facts: answered with the same words after the same texts, from memory",
        "scores shuffled among the heads of each layer, for correlations between models",
        "--set masked=random or masked=lowest: other heads masked as if they were the top ones; the causal claims fail",
        "zoo:truth-induction: an idle head with the induction head's pattern has the same score and no effect",
    ),
    run=_RUN,
)
