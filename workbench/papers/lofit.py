"""LoFiT: a few heads get a trained offset, and the model does unasked what it can do when shown examples.

A scale is learned for every dimension of every head, with an L1 penalty; the heads with the largest get a learned
offset at all positions, nothing else is trained. What is trained, what is chosen and what is reported each has words
of its own. Prompts about one place share their answer, so intervals and tests are over the places of the test words;
they are of these tasks, not over tasks.

Controls:
- random heads of the same layers
- heads chosen for another task and not for this one
- heads that tell right from wrong, shifted along the difference of means (inference-time intervention)
- low-rank changes of queries and values
- a rule that the model was never taught
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from workbench.core.claims import Rows
from workbench.core.errors import OptionError
from workbench.core.loading import lazily
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, needs
from workbench.papers.kit.criteria import above, at_least, at_most, flips, groups_differ, no_worse
from workbench.papers.options import Sizes, size
from workbench.papers.registry import add_paper

with lazily():
    from workbench.edits import iti, lofit, low_rank, unasked

SEEDS = (0, 1, 2)  # of choosing heads: the nine runs of three tasks can be grouped in 280 ways
RATE, SCALE_RATE, BATCH, RANK = 0.05, 0.01, 16, 1  # for a model of this size


@dataclass(frozen=True, kw_only=True)
class LofitSizes(Sizes):
    """How much is trained. Every arm is trained with each seed, and a condition is their mean."""

    tasks: tuple[str, ...] = size(("animals", "cities", "mixed"), "of workbench/edits/unasked.py")
    unknown: str = size("next-animal", "a rule that the model was never taught")
    heads: tuple[int, ...] = size(
        (1, 4), "claims are judged at the last (3 % of all), others beside it", least=1
    )
    seeds: int = size(2, "of every arm", least=1)
    random: int = size(2, "choices of heads, for each task and seed", least=1)
    steps: int = size(50, "of what is trained after scales")
    scale_steps: int = size(60, "in which scales are learned")
    penalty: float = size(0.005, "on scales (L1)")

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.tasks) < 2 or self.seeds > len(SEEDS):
            raise OptionError(
                f"{len(self.tasks)} tasks, {self.seeds} seeds; two tasks are the least, {len(SEEDS)} seeds the most",
                hint=f"--set tasks=animals,cities --set seeds={len(SEEDS)}",
            )


def measure(setting: Setting) -> Conditions:
    """Every condition of every task, one after the other; claims are about all tasks together."""
    o, model, last = setting.options, setting.model, setting.options.heads[-1]
    tasks = [unasked.make_task(name, setting.seed) for name in o.tasks]
    chosen = [[_localised(setting, task, seed) for seed in SEEDS] for task in tasks]
    asked = zip(tasks, chosen, [*chosen[1:], chosen[0]], strict=True)
    parts = {task.name: _of_task(setting, task, *runs) for task, *runs in asked}
    c = Conditions.joined(parts)
    c.seed = setting.seed
    c.numbers["ITI heads, strength"] = {name: part.numbers["ITI"] for name, part in parts.items()}
    c.numbers |= {"heads": last, "whole model": lofit.all_parameters(model)}
    c.numbers |= {"by LoFiT": last * model.cfg.d_head, "by low rank": low_rank.count(model, rank=RANK)}
    tops = [[run.top(last) for run in runs] for runs in chosen]
    compare_choices(c, dict(zip(parts, tops, strict=True)))
    if o.unknown:
        c.tables["A rule that the model was never taught"] = _unknown(setting)
    return c


def compare_choices(c: Conditions, choices: Mapping[str, Sequence[Sequence[str]]]) -> None:
    """How much any two choices of heads share, and how many times fewer numbers offsets are."""
    found = lofit.share_choices(choices)
    c.numbers |= {"shared heads": found.shared, "tasks of choices": found.tasks}
    c.numbers |= {"shared within": found.within, "shared between": found.between}
    c.numbers |= {
        "n choices": len(found.tasks),
        "times fewer": c.numbers["by low rank"] / c.numbers["by LoFiT"],
    }
    c.tables["Heads chosen, and how many of them for the next task too"] = found.rows


def _localised(setting: Setting, task: unasked.UnaskedTask, seed: int) -> lofit.Localised:
    o, training = setting.options, task.training.questions(setting.model)
    step = lofit.LofitStep(steps=o.scale_steps, lr=SCALE_RATE, batch=BATCH, penalty=o.penalty)
    return lofit.localise(setting.model, training, options=step, seed=1000 * setting.seed + seed)


def _trained(setting: Setting, task: unasked.UnaskedTask, by: Any, **how: Any) -> Any:
    """Offsets, or a low-rank change, trained on the training words and kept at their best on the validation words."""
    steps, model = setting.options.steps, setting.model
    step = lofit.LofitStep(steps=steps, lr=RATE, batch=BATCH, every=max(1, steps // 4))
    words = {"training": task.training.questions(model), "validation": task.validation.questions(model)}
    return by(model, **words, options=step, **how)


def _of_task(setting: Setting, task: unasked.UnaskedTask, *runs: Sequence[lofit.Localised]) -> Conditions:
    """Every condition of one task: at the last number of heads by its name, at the others with the number."""
    model, o, seed, (chosen, others) = setting.model, setting.options, setting.seed, runs
    setting.progress(o.tasks.index(task.name), len(o.tasks), f"offsets for {task.name}")
    train, seeds = partial(_trained, setting, task), range(seed, seed + o.seeds)
    c = Conditions(model=model, clusters=task.test.places, score=task.test.answered)
    c["nothing"] = None
    probes, validation = unasked.probes_of(model, task), task.validation.questions(model)
    *c.numbers["ITI"], c["ITI"] = iti.best_shift(model, probes, validation)
    for n in o.heads:
        own, more = [run.top(n) for run in chosen[: o.seeds]], "" if n == o.heads[-1] else f", {n} head(s)"
        drawn = partial(c.matched, allowed=lofit.all_heads(model), draws=1 if more else o.random)
        every = [drawn(heads, seed=[seed, i, *task.name.encode()]) for i, heads in enumerate(own)]
        other = [[run.unlike(heads)] for run, heads in zip(others, own, strict=False)]
        arms = {"LoFiT": [[heads] for heads in own], "another task's heads": other, "random heads": every}
        for name, sets in arms.items():
            each = [(at, heads) for at, some in zip(seeds, sets, strict=True) for heads in some]
            offsets = [train(lofit.train_offsets, heads=heads, seed=at) for at, heads in each]
            c.draws[f"{name}{more}"] = offsets
    c.draws["low rank"] = [train(low_rank.train_low_rank, rank=RANK, seed=at) for at in seeds]
    return c


def _unknown(setting: Setting) -> Rows:
    """Can offsets teach a rule on words, rather than choose among those that are there?"""
    task, rows = unasked.make_task(setting.options.unknown, setting.seed), []
    heads = _localised(setting, task, 0).top(setting.options.heads[-1])
    edit = _trained(setting, task, lofit.train_offsets, heads=heads, seed=setting.seed)
    for words, part in (("trained words", task.training), ("other words", task.test)):
        c = Conditions(model=setting.model, score=part.answered)
        c["before"], c["LoFiT"] = None, edit
        rows.append({"words": words, "before": c.mean("before"), "LoFiT": c.mean("LoFiT"), "n": c.n("LoFiT")})
    return rows


REPAIRS = needs(
    at_most("nothing", 0.5), "{nothing:.0%} are right without any change: there is little to repair"
)
WORKS = needs(
    above("LoFiT", "nothing"),
    "offsets of {heads} head(s) change too little: {LoFiT minus nothing:+.3f} accuracy over no change",
    *("found", "n"),
)
DRAWN = needs(lambda c: "random heads" in c, "some layer has too few other heads to draw from")
Which = partial(
    Claim,
    why="where offsets change nothing no choice of heads can matter; heads that both choices have are left out of the "
    "other; the same training for all",
    family="which heads",
)
CLAIMS = {
    "iti": Claim(
        "shifting the heads that tell right from wrong makes more answers right (inference-time intervention)",
        at_least("ITI", 0.1, over="nothing") & above("ITI", "nothing"), paper="0.325 to 0.651",
        why="a third of the paper's gain; heads and strength are chosen on other words",
        where="inference-time intervention (Li et al. 2023, abstract: Alpaca on TruthfulQA)",
    ),
    "against": Claim(
        "trained offsets are better than inference-time intervention", above("LoFiT", "ITI"),
        why="the same training and validation words for both, paired over test prompts of these tasks",
        where="inference-time intervention as baseline",
    ),
    "random": Which(
        "the heads chosen are better than random heads of the same layers", flips("LoFiT", "random heads"),
        where="a control of ours", needs=[DRAWN, WORKS],
    ),
    "other": Which(
        "heads chosen for another task, and not for this one, do worse than the task's own",
        flips("LoFiT", "another task's heads"), where="abstract", needs=[WORKS],
    ),
    "low rank": Claim(
        "LoFiT is as good as low-rank fine-tuning with 20 to 200 times fewer trained numbers",
        no_worse("LoFiT", "low rank", within=0.05) & at_least("times fewer", 20.0),
        paper="20 to 200 times",
        why="{by LoFiT} against {by low rank:,} numbers ({times fewer:.0f} times; the whole model has "
        "{whole model:,}); both keep the best on validation words",
        where="abstract",
    ),
    "own": Claim(
        "different tasks choose different heads", groups_differ("shared heads", "tasks of choices"),
        why="overlap between seeds is the most that overlap between tasks could be",
        where="abstract: the choice is task-specific", found="{shared between}", control="{shared within}",
        n="{n choices}",
    ),
}  # fmt: skip
REPLICATION = add_paper(Paper(
    name="lofit", source="Yin, Ye and Durrett 2024, arXiv:2406.01563; Li et al. 2023, arXiv:2306.03341",
    authors="Yin et al. 2024", model="zoo:icl", options=LofitSizes, measure=measure, needs=[REPAIRS],
    claims=CLAIMS,
))  # fmt: skip
