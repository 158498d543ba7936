"""LoFiT (Yin, Ye and Durrett 2024), with inference-time intervention (Li et al. 2023) as baseline.

A few heads get a trained offset so that the model does unasked what it can do when shown examples. What is
trained, what is chosen and what is reported each has words of its own. Prompts about one place share their answer, so
intervals and tests are over the places of the test words; they are of these tasks, not over tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from math import factorial

import numpy as np
from transformer_lens.model_bridge import TransformerBridge

from workbench.agreement import jaccard
from workbench.claims import Claim, Rows, judge, untestable
from workbench.edits.affine import Affine
from workbench.edits.lofit import Localised, LofitStep, all_heads, all_parameters, localise, train_offsets
from workbench.edits.low_rank import LowRank, count, train_low_rank
from workbench.edits.questions import Questions, losses, right_answers
from workbench.errors import OptionError
from workbench.replications.kinds import Findings, Replication, Setting
from workbench.replications.lofit_tasks import Task, make_task, matched_heads, probes_of
from workbench.statistics import CHANGE, SHARE, holm, mean_interval
from workbench.view.bars import bars_svg
from workbench.view.curve import curve_svg
from workbench.view.heatmap import heatmap_svg

# Criteria, fixed before anything was measured.
BADLY = 0.5  # accuracy before, above which there is little to repair
ITI_GAIN = 0.1  # a third of the paper's gain of inference-time intervention
OVER = "interval above zero (places of words resampled)"
COMPARABLE = 0.05  # accuracy that LoFiT may lack to low-rank fine-tuning
FEWER = 20.0  # times fewer trained numbers, the lower end of the paper's range
SEEDS = (0, 1, 2)  # of choosing heads: the nine runs of three tasks can be grouped in 280 ways
STRENGTHS = (1.0, 2.0, 5.0, 10.0, 15.0, 30.0)  # of inference-time intervention, chosen on validation words


@dataclass(frozen=True, kw_only=True)
class Options:
    """Sizes.

    Attributes:
        tasks: Of ``workbench/replications/lofit_tasks.py``; heads chosen for the next one are a control.
        unknown: A rule that the model was never taught, or nothing.
        heads: Numbers of heads; claims are judged at the last, the others are shown beside it (the paper: 3 % of all).
        random: Random choices of heads for each task at the last number; one at the others.
        steps, batch, lr: Of learning offsets.
        scale_steps, scale_lr, penalty: Of learning scales (step 1).
    """

    tasks: tuple[str, ...] = ("animals", "cities", "mixed")
    unknown: str = "next-animal"
    heads: tuple[int, ...] = (1, 4)
    random: int = 4
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

    @property
    def scales(self) -> LofitStep:
        return LofitStep(steps=self.scale_steps, lr=self.scale_lr, batch=self.batch, penalty=self.penalty)

    @property
    def offsets(self) -> LofitStep:
        return LofitStep(steps=self.steps, lr=self.lr, batch=self.batch, every=max(1, self.steps // 4))


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """One task's numbers.

    Attributes:
        localised: The heads chosen, once for each of ``SEEDS``; the first is used.
        places: Of the words that the test prompts ask for.
        right: (condition, heads) -> whether each test prompt was answered rightly; of several random choices the mean.
        loss: The same, mean loss in nats.
        parameters: (condition, heads) -> trained numbers.
    """

    localised: tuple[Localised, ...]
    places: np.ndarray
    probes: np.ndarray
    iti: tuple[int, float]
    right: dict[tuple[str, int], np.ndarray] = field(default_factory=dict)
    loss: dict[tuple[str, int], float] = field(default_factory=dict)
    parameters: dict[tuple[str, int], int] = field(default_factory=dict)


def run(setting: Setting) -> Findings:
    """Every claim."""
    options: Options = setting.options
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
        claims=_claims(setting, found),
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
    return localise(setting.model, training, options=setting.options.scales, seed=1000 * setting.seed + seed)


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
        options=options.offsets,
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
        options=setting.options.offsets,
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


# -- claims -------------------------------------------------------------------------------------------------


def _all(found: Mapping[str, Measured], name: str, k: int) -> np.ndarray:
    """One value per test prompt of all tasks."""
    return np.concatenate([one.right[name, k] for one in found.values()])


def _by_place(
    found: Mapping[str, Measured], here: tuple[str, int], there: tuple[str, int] | None
) -> np.ndarray:
    """Mean difference of two conditions for each place of the test words, over all prompts and tasks that ask it."""
    difference = _all(found, *here) - (_all(found, *there) if there else 0.0)
    places = np.concatenate([one.places for one in found.values()])
    return np.array([difference[places == place].mean() for place in np.unique(places)])


def _claims(setting: Setting, found: Mapping[str, Measured]) -> tuple[Claim, ...]:
    last = setting.options.heads[-1]
    before = float(_all(found, "nothing", 0).mean())
    claims = (
        _iti(found, last, setting.seed),
        _against(found, "ITI", last, setting.seed),
        *_which_heads(found, last, setting.seed),
        _low_rank(found, last, all_parameters(setting.model), setting.seed),
        _own_heads(found, last, setting.seed),
    )
    if before <= BADLY:
        return claims
    why = f"{before:.0%} are right without any change: there is little to repair"
    return tuple(untestable(c.claim, c.criterion, why, reason=c.reason, source=c.source) for c in claims)


def _iti(found: Mapping[str, Measured], k: int, seed: int) -> Claim:
    gained = _by_place(found, ("ITI", k), ("nothing", 0))
    return judge(
        "shifting the heads that tell right from wrong makes more answers right (inference-time intervention)",
        f"accuracy at least {ITI_GAIN} above the model as it is, {OVER}",
        float(gained.mean()) >= ITI_GAIN and mean_interval(gained, within=CHANGE, seed=seed).low > 0,
        paper="0.325 to 0.651",
        found=float(_all(found, "ITI", k).mean()),
        control=float(_all(found, "nothing", 0).mean()),
        n=len(gained),
        reason="a third of the paper's gain; heads and strength are chosen on other words",
        source="Li et al. 2023, abstract: Alpaca on TruthfulQA",
    )


def _against(found: Mapping[str, Measured], name: str, k: int, seed: int) -> Claim:
    more = _by_place(found, ("LoFiT", k), (name, k))
    return judge(
        "trained offsets are better than inference-time intervention",
        f"accuracy above it with {k} heads, {OVER}",
        float(more.mean()) > 0 and mean_interval(more, within=CHANGE, seed=seed).low > 0,
        found=float(_all(found, "LoFiT", k).mean()),
        control=float(_all(found, name, k).mean()),
        n=len(more),
        reason="the same training and validation words for both, paired over test prompts of these tasks",
        source="Yin et al. 2024, inference-time intervention as baseline",
    )


def _which_heads(found: Mapping[str, Measured], k: int, seed: int) -> tuple[Claim, Claim]:
    """The two claims about the choice of heads, corrected for being two."""
    own = _all(found, "LoFiT", k)
    names = ("random heads", "another task's heads")
    differences = [_by_place(found, ("LoFiT", k), (name, k)) for name in names]
    ps = holm([_p(d, seed) for d in differences])
    gained = _by_place(found, ("LoFiT", k), ("nothing", 0))
    works = mean_interval(gained, within=CHANGE, seed=seed).low > 0
    texts = (
        "the heads chosen are better than random heads of the same layers",
        "heads chosen for another task, and not for this one, do worse than the task's own",
    )
    sources = ("a control of ours", "Yin et al. 2024, abstract")
    criterion = (
        f"accuracy above theirs with {k} head(s) each, p below 0.05 (sign flips over places of words, Holm over both); "
        f"cannot be tested unless the task's own heads do better than none, {OVER}"
    )
    reason = (
        "where offsets change nothing no choice of heads can matter, so it is judged with as many heads as the claims "
        "about how well it works; heads that both choices have are left out of the other; the same training for all"
    )
    if not works:
        why = f"offsets of {k} head(s) change too little: {gained.mean():+.3f} accuracy over no change"
        return tuple(
            untestable(
                text, criterion, why, found=float(own.mean()), n=len(gained), reason=reason, source=source
            )
            for text, source in zip(texts, sources, strict=True)
        )
    return tuple(
        judge(
            text,
            criterion,
            float(difference.mean()) > 0 and p < 0.05,
            found=float(own.mean()),
            control=float(_all(found, name, k).mean()),
            n=len(difference),
            reason=reason,
            source=source,
        )
        for name, text, difference, p, source in zip(names, texts, differences, ps, sources, strict=True)
    )


def _p(difference: np.ndarray, seed: int, *, draws: int = 4000) -> float:
    """Probability of a mean as large when each place's difference is as likely of either sign."""
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), (draws, len(difference)))
    return (1 + int(((signs * difference).mean(1) >= difference.mean() - 1e-12).sum())) / (1 + draws)


def _low_rank(found: Mapping[str, Measured], k: int, everything: int, seed: int) -> Claim:
    one = next(iter(found.values()))
    few, many = one.parameters["LoFiT", k], one.parameters["low rank", k]
    lacking = _by_place(found, ("low rank", k), ("LoFiT", k))
    return judge(
        "as good as low-rank fine-tuning with 20 to 200 times fewer trained numbers",
        f"at most {COMPARABLE} accuracy below it (upper end of the interval, places of words resampled), "
        f"at least {FEWER:g} times fewer numbers",
        mean_interval(lacking, within=CHANGE, seed=seed).high <= COMPARABLE and many / few >= FEWER,
        paper="20 to 200 times",
        found=float(_all(found, "LoFiT", k).mean()),
        control=float(_all(found, "low rank", k).mean()),
        n=len(lacking),
        reason=f"{few} against {many:,} numbers ({many / few:.0f} times; the whole model has {everything:,}); both "
        "keep the best on validation words",
        source="Yin et al. 2024, abstract",
    )


def _own_heads(found: Mapping[str, Measured], k: int, seed: int) -> Claim:
    runs = [chosen.top(k) for one in found.values() for chosen in one.localised]
    tasks = np.array([i for i, one in enumerate(found.values()) for _ in one.localised])
    overlap = np.array([jaccard(here, there) for here, there in product(runs, runs)]).reshape(len(runs), -1)
    claim = "different tasks choose different heads"
    criterion = (
        f"the first {k} heads of two tasks share less than those of two seeds of one task (mean overlap), p below 0.05 "
        "when it is permuted which task each choice was made for"
    )
    known = {
        "reason": "overlap between seeds is the most that overlap between tasks could be; if tasks did not matter, all "
        "choices would be draws of one kind",
        "source": "Yin et al. 2024, abstract: the choice is task-specific",
        "n": len(runs),
    }
    ways = _groupings(len(found), len(runs) // len(found))
    if ways <= 20:
        why = f"{len(runs)} choices can be grouped in {ways} ways only: no p below 0.05 is possible"
        return untestable(claim, criterion, why, **known)
    same, across = _overlaps(overlap, tasks)
    p = _p_of_tasks(overlap, tasks, seed)
    return judge(claim, criterion, across < same and p < 0.05, found=across, control=same, **known)


def _groupings(groups: int, size: int) -> int:
    """In how many ways ``groups * size`` things can be put into groups of this size."""
    return factorial(groups * size) // (factorial(size) ** groups * factorial(groups))


def _overlaps(overlap: np.ndarray, tasks: np.ndarray) -> tuple[float, float]:
    """Mean overlap of two choices for one task, and of two for different tasks."""
    alike, own = tasks[:, None] == tasks[None], np.eye(len(tasks), dtype=bool)
    return float(overlap[alike & ~own].mean()), float(overlap[~alike].mean())


def _p_of_tasks(overlap: np.ndarray, tasks: np.ndarray, seed: int, *, draws: int = 4000) -> float:
    """Probability of a gap between both as large when tasks are given to choices at random."""

    def gap(labels: np.ndarray) -> float:
        same, across = _overlaps(overlap, labels)
        return same - across

    rng, seen = np.random.default_rng(seed), gap(tasks)
    return (1 + sum(gap(rng.permutation(tasks)) >= seen - 1e-12 for _ in range(draws))) / (1 + draws)


# -- tables and pictures ------------------------------------------------------------------------------------


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


def _pictures(setting: Setting, found: Mapping[str, Measured]) -> dict[str, str]:
    options: Options = setting.options
    last, cfg = options.heads[-1], setting.model.cfg
    bars = []
    for name, k in next(iter(found.values())).right:
        values = _all(found, name, k)
        low, high, _ = mean_interval(_by_place(found, (name, k), None), within=SHARE, seed=setting.seed)
        label = name if name in ("nothing", "ITI", "low rank") else f"{name}, {k}"
        bars.append((label, float(values.mean()), low, high, f"n = {len(values)}"))
    series = {
        name: [(k, float(_all(found, name, k).mean())) for k in options.heads]
        for name in ("LoFiT", "random heads", "another task's heads")
    }
    lines = {name: float(_all(found, name, last).mean()) for name in ("ITI", "low rank")}
    layers, heads = [f"layer {i}" for i in range(cfg.n_layers)], [f"head {i}" for i in range(cfg.n_heads)]
    pictures = {
        "accuracy": bars_svg(bars, x_label="share of right answers", title="Accuracy over all tasks"),
        "heads": curve_svg(
            series, x_label="heads with offsets", y_label="accuracy", title="Which heads", reference=lines
        ),
    }
    for name, one in found.items():
        norms = dict(zip(one.localised[0].heads, one.localised[0].norms, strict=True))
        matrix = np.array([[norms[f"a{i}.h{j}"] for j in range(cfg.n_heads)] for i in range(cfg.n_layers)])
        pictures[f"scales, {name}"] = heatmap_svg(
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
    options=Options,
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
