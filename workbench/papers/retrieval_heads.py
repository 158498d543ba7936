"""Retrieval heads: few heads copy from far back, and without them the needle is lost.

A few heads copy what a long text said earlier; masking them loses the needle, masking others does not. Here the needle
is a key's three values among fillers; heads are scored while the model writes the answer, masked as in the paper's code
(uniform attention, while decoding), and compared with random heads of the same layers, on other prompts than they were
selected on.

Controls:
- random heads: as many in each layer, none among twice as many top heads, many draws
- facts: answered with the same words after the same texts, from memory
- scores shuffled among the heads of each layer, for correlations between models
- --set masked=random or masked=lowest: other heads masked as if they were the top ones; the causal claims fail
- zoo:truth-induction: an idle head with the induction head's pattern has the same score and no effect
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.errors import OptionError, WorkbenchError
from workbench.core.loading import lazily
from workbench.core.stats.matched import layer_of, matched_heads
from workbench.core.stats.multiplicity import holm
from workbench.core.stats.permutation import sign_test_p
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, needs, untried
from workbench.papers.kit.criteria import above, at_least, beats_draws, below, fact, given_p
from workbench.papers.registry import add_paper
from workbench.view.pictures import Curves, Heatmap

with lazily():
    from workbench.edits import masked_heads
    from workbench.heads import alike, retrieval
    from workbench.training import needle_prompts

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


@dataclass(frozen=True, kw_only=True)
class RetrievalSizes:
    """Sizes and conditions.

    ``samples`` prompts select the heads, ``evaluated`` others per context test them; ``draws`` sets of matched heads;
    ``cell`` prompts per cell of the needle grid; ``masked`` is what is masked as the top heads: ``retrieval`` heads,
    ``random`` ones or those with the ``lowest`` score (both controls: the causal claims then have to fail).
    """

    samples: int = 60
    evaluated: int = 8
    contexts: tuple[int, ...] = (32, 64, 120, 250, 500)
    depths: tuple[int, ...] = (0, 25, 50, 75, 100)
    cell: int = 3
    draws: int = 40
    values: int = 3
    keys: int = 2
    threshold: float = 0.1
    count: str = "set"
    mode: str = "uniform"
    when: str = "decode"
    masked: str = "retrieval"
    derived: str = "zoo:needle-base"
    other: str = "zoo:needle-other"
    models: tuple[str, ...] = ("zoo:kv", "zoo:induction", "zoo:truth-induction")


def measure(setting: Setting) -> Conditions:
    """Score heads, mask them on other prompts; on the key-value task or, where it is not known, on random tokens."""
    model, o, seed = setting.model, setting.options, setting.seed
    masked_heads.keep_freed()
    scores = scored(model, o, seed=seed)
    answered = float(scores.counted.mean())
    if answered < ANSWERED:
        why = f"the model answers {answered:.0%} of the needles; nothing is copied, so nothing can be scored"
        return Conditions(why=why, numbers={"answered": answered})
    tests = _prompts(model, o, contexts_of(model, o), n=o.evaluated, seed=seed + 1)
    top = top_heads(scores, o)
    masking = masked_heads.Masking(model=model, mode=o.mode, when=o.when, reference=scores.samples[:24])
    c = Conditions(seed=seed, unit="share recalled")
    _of_scores(c, scores, o.threshold)
    _of_masking(setting, c, masking, matched(scores, top, draws=o.draws, seed=seed), tests, top)
    _of_facts(c, masking, tests, top)
    _of_models(setting, c, scores)
    short, other = [s for s in tests if s.context <= 128], matched(scores, top, draws=1, seed=seed)[0]
    c.tables['What "masked" means'] = masking.every_way(short, {"top heads": top, "matched heads": other})
    _by_number(c, masking, scores, short)
    _pictures(setting, c, scores, masking, {"nothing": (), "top heads": top, "matched heads": other})
    return c


def contexts_of(model: TransformerBridge, o: RetrievalSizes) -> tuple[int, ...]:
    """The contexts that fit the model; its longest if none does."""
    most = needle_prompts.longest(model, o.values)
    return tuple(c for c in o.contexts if c <= most) or (most,)


def _prompts(model: TransformerBridge, o: RetrievalSizes, contexts: Sequence[int], **more: Any) -> list[Any]:
    """Needles of every context."""
    how = {"values": o.values, "keys": o.keys, **more}
    return [s for context in contexts for s in needle_prompts.needles(model, context=context, **how)]


def scored(model: TransformerBridge, o: RetrievalSizes, *, seed: int, most: float = np.inf) -> Any:
    """Retrieval scores on prompts of all contexts that fit (up to ``most``), from combinations seen in training."""
    fit = contexts_of(model, o)
    own = tuple(c for c in fit if c <= most) or fit[:1]
    samples = _prompts(model, o, own, n=-(-o.samples // len(own)), split="train", seed=seed)
    return retrieval.retrieval_scores(model, samples, count=o.count)


def top_heads(scores: retrieval.RetrievalScores, o: RetrievalSizes) -> tuple[str, ...]:
    """A twentieth of all heads, at least one: those with the highest scores, or what a control masks instead."""
    k = max(1, round(0.05 * scores.score.size))
    ranked = tuple(name for name, _ in scores.ranked())
    if o.masked == "lowest":
        return ranked[-k:]
    return ranked[:k] if o.masked == "retrieval" else matched(scores, ranked[:k], draws=1, seed=99)[0]


def matched(
    scores: retrieval.RetrievalScores, top: Sequence[str], *, draws: int, seed: int
) -> list[tuple[str, ...]]:
    """Random sets with as many heads in each layer, none among twice as many top heads where a layer has others."""
    own = sorted(top, key=layer_of)
    return matched_heads(own, alike.rest(scores, top), draws=draws, seed=[seed, len(top)])


def _of_scores(c: Conditions, scores: retrieval.RetrievalScores, threshold: float) -> None:
    """How many heads copy, how much, and how often."""
    n, active = scores.score.size, scores.frequency[scores.score >= threshold]
    low, high = alike.share_interval(scores, threshold, seed=c.seed)
    chance = np.mean([1 / len(s.prompt) for s in scores.samples])
    share = float((scores.score >= threshold).mean())
    c.numbers |= {"heads": n, "one head": f"{1 / n:.0%}", "active": int(active.size)}
    c.numbers |= {"always": int((active == 1).sum()), "sometimes": int((active < 0.95).sum())}
    c.numbers |= {"few": f"{share:.1%} [{low:.1%}, {high:.1%}]", "samples": int(scores.counted.sum())}
    c.tell("share at the threshold", share, control=f"{chance:.3f} (a head that looks anywhere)", n=n)
    c.tell("share of zeros", float((scores.score == 0).mean()), n=n)
    c.tell("strong", int((scores.score > STRONG).sum()), n=n)
    c.tables["Heads by retrieval score"] = scores.to_rows()[:16]


def _of_masking(
    setting: Setting,
    c: Conditions,
    masking: Any,
    sets: Sequence[Any],
    tests: Sequence[Any],
    top: Sequence[str],
) -> None:
    """Recall on other prompts than the heads were selected on, and what is written in place of the needle."""
    c[PLAIN], random = masking.recall((), tests), []
    for i, heads in enumerate(sets, start=1):
        random.append(masking.recall(heads, tests))
        setting.progress(i, len(sets), "matched heads masked")
    c.draws[RANDOM] = random
    texts = masking.answers(top, tests)
    c[MASKED] = [retrieval.recall_of(text, s.answer) for text, s in zip(texts, tests, strict=True)]
    wrong = [(t, s.prompt) for text, s in zip(texts, tests, strict=True) for t in text if t not in s.answer]
    numbers = needle_prompts.number_words(setting.model)
    c.numbers |= {"top": list(top), "wrong": len(wrong)}
    if wrong and numbers:
        c.numbers["of the right kind"] = np.mean([token in numbers for token, _ in wrong])
        c.numbers["in the text"] = np.mean([token in prompt for token, prompt in wrong])
    of_contexts(c, [s.context for s in tests])


def of_contexts(c: Conditions, contexts: Sequence[int]) -> None:
    """For each context a sign test of what the top heads take beyond matched ones."""
    means = {"unmasked": c[PLAIN], "top heads masked": c[MASKED], "matched heads masked": c[RANDOM]}
    means["lost beyond matched"] = extra = c.of(RANDOM, MASKED)
    rows: list[dict[str, Any]] = []
    for context in sorted(set(contexts)):
        at = np.array(contexts) == context
        found = {name: float(values[at].mean()) for name, values in means.items()}
        rows.append({"context": context, **found, "p": sign_test_p(extra[at]), "n": int(at.sum())})
    c.tables["Masking by context"] = rows
    c.numbers["lengths, p"] = holm([row["p"] for row in rows]).max()
    c.numbers["lost"] = ", ".join(f"{row['context']}: {row['lost beyond matched']:.0%}" for row in rows)
    c.numbers["worst of the matched"] = min(float(draw.mean()) for draw in c.draws[RANDOM])
    c.numbers["matched sets"] = len(c.draws[RANDOM])


def _of_facts(c: Conditions, masking: Any, tests: Sequence[Any], top: Sequence[str]) -> None:
    """The same with questions that are answered from memory, or why there are none."""
    try:
        asked = needle_prompts.fact_questions(masking.model, tests, n=FACTS)
    except WorkbenchError as problem:
        c.numbers["why no facts"] = problem.message
        return
    plain = masking.recall((), asked)
    c.numbers["why no facts"] = f"the model answers {plain.mean():.0%} of the questions about facts"
    if plain.mean() >= HALF:
        c[KNOWN], c[KNOWN_MASKED] = plain, masking.recall(top, asked)


def _of_models(setting: Setting, c: Conditions, own: retrieval.RetrievalScores) -> None:
    """Scores of the other models, on prompts of lengths that they know; or why there are none."""
    o: RetrievalSizes = setting.options
    found: dict[str, Any] = {setting.name: own}
    for name in (o.derived, o.other, *o.models):
        try:
            found[name] = found.get(name) or scored(setting.open(name), o, seed=setting.seed, most=120)
        except WorkbenchError as problem:
            found[name] = problem.message
    c.tables["Models"] = rows = [alike.model_row(name, scores) for name, scores in found.items()]
    answering = [row for row in rows if row.get("answers", 0.0) >= ANSWERED]
    least = min(row["at the threshold"] for row in answering)
    c.tell("fewest retrieval heads of a model", least, n=len(answering))
    c.numbers["models"] = ", ".join(
        f"{r['model']} {r['at the threshold']} of {r['heads']}" for r in answering
    )
    known_to_all = scored(setting.model, o, seed=setting.seed, most=120)  # texts that its relatives know too
    for role, name in (("derived", o.derived), ("other", o.other)):
        r = alike.correlation(known_to_all, found[name], seed=setting.seed)
        c.numbers[role] = f"{name}: {r}" if isinstance(r, str) else r


def _by_number(c: Conditions, masking: Any, scores: Any, samples: Sequence[Any]) -> None:
    """Recall by how many heads are masked, from the top of the ranking, beside matched heads while layers have some."""
    ranked, rows = [h for h, _ in scores.ranked()], []
    for k in (n for n in (1, 2, 3, 5, 8, 12, 16) if n <= len(ranked)):
        row: dict[str, Any] = {"heads": k, "top": float(masking.recall(ranked[:k], samples).mean())}
        try:
            sets = matched(scores, ranked[:k], draws=5, seed=c.seed)
        except OptionError as problem:
            rows.append({**row, "note": problem.message})
            break
        random = [float(masking.recall(heads, samples).mean()) for heads in sets]
        rows.append({**row, "matched": np.mean(random), "lowest": min(random), "sets": len(sets)})
    c.tables["How many heads are masked"] = rows
    whole, words = [row for row in rows if "matched" in row], {"x_label": "heads masked", "y_label": "recall"}
    if whole:
        curves = Curves.of_rows(whole, "heads", ["top", "matched"], title="Texts of up to 128 words", **words)
        c.pictures["Recall by number of heads masked"] = curves


def _pictures(
    setting: Setting, c: Conditions, scores: Any, masking: Any, masked: Mapping[str, Sequence[str]]
) -> None:
    """Scores of every head, and recall by length of the text and depth of the needle."""
    model, o = setting.model, setting.options
    for caption, values, unit in (
        ("Retrieval scores", scores.score, "score"),
        ("In how many samples each head copied", scores.frequency, "share"),
    ):
        c.pictures[caption] = Heatmap.of_heads(values, scores.layers, unit=unit, title=caption)
    samples = {
        (context, depth): _prompts(model, o, [context], n=o.cell, depth=depth, seed=setting.seed + 50)
        for context in contexts_of(model, o)
        for depth in (o.depths if needle_prompts.knows_task(model) else (-1,))
    }
    axes = {"row_title": "depth of the needle, %", "column_title": "words in the text", "unit": "% recalled"}
    for name, heads in masked.items():
        percent, depths, contexts = masking.grid(heads, samples)
        title = f"Recall, {name} masked ({', '.join(heads)}); {o.cell} per cell"
        rows = ["anywhere" if depth < 0 else str(depth) for depth in depths]
        picture = Heatmap.of(percent, rows, list(map(str, contexts)), title=title, **axes)
        c.pictures[f"Needle grid, {name} masked"] = picture


def _extra(c: Conditions) -> str:
    low, high, *_ = c.interval(RANDOM, MASKED)
    return f"{c.mean(RANDOM, MASKED):.0%} more [{low:.0%}, {high:.0%}], p {MORE_HARM(c).p:.3g}"


def _facts_fall(c: Conditions) -> bool:
    high = c.interval(KNOWN, KNOWN_MASKED).high
    return high <= BARELY and high < c.interval(PLAIN, MASKED).low


def _related(role: str, says: str, criterion: str, holds: Any, paper: str, why: str) -> Claim:
    found = f"{{{role}[r]:.2f}} [{{{role}[low]:.2f}}, {{{role}[high]:.2f}}], p {{{role}[p]:.3g}}"
    return Claim(
        says,
        fact(f"scores of the {role} model", lambda c: holds(c.numbers[role])),
        criterion,
        paper=paper,
        why=why,
        where="section 3.3",
        needs=[needs(lambda c: isinstance(c.numbers[role], Mapping), f"{{{role}}}")],
        found=found,
        control=f"{{{role}[r of layers alone]}}",
    )


MORE_HARM = beats_draws(MASKED, RANDOM, lower=True)
MANY = needs(at_least("heads", 21), "the model has {heads} heads: one of them is {one head} already")
CLAIMS = {
    "sparse": Claim(
        "retrieval heads are few",
        fact("few", lambda c: c.mean("share at the threshold") < SPARSE, "share at the threshold"),
        f"less than {SPARSE:.0%} of all heads have a retrieval score of at least the threshold",
        paper="3-6 %",
        why="the paper's own words; its models have 3 to 6 %",
        where="abstract, property 2",
        needs=[MANY],
        found="{few}",
    ),
    "silent": Claim(
        "most other heads never copy",
        at_least("share of zeros", SILENT),
        f"at least {SILENT:.0%} of all heads have a score of exactly 0",
        paper="45-73 %",
        why="the lowest of the paper's models has 45 %",
        where="section 3.1",
        found="{share of zeros:.0%}",
    ),
    "strong": Claim(
        "very few heads copy most of the needle",
        fact("some and few", lambda c: 0 < c.mean("strong") < SPARSE * c.mean("heads"), "strong"),
        f"at least one head and less than {SPARSE:.0%} of all have a score above {STRONG:g}",
        paper="under 5 %",
        why="the paper's words",
        where="section 3.1",
        needs=[MANY],
        found="{strong} of {heads}",
    ),
    "universal": Claim(
        "every model that retrieves has retrieval heads",
        at_least("fewest retrieval heads of a model", 1),
        "each built-in model that answers at least half of its needles has a head at the threshold",
        why="a single counterexample would refute it; models that do not answer are left out, as in the paper",
        where="abstract, property 1",
        found="{models}",
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
        at_least("always", 1) & at_least("sometimes", 1),
        "a head at the threshold copies in every sample, and another one in less than 95 % of them",
        paper="12 of 33 always (Llama-2-7B-80K)",
        why="always means always; 5 % of samples is more than chance",
        where="section 3.2",
        needs=[
            needs(at_least("active", 2), "the model has {active} retrieval heads; two are needed to differ")
        ],
        found="{always} always, {sometimes} below 95 %, of {active}",
        n="{samples}",
    ),
    "loss": Claim(
        "without the top 5 % of heads the needle is lost",
        below(MASKED, by=HALF),
        f"recall of new needles below {HALF:.0%} with them masked, upper end of the interval included",
        paper="below 50 %",
        why="the paper's number for its top 50 heads, about 5 %",
        where="section 4.1",
        found=f"{{{MASKED}:.0%}} (at most {{high of {MASKED}:.0%}}; unmasked {{{PLAIN}:.0%}})",
        control=f"{{{RANDOM}:.0%}} with matched heads masked",
    ),
    "causal": Claim(
        "random heads do not matter so much",
        MORE_HARM & above(RANDOM, MASKED),
        f"of matched random sets less than {ALPHA:.0%} do as much harm, and the extra loss is above 0 in 95 % of "
        "resamples",
        why="sets of as many heads in the same layers, none of them among twice as many top heads (the paper's rule)",
        where="section 4.1",
        needs=[needs(at_least("matched sets", 20), "only {matched sets} different matched sets exist")],
        found=_extra,
        control="worst of {matched sets} matched sets: recall {worst of the matched:.0%}",
    ),
    "lengths": Claim(
        "at every length of the text",
        given_p("lengths, p"),
        f"in each context more samples lose more than under matched masks than not (sign test, Holm, p < {ALPHA:g})",
        why="an effect of one length alone would be of position, not of retrieval",
        where="an extension of ours: the paper shows lengths and depths in one grid and tests none by itself",
        found="{lost}; largest p {lengths, p:.3g}",
        n=f"{{n of {PLAIN}}}",
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
        needs=[needs(lambda c: KNOWN in c, "{why no facts}")],
        found=f"facts lose {{{KNOWN} minus {KNOWN_MASKED}:.0%}} (at most {{high of {KNOWN} minus {KNOWN_MASKED}:.0%}})",
        control=f"needles lose {{{PLAIN} minus {MASKED}:.0%}}",
        n=f"{{n of {KNOWN}}}",
    ),
    "invented": Claim(
        "without retrieval heads the model makes things up in the right form",
        fact("from nowhere", lambda c: c.mean("of the right kind") >= 0.9 and c.mean("in the text") < 0.5),
        "at least 90 % of the wrong tokens are numbers, and fewer than half of them stand in the text",
        why="made up: of the right kind and from nowhere",
        where="section 4.1",
        needs=[
            needs(
                lambda c: c.mean("wrong") >= 10 and "of the right kind" in c.numbers,
                "{wrong} wrong tokens with the top heads masked; 10 are needed",
            )
        ],
        found="{of the right kind:.0%} numbers, {in the text:.0%} stand in the text",
        n="{wrong}",
    ),
    "extractive": untried(
        "extractive question answering gets worse",
        "F1 on passages falls more than under random masks",
        "no built-in model reads prose and answers questions about it",
        paper="F1 -9.2 % and -23.1 %",
        where="section 4.2",
    ),
    "reasoning": untried(
        "reasoning in steps gets worse, because it reads what was written before",
        "accuracy with written steps falls more than without",
        "no built-in model reasons in written steps",
        where="section 4.3",
    ),
}
REPLICATION = add_paper(
    Paper(
        name="retrieval-heads",
        title="Retrieval Head Mechanistically Explains Long-Context Factuality",
        source="Wu, Wang, Xiao, Peng and Fu 2024, arXiv:2404.15574",
        model="zoo:needle",
        options=RetrievalSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
