"""LoFiT (Yin, Ye and Durrett 2024), with inference-time intervention (Li et al. 2023) as baseline.

A few heads get a trained offset so that the model does unasked what it can do when shown examples. What is trained,
what is chosen and what is reported each has words of its own. Prompts about one place share their answer, so intervals
and tests are over the places of the test words; they are of these tasks, not over tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from workbench.core.claims import Rows
from workbench.core.stats.agreement import jaccard
from workbench.core.stats.permutation import groupings
from workbench.edits.affine import Affine
from workbench.edits.iti import Probes
from workbench.edits.lofit import Localised, LofitStep, all_parameters, localise, train_offsets
from workbench.edits.low_rank import count, train_low_rank
from workbench.edits.questions import Questions, losses, right_answers
from workbench.edits.unasked import UnaskedTask, make_task, probes_of
from workbench.papers.kinds import Setting
from workbench.papers.kit import (
    Claim,
    Conditions,
    Paper,
    above,
    at_least,
    at_most,
    fact,
    flips,
    needs,
    permuted,
)
from workbench.papers.options import LofitSizes
from workbench.view.pictures import Heatmap

SEEDS = (0, 1, 2)  # of choosing heads: the nine runs of three tasks can be grouped in 280 ways
STRENGTHS = (1.0, 2.0, 5.0, 10.0, 15.0, 30.0)  # of inference-time intervention, chosen on validation words
# Criteria, fixed before anything was measured.
BADLY = 0.5  # accuracy before, above which there is little to repair
ITI_GAIN = 0.1  # a third of the paper's gain of inference-time intervention
OVER = "interval above zero (places of words resampled)"
COMPARABLE = 0.05  # accuracy that LoFiT may lack to low-rank fine-tuning
FEWER = 20.0  # times fewer trained numbers, the lower end of the paper's range


def measure(setting: Setting) -> Conditions:
    """Every condition of every task, one after the other; claims are about all tasks together."""
    options: LofitSizes = setting.options
    tasks = {name: make_task(name, setting.seed) for name in options.tasks}
    chosen = {}
    for i, (name, task) in enumerate(tasks.items()):
        setting.progress(i, len(tasks), f"heads for {name}")
        chosen[name] = [_localised(setting, task, seed) for seed in SEEDS]
    parts = {}
    for i, name in enumerate(tasks):
        setting.progress(i, len(tasks), f"offsets for {name}")
        other = chosen[options.tasks[(i + 1) % len(tasks)]][0]
        parts[name] = _of_task(setting, tasks[name], chosen[name][0], other)
    c = Conditions.joined(parts)
    c.seed, last = setting.seed, options.heads[-1]
    c.numbers |= next(iter(parts.values())).numbers | {"whole model": all_parameters(setting.model)}
    c.numbers["ITI heads, strength"] = {
        name: part.numbers["ITI heads, strength"] for name, part in parts.items()
    }
    c.numbers["choices"] = {name: [list(run.top(last)) for run in runs] for name, runs in chosen.items()}
    c.tables |= {caption: rows for part in parts.values() for caption, rows in part.tables.items()}
    c.tables["Heads chosen"] = _chosen_rows(chosen, last)
    if options.unknown:
        c.tables["A rule that the model was never taught"] = _unknown(setting)
    for name, runs in chosen.items():
        c.pictures[f"scales, {name}"] = _scales(setting, runs[0], name)
    setting.progress(len(tasks), len(tasks), "done")
    return c


def _localised(setting: Setting, task: UnaskedTask, seed: int) -> Localised:
    o: LofitSizes = setting.options
    step = LofitStep(steps=o.scale_steps, lr=o.scale_lr, batch=o.batch, penalty=o.penalty)
    training = task.training.questions(setting.model)
    return localise(setting.model, training, options=step, seed=1000 * setting.seed + seed)


def _trained(setting: Setting, task: UnaskedTask, by: Any, *, seed: int, **how: Any) -> Any:
    """Offsets, or a low-rank change, trained on the training words and kept at their best on the validation words."""
    o: LofitSizes = setting.options
    words = (part.questions(setting.model) for part in (task.training, task.validation))
    step = LofitStep(steps=o.steps, lr=o.lr, batch=o.batch, every=max(1, o.steps // 4))
    return by(setting.model, next(words), validation=next(words), options=step, seed=seed, **how)


def _of_task(setting: Setting, task: UnaskedTask, chosen: Localised, other: Localised) -> Conditions:
    """Every condition of one task: at the last number of heads by its name, at the others with the number."""
    model, options, seed = setting.model, setting.options, setting.seed
    test, last = task.test.questions(model), options.heads[-1]
    c = Conditions(model=model, score=lambda m: right_answers(m, test).numpy(), clusters=task.test.places)
    loss = {}

    def offsets(heads: Sequence[str], seed: int) -> Affine:
        return _trained(setting, task, train_offsets, heads=tuple(heads), seed=seed)

    def ask(name: str, edit: Any) -> None:
        c[name] = edit
        with edit.on(model):
            loss[name] = float(losses(model, test).mean())

    c["nothing"], loss["nothing"] = None, float(losses(model, test).mean())
    k, strength, shift = _best_shift(setting, probes_of(model, task), task.validation.questions(model))
    c.numbers["ITI heads, strength"] = [k, strength]
    ask("ITI", shift)
    rng = np.random.default_rng([seed, *task.name.encode()])
    for n in options.heads:
        own, more = chosen.top(n), "" if n == last else f", {n} head(s)"
        ask(f"LoFiT{more}", offsets(own, seed))
        ask(f"another task's heads{more}", offsets(others(other, own), seed))
        several = options.random if n == last else 1
        drawn = [random_heads(own, model.cfg.n_heads, rng) for _ in range(several)]
        c.draws[f"random heads{more}"] = [offsets(heads, seed + i) for i, heads in enumerate(drawn)]
    ask("low rank", _trained(setting, task, train_low_rank, rank=options.rank, seed=seed))
    c.numbers["trained by LoFiT"] = last * model.cfg.d_head
    c.numbers["trained by low rank"] = count(model, rank=options.rank)
    c.tables[f"{task.name}: accuracy and loss on words that were not trained on"] = [
        {**row, "loss (nats)": loss.get(row["condition"])} for row in c.table()
    ]
    return c


def _chosen_rows(chosen: Mapping[str, Sequence[Localised]], k: int) -> Rows:
    """The first heads of every task, those of another seed, and how many of them the next task's choice has too."""
    following = [*chosen.values()][1:] + [*chosen.values()][:1]
    return [
        {
            "task": name,
            "largest scales": ", ".join(
                f"{head} {norm:.2f}" for head, norm in zip(one.heads[:6], one.norms[:6], strict=True)
            ),
            "again, another seed": ", ".join(again.heads[:6]),
            f"of the first {k}, also the next task's": len({*one.top(k)} & {*other[0].top(k)}),
        }
        for (name, (one, again, *_)), other in zip(chosen.items(), following, strict=True)
    ]


def others(other: Localised, own: Sequence[str]) -> tuple[str, ...]:
    """As many of another task's first heads, none of the own: what both have cannot tell them apart."""
    return tuple(head for head in other.heads if head not in own)[: len(own)]


def random_heads(heads: Sequence[str], n_heads: int, rng: np.random.Generator) -> tuple[str, ...]:
    """Random other heads, as many in each layer as there are among ``heads``; the same where no other is left."""
    found = []
    for layer in sorted({head.split(".")[0] for head in heads}):
        own = [head for head in heads if head.split(".")[0] == layer]
        rest = [head for head in (f"{layer}.h{i}" for i in range(n_heads)) if head not in own]
        drawn = [str(head) for head in rng.permutation(rest)[: len(own)]]
        found += drawn + own[: len(own) - len(drawn)]
    return tuple(found)


def _best_shift(setting: Setting, probes: Probes, validation: Questions) -> tuple[int, float, Affine]:
    """Inference-time intervention with number of heads and strength chosen on validation words."""
    ranked, tried = probes.ranked(), {}
    for k in (1, 2, 4, 8):
        for strength in STRENGTHS:
            with probes.edit(ranked[:k], strength=strength).on(setting.model):
                tried[k, strength] = float(losses(setting.model, validation).mean())
    k, strength = min(tried, key=tried.__getitem__)
    return k, strength, probes.edit(ranked[:k], strength=strength)


def _unknown(setting: Setting) -> Rows:
    """Can offsets teach a rule on words, rather than choose among those that are there?"""
    options, model = setting.options, setting.model
    task = make_task(options.unknown, setting.seed)
    heads = _localised(setting, task, 0).top(options.heads[-1])
    edit = _trained(setting, task, train_offsets, heads=heads, seed=setting.seed)
    rows = []
    for part, questions in (("trained words", task.training), ("other words", task.test)):
        asked = questions.questions(model)
        before = float(right_answers(model, asked).float().mean())
        with edit.on(model):
            after = float(right_answers(model, asked).float().mean())
        rows.append({"words": part, "before": before, "LoFiT": after, "heads": len(heads), "n": len(asked)})
    return rows


def _scales(setting: Setting, chosen: Localised, name: str) -> Heatmap:
    cfg, norms = setting.model.cfg, dict(zip(chosen.heads, chosen.norms, strict=True))
    matrix = np.array([[norms[f"a{i}.h{j}"] for j in range(cfg.n_heads)] for i in range(cfg.n_layers)])
    rows, columns = [f"layer {i}" for i in range(cfg.n_layers)], [f"head {i}" for i in range(cfg.n_heads)]
    return Heatmap.of(matrix, rows, columns, title=f"Norm of the learned scales, {name}", unit="norm of a")


# -- claims -------------------------------------------------------------------------------------------------


def overlaps(tasks: np.ndarray, c: Conditions) -> tuple[float, float]:
    """Mean overlap of two choices for one task, and of two for different tasks."""
    runs = [heads for own in c.numbers["choices"].values() for heads in own]
    overlap = np.array([[jaccard(here, there) for there in runs] for here in runs])
    alike, own = tasks[:, None] == tasks[None], np.eye(len(tasks), dtype=bool)
    return float(overlap[alike & ~own].mean()), float(overlap[~alike].mean())


def _gap(tasks: np.ndarray, c: Conditions) -> float:
    same, across = overlaps(tasks, c)
    return same - across


def _tasks(c: Conditions) -> np.ndarray:
    return np.array([i for i, own in enumerate(c.numbers["choices"].values()) for _ in own])


def _fewer(c: Conditions) -> float:
    return c.numbers["trained by low rank"] / c.numbers["trained by LoFiT"]


def _heads(c: Conditions) -> int:
    return len(next(iter(c.numbers["choices"].values()))[0])


REPAIRS = needs(
    at_most("nothing", BADLY),
    lambda c: f"{c.mean('nothing'):.0%} are right without any change: there is little to repair",
)
WORKS = needs(
    above("LoFiT", "nothing"),
    lambda c: (
        f"offsets of {_heads(c)} head(s) change too little: {c.mean('LoFiT', 'nothing'):+.3f} accuracy over no change"
    ),
    "found",
    "n",
)
WHICH = (
    "where offsets change nothing no choice of heads can matter, so it is judged with as many heads as the claims "
    "about how well it works; heads that both choices have are left out of the other; the same training for all"
)


def _which(c: Conditions) -> str:
    return (
        f"accuracy above theirs with {_heads(c)} head(s) each, p below 0.05 (sign flips over places of words, Holm "
        f"over both); cannot be tested unless the task's own heads do better than none, {OVER}"
    )


CLAIMS = {
    "iti": Claim(
        "shifting the heads that tell right from wrong makes more answers right (inference-time intervention)",
        at_least("ITI", ITI_GAIN, over="nothing") & above("ITI", "nothing"),
        f"accuracy at least {ITI_GAIN} above the model as it is, {OVER}",
        paper="0.325 to 0.651",
        why="a third of the paper's gain; heads and strength are chosen on other words",
        where="inference-time intervention (Li et al. 2023, abstract: Alpaca on TruthfulQA)",
    ),
    "against": Claim(
        "trained offsets are better than inference-time intervention",
        above("LoFiT", "ITI"),
        lambda c: f"accuracy above it with {_heads(c)} heads, {OVER}",
        why="the same training and validation words for both, paired over test prompts of these tasks",
        where="inference-time intervention as baseline",
    ),
    "random": Claim(
        "the heads chosen are better than random heads of the same layers",
        flips("LoFiT", "random heads"),
        _which,
        why=WHICH,
        where="a control of ours",
        needs=[WORKS],
        family="which heads",
    ),
    "other": Claim(
        "heads chosen for another task, and not for this one, do worse than the task's own",
        flips("LoFiT", "another task's heads"),
        _which,
        why=WHICH,
        where="abstract",
        needs=[WORKS],
        family="which heads",
    ),
    "low rank": Claim(
        "as good as low-rank fine-tuning with 20 to 200 times fewer trained numbers",
        fact(
            "as good with fewer numbers",
            lambda c: c.interval("low rank", "LoFiT").high <= COMPARABLE and _fewer(c) >= FEWER,
            intervals=lambda c: [c.interval("low rank", "LoFiT")],
        ),
        f"at most {COMPARABLE} accuracy below it (upper end of the interval, places of words resampled), "
        f"at least {FEWER:g} times fewer numbers",
        paper="20 to 200 times",
        why=lambda c: (
            f"{c.numbers['trained by LoFiT']} against {c.numbers['trained by low rank']:,} numbers "
            f"({_fewer(c):.0f} times; the whole model has {c.numbers['whole model']:,}); both keep the best on "
            "validation words"
        ),
        where="abstract",
        found=lambda c: c.mean("LoFiT"),
        control=lambda c: c.mean("low rank"),
        n=lambda c: c.n("LoFiT"),
    ),
    "own": Claim(
        "different tasks choose different heads",
        permuted("overlap within tasks minus overlap between tasks", _gap, _tasks),
        lambda c: (
            f"the first {_heads(c)} heads of two tasks share less than those of two seeds of one task (mean overlap), "
            "p below 0.05 when it is permuted which task each choice was made for"
        ),
        why="overlap between seeds is the most that overlap between tasks could be; if tasks did not matter, all "
        "choices would be draws of one kind",
        where="abstract: the choice is task-specific",
        needs=[
            needs(
                lambda c: groupings(_tasks(c).tolist()) > 20,
                lambda c: (
                    f"{len(_tasks(c))} choices can be grouped in {groupings(_tasks(c).tolist())} ways only: "
                    "no p below 0.05 is possible"
                ),
                "n",
            )
        ],
        found=lambda c: overlaps(_tasks(c), c)[1],
        control=lambda c: overlaps(_tasks(c), c)[0],
        n=lambda c: len(_tasks(c)),
    ),
}
REPLICATION = Paper(
    name="lofit",
    authors="Yin et al. 2024",
    about="A scale is learned for every dimension of every head, with an L1 penalty; the heads with the largest get a "
    "learned offset at all positions, nothing else is trained. The tasks are those that the model can do when shown "
    "examples but not unasked. Beside it: heads that tell right from wrong shifted along the difference of means, "
    "random heads of the same layers, another task's heads that are not among the own, and low-rank changes of "
    "queries and values.",
    options=LofitSizes,
    controls=(
        "the model as it is",
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
