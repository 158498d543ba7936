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

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from workbench.core.loading import lazily
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, needs, untried
from workbench.papers.kit.criteria import above, at_least, beats_draws, below, beyond, less, more, no_worse
from workbench.papers.kit.frames import loses_less
from workbench.papers.kit.refusals import found_or_refused, tell_all
from workbench.papers.options import size
from workbench.papers.registry import add_paper

with lazily():
    from workbench.edits import masked_heads
    from workbench.heads import alike, retrieval
    from workbench.training import needle_prompts

ANSWERED = 0.5  # a model that answers fewer needles has nothing to be scored on
SPARSE = 0.05  # of all heads
PLAIN, MASKED, RANDOM = "needles", "needles, top heads masked", "needles, matched heads masked"
KNOWN, KNOWN_MASKED = "facts", "facts, top heads masked"
FEW, NEVER = "share of heads at the threshold", "share of heads that never copy"
MOST = "share of heads with a score above one half"
LIKE = {role: f"correlation with the {role} model" for role in ("derived", "other")}


@dataclass(frozen=True, kw_only=True)
class RetrievalSizes:
    """How much is asked, in which texts, and what is masked."""

    samples: int = size(60, "prompts that select the heads")
    evaluated: int = size(8, "others of each context that test them")
    contexts: tuple[int, ...] = size((32, 64, 120, 250, 500), "words of a text")
    depths: tuple[int, ...] = size((0, 25, 50, 75, 100), "of a needle, in a grid")
    cell: int = size(3, "prompts of each cell of a grid")
    draws: int = size(40, "random sets of heads")
    count: retrieval.Count = "set"
    mode: masked_heads.Mode = "uniform"
    when: masked_heads.When = "decode"
    masked: str = size("retrieval", "heads that are masked; random or lowest ones are controls")
    derived: str = size("zoo:needle-base", "a model that shares its origin")
    other: str = size("zoo:needle-other", "a model of another origin")
    models: tuple[str, ...] = size(("zoo:kv", "zoo:induction", "zoo:truth-induction"), "further ones")


def measure(setting: Setting) -> Conditions:
    """Score heads, mask them on other prompts; on the key-value task or, where it is not known, on random tokens."""
    model, o, seed = setting.model, setting.options, setting.seed
    masked_heads.keep_freed()
    score = partial(needle_prompts.score_needles, contexts=o.contexts, n=o.samples, count=o.count, seed=seed)
    scores = score(model)
    if (answered := float(scores.counted.mean())) < ANSWERED:
        why = f"the model answers {answered:.0%} of the needles; nothing is copied, so nothing can be scored"
        return Conditions(why=why, numbers={"answered": answered})
    tests = needle_prompts.needles_of(model, o.contexts, n=o.evaluated, seed=seed + 1)
    top = alike.masked_choice(scores, SPARSE, o.masked)
    random = alike.matched_to(scores, top, draws=o.draws, seed=seed)
    masking = masked_heads.Masking(model=model, mode=o.mode, when=o.when, reference=scores.samples[:24])
    n, own = scores.score.size, {"top": list(top), "active": len(scores.heads())}
    c = Conditions(seed=seed, unit="share recalled", numbers={"heads": n, "one head": f"{1 / n:.0%}", **own})
    tell_all(c, alike.copying(scores, seed=seed))
    c.tables["Heads by retrieval score"] = scores.to_rows()[:16]
    c[PLAIN] = masking.recall((), tests)
    c.draws[RANDOM] = [masking.recall(heads, tests) for heads in setting.each(random, "matched heads masked")]
    written = masking.answers(top, tests)
    c[MASKED] = retrieval.recalls_of(written, tests)
    tell_all(c, retrieval.invented(written, tests, needle_prompts.number_words(model)))
    recall = {name: c[name] for name in (PLAIN, MASKED, RANDOM)}
    c.tables["Masking by context"] = rows = alike.lost_by_context(
        [needle.context for needle in tests], recall
    )
    tell_all(c, {"least loss at a length": alike.least_loss(rows)})
    with c.unless_refused(KNOWN):
        c[KNOWN], c[KNOWN_MASKED] = needle_prompts.recall_of_facts(masking, tests, top, least=ANSWERED)
    _of_models(setting, c, scores, partial(score, most=120))  # words of texts that its relatives know too
    c.draw_heads("Retrieval scores", scores.score, unit="score")
    sets = {"top heads": top, "matched heads": alike.matched_to(scores, top, draws=1, seed=seed)[0]}
    cells = needle_prompts.needle_cells(model, o.contexts, o.depths, n=o.cell, seed=seed + 50)
    for name, heads in ({"nothing": ()} | sets).items():
        c.pictures[f"Needle grid, {name} masked"] = masking.picture(heads, cells)
    c.tables['What "masked" means'] = masking.every_way([s for s in tests if s.context <= 128], sets)
    return c


def _of_models(setting: Setting, c: Conditions, own: retrieval.RetrievalScores, score: Callable) -> None:
    """Scores of the other models, on prompts of lengths that they know; or why there are none."""
    o: RetrievalSizes = setting.options
    others = [name for name in (o.derived, o.other, *o.models) if name != setting.name]
    known, refused = found_or_refused(others, lambda name: score(setting.open(name)))
    found: dict[str, Any] = {setting.name: own} | {name: (known | refused)[name] for name in others}
    c.tables["Models"] = [alike.model_row(name, scores) for name, scores in found.items()]
    tell_all(c, {"fewest retrieval heads of a model": alike.fewest_heads(found.values(), ANSWERED)})
    here, roles = score(setting.model), {"derived": o.derived, "other": o.other}
    like = {role: alike.correlation(here, found[name], seed=setting.seed) for role, name in roles.items()}
    tell_all(c, {LIKE[role]: replace(one, why=f"{roles[role]}: {one.why}") for role, one in like.items()})


BOTH = needs(at_least("active", 2), "the model has {active} retrieval heads; two are needed to differ")
MANY = needs(at_least("heads", 21), "the model has {heads} heads: one of them is {one head} already")
LESS = loses_less("less than needles lose, intervals apart", (KNOWN, KNOWN_MASKED), (PLAIN, MASKED))
CLAIMS = {
    "sparse": Claim(
        "retrieval heads are few", less(FEW, SPARSE), paper="3-6 %",
        why="the paper's own words; its models have 3 to 6 %", where="abstract, property 2", needs=[MANY],
    ),
    "silent": Claim(
        "most other heads never copy", at_least(NEVER, 0.45), paper="45-73 %",
        why="the lowest of the paper's models has 45 %", where="section 3.1",
    ),
    "strong": Claim(
        "very few heads copy most of the needle", less(MOST, SPARSE) & more(MOST, 0), paper="under 5 %",
        why="the paper's words", where="section 3.1", needs=[MANY],
    ),
    "universal": Claim(
        "every model that retrieves has retrieval heads", at_least("fewest retrieval heads of a model", 1),
        why="a single counterexample would refute it; models that do not answer are left out, as in the paper",
        where="abstract, property 1", models="{n of fewest retrieval heads of a model}",
    ),
    "intrinsic": Claim(
        "a model made from another one by further training has the same retrieval heads",
        above(LIKE["derived"], by=0.8) & beyond(LIKE["derived"], "heads shuffled within layers"),
        paper="above 0.8", why="the paper's number; the shuffle asks for heads, not for layers",
        where="section 3.3",
    ),
    "foreign": Claim(
        "models of other origin have other retrieval heads", less(LIKE["other"], 0.1), paper="below 0.1",
        why="the paper's number across families; another seed is the closest stranger there is",
        where="section 3.3",
    ),
    "dynamic": Claim(
        "some retrieval heads are always active, others depend on the text",
        at_least("heads that copy in every sample", 1)
        & at_least("heads that copy in less than 95 % of samples", 1),
        paper="12 of 33 always (Llama-2-7B-80K)",
        why="always means always; 5 % of samples is more than chance", where="section 3.2", needs=[BOTH],
    ),
    "loss": Claim(
        "without the top 5 % of heads the needle is lost", below(MASKED, by=0.5), paper="below 50 %",
        why="the paper's number for its top 50 heads, about 5 %", where="section 4.1", control=f"{{{RANDOM}}}",
    ),
    "causal": Claim(
        "without as many random heads the needle is lost less often",
        beats_draws(MASKED, RANDOM, lower=True) & below(MASKED, RANDOM),
        why="sets of as many heads in the same layers, none of them among twice as many top heads (the paper's rule)",
        where="section 4.1",
    ),
    "lengths": Claim(
        "at every length of the text more is lost without these heads than without random ones",
        beyond("least loss at a length", "matched heads"),
        why="an effect of one length alone would be of position, not of retrieval; a sign test of each length, Holm",
        where="an extension of ours: the paper shows lengths and depths in one grid and tests none by itself",
    ),
    "memory": Claim(
        "facts that the model knows by heart are barely lost without these heads",
        no_worse(KNOWN_MASKED, KNOWN, within=0.05) & LESS,
        why="an unrelated task with the same answer words in the same texts; all twenty facts that the weights know, "
        "each after several texts, so that the interval is over texts (with fewer than 73 prompts it could not hold)",
        where="section 4.2",
    ),
    "invented": Claim(
        "without retrieval heads the model makes things up in the right form",
        at_least("right kind", 0.9) & less("in the text", 0.5),
        "at least 90 % of the wrong tokens are numbers, and fewer than half of them stand in the text",
        why="made up: of the right kind and from nowhere", where="section 4.1",
        found="{right kind:.0%} numbers, {in the text:.0%} stand in the text",
    ),
    "extractive": untried(
        "extractive question answering gets worse", "F1 on passages falls more than under random masks",
        "no built-in model reads prose and answers questions about it", paper="F1 -9.2 % and -23.1 %",
        where="section 4.2",
    ),
    "reasoning": untried(
        "reasoning in steps gets worse, because it reads what was written before",
        "accuracy with written steps falls more than without", "no built-in model reasons in written steps",
        where="section 4.3",
    ),
}  # fmt: skip
REPLICATION = add_paper(Paper(
    name="retrieval-heads", source="Wu, Wang, Xiao, Peng and Fu 2024, arXiv:2404.15574", model="zoo:needle",
    options=RetrievalSizes, measure=measure, claims=CLAIMS,
))  # fmt: skip
