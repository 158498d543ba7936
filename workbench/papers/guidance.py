"""Training the untrainable: a network that cannot learn a task learns it while its layers are drawn to another's.

A plain recurrent network copies badly, and a transformer of two layers is bad at the parity of all bits so far. Each is
trained alone and guided by the other kind, which does the task: its layers are drawn, by debiased CKA, to those of the
guide on the same rows. A guide that was never trained shows what its form alone gives. Two seeds of everything, each
trained on the spot; then all heads of a model are compared by CKA.

Controls:
- the same network without a guide
- a guide that reads the rows of the batch in another order
- heads dealt to layers at random
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.errors import OptionError
from workbench.core.loading import lazily
from workbench.core.stats.intervals import SHARE
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, needs, untried
from workbench.papers.kit.claims import Need
from workbench.papers.kit.criteria import above, at_least, groups_differ
from workbench.papers.registry import add_paper

if TYPE_CHECKING:
    from workbench.training.guidance import Task

with lazily():
    from workbench.heads import grounds, kernel_alignment, observe
    from workbench.training import guidance

# Criteria, fixed before anything was measured.
SEEDS = (2000, 2001)
LENGTHS: dict[Task, int] = {"copy": 8, "parity": 12}
LEARNED, FIRST_SEED = 0.9, 20_000_000
GUIDE, ALONE, GUIDED, SHUFFLED, UNTRAINED = (
    "the guide",
    "alone",
    "guided",
    "guided, rows shuffled",
    "guided, guide untrained",
)


@dataclass(frozen=True, kw_only=True)
class GuidanceSizes:
    """``steps`` of every training; ``rows`` that networks are judged on; ``windows`` of the text for heads."""

    steps: int = 250
    rows: int = 300
    windows: int = 8

    def __post_init__(self) -> None:
        if min(self.steps, self.rows, self.windows) < 2:
            raise OptionError(
                f"steps is {self.steps}, rows {self.rows}, windows {self.windows}; at least 2 of each are needed",
                hint="--set steps=2 --set rows=2 --set windows=2, or more",
            )


def measure(setting: Setting) -> Conditions:
    """Train networks alone and guided on both tasks, then compare the heads of the model."""
    o, c = setting.options, Conditions(unit="share of right answers", within=SHARE, seed=setting.seed)
    found: dict[str, list[np.ndarray]] = {}
    plan = [(task, seed) for task in LENGTHS for seed in SEEDS]
    for task, seed in setting.each(plan, "training networks"):
        for name, right in _arms(task, seed + 100 * setting.seed, o).items():
            found.setdefault(f"{task}, {name}", []).append(right)
    for name, each in found.items():
        c[name] = np.mean(each, axis=0)
    c.tables["Every network"] = [
        {"network": name, "seed": seed, "right": float(right.mean())}
        for name, each in found.items()
        for seed, right in zip(SEEDS, each, strict=True)
    ]
    _heads(c, setting)
    return c


def _arms(task: Task, seed: int, o: GuidanceSizes) -> dict[str, np.ndarray]:
    """Every arm's right answers on the same rows."""
    kinds = (guidance.AttentionNet, guidance.RecurrentNet)
    other, own = kinds if task == "copy" else kinds[::-1]
    rows = guidance.sequence_rows(task, o.rows, LENGTHS[task], seed=FIRST_SEED + seed)
    how: dict[str, Any] = {"steps": o.steps, "length": LENGTHS[task], "seed": seed}
    guide, untrained = other(seed=seed + 7), other(seed=seed + 8)
    guidance.fit_guided(guide, task, **how)
    found = {GUIDE: guidance.right_share(guide, rows)}
    arms: dict[str, dict[str, Any]] = {
        ALONE: {},
        GUIDED: {"guide": guide},
        SHUFFLED: {"guide": guide, "shuffled": True},
        UNTRAINED: {"guide": untrained},
    }
    for name, given in arms.items():
        net = own(seed=seed)
        guidance.fit_guided(net, task, **how, **given)
        found[name] = guidance.right_share(net, rows)
    return found


def _heads(c: Conditions, setting: Setting) -> None:
    """CKA between the outputs of all heads of the model, on a text or on random tokens."""
    import torch

    model, n = setting.model, setting.options.windows
    ground, _ = grounds.text_ground(model, None, n=n, seed=setting.seed)
    if ground is None:
        ground, _ = grounds.random_ground(model, n=n, seed=setting.seed)
    seen = [observe.patterns_of(model, ids, outputs=True).outputs for _, ids in ground.batches()]
    layers = sorted(seen[0])
    whole = {n: torch.cat([part[n][:, ground.prefix :].flatten(0, 1) for part in seen]) for n in layers}
    heads = [(n, h) for n in layers for h in range(whole[n].shape[1])]
    alike = kernel_alignment.cka_matrix([whole[n][:, h] for n, h in heads]).nan_to_num().numpy()
    c.numbers |= {"likeness of heads": alike.tolist(), "layers": [n for n, _ in heads]}
    names = [f"a{n}.h{h}" for n, h in heads]
    c.tables["CKA of heads"] = [
        {"head": name, **{other: float(v) for other, v in zip(names, row, strict=True)}}
        for name, row in zip(names, alike, strict=True)
    ]


def _better(task: str) -> Need:
    told = f"the guide answers {{{task}, {GUIDE}:.0%}} of {task}, the network alone {{{task}, {ALONE}:.0%}}"
    able = at_least(f"{task}, {GUIDE}", LEARNED) & above(f"{task}, {GUIDE}", f"{task}, {ALONE}")
    return needs(able, f"{told}; the guide has to answer 90 % and more than the network")


COPY, PARITY = [_better("copy")], [_better("parity")]
WHERE = "abstract; formulas of the code"
CLAIMS = {
    "copy": Claim(
        "a recurrent network guided by a transformer copies better",
        above(f"copy, {GUIDED}", f"copy, {ALONE}"),
        why="the same start and the same batches", where=WHERE, needs=COPY, models=2,
    ),
    "copy control": Claim(
        "and better than with a guide that reads other rows",
        above(f"copy, {GUIDED}", f"copy, {SHUFFLED}"),
        why="the same guide and loss; only what belongs to the row is lost",
        where="a control of ours", needs=COPY, models=2,
    ),
    "parity": Claim(
        "a transformer guided by a recurrent network learns parity better",
        above(f"parity, {GUIDED}", f"parity, {ALONE}"),
        why="the same start and the same batches", where=WHERE, needs=PARITY, models=2,
    ),
    "parity control": Claim(
        "and better than with a guide that reads other rows",
        above(f"parity, {GUIDED}", f"parity, {SHUFFLED}"),
        why="the same guide and loss; only what belongs to the row is lost",
        where="a control of ours", needs=PARITY, models=2,
    ),
    "untrained": Claim(
        "a guide that was never trained gives a part of it, in copying",
        above(f"copy, {UNTRAINED}", f"copy, {ALONE}"),
        why="what is passed on is then the form of the guide", where=WHERE, needs=COPY, models=2,
    ),
    "untrained parity": Claim(
        "a guide that was never trained gives a part of it, in parity",
        above(f"parity, {UNTRAINED}", f"parity, {ALONE}"),
        why="what is passed on is then the form of the guide", where=WHERE, needs=PARITY, models=2,
    ),
    "heads": Claim(
        "heads of one layer are more alike than heads of different layers",
        groups_differ("likeness of heads", "layers"),
        why="debiased CKA of outputs, head by head; heads dealt to layers at random are the control",
        where="an extension of ours",
    ),
    "pictures": untried(
        "fully connected networks stop overfitting, plain convolutional ones come near residual ones",
        "accuracy on ImageNet",
        "trainings on ImageNet cannot be had here", where="abstract",
    ),
}  # fmt: skip
REPLICATION = add_paper(Paper(
    name="guidance", source="Subramaniam et al. 2024", model="zoo:stdlib", options=GuidanceSizes, measure=measure,
    claims=CLAIMS,
))  # fmt: skip
