"""Soft injection of task embeddings (Park and Rhee 2025): a task as a learned mix of mean head outputs.

Embeddings and mixes, the choice among them, and the reported numbers use three sets of words that never meet. A model
that learns these tasks from clean examples leaves nothing to gain, so everything is also measured with examples of
which some mislead.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from workbench.core.errors import TaskError
from workbench.core.stats.agreement import spearman
from workbench.core.stats.intervals import SHARE
from workbench.core.stats.permutation import groupings
from workbench.edits.questions import Questions, losses, right_answers
from workbench.edits.soft_injection import (
    SoftMix,
    function_vector,
    hardest,
    injection,
    learn_mix,
    mix_loss,
    near_ends,
    single_effects,
    task_embedding,
    vector_added,
)
from workbench.edits.task_prompts import Prompts, Split, prompts_of, right_with, scrambled
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, above, at_least, at_most, fact, needs, permuted
from workbench.papers.options import SoftInjectionSizes
from workbench.view.pictures import Heatmap

HARD = (1, 2, 4, 8, 16)  # heads to choose from for the hard choice
VECTOR = 4  # heads in a function vector
# Criteria, fixed before anything was measured.
GAIN = 0.3  # over no examples, and also over the same with random vectors
MORE = 0.05  # over few-shot prompts: half of the paper's smallest gain
ROOM = 0.95  # few-shot accuracy above which nothing can be gained
LEARNS = 0.5  # few-shot accuracy below which the model does not do the tasks at all
BIMODAL = 0.8  # the lower end of the paper's range
KEPT, LOST = (
    0.1,
    0.1,
)  # accuracy lost to a similar task's mix at most; how much more to a dissimilar one's at least
ALIKE = 0.3  # rank correlation
OVER = "interval above zero (tasks and words resampled)"
CLEAN, MISLED = "clean examples", "misleading examples"


def measure(setting: Setting) -> Conditions:
    """Every task with clean and with misleading examples, then every mix on every other task."""
    options: SoftInjectionSizes = setting.options
    split = Split.drawn(setting.seed)
    parts = {name: Conditions() for name in options.tasks}
    for kind, wrong in ((CLEAN, 0.0), (MISLED, options.misleading)):
        drawn = {name: _prompts(setting, name, split, wrong) for name in parts}
        for i, (name, c) in enumerate(parts.items()):
            setting.progress(i, len(parts), f"{kind}: {name}")
            _ask_task(setting, c, kind, drawn[name], drawn[unlike(drawn, i)], seed=setting.seed + i)
        if kind == CLEAN:
            clean = drawn
    c = Conditions.joined(parts, crossed=True)
    c.seed = setting.seed
    alphas = {name: np.array(part.numbers["alpha"]) for name, part in parts.items()}
    c.numbers["transfer"] = _transfer(setting, clean, alphas)
    _summarise(c, parts)
    c.numbers["split"] = {name: list(part) for name, part in vars(split).items()}
    setting.progress(len(parts), len(parts), "done")
    return c


def _prompts(setting: Setting, name: str, split: Split, wrong: float) -> Prompts:
    o: SoftInjectionSizes = setting.options
    sizes = {"shots": o.shots, "n": o.prompts, "n_test": o.test}
    return prompts_of(setting.model, name, split, wrong=wrong, seed=setting.seed, **sizes)


def unlike(drawn: Mapping[str, Prompts], i: int) -> str:
    """The next task that gives words of another kind, one of as many words if there is one."""
    names = list(drawn)
    turned = names[i + 1 :] + names[:i]
    own = drawn[names[i]].task
    other = [name for name in turned if drawn[name].task.gives != own.gives] or turned
    alike = [name for name in other if (drawn[name].task.inputs == "three") == (own.inputs == "three")]
    return (alike or other)[0]


def _ask_task(
    setting: Setting, c: Conditions, kind: str, prompts: Prompts, other: Prompts, *, seed: int
) -> None:
    """Learn a mix and ask the test questions under it and everything it is compared with.

    With misleading examples only what competes: a mix learned for a single prompt's embedding instead of the controls
    with random vectors and other tasks.
    """
    model, options, t, test = setting.model, setting.options, prompts.embedding, prompts.test
    c.model, c.score = model, lambda m: right_answers(m, test).numpy()
    step = SoftMix(steps=options.steps, batch=options.batch, every=max(1, options.steps // 4))

    def learned(embedding):
        words = {"training": prompts.training, "validation": prompts.validation}
        return learn_mix(model, embedding, options=step, seed=seed, **words)

    mix = learned(t)
    alpha, one = mix.alpha, task_embedding(model, prompts.single)
    effects = single_effects(model, t, prompts.training.subset(range(min(16, len(prompts.training)))))
    c[f"{kind}: no examples"] = None
    c[f"{kind}: examples"] = right_answers(model, prompts.shown).numpy()
    c[f"{kind}: soft"] = injection(t, alpha)
    c[f"{kind}: one prompt"] = injection(one, learned(one).alpha if kind == MISLED else alpha)
    c[f"{kind}: open heads only"] = injection(t, (alpha > 0.5).to(t))
    c[f"{kind}: hard heads"] = injection(t, _hard(setting, prompts, effects))
    c[f"{kind}: function vector"] = _with_vector(setting, prompts, effects)
    if kind == MISLED:
        return
    noise = scrambled(t, seed=seed)
    random = learned(noise)
    c[f"{kind}: random vectors"] = injection(noise, random.alpha)
    c[f"{kind}: same mix, random vectors"] = injection(noise, alpha)
    c[f"{kind}: unrelated examples"] = right_answers(model, other.shown).numpy()
    c[f"{kind}: unrelated examples, injected"] = right_with(model, injection(t, alpha), other.shown).numpy()
    c[f"{kind}: other task"] = injection(other.embedding, alpha)
    wanted = _as_other(setting, prompts, other)
    if len(wanted.rows):
        answered = right_with(model, injection(other.embedding, alpha), wanted)
        c[f"{kind}: other task's answer"] = answered.numpy()
    c.numbers |= {"near ends": near_ends(mix.last), "near ends, kept mix": near_ends(alpha)}
    c.numbers["near ends, random vectors"] = near_ends(random.last)
    grids = {"alpha": alpha, "alpha, random vectors": random.alpha, "effects": effects}
    c.numbers |= {name: grid.cpu().numpy().tolist() for name, grid in grids.items()}


def _hard(setting: Setting, prompts: Prompts, effects: torch.Tensor) -> torch.Tensor:
    """The heads with the largest single effects, as many as do best on validation prompts."""
    choices = [hardest(effects, k) for k in HARD if k <= effects.numel()]
    return min(choices, key=lambda a: mix_loss(setting.model, prompts.embedding, a, prompts.validation))


def _with_vector(setting: Setting, prompts: Prompts, effects: torch.Tensor) -> np.ndarray:
    """Answers with the function vector of the best heads, added in the layer that is best on validation prompts."""
    order = effects.flatten().argsort(descending=True, stable=True)[:VECTOR].tolist()
    vector = function_vector(setting.model, prompts.embedding, [divmod(i, effects.shape[1]) for i in order])

    def lost(layer: int) -> float:
        with vector_added(setting.model, vector, layer=layer):
            return float(losses(setting.model, prompts.validation).mean())

    with vector_added(setting.model, vector, layer=min(range(effects.shape[0]), key=lost)):
        return right_answers(setting.model, prompts.test).numpy()


def _as_other(setting: Setting, prompts: Prompts, other: Prompts) -> Questions:
    """The own questions with the answers that the other task would give, those that it has an answer to."""
    rows, answers = [], []
    for word, row in zip(prompts.words, prompts.test.rows, strict=True):
        try:
            wanted = prompts.task.turned(other.task.gives, word)
        except TaskError:
            continue
        rows.append(row)
        answers.append(int(setting.model.to_tokens(f"{word} {wanted}")[0][-1]))
    return Questions(rows=tuple(rows), answers=tuple(answers))


def _transfer(setting: Setting, drawn: Mapping[str, Prompts], alphas: Mapping[str, np.ndarray]) -> dict:
    """Accuracy of every task's questions and embedding (columns) under every task's mix; and which tasks are alike."""
    names, accuracy = list(drawn), np.zeros((len(drawn), len(drawn)))
    for j, own in enumerate(drawn.values()):
        for i, name in enumerate(names):
            edit = injection(own.embedding, torch.from_numpy(alphas[name]).to(own.embedding))
            accuracy[i, j] = right_with(setting.model, edit, own.test).float().mean()
    tasks = [own.task for own in drawn.values()]
    groups = [next(i for i, first in enumerate(tasks) if first.similar(task)) for task in tasks]
    return {"tasks": names, "accuracy": accuracy.tolist(), "groups": groups}


def _summarise(c: Conditions, parts: Mapping[str, Conditions]) -> None:
    """One value per task of what was learned, and the pictures of the first task and of all."""

    def each(name: str) -> list:
        return [part.numbers[name] for part in parts.values()]

    def along(name: str) -> list[float]:
        flat = ((np.ravel(a), np.ravel(e)) for a, e in zip(each(name), each("effects"), strict=True))
        return [spearman(alpha, effects) for alpha, effects in flat]

    for name in ("near ends", "near ends, kept mix", "near ends, random vectors"):
        c.add(name, np.array(each(name)), within=SHARE, unit="share of heads with alpha near 0 or 1")
    for name in ("alpha", "alpha, random vectors"):
        # where all heads have one alpha, or no effect, there is no correlation
        values, unit = np.array(along(name)), "rank correlation"
        c.add(f"effects and {name}", values, within=(-1.0, 1.0), unit=unit, undefined=True)
    c.numbers["tasks"] = {name: part.numbers for name, part in parts.items()}
    first, grid = next(iter(parts)), np.array(each("alpha"))
    rows, heads = [f"layer {i}" for i in range(grid.shape[1])], [f"head {i}" for i in range(grid.shape[2])]
    c.pictures["alpha"] = Heatmap.of(grid[0], rows, heads, title=f"alpha, {first}", unit="share")
    c.pictures["mean alpha"] = Heatmap.of(
        grid.mean(0), rows, heads, title="alpha, mean of all tasks", unit="share"
    )
    c.pictures["effects"] = Heatmap.of(
        np.array(each("effects")[0]),
        rows,
        heads,
        title=f"Effect of each embedding alone, {first}",
        unit="nats",
    )
    spread = c.numbers["transfer"]
    c.pictures["transfer"] = Heatmap.of(
        np.array(spread["accuracy"]),
        spread["tasks"],
        spread["tasks"],
        title="Accuracy with another task's mix",
        row_title="mix learned for",
        column_title="embedding and questions of",
        unit="accuracy",
    )


# -- claims -------------------------------------------------------------------------------------------------


def lost(groups: np.ndarray, c: Conditions) -> tuple[float, float]:
    """Mean accuracy lost to another task's mix, between similar and between dissimilar tasks."""
    accuracy = np.array(c.numbers["transfer"]["accuracy"])
    cost, alike = np.diag(accuracy)[None] - accuracy, groups[:, None] == groups[None]
    return float(cost[alike & ~np.eye(len(alike), dtype=bool)].mean()), float(cost[~alike].mean())


def _groups(c: Conditions) -> np.ndarray:
    return np.array(c.numbers["transfer"]["groups"])


def _ways(c: Conditions) -> int:
    return groupings(_groups(c).tolist())


def _mixed(c: Conditions) -> bool:
    """Whether some tasks are similar and some are not."""
    return 1 < len(set(_groups(c).tolist())) < len(_groups(c))


def _more_is_lost(groups: np.ndarray, c: Conditions) -> float:
    near, far = lost(groups, c)
    return far - near


def _small_between_similar(c: Conditions) -> bool:
    near, far = lost(_groups(c), c)
    return near <= KEPT and far - near >= LOST


def _better_of_two(c: Conditions) -> str:
    return max((f"{MISLED}: hard heads", f"{MISLED}: function vector"), key=c.mean)


def _above_the_better(c: Conditions) -> bool:
    best = _better_of_two(c)
    return c.mean(f"{MISLED}: soft", best) > 0 and c.interval(f"{MISLED}: soft", best).low > 0


def _beats_examples(kind: str, name: str, says: str, paper: str) -> Claim:
    few, own = f"{kind}: examples", f"{kind}: {name}"
    return Claim(
        says,
        at_least(own, MORE, over=few) & above(own, few),
        f"accuracy at least {MORE} above that after examples, {OVER}",
        paper=paper,
        why="the same test questions, with and without examples; half of the smallest gain in the paper",
        where="57 tasks, 12 models, 10 examples",
        needs=[
            needs(
                at_most(few, ROOM),
                lambda c: f"{c.mean(few):.1%} are right after examples: there is nothing left to gain",
                "control",
                "found",
            )
        ],
    )


CLAIMS = {
    "does": Claim(
        "a learned mix of mean head outputs makes the model do the task without examples",
        at_least(f"{CLEAN}: soft", GAIN, over=f"{CLEAN}: no examples")
        & at_least(f"{CLEAN}: soft", GAIN, over=f"{CLEAN}: random vectors")
        & above(f"{CLEAN}: soft", f"{CLEAN}: random vectors"),
        f"accuracy at least {GAIN} above no examples, and at least {GAIN} above random vectors with a mix learned for "
        f"them, for the latter {OVER}",
        why="random vectors of the same lengths with their own learned mix show what tuning alone would give; the "
        "embedding adds only what is left above that, so the same gain is asked over both",
        where="the method",
        control=lambda c: c.mean(f"{CLEAN}: random vectors"),
    ),
    "clean": _beats_examples(
        CLEAN,
        "soft",
        "soft injection is better than the prompts with examples it was made from (clean examples)",
        "+0.10 to +0.14",
    ),
    "misled": _beats_examples(
        MISLED,
        "soft",
        "soft injection is better than the prompts with examples it was made from (misleading examples)",
        "+0.10 to +0.14",
    ),
    "one prompt": _beats_examples(
        MISLED,
        "one prompt",
        "also with the embedding of a single prompt (misleading examples)",
        "0.887 against 0.767",
    ),
    "others": Claim(
        "a soft mix is better than a hard choice of heads and than a function vector (misleading examples)",
        fact(
            "above the better of the two",
            _above_the_better,
            intervals=lambda c: [c.interval(f"{MISLED}: soft", _better_of_two(c))],
        ),
        f"accuracy above the better of the two, {OVER}",
        why=lambda c: (
            "both have their number of heads and layer chosen on validation prompts; the better is: "
            f"{_better_of_two(c).removeprefix(f'{MISLED}: ')}"
        ),
        where="baselines",
        found=lambda c: c.mean(f"{MISLED}: soft"),
        control=lambda c: c.mean(_better_of_two(c)),
        n=lambda c: c.n(f"{MISLED}: soft"),
    ),
    "content": Claim(
        "what is injected says which task is done: another task's embedding brings that task's answers",
        at_least(f"{CLEAN}: other task's answer", 0.3) & at_most(f"{CLEAN}: other task", 0.2),
        "under the learned mix, another task's embedding leaves at most 0.2 of the own answers right and gives at "
        "least 0.3 of the other task's",
        why="a wrong target is the control that tells content from disturbance; own answers are the control here",
        where="a control of ours",
        control=lambda c: c.mean(f"{CLEAN}: other task"),
        n=lambda c: c.n(f"{CLEAN}: other task"),
    ),
    "bimodal": Claim(
        "most shares end near 0 or 1",
        at_least("near ends", BIMODAL),
        f"on average at least {BIMODAL:.0%} of the heads within 0.1 of 0 or 1 after the last step",
        paper="0.8 to 0.9",
        why="the lower end of the paper's range, whose code keeps the last mix; the control is the mix learned for "
        "random vectors: a share as high there means the optimiser, not the task, drives shares apart",
        where="distribution of alpha",
        control=lambda c: c.mean("near ends, random vectors"),
    ),
    "transfer": Claim(
        "where to inject carries over to similar tasks, not to dissimilar ones",
        permuted("what dissimilar tasks lose more", _more_is_lost, _groups)
        & fact("similar tasks lose little", _small_between_similar),
        f"another task's mix costs at most {KEPT} accuracy between similar tasks, and at least {LOST} more between "
        "dissimilar ones, p below 0.05 when it is permuted which tasks are similar",
        why="the cost for dissimilar tasks against that for similar ones; each task keeps its own embedding; tasks are "
        "permuted, not pairs, since all pairs of a task share it",
        where="transfer of head positions",
        needs=[
            needs(_mixed, "the tasks chosen are all similar, or none are"),
            needs(
                lambda c: _ways(c) > 20,
                lambda c: f"these tasks can be grouped in {_ways(c)} ways only: no p below 0.05 is possible",
            ),
        ],
        found=lambda c: lost(_groups(c), c)[1],
        control=lambda c: lost(_groups(c), c)[0],
        n=lambda c: len(_groups(c)),
    ),
    "relevance": Claim(
        "the learned shares say which heads matter",
        at_least("effects and alpha", ALIKE) & above("effects and alpha"),
        f"mean rank correlation of alpha with the effect of a head's embedding alone at least {ALIKE}, interval above "
        "zero (tasks resampled)",
        why="alpha is read as a map of relevance; the effect is measured on training prompts; the control is the mix "
        "learned for random vectors",
        where="an extension of ours: a use of alpha, not a number of the paper",
        control=lambda c: c.mean("effects and alpha, random vectors"),
    ),
}
REPLICATION = Paper(
    name="soft-injection",
    authors="Park and Rhee 2025",
    about="The mean output of every head after prompts with examples is a task embedding; a share of it for each head, "
    "learned on prompts without examples, is mixed in at the last position. Measured beside prompts with and without "
    "examples, hard choices of heads, function vectors, random vectors and other tasks' embeddings. The best mix on "
    "validation prompts is kept, as the paper says; the released code keeps the last.",
    options=SoftInjectionSizes,
    controls=(
        "no examples",
        "random vectors with a mix learned for them",
        "the learned mix with random vectors",
        "another task's embedding",
        "another task's mix",
        "unrelated prompts with examples, injected",
        "hard choices of heads, function vectors",
    ),
    measure=measure,
    needs=[
        needs(
            at_least(f"{CLEAN}: examples", LEARNS),
            lambda c: (
                "the model does not learn these tasks from examples: "
                f"{c.mean(f'{CLEAN}: examples'):.0%} right after them"
            ),
        )
    ],
    claims=CLAIMS,
)
