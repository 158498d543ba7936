"""Soft injection: a task as a learned mix of mean head outputs.

The mean output of every head after prompts with examples is a task embedding; a share of it for each head, learned on
prompts without examples, is mixed in at the last position. Embeddings and mixes, the choice among them, and the
reported numbers use three sets of words that never meet. The best mix on validation prompts is kept, as the paper says;
the released code keeps the last. A model that learns these tasks from clean examples leaves nothing to gain, so
everything is also measured with examples of which some mislead.

Controls:
- no examples
- random vectors with a mix learned for them, and with the task's mix
- another task's embedding, another task's mix, unrelated prompts with examples
- hard choices of heads, function vectors
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.core.loading import lazily
from workbench.core.stats.agreement import spearman
from workbench.core.stats.intervals import SHARE
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, needs
from workbench.papers.kit.criteria import above, at_least, at_most, groups_differ
from workbench.papers.options import Sizes, size
from workbench.papers.registry import add_paper
from workbench.tasks.mappings import SIZE
from workbench.view.pictures import Heatmap

with lazily():
    from workbench.edits import mix_trials, soft_injection, task_prompts

TASKS = (
    *("letter-to-animal", "number-to-animal", "person-to-city", "food-to-city"),
    *("pick-number", "pick-animal", "pick-letter"),
)
WORDS = SIZE - 15  # for test questions: ten places of words are for training, five for validation
CLEAN, MISLED = "clean examples", "misleading examples"
BETTER = f"{MISLED}, better of hard heads and function vector"


@dataclass(frozen=True, kw_only=True)
class SoftInjectionSizes(Sizes):
    """Tasks of ``workbench/tasks/mappings.py``, and sizes. Tasks that give words of one kind are similar.

    Seven, since six in three pairs can be paired in 15 ways only, too few for a p below 0.05.
    """

    tasks: tuple[str, ...] = size(TASKS, "tasks", several=2)
    prompts: int = size(50, "of which an embedding is the mean")
    shots: int = size(5, "examples of a prompt")
    misleading: float = size(0.5, "how likely each example misleads, in the second setting")
    steps: int = size(40, "in which a mix is learned")
    seeds: int = size(2, "of a mix; a condition is their mean")
    test: int = size(11, "prompts; there are as many words", least=2, most=WORDS)


def measure(setting: Setting) -> Conditions:
    """Every task with clean and with misleading examples, then every mix on every other task."""
    o, model, split = setting.options, setting.model, task_prompts.Split.drawn(setting.seed)
    sizes = {"shots": o.shots, "n": o.prompts, "n_test": o.test, "seed": setting.seed}
    parts = {name: Conditions(seed=setting.seed) for name in o.tasks}
    drawn, mixes = {}, {}
    for kind, wrong in ((CLEAN, 0.0), (MISLED, o.misleading)):
        drawn[kind] = [task_prompts.prompts_of(model, name, split, wrong=wrong, **sizes) for name in parts]
        mixes[kind] = [_ask_task(setting, c, kind, drawn[kind], i) for i, c in enumerate(parts.values())]
    c = Conditions.joined(parts, crossed=True)
    judge_better(c)
    accuracy = mix_trials.accuracy_of_mixes(model, mixes[CLEAN], drawn[CLEAN])
    judge_transfer(c, accuracy, task_prompts.similar_groups(drawn[CLEAN]))
    _summarise(c, parts)
    return c


def _ask_task(
    setting: Setting, c: Conditions, kind: str, drawn: Sequence[task_prompts.Prompts], i: int
) -> soft_injection.Mix:
    """Learn a mix and ask the test questions under it and everything it is compared with; gives the mix."""
    o, seed = setting.options, setting.seed + i
    setting.progress(i, len(drawn), f"{kind}: {o.tasks[i]}")
    step = soft_injection.SoftMix(steps=o.steps, batch=8, every=max(1, o.steps // 4))
    seeds = [seed + 1000 * k for k in range(o.seeds)]
    tried = mix_trials.try_mix(setting.model, drawn, i, options=step, seeds=seeds, content=kind == CLEAN)
    for name, right in tried.right.items():
        kept: Any = c.draws if isinstance(right, list) else c
        kept[f"{kind}, {name}"] = right
    c.numbers |= tried.numbers
    return tried.alpha


def judge_better(c: Conditions) -> None:
    """Name the better of the two that a soft mix is compared with."""
    best = max((f"{MISLED}, hard heads", f"{MISLED}, function vector"), key=c.mean)
    c.values[BETTER], c.measures[BETTER] = c[best], c.measures[best]
    c.numbers["better"] = best.removeprefix(f"{MISLED}, ")


def judge_transfer(c: Conditions, accuracy: np.ndarray, groups: Sequence[int]) -> None:
    """What another task's mix costs, between similar and between dissimilar tasks."""
    lost, near, far = mix_trials.transfer_cost(accuracy, groups)
    c.numbers |= {"accuracy lost": lost.tolist(), "groups": list(groups), "n tasks": len(groups)}
    c.numbers |= {"lost to similar": near, "lost to dissimilar": far, "lost more": far - near}


def _summarise(c: Conditions, parts: Mapping[str, Conditions]) -> None:
    """One value per task of what was learned, and what a mix costs other tasks as a picture."""
    numbers, names = [part.numbers for part in parts.values()], list(parts)
    for name in ("near ends", "near ends, kept mix", "near ends, random vectors"):
        found = np.array([one[name] for one in numbers])
        c.add(name, found, within=SHARE, unit="share of heads with alpha near 0 or 1")
    for name in ("alpha", "alpha, random vectors"):
        # where all heads have one alpha, or no effect, there is no correlation
        along = np.array([spearman(np.ravel(one[name]), np.ravel(one["effects"])) for one in numbers])
        c.add(f"effects and {name}", along, within=(-1.0, 1.0), unit="rank correlation", undefined=True)
    c.numbers["tasks"] = dict(zip(names, numbers, strict=True))
    c.draw_heads(f"alpha, {names[0]}", np.array(numbers[0]["alpha"]), unit="share")
    axes = {"row_title": "mix learned for", "column_title": "questions of", "unit": "accuracy lost"}
    c.pictures["Another task's mix"] = Heatmap.of(np.array(c.numbers["accuracy lost"]), names, names, **axes)


def _beats_examples(kind: str, name: str, says: str, paper: str) -> Claim:
    few, own = f"{kind}, examples", f"{kind}, {name}"
    full = f"{{{few}:.1%}} are right after examples: there is nothing left to gain"
    return Claim(
        says,
        at_least(own, 0.05, over=few) & above(own, few),
        paper=paper,
        why="the same test questions, with and without examples; half of the smallest gain in the paper",
        where="57 tasks, 12 models, 10 examples",
        needs=[needs(at_most(few, 0.95), full, "control", "found")],
    )


LEARNS = needs(
    at_least(f"{CLEAN}, examples", 0.5),
    f"the model does not learn these tasks from examples: {{{CLEAN}, examples:.0%}} right after them",
)
BEATS = "soft injection is better than the prompts with examples it was made from"
CLAIMS = {
    "does": Claim(
        "a learned mix of mean head outputs makes the model do the task without examples",
        at_least(f"{CLEAN}, soft", 0.3, over=f"{CLEAN}, no examples")
        & at_least(f"{CLEAN}, soft", 0.3, over=f"{CLEAN}, random vectors")
        & above(f"{CLEAN}, soft", f"{CLEAN}, random vectors"),
        why="random vectors of the same lengths with their own learned mix show what tuning alone would "
        "give; the embedding adds only what is left above that, so the same gain is asked over both",
        where="the method", control=f"{{{CLEAN}, random vectors}}",
    ),
    "clean": _beats_examples(CLEAN, "soft", f"{BEATS} (clean examples)", "+0.10 to +0.14"),
    "misled": _beats_examples(MISLED, "soft", f"{BEATS} (misleading examples)", "+0.10 to +0.14"),
    "one prompt": _beats_examples(
        MISLED, "one prompt", "soft injection from a single prompt is better than prompts, too (misleading examples)",
        "0.887 against 0.767",
    ),
    "others": Claim(
        "a soft mix is better than a hard choice of heads and than a function vector (misleading examples)",
        above(f"{MISLED}, soft", BETTER),
        why="both have their number of heads and layer chosen on validation prompts; the better is: {better}",
        where="baselines",
    ),
    "content": Claim(
        "what is injected says which task is done: another task's embedding brings that task's answers",
        at_least(f"{CLEAN}, other task's answer", 0.3) & at_most(f"{CLEAN}, other task", 0.2),
        why="a wrong target is the control that tells content from disturbance; own answers are the control here",
        where="a control of ours", control=f"{{{CLEAN}, other task}}", n=f"{{n of {CLEAN}, other task}}",
    ),
    "bimodal": Claim(
        "most shares end near 0 or 1", at_least("near ends", 0.8), paper="0.8 to 0.9",
        why="the lower end of the paper's range, whose code keeps the last mix; the control is the mix learned for "
        "random vectors: a share as high there means the optimiser, not the task, drives shares apart",
        where="distribution of alpha", control="{near ends, random vectors}",
    ),
    "transfer": Claim(
        "where to inject carries over to similar tasks, not to dissimilar ones",
        groups_differ("accuracy lost", "groups", larger=True)
        & at_most("lost to similar", 0.1)
        & at_least("lost more", 0.1),
        why="the cost for dissimilar tasks against that for similar ones; each task keeps its own "
        "embedding; tasks are permuted, not pairs, since all pairs of a task share it",
        where="transfer of head positions", found="{lost to dissimilar}", control="{lost to similar}",
        n="{n tasks}",
    ),
    "relevance": Claim(
        "the learned shares say which heads matter",
        at_least("effects and alpha", 0.3) & above("effects and alpha"),
        why="alpha is read as a map of relevance; the effect is measured on training prompts; the control "
        "is the mix learned for random vectors",
        where="an extension of ours: a use of alpha, not a number of the paper",
        control="{effects and alpha, random vectors}",
    ),
}  # fmt: skip
REPLICATION = add_paper(Paper(
    name="soft-injection", source="Park and Rhee 2025", model="zoo:icl", options=SoftInjectionSizes,
    measure=measure, needs=[LEARNS], claims=CLAIMS,
))  # fmt: skip
