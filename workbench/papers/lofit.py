"""LoFiT (Yin, Ye and Durrett 2024), with inference-time intervention (Li et al. 2023) as baseline.

A few heads get a trained offset so that the model does unasked what it can do when shown examples. What is
trained, what is chosen and what is reported each has words of its own. Prompts about one place share their answer, so
intervals and tests are over the places of the test words; they are of these tasks, not over tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from workbench.circuits.verdicts.statistics import SHARE, mean_interval
from workbench.core.claims import Rows
from workbench.edits.affine import Affine
from workbench.edits.lofit import Localised, LofitStep, all_heads, localise, train_offsets
from workbench.edits.low_rank import LowRank, count, train_low_rank
from workbench.edits.questions import Questions, losses, right_answers
from workbench.papers.kinds import Findings, Replication, Setting
from workbench.papers.lofit_claims import Measured, by_place, claims_of, over_all
from workbench.papers.lofit_tasks import Task, make_task, matched_heads, probes_of
from workbench.papers.options import LofitSizes
from workbench.view.pictures import Bars, Curves, Heatmap, Picture

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

SEEDS = (0, 1, 2)  # of choosing heads: the nine runs of three tasks can be grouped in 280 ways
STRENGTHS = (1.0, 2.0, 5.0, 10.0, 15.0, 30.0)  # of inference-time intervention, chosen on validation words


def _scale_step(asked: LofitSizes) -> LofitStep:
    return LofitStep(steps=asked.scale_steps, lr=asked.scale_lr, batch=asked.batch, penalty=asked.penalty)


def _offset_step(asked: LofitSizes) -> LofitStep:
    return LofitStep(steps=asked.steps, lr=asked.lr, batch=asked.batch, every=max(1, asked.steps // 4))


def run(setting: Setting) -> Findings:
    """Every claim."""
    options: LofitSizes = setting.options
    tasks = {name: make_task(name, setting.seed) for name in options.tasks}
    chosen = {}
    for i, (name, task) in enumerate(tasks.items()):
        setting.progress(i, len(tasks), f"heads for {name}")
        chosen[name] = tuple(_localised(setting, task, seed) for seed in SEEDS)
    found = {}
    for i, name in enumerate(tasks):
        setting.progress(i, len(tasks), f"offsets for {name}")
        other = chosen[options.tasks[(i + 1) % len(tasks)]][0]
        found[name] = _measure(setting, tasks[name], chosen[name], other)
    unknown = _unknown(setting) if options.unknown else []
    setting.progress(len(tasks), len(tasks), "done")
    return Findings(
        claims=claims_of(setting, found),
        tables={
            "Accuracy and loss on words that were not trained on": _rows(found),
            "A rule that the model was never taught": unknown,
            "Heads chosen": _chosen_rows(found, options.heads[-1]),
        },
        pictures=_pictures(setting, found),
        numbers={
            name: {
                "heads": [list(chosen.heads[:8]) for chosen in one.localised],
                "norms": [list(chosen.norms[:8]) for chosen in one.localised],
                "iti heads, strength": list(one.iti),
                "accuracy": {f"{what}, {k}": float(v.mean()) for (what, k), v in one.right.items()},
            }
            for name, one in found.items()
        },
    )


def _localised(setting: Setting, task: Task, seed: int) -> Localised:
    training = task.training.questions(setting.model)
    return localise(
        setting.model, training, options=_scale_step(setting.options), seed=1000 * setting.seed + seed
    )


def _measure(setting: Setting, task: Task, chosen: tuple[Localised, ...], other: Localised) -> Measured:
    """Every condition of one task."""
    model, options = setting.model, setting.options
    test = task.test.questions(model)
    probes = probes_of(model, task)
    iti, shift = _best_shift(model, probes, task.validation.questions(model))
    places = np.array(task.test.places)
    found = Measured(localised=chosen, places=places, probes=probes.accuracy.cpu().numpy(), iti=iti)
    _ask(found, model, test, ("nothing", 0), None, 0)
    _ask(found, model, test, ("ITI", options.heads[-1]), shift, shift.b.numel())
    rng = np.random.default_rng([setting.seed, *task.name.encode()])
    for k in options.heads:
        own = chosen[0].top(k)
        _ask_offsets(found, setting, task, test, ("LoFiT", k), [own])
        _ask_offsets(found, setting, task, test, ("another task's heads", k), [_others(other, own)])
        several = options.random if k == options.heads[-1] else 1
        draws = [matched_heads(own, model.cfg.n_heads, rng) for _ in range(several)]
        _ask_offsets(found, setting, task, test, ("random heads", k), draws)
    low = train_low_rank(
        model,
        task.training.questions(model),
        rank=options.rank,
        validation=task.validation.questions(model),
        options=_offset_step(options),
        seed=setting.seed,
    )
    _ask(found, model, test, ("low rank", options.heads[-1]), low, count(model, rank=options.rank))
    return found


def _others(other: Localised, own: tuple[str, ...]) -> tuple[str, ...]:
    """As many of another task's first heads, none of the own: what both have cannot tell them apart."""
    return tuple(head for head in other.heads if head not in own)[: len(own)]


def _ask_offsets(
    found: Measured, setting: Setting, task: Task, test: Questions, name: tuple[str, int], choices: list
) -> None:
    """Train offsets of each choice of heads; the mean of the choices counts."""
    rows, lost = [], []
    for i, heads in enumerate(choices):
        edit = _offsets(setting, task, heads, seed=setting.seed + i)
        _ask(found, setting.model, test, name, edit, edit.b.numel())
        rows.append(found.right[name])
        lost.append(found.loss[name])
    found.right[name], found.loss[name] = np.mean(rows, axis=0), float(np.mean(lost))


def _offsets(setting: Setting, task: Task, heads: tuple[str, ...], *, seed: int) -> Affine:
    return train_offsets(
        setting.model,
        task.training.questions(setting.model),
        heads=heads,
        validation=task.validation.questions(setting.model),
        options=_offset_step(setting.options),
        seed=seed,
    )


def _ask(
    found: Measured,
    model: TransformerBridge,
    test: Questions,
    name: tuple[str, int],
    edit: Affine | LowRank | None,
    parameters: int,
) -> None:
    """Ask the test questions under an edit and note the answers."""
    with (edit or Affine.of(model, all_heads(model)[:1])).on(model):
        found.right[name] = right_answers(model, test).numpy().astype(float)
        found.loss[name] = float(losses(model, test).mean())
    found.parameters[name] = parameters


def _best_shift(model: TransformerBridge, probes, validation: Questions) -> tuple[tuple[int, float], Affine]:
    """Inference-time intervention with number of heads and strength chosen on validation words."""
    ranked, tried = probes.ranked(), {}
    for k in (1, 2, 4, 8):
        for strength in STRENGTHS:
            with probes.edit(ranked[:k], strength=strength).on(model):
                tried[k, strength] = float(losses(model, validation).mean())
    best = min(tried, key=tried.__getitem__)
    return best, probes.edit(ranked[: best[0]], strength=best[1])


def _unknown(setting: Setting) -> Rows:
    """Can offsets teach a rule on words, rather than choose among those that are there?"""
    options, model = setting.options, setting.model
    task = make_task(options.unknown, setting.seed)
    heads = _localised(setting, task, 0).top(options.heads[-1])
    edit = _offsets(setting, task, heads, seed=setting.seed)
    rows = []
    for part, questions in (("trained words", task.training), ("other words", task.test)):
        asked = questions.questions(model)
        before = float(right_answers(model, asked).float().mean())
        with edit.on(model):
            after = float(right_answers(model, asked).float().mean())
        rows.append({"words": part, "before": before, "LoFiT": after, "heads": len(heads), "n": len(asked)})
    return rows


def _rows(found: Mapping[str, Measured]) -> Rows:
    return [
        {
            "task": name,
            "changed": what,
            "heads": one.iti[0] if what == "ITI" else None if what in ("nothing", "low rank") else k,
            "trained numbers": one.parameters[what, k],
            "accuracy": float(values.mean()),
            "loss (nats)": one.loss[what, k],
            "n": len(values),
        }
        for name, one in found.items()
        for (what, k), values in one.right.items()
    ]


def _chosen_rows(found: Mapping[str, Measured], k: int) -> Rows:
    following = [*found.values()][1:] + [*found.values()][:1]
    return [
        {
            "task": name,
            "largest scales": ", ".join(
                f"{h} {n:.2f}"
                for h, n in zip(one.localised[0].heads[:6], one.localised[0].norms[:6], strict=True)
            ),
            "again, another seed": ", ".join(one.localised[1].heads[:6]),
            f"of the first {k}, also the next task's": len(
                {*one.localised[0].top(k)} & {*other.localised[0].top(k)}
            ),
            "ITI: heads": one.iti[0],
            "ITI: strength": one.iti[1],
            "best probe": float(one.probes.max()),
        }
        for (name, one), other in zip(found.items(), following, strict=True)
    ]


def _pictures(setting: Setting, found: Mapping[str, Measured]) -> dict[str, Picture]:
    options: LofitSizes = setting.options
    last, cfg = options.heads[-1], setting.model.cfg
    bars = []
    for name, k in next(iter(found.values())).right:
        values = over_all(found, name, k)
        low, high, _ = mean_interval(by_place(found, (name, k), None), within=SHARE, seed=setting.seed)
        label = name if name in ("nothing", "ITI", "low rank") else f"{name}, {k}"
        bars.append((label, float(values.mean()), low, high, f"n = {len(values)}"))
    series = {
        name: [(k, float(over_all(found, name, k).mean())) for k in options.heads]
        for name in ("LoFiT", "random heads", "another task's heads")
    }
    lines = {name: float(over_all(found, name, last).mean()) for name in ("ITI", "low rank")}
    layers, heads = [f"layer {i}" for i in range(cfg.n_layers)], [f"head {i}" for i in range(cfg.n_heads)]
    pictures: dict[str, Picture] = {
        "accuracy": Bars.of(bars, x_label="share of right answers", title="Accuracy over all tasks"),
        "heads": Curves.of(
            series, x_label="heads with offsets", y_label="accuracy", title="Which heads", reference=lines
        ),
    }
    for name, one in found.items():
        norms = dict(zip(one.localised[0].heads, one.localised[0].norms, strict=True))
        matrix = np.array([[norms[f"a{i}.h{j}"] for j in range(cfg.n_heads)] for i in range(cfg.n_layers)])
        pictures[f"scales, {name}"] = Heatmap.of(
            matrix, layers, heads, title=f"Norm of the learned scales, {name}", unit="norm of a"
        )
    return pictures


REPLICATION = Replication(
    name="lofit",
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
    run=run,
)
