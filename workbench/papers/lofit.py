"""LoFiT: a few heads get a trained offset, and the model does unasked what it can do when shown examples.

A scale is learned for every dimension of every head, with an L1 penalty; the heads with the largest get a learned
offset at all positions, nothing else is trained. Beside it: heads that tell right from wrong shifted along the
difference of means (inference-time intervention, Li et al. 2023), random heads of the same layers, another task's heads
that are not among the own, and low-rank changes of queries and values. What is trained, what is chosen and what is
reported each has words of its own. Prompts about one place share their answer, so intervals and tests are over the
places of the test words; they are of these tasks, not over tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from workbench.core.claims import Rows
from workbench.core.errors import OptionError
from workbench.core.loading import lazily
from workbench.core.stats.agreement import jaccard
from workbench.core.stats.permutation import within_and_between
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, needs
from workbench.papers.kit.criteria import above, at_least, at_most, flips, groups_differ, no_worse
from workbench.papers.registry import add_paper

with lazily():
    from workbench.edits import iti, lofit, low_rank, questions, unasked

SEEDS = (0, 1, 2)  # of choosing heads: the nine runs of three tasks can be grouped in 280 ways
# Criteria, fixed before anything was measured.
BADLY = 0.5  # accuracy before, above which there is little to repair
ITI_GAIN = 0.1  # a third of the paper's gain of inference-time intervention
COMPARABLE = 0.05  # accuracy that LoFiT may lack to low-rank fine-tuning
FEWER = 20.0  # times fewer trained numbers, the lower end of the paper's range


@dataclass(frozen=True, kw_only=True)
class LofitSizes:
    """Sizes.

    Attributes:
        tasks: Of ``workbench/edits/unasked.py``; heads chosen for the next one are a control.
        unknown: A rule that the model was never taught, or nothing.
        heads: Numbers of heads; claims are judged at the last, the others are shown beside it (the paper: 3 % of all).
        seeds: Of choosing heads and of training, in every arm; a condition is their mean.
        random: Random choices of heads for each task and seed at the last number; one at the others.
        steps, batch, lr: Of learning offsets.
        scale_steps, scale_lr, penalty: Of learning scales (step 1).
    """

    tasks: tuple[str, ...] = ("animals", "cities", "mixed")
    unknown: str = "next-animal"
    heads: tuple[int, ...] = (1, 4)
    seeds: int = 2
    random: int = 2
    steps: int = 50
    batch: int = 16
    lr: float = 0.05
    scale_steps: int = 60
    scale_lr: float = 0.01
    penalty: float = 0.005
    rank: int = 1

    def __post_init__(self) -> None:
        if len(self.tasks) < 2 or not self.heads or min(self.heads) < 1 or self.random < 1:
            raise OptionError("at least two tasks, one head and one random choice of heads are needed")
        if not 1 <= self.seeds <= len(SEEDS):
            raise OptionError(f"seeds is {self.seeds}; heads are chosen with 1 to {len(SEEDS)}")


def measure(setting: Setting) -> Conditions:
    """Every condition of every task, one after the other; claims are about all tasks together."""
    o: LofitSizes = setting.options
    tasks = {name: unasked.make_task(name, setting.seed) for name in o.tasks}
    chosen: dict[str, list[lofit.Localised]] = {}
    for i, (name, task) in enumerate(tasks.items()):
        setting.progress(i, len(tasks), f"heads for {name}")
        chosen[name] = [_localised(setting, task, seed) for seed in SEEDS]
    parts = {}
    for i, name in enumerate(tasks):
        setting.progress(i, len(tasks), f"offsets for {name}")
        other = chosen[o.tasks[(i + 1) % len(tasks)]]
        parts[name] = _of_task(setting, tasks[name], chosen[name][: o.seeds], other)
    c, last = Conditions.joined(parts), o.heads[-1]
    c.seed = setting.seed
    c.numbers["ITI heads, strength"] = {task: part.numbers["ITI"] for task, part in parts.items()}
    c.numbers |= {"heads": last, "whole model": lofit.all_parameters(setting.model)}
    c.numbers |= {
        "by LoFiT": last * setting.model.cfg.d_head,
        "by low rank": low_rank.count(setting.model, rank=o.rank),
    }
    compare_choices(c, {name: [run.top(last) for run in runs] for name, runs in chosen.items()})
    c.tables["Heads chosen"] = _chosen_rows(chosen, last)
    if o.unknown:
        c.tables["A rule that the model was never taught"] = _unknown(setting)
    for name, (first, *_) in chosen.items():
        norms = dict(zip(first.heads, first.norms, strict=True))
        c.draw_heads(f"Norm of the learned scales, {name}", norms, unit="norm of a")
    return c


def compare_choices(c: Conditions, choices: Mapping[str, Sequence[Sequence[str]]]) -> None:
    """How much any two choices of heads share, and how many times fewer numbers offsets are."""
    runs = [heads for own in choices.values() for heads in own]
    c.numbers["choices"] = {name: [list(heads) for heads in own] for name, own in choices.items()}
    c.numbers["tasks of choices"] = [i for i, own in enumerate(choices.values()) for _ in own]
    c.numbers["shared heads"] = [[jaccard(here, there) for there in runs] for here in runs]
    overlap = within_and_between(np.array(c.numbers["shared heads"]), c.numbers["tasks of choices"])
    c.numbers |= {"shared within": overlap[0], "shared between": overlap[1], "n choices": len(runs)}
    c.numbers["times fewer"] = c.numbers["by low rank"] / c.numbers["by LoFiT"]


def _localised(setting: Setting, task: unasked.UnaskedTask, seed: int) -> lofit.Localised:
    o: LofitSizes = setting.options
    step = lofit.LofitStep(steps=o.scale_steps, lr=o.scale_lr, batch=o.batch, penalty=o.penalty)
    training = task.training.questions(setting.model)
    return lofit.localise(setting.model, training, options=step, seed=1000 * setting.seed + seed)


def _trained(setting: Setting, task: unasked.UnaskedTask, by: Any, **how: Any) -> Any:
    """Offsets, or a low-rank change, trained on the training words and kept at their best on the validation words."""
    o, model = setting.options, setting.model
    step = lofit.LofitStep(steps=o.steps, lr=o.lr, batch=o.batch, every=max(1, o.steps // 4))
    words = {"training": task.training.questions(model), "validation": task.validation.questions(model)}
    return by(model, **words, options=step, **how)


def _of_task(
    setting: Setting,
    task: unasked.UnaskedTask,
    chosen: Sequence[lofit.Localised],
    other: Sequence[lofit.Localised],
) -> Conditions:
    """Every condition of one task: at the last number of heads by its name, at the others with the number."""
    model, o, seed = setting.model, setting.options, setting.seed
    test, train = task.test.questions(model), partial(_trained, setting, task)
    offsets = partial(train, lofit.train_offsets)
    c = Conditions(model=model, clusters=task.test.places)
    c.score = lambda m: questions.right_answers(m, test).numpy()
    c["nothing"] = None
    *found, c["ITI"] = iti.best_shift(model, unasked.probes_of(model, task), task.validation.questions(model))
    c.numbers["ITI"] = found
    for n in o.heads:
        own, more = [one.top(n) for one in chosen], "" if n == o.heads[-1] else f", {n} head(s)"
        several = {"draws": 1 if more else o.random, "allowed": lofit.all_heads(model)}
        c.draws[f"LoFiT{more}"] = [offsets(heads=heads, seed=seed + i) for i, heads in enumerate(own)]
        c.draws[f"another task's heads{more}"] = [
            offsets(heads=others(other[i], heads), seed=seed + i) for i, heads in enumerate(own)
        ]
        c.draws[f"random heads{more}"] = [
            offsets(heads=drawn, seed=seed + i)
            for i, heads in enumerate(own)
            for drawn in c.matched(heads, seed=[seed, i, *task.name.encode()], **several)
        ]
    c.draws["low rank"] = [train(low_rank.train_low_rank, rank=o.rank, seed=seed + i) for i in range(o.seeds)]
    return c


def _chosen_rows(chosen: Mapping[str, Sequence[lofit.Localised]], k: int) -> Rows:
    """The first heads of every task, those of another seed, and how many of them the next task's choice has too."""
    following = [*chosen.values()][1:] + [*chosen.values()][:1]
    return [
        {
            "task": name,
            "largest scales": ", ".join(
                f"{h} {x:.2f}" for h, x in zip(one.heads[:6], one.norms, strict=False)
            ),
            "again, another seed": ", ".join(again.heads[:6]),
            f"of the first {k}, also the next task's": len({*one.top(k)} & {*other[0].top(k)}),
        }
        for (name, (one, again, *_)), other in zip(chosen.items(), following, strict=True)
    ]


def others(other: lofit.Localised, own: Sequence[str]) -> tuple[str, ...]:
    """As many of another task's first heads, none of the own: what both have cannot tell them apart."""
    return tuple(head for head in other.heads if head not in own)[: len(own)]


def _unknown(setting: Setting) -> Rows:
    """Can offsets teach a rule on words, rather than choose among those that are there?"""
    task, model = unasked.make_task(setting.options.unknown, setting.seed), setting.model
    heads = _localised(setting, task, 0).top(setting.options.heads[-1])
    edit = _trained(setting, task, lofit.train_offsets, heads=heads, seed=setting.seed)
    rows = []
    for words, part in (("trained words", task.training), ("other words", task.test)):
        c = Conditions(
            model=model, score=lambda m, p=part: questions.right_answers(m, p.questions(m)).numpy()
        )
        c["before"], c["LoFiT"] = None, edit
        rows.append({"words": words, **{name: c.mean(name) for name in c.values}, "n": c.n("before")})
    return rows


REPAIRS = needs(
    at_most("nothing", BADLY), "{nothing:.0%} are right without any change: there is little to repair"
)
WORKS = needs(
    above("LoFiT", "nothing"),
    "offsets of {heads} head(s) change too little: {LoFiT minus nothing:+.3f} accuracy over no change",
    *("found", "n"),
)
DRAWN = needs(lambda c: "random heads" in c, "some layer has too few other heads to draw from")
WHICH = (
    "where offsets change nothing no choice of heads can matter, so it is judged with as many heads as the claims "
    "about how well it works; heads that both choices have are left out of the other; the same training for all"
)
Which = partial(Claim, why=WHICH, needs=[WORKS], family="which heads")
CLAIMS = {
    "iti": Claim(
        "shifting the heads that tell right from wrong makes more answers right (inference-time intervention)",
        at_least("ITI", ITI_GAIN, over="nothing") & above("ITI", "nothing"),
        paper="0.325 to 0.651",
        why="a third of the paper's gain; heads and strength are chosen on other words",
        where="inference-time intervention (Li et al. 2023, abstract: Alpaca on TruthfulQA)",
    ),
    "against": Claim(
        "trained offsets are better than inference-time intervention",
        above("LoFiT", "ITI"),
        why="the same training and validation words for both, paired over test prompts of these tasks",
        where="inference-time intervention as baseline",
    ),
    "random": Which(
        "the heads chosen are better than random heads of the same layers",
        flips("LoFiT", "random heads"),
        where="a control of ours",
        needs=[DRAWN, WORKS],
    ),
    "other": Which(
        "heads chosen for another task, and not for this one, do worse than the task's own",
        flips("LoFiT", "another task's heads"),
        where="abstract",
    ),
    "low rank": Claim(
        "as good as low-rank fine-tuning with 20 to 200 times fewer trained numbers",
        no_worse("LoFiT", "low rank", within=COMPARABLE) & at_least("times fewer", FEWER),
        paper="20 to 200 times",
        why="{by LoFiT} against {by low rank:,} numbers ({times fewer:.0f} times; the whole model has "
        "{whole model:,}); both keep the best on validation words",
        where="abstract",
    ),
    "own": Claim(
        "different tasks choose different heads",
        groups_differ("shared heads", "tasks of choices"),
        why="overlap between seeds is the most that overlap between tasks could be; if tasks did not matter, all "
        "choices would be draws of one kind",
        where="abstract: the choice is task-specific",
        found="{shared between}",
        control="{shared within}",
        n="{n choices}",
    ),
}
REPLICATION = add_paper(
    Paper(
        name="lofit",
        title="Localized fine-tuning and inference-time intervention",
        source="Yin, Ye and Durrett 2024, arXiv:2406.01563; Li et al. 2023, arXiv:2306.03341",
        authors="Yin et al. 2024",
        model="zoo:icl",
        options=LofitSizes,
        controls=(
            "random heads of the same layers",
            "heads chosen for another task and not for this one",
            "inference-time intervention",
            "low-rank fine-tuning",
            "a rule that the model was never taught",
        ),
        measure=measure,
        needs=[REPAIRS],
        claims=CLAIMS,
    )
)
