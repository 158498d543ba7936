"""Retrieval heads (Wu et al. 2024): few heads copy from far back, and without them the needle is lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.errors import WorkbenchError
from workbench.core.stats.matched import layer_of, matched_heads
from workbench.core.stats.multiplicity import holm
from workbench.core.stats.permutation import sign_test_p
from workbench.edits.masked_heads import answers, cells, keep_freed, mask, recalls
from workbench.heads.alike import correlation, rest, share_interval
from workbench.heads.retrieval import Needle, RetrievalScores, recall_of, retrieval_scores
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, above, beats_draws, below, fact, needs
from workbench.papers.options import RetrievalSizes
from workbench.tasks.words import TWO_DIGITS
from workbench.training.needle_prompts import fact_questions, knows_task, longest, needles
from workbench.view.pictures import Curves, Heatmap, Picture

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

# Criteria, fixed before anything was measured.
SPARSE, SILENT, STRONG = 0.05, 0.45, 0.5
SAME, FOREIGN = 0.8, 0.1
HALF, BARELY, ALPHA = 0.5, 0.05, 0.05
ANSWERED = 0.5  # a model that answers fewer needles has nothing to be scored on
FACTS = 80  # questions: twenty facts, each after four texts
PLAIN, MASKED, RANDOM = "needles", "needles, top heads masked", "needles, matched heads masked"
KNOWN, KNOWN_MASKED = "facts", "facts, top heads masked"


def measure(setting: Setting) -> Conditions:
    """Score heads, mask them on other prompts; on the key-value task or, where it is not known, on random tokens."""
    options: RetrievalSizes = setting.options
    keep_freed()
    scores = scored(setting.model, options, seed=setting.seed)
    answered = float(scores.counted.mean())
    if answered < ANSWERED:
        why = f"the model answers {answered:.0%} of the needles; nothing is copied, so nothing can be scored"
        return Conditions(why=why, numbers={"answered": answered})
    c = Conditions(seed=setting.seed, unit="share recalled")
    tests = [
        sample
        for context in contexts_of(setting.model, options)
        for sample in _drawn(
            setting.model, options, n=options.evaluated, context=context, seed=setting.seed + 1
        )
    ]
    _of_scores(setting, c, scores)
    top, other = _of_masking(setting, c, scores, tests)
    _of_facts(setting, c, scores, tests, top)
    _of_models(setting, c, scores)
    short = [s for s in tests if s.context <= 128]
    c.tables['What "masked" means'] = _ways(setting, scores, short, top)
    c.tables["How many heads are masked"] = numbers = _by_number(setting, scores, short)
    c.pictures |= _pictures(setting, scores, top, other, numbers)
    return c


def contexts_of(model: TransformerBridge, options: RetrievalSizes) -> tuple[int, ...]:
    """The contexts that fit the model; its longest if none does."""
    most = longest(model, options.values)
    return tuple(c for c in options.contexts if c <= most) or (most,)


def _drawn(model: TransformerBridge, options: RetrievalSizes, **more: Any) -> tuple[Needle, ...]:
    return needles(model, values=options.values, keys=options.keys, **more)


def scored(
    model: TransformerBridge, options: RetrievalSizes, *, seed: int, most: int | None = None
) -> RetrievalScores:
    """Retrieval scores on prompts of all contexts that fit (up to ``most``), from combinations seen in training."""
    own = contexts_of(model, options)
    own = tuple(c for c in own if most is None or c <= most) or own[:1]
    n = -(-options.samples // len(own))
    samples = [s for c in own for s in _drawn(model, options, n=n, context=c, split="train", seed=seed)]
    return retrieval_scores(model, samples, count=options.count)


def _of_scores(setting: Setting, c: Conditions, scores: RetrievalScores) -> None:
    threshold = setting.options.threshold
    active = scores.frequency[scores.score >= threshold]
    c.numbers |= {
        "heads": scores.score.size,
        "share at the threshold": float((scores.score >= threshold).mean()),
        "its interval": share_interval(scores, threshold, seed=setting.seed),
        "share of zeros": float((scores.score == 0).mean()),
        "strong": int((scores.score > STRONG).sum()),
        "chance": float(np.mean([1 / len(s.prompt) for s in scores.samples])),
        "active": int(active.size),
        "always": int((active == 1).sum()),
        "sometimes": int((active < 0.95).sum()),
        "samples": int(scores.counted.sum()),
        "answered": float(scores.counted.mean()),
    }
    c.tables["Heads by retrieval score"] = scores.to_rows()[:16]


def top_heads(scores: RetrievalScores, options: RetrievalSizes) -> tuple[str, ...]:
    """A twentieth of all heads, at least one: those with the highest scores, or what a control masks instead."""
    k = max(1, round(0.05 * scores.score.size))
    ranked = [name for name, _ in scores.ranked()]
    if options.masked == "retrieval":
        return tuple(ranked[:k])
    return (
        tuple(ranked[-k:]) if options.masked == "lowest" else matched(scores, ranked[:k], draws=1, seed=99)[0]
    )


def matched(scores: RetrievalScores, top: Sequence[str], *, draws: int, seed: int) -> list[tuple[str, ...]]:
    """Random sets with as many heads in each layer, none among twice as many top heads where a layer has others."""
    own = sorted(top, key=layer_of)
    return matched_heads(own, rest(scores, top), draws=draws, seed=[seed, len(top)])


def _mask(setting: Setting, heads: Sequence[str], scores: RetrievalScores, **change: str):
    kind = {"mode": setting.options.mode, "when": setting.options.when, **change}
    return mask(setting.model, heads, reference=scores.samples[:24], **kind)


def _of_masking(
    setting: Setting, c: Conditions, scores: RetrievalScores, tests: Sequence[Needle]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Recall on other prompts than the heads were selected on; returns the top heads and one matched set."""
    model, top = setting.model, top_heads(scores, setting.options)
    c[PLAIN] = recalls(model, tests)
    sets, random = matched(scores, top, draws=setting.options.draws, seed=setting.seed), []
    for i, heads in enumerate(sets, start=1):
        random.append(recalls(model, tests, _mask(setting, heads, scores)))
        setting.progress(i, len(sets), "matched heads masked")
    c.draws[RANDOM] = random
    texts = answers(model, tests, _mask(setting, top, scores))
    c[MASKED] = np.array([recall_of(text, s.answer) for text, s in zip(texts, tests, strict=True)])
    c.numbers |= {
        "top": list(top),
        "contexts": [s.context for s in tests],
        "made up": invented(model, texts, tests),
    }
    c.tables["Masking by context"] = by_context(c)
    return top, sets[0]


def invented(
    model: TransformerBridge, texts: Sequence[Sequence[int]], tests: Sequence[Needle]
) -> dict[str, float]:
    """Of the wrong tokens written with the top heads masked: how many are numbers, how many stand in the text."""
    numbers = set(model.tokenizer.convert_tokens_to_ids(list(TWO_DIGITS))) if knows_task(model) else set()
    wrong = [
        (token, sample.prompt)
        for tokens, sample in zip(texts, tests, strict=True)
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


def _of_facts(
    setting: Setting, c: Conditions, scores: RetrievalScores, tests: Sequence[Needle], top: Sequence[str]
) -> None:
    """The same with questions that are answered from memory, or why there are none."""
    try:
        asked = fact_questions(setting.model, tests, n=FACTS)
    except WorkbenchError as problem:
        c.numbers["why no facts"] = problem.message
        return
    plain = recalls(setting.model, asked)
    if plain.mean() < 0.5:
        c.numbers["why no facts"] = f"the model answers {plain.mean():.0%} of the questions about facts"
        return
    c[KNOWN], c[KNOWN_MASKED] = plain, recalls(setting.model, asked, _mask(setting, top, scores))


def _of_models(setting: Setting, c: Conditions, own: RetrievalScores) -> None:
    """Scores of the other models, on prompts of lengths that they know; or why there are none."""
    options: RetrievalSizes = setting.options
    found: dict[str, RetrievalScores | str] = {setting.name: own}
    for name in dict.fromkeys((options.derived, options.other, *options.models)):
        if name in found:
            continue
        try:
            found[name] = scored(setting.open(name), options, seed=setting.seed, most=120)
        except WorkbenchError as problem:
            found[name] = problem.message
    known_to_all = scored(
        setting.model, options, seed=setting.seed, most=120
    )  # texts that its relatives know too
    for role in ("derived", "other"):
        name = getattr(options, role)
        c.numbers[f"{role} model"] = name
        c.numbers[f"correlation, {role}"] = correlation(known_to_all, found[name], seed=setting.seed)
    c.tables["Models"] = [
        {"model": name, "note": scores}
        if isinstance(scores, str)
        else {
            "model": name,
            "answers": float(scores.counted.mean()),
            "heads": scores.score.size,
            "at the threshold": len(scores.heads(0.1)),
            "which": ", ".join(scores.heads(0.1)[:6]),
            "highest": float(np.nanmax(np.nan_to_num(scores.score))),
        }
        for name, scores in found.items()
    ]


def _ways(
    setting: Setting, scores: RetrievalScores, samples: Sequence[Needle], top: Sequence[str]
) -> list[dict[str, Any]]:
    """Recall for every meaning of "masked", and with one matched set for comparison."""
    other, rows = matched(scores, top, draws=1, seed=setting.seed)[0], []
    for mode in ("uniform", "zero", "mean"):
        for when in ("decode", "all"):
            own, random = (
                recalls(setting.model, samples, _mask(setting, heads, scores, mode=mode, when=when)).mean()
                for heads in (top, other)
            )
            rows.append(
                {"mode": mode, "when": when, "recall, top heads": own, "recall, matched heads": random}
            )
    return rows


def _by_number(
    setting: Setting, scores: RetrievalScores, samples: Sequence[Needle], *, draws: int = 5
) -> list[dict[str, Any]]:
    """Recall by how many heads are masked, from the top of the ranking and at random among the rest."""
    ranked, rows = [h for h, _ in scores.ranked()], []
    below_ = [h for h in ranked if h not in scores.heads(setting.options.threshold)]
    rng = np.random.default_rng([setting.seed, 7])
    for k in (n for n in (1, 2, 3, 5, 8, 12, 16) if n <= len(below_)):
        sets = [tuple(str(h) for h in rng.choice(below_, k, replace=False)) for _ in range(draws)]
        random = [recalls(setting.model, samples, _mask(setting, s, scores)).mean() for s in sets]
        top = recalls(setting.model, samples, _mask(setting, ranked[:k], scores)).mean()
        rows.append(
            {"heads": k, "top": float(top), "random": float(np.mean(random)), "lowest": float(min(random))}
        )
    return rows


def _pictures(
    setting: Setting,
    scores: RetrievalScores,
    top: Sequence[str],
    other: Sequence[str],
    numbers: Sequence[Mapping],
) -> dict[str, Picture]:
    layers, heads = [f"layer {n}" for n in scores.layers], [f"h{h}" for h in range(scores.score.shape[1])]
    title = f"Retrieval score of every head, n = {int(scores.counted.sum())}"
    found: dict[str, Picture] = {
        "Retrieval scores": Heatmap.of(scores.score, layers, heads, unit="score", title=title),
        "In how many samples each head copied": Heatmap.of(
            scores.frequency, layers, heads, unit="share", title="Activation frequency"
        ),
    }
    options, model = setting.options, setting.model
    samples = {
        (context, depth): _drawn(
            model, options, n=options.cell, context=context, depth=depth, seed=setting.seed + 50
        )
        for context in contexts_of(model, options)
        for depth in (options.depths if knows_task(model) else (-1,))
    }
    for name, masked in (("nothing masked", ()), ("top heads masked", top), ("matched heads masked", other)):
        edit = _mask(setting, masked, scores) if masked else None
        found[f"Needle grid, {name}"] = needle_grid(
            cells(samples, model, edit),
            title=f"Recall, {name} ({', '.join(masked)}); {options.cell} per cell",
        )
    if numbers:
        lines = {name: [(row["heads"], row[name]) for row in numbers] for name in ("top", "random")}
        found["Recall by number of heads masked"] = Curves.of(
            lines, x_label="heads masked", y_label="recall", title="Texts of up to 128 words"
        )
    return found


def needle_grid(grid: Mapping[tuple[int, int], np.ndarray], *, title: str) -> Heatmap:
    """Recall by depth of the needle (rows) and length of the text (columns), in percent."""
    contexts, depths = (sorted({key[axis] for key in grid}) for axis in (0, 1))
    return Heatmap.of(
        np.array([[100 * grid[c, d].mean() if (c, d) in grid else np.nan for c in contexts] for d in depths]),
        ["anywhere" if d < 0 else f"{d} %" for d in depths],
        [str(c) for c in contexts],
        title=title,
        unit="% recalled",
        row_title="depth of the needle",
        column_title="words in the text",
    )


# -- claims -------------------------------------------------------------------------------------------------


def by_context(c: Conditions) -> list[dict[str, Any]]:
    """For each context the recall, and a sign test of what the top heads take beyond matched ones."""
    contexts, extra = np.array(c.numbers["contexts"]), c.of(RANDOM, MASKED)
    return [
        {
            "context": int(context),
            "unmasked": float(c[PLAIN][at].mean()),
            "top heads masked": float(c[MASKED][at].mean()),
            "matched heads masked": float(c[RANDOM][at].mean()),
            "lost beyond matched": float(extra[at].mean()),
            "p": sign_test_p(extra[at]),
            "n": int(at.sum()),
        }
        for context in sorted(set(contexts.tolist()))
        for at in [contexts == context]
    ]


def _ps(c: Conditions) -> np.ndarray:
    return holm([row["p"] for row in by_context(c)])


def _lengths(c: Conditions) -> str:
    told = ", ".join(f"{row['context']}: {row['lost beyond matched']:.0%}" for row in by_context(c))
    return f"{told}; largest p {_ps(c).max():.3g}"


def _answering(c: Conditions) -> list[dict[str, Any]]:
    return [row for row in c.tables["Models"] if row.get("answers", 0.0) >= ANSWERED]


def _share(c: Conditions) -> str:
    low, high = c.numbers["its interval"]
    return f"{c.numbers['share at the threshold']:.1%} [{low:.1%}, {high:.1%}]"


def _size(c: Conditions) -> int:
    return c.numbers["heads"]


def _extra(c: Conditions) -> str:
    around = c.interval(RANDOM, MASKED).shown(".0%", between=", ")
    return f"{c.mean(RANDOM, MASKED):.0%} more [{around}], p {MORE_HARM(c).p:.3g}"


def _facts_fall(c: Conditions) -> bool:
    high = c.interval(KNOWN, KNOWN_MASKED).high
    return high <= BARELY and high < c.interval(PLAIN, MASKED).low


def _related(role: str, says: str, criterion: str, holds: Any, paper: str, why: str) -> Claim:
    def r(c: Conditions) -> Any:
        return c.numbers[f"correlation, {role}"]

    return Claim(
        says,
        fact(f"scores of the {role} model", lambda c: holds(r(c))),
        criterion,
        paper=paper,
        why=why,
        where="section 3.3",
        needs=[needs(lambda c: not isinstance(r(c), str), lambda c: f"{c.numbers[f'{role} model']}: {r(c)}")],
        found=lambda c: f"{r(c)['r']:.2f} [{r(c)['low']:.2f}, {r(c)['high']:.2f}], p {r(c)['p']:.3g}",
        control=lambda c: r(c)["r of layers alone"],
    )


def _never(says: str, criterion: str, why: str, where: str, paper: str | None = None) -> Claim:
    need = needs(lambda c: False, why)
    return Claim(
        says,
        fact("", lambda c: False),
        criterion,
        paper=paper,
        why="as in the paper",
        where=where,
        needs=[need],
    )


MORE_HARM = beats_draws(MASKED, RANDOM, lower=True)
MANY = needs(
    lambda c: SPARSE * _size(c) > 1,
    lambda c: f"the model has {_size(c)} heads: one of them is {1 / _size(c):.0%} already",
)
CLAIMS = {
    "sparse": Claim(
        "retrieval heads are few",
        fact("few heads", lambda c: c.numbers["share at the threshold"] < SPARSE),
        f"less than {SPARSE:.0%} of all heads have a retrieval score of at least the threshold",
        paper="3-6 %",
        why="the paper's own words; its models have 3 to 6 %",
        where="abstract, property 2",
        needs=[MANY],
        found=_share,
        control=lambda c: f"{c.numbers['chance']:.3f} (a head that looks anywhere)",
        n=_size,
    ),
    "silent": Claim(
        "most other heads never copy",
        fact("many zeros", lambda c: c.numbers["share of zeros"] >= SILENT),
        f"at least {SILENT:.0%} of all heads have a score of exactly 0",
        paper="45-73 %",
        why="the lowest of the paper's models has 45 %",
        where="section 3.1",
        found=lambda c: f"{c.numbers['share of zeros']:.0%}",
        n=_size,
    ),
    "strong": Claim(
        "very few heads copy most of the needle",
        fact("some and few", lambda c: 0 < c.numbers["strong"] < SPARSE * _size(c)),
        f"at least one head and less than {SPARSE:.0%} of all have a score above {STRONG:g}",
        paper="under 5 %",
        why="the paper's words",
        where="section 3.1",
        needs=[MANY],
        found=lambda c: f"{c.numbers['strong']} of {_size(c)}",
        n=_size,
    ),
    "universal": Claim(
        "every model that retrieves has retrieval heads",
        fact("every model has one", lambda c: all(row["at the threshold"] for row in _answering(c))),
        "each built-in model that answers at least half of its needles has a head at the threshold",
        why="a single counterexample would refute it; models that do not answer are left out, as in the paper",
        where="abstract, property 1",
        found=lambda c: ", ".join(
            f"{row['model']} {row['at the threshold']} of {row['heads']}" for row in _answering(c)
        ),
        n=lambda c: len(_answering(c)),
    ),
    "intrinsic": _related(
        "derived",
        "a model made from another one by further training has the same retrieval heads",
        f"r of the two models' scores above {SAME:g}, lower end of the interval included, and p < {ALPHA:g} against "
        "heads shuffled within layers",
        lambda r: r["low"] > SAME and r["p"] < ALPHA,
        "above 0.8",
        "the paper's number; the shuffle asks for heads, not for layers",
    ),
    "foreign": _related(
        "other",
        "models of other origin have other retrieval heads",
        f"r of the scores with a model of the same shape from another seed below {FOREIGN:g}",
        lambda r: r["r"] < FOREIGN,
        "below 0.1",
        "the paper's number across families; another seed is the closest stranger there is",
    ),
    "dynamic": Claim(
        "some retrieval heads are always active, others depend on the text",
        fact("both kinds", lambda c: c.numbers["always"] > 0 and c.numbers["sometimes"] > 0),
        "a head at the threshold copies in every sample, and another one in less than 95 % of them",
        paper="12 of 33 always (Llama-2-7B-80K)",
        why="always means always; 5 % of samples is more than chance",
        where="section 3.2",
        needs=[
            needs(
                lambda c: c.numbers["active"] >= 2,
                lambda c: f"the model has {c.numbers['active']} retrieval heads; two are needed to differ",
            )
        ],
        found=lambda c: (
            f"{c.numbers['always']} always, {c.numbers['sometimes']} below 95 %, of {c.numbers['active']}"
        ),
        n=lambda c: c.numbers["samples"],
    ),
    "loss": Claim(
        "without the top 5 % of heads the needle is lost",
        below(MASKED, by=HALF),
        f"recall of new needles below {HALF:.0%} with them masked, upper end of the interval included",
        paper="below 50 %",
        why="the paper's number for its top 50 heads, about 5 %",
        where="section 4.1",
        found=lambda c: (
            f"{c.mean(MASKED):.0%} (at most {c.interval(MASKED).high:.0%}; unmasked {c.mean(PLAIN):.0%})"
        ),
        control=lambda c: f"{c.mean(RANDOM):.0%} with matched heads masked",
    ),
    "causal": Claim(
        "random heads do not matter so much",
        MORE_HARM & above(RANDOM, MASKED),
        f"of matched random sets less than {ALPHA:.0%} do as much harm, and the extra loss is above 0 in 95 % of "
        "resamples",
        why="sets of as many heads in the same layers, none of them among twice as many top heads (the paper's rule)",
        where="section 4.1",
        needs=[
            needs(
                lambda c: 1 / (1 + len(c.draws[RANDOM])) < ALPHA,
                lambda c: f"only {len(c.draws[RANDOM])} different matched sets exist",
            )
        ],
        found=_extra,
        control=lambda c: (
            f"worst of {len(c.draws[RANDOM])} matched sets: "
            f"recall {min(float(draw.mean()) for draw in c.draws[RANDOM]):.0%}"
        ),
        n=lambda c: c.n(PLAIN),
    ),
    "lengths": Claim(
        "at every length of the text",
        fact("at every length", lambda c: (_ps(c) < ALPHA).all()),
        f"in each context more samples lose more than under matched masks than not (sign test, Holm, p < {ALPHA:g})",
        why="an effect of one length alone would be of position, not of retrieval",
        where="an extension of ours: the paper shows lengths and depths in one grid and tests none by itself",
        found=_lengths,
        n=lambda c: c.n(PLAIN),
    ),
    "memory": Claim(
        "what is answered from memory barely moves",
        fact(
            "facts fall little, and less than needles",
            _facts_fall,
            intervals=lambda c: [c.interval(KNOWN, KNOWN_MASKED), c.interval(PLAIN, MASKED)],
        ),
        f"facts lose at most {BARELY:.0%} of recall, and less than needles do, in 95 % of resamples",
        why="an unrelated task with the same answer words in the same texts; all twenty facts that the weights know, "
        "each after several texts, so that the interval is over texts (with fewer than 73 prompts it could not hold)",
        where="section 4.2",
        needs=[needs(lambda c: KNOWN in c, lambda c: c.numbers["why no facts"])],
        found=lambda c: (
            f"facts lose {c.mean(KNOWN, KNOWN_MASKED):.0%} (at most {c.interval(KNOWN, KNOWN_MASKED).high:.0%})"
        ),
        control=lambda c: f"needles lose {c.mean(PLAIN, MASKED):.0%}",
        n=lambda c: c.n(KNOWN),
    ),
    "invented": Claim(
        "without retrieval heads the model makes things up in the right form",
        fact(
            "numbers from nowhere",
            lambda c: c.numbers["made up"]["numbers"] >= 0.9 and c.numbers["made up"]["in the text"] < 0.5,
        ),
        "at least 90 % of the wrong tokens are numbers, and fewer than half of them stand in the text",
        why="made up: of the right kind and from nowhere",
        where="section 4.1",
        needs=[
            needs(
                lambda c: "numbers" in c.numbers["made up"] and c.numbers["made up"]["wrong"] >= 10,
                lambda c: (
                    f"{c.numbers['made up']['wrong']:.0f} wrong tokens with the top heads masked; 10 are needed"
                ),
            )
        ],
        found=lambda c: (
            f"{c.numbers['made up']['numbers']:.0%} numbers, "
            f"{c.numbers['made up']['in the text']:.0%} stand in the text"
        ),
        n=lambda c: c.numbers["made up"]["wrong"],
    ),
    "extractive": _never(
        "extractive question answering gets worse",
        "F1 on passages falls more than under random masks",
        "no built-in model reads prose and answers questions about it",
        "section 4.2",
        "F1 -9.2 % and -23.1 %",
    ),
    "reasoning": _never(
        "reasoning in steps gets worse, because it reads what was written before",
        "accuracy with written steps falls more than without",
        "no built-in model reasons in written steps",
        "section 4.3",
    ),
}
REPLICATION = Paper(
    name="retrieval-heads",
    authors="Wu et al. 2024, arXiv:2404.15574",
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
    measure=measure,
    claims=CLAIMS,
)
