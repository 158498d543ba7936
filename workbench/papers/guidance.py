"""Training the untrainable: a network that cannot learn a task learns it while its layers are drawn to another's.

A plain recurrent network copies badly, and a transformer of two layers is bad at the parity of all bits so far. Each is
trained alone and guided by the other kind, which does the task: its layers are drawn, by debiased CKA, to those of the
guide on the same rows. A guide that was never trained shows what its form alone gives. Two seeds of everything, shipped
or trained anew; then all heads of a model are compared by CKA.

Controls:
- the same network without a guide
- a guide that reads the rows of the batch in another order
- heads dealt to layers at random
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.core.errors import OptionError
from workbench.core.loading import lazily
from workbench.core.stats.intervals import SHARE
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, needs, untried
from workbench.papers.kit.claims import Need
from workbench.papers.kit.criteria import above, at_least, groups_differ
from workbench.papers.kit.trained_arms import TRAININGS, TrainedSizes
from workbench.papers.options import size
from workbench.papers.registry import add_paper

with lazily():
    from workbench.heads import grounds, kernel_alignment, observe
    from workbench.training import guidance, guided_arms

# Criteria, fixed before anything was measured.
LEARNED, FIRST_SEED = 0.9, 20_000_000
GUIDE, ALONE, GUIDED, SHUFFLED, UNTRAINED = (
    "the guide",
    "alone",
    "guided",
    "guided, rows shuffled",
    "guided, guide untrained",
)


@dataclass(frozen=True, kw_only=True)
class GuidanceSizes(TrainedSizes):
    """How much is asked."""

    rows: int = size(300, "that networks are judged on")
    windows: int = size(8, "of the text for heads")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.windows < 2:
            raise OptionError(
                f"windows is {self.windows}; at least 2 are needed", hint="--set windows=2, or more"
            )


def measure(setting: Setting) -> Conditions:
    """Ask networks alone and guided on both tasks, then compare the heads of the model."""
    c = Conditions(unit="share of right answers", within=SHARE, seed=setting.seed)
    _networks(c, setting)
    _heads(c, setting)
    return c


def _networks(c: Conditions, setting: Setting) -> None:
    """Right answers of every network of a task on the same rows, mean over its trainings."""
    o = setting.options
    if o.steps and not o.retrain:
        raise OptionError("steps are those of a training anew", hint="--retrain --set steps=100")
    seeds = [1000 + 10 * setting.seed + i for i in range(TRAININGS)] if o.retrain else guided_arms.SEEDS
    found = guided_arms.guided_arms(
        retrain=o.retrain, seeds=seeds, steps=o.steps or guided_arms.STEPS, progress=setting.progress
    )
    c.tables["Every network"] = rows = []
    for task, length in guided_arms.LENGTHS.items():
        asked = guidance.sequence_rows(task, o.rows, length, seed=[FIRST_SEED, setting.seed])
        for arm in guided_arms.ARMS:
            each = [guidance.right_share(found[task, seed][arm], asked) for seed in seeds]
            c[f"{task}, {arm}"] = np.mean(each, axis=0)
            rows += [
                {"network": f"{task}, {arm}", "seed": seed, "right": float(right.mean())}
                for seed, right in zip(seeds, each, strict=True)
            ]
    c.numbers["weights"] = "trained anew" if o.retrain else "shipped"


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
        "a recurrent network copies better than with a guide that reads other rows",
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
        "a transformer learns parity better than with a guide that reads other rows",
        above(f"parity, {GUIDED}", f"parity, {SHUFFLED}"),
        why="the same guide and loss; only what belongs to the row is lost",
        where="a control of ours", needs=PARITY, models=2,
    ),
    "untrained": Claim(
        "a guide that was never trained helps, too, in copying",
        above(f"copy, {UNTRAINED}", f"copy, {ALONE}"),
        why="what is passed on is then the form of the guide", where=WHERE, needs=COPY, models=2,
    ),
    "untrained parity": Claim(
        "a guide that was never trained helps, too, in parity",
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
