"""Attention meets perturbations: a classifier whose attention is pushed while it trains, and what that makes of it.

A small classifier tells from which module of Python's standard library twelve words of documentation are; names of
modules are left out. It reads words with their neighbors and mixes them by one attention. It is trained as it is, with
the worst small step in its scores (AT), along differences from other texts of the batch (iAT, as in the paper's code),
or along a random direction, with two seeds each; docstrings that it is judged on are others. Heads of a trained
language model are pushed the same way, without training.

Controls:
- training as it is
- training with steps of the same length in a random direction
- random steps of the same length in the scores of the heads
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
from workbench.papers.kit.criteria import above, at_least, below, no_worse
from workbench.papers.options import size
from workbench.papers.registry import add_paper
from workbench.training import docstring_words

if TYPE_CHECKING:
    from workbench.training.adversarial_attention import TextAnswers

with lazily():
    from workbench.heads import grounds, sensitivity
    from workbench.training import adversarial_attention as pushed

# Criteria, fixed before anything was measured.
LEARNED, KEPT, SEEDS = 0.5, 0.02, (190, 191)
FIRST_SEED = 19_000_000
PLAIN, AT, IAT, RANDOM = "trained as it is", "AT", "iAT", "random steps"
KINDS: dict[str, Any] = {PLAIN: "plain", AT: "AT", IAT: "iAT", RANDOM: "random"}
OWN, DRAWN = "heads pushed along the slope", "heads pushed at random"


@dataclass(frozen=True, kw_only=True)
class AttentionSizes:
    """How much is read, and how far attention is pushed."""

    each: int = size(400, "texts of every module, to train on and to judge on, at most")
    steps: int = size(100, "of a training")
    eps: float = size(5.0, "length of the step that all are compared at")
    lengths: tuple[float, ...] = size((1.0, 5.0, 15.0), "lengths of the step whose spread is measured")
    attack: float = size(1.0, "length of the step that is tried on trained classifiers and on heads")
    windows: int = size(8, "of the text on which heads are pushed")

    def __post_init__(self) -> None:
        if self.eps not in self.lengths or len(self.lengths) < 2:
            raise OptionError(
                f"eps is {self.eps}, lengths {list(self.lengths)}; expected two lengths or more, and eps among them",
                hint="--set eps=5 --set lengths=1,5,15",
            )


def measure(setting: Setting) -> Conditions:
    """Train classifiers in four ways with two seeds, and read them on other texts; then push a model's heads."""
    import torch

    o: AttentionSizes = setting.options
    c = Conditions(unit="share of right answers", within=SHARE, seed=setting.seed)
    texts = docstring_words.word_texts(each=o.each, seed=FIRST_SEED + setting.seed)
    ids, labels = (torch.from_numpy(x) for x in (texts.ids, texts.labels))
    how = {"words": len(texts.words), "classes": len(texts.classes)}
    plan = [(PLAIN, 0.0), (RANDOM, o.eps), *((name, eps) for name in (AT, IAT) for eps in o.lengths)]
    readings: dict[tuple[str, float], list[TextAnswers]] = {}
    for name, eps in setting.each(plan, "training classifiers"):
        training = pushed.AttentionTraining(kind=KINDS[name], eps=eps, steps=o.steps)
        for seed in SEEDS:
            made = pushed.fit_classifier(
                ids[: texts.first], labels[: texts.first], training, seed=seed + 100 * setting.seed, **how
            )
            test = (ids[texts.first :], labels[texts.first :])
            readings.setdefault((name, eps), []).append(pushed.read_classifier(made, *test, eps=o.attack))
    _told(c, o, readings)
    n = len(texts.classes)
    c.numbers |= {"texts": len(ids) - texts.first, "classes": n, "chance": 1 / n}
    _heads(c, setting)
    return c


def _told(c: Conditions, o: AttentionSizes, readings: dict[tuple[str, float], list[TextAnswers]]) -> None:
    """One value for every text, mean over seeds."""

    def mean(name: str, eps: float, what: str) -> np.ndarray:
        return np.mean([getattr(one, what) for one in readings[name, eps]], axis=0)

    for name in KINDS:
        eps = 0.0 if name == PLAIN else o.eps
        c[f"right, {name}"] = mean(name, eps, "right")
        rise = mean(name, eps, "attacked") - mean(name, eps, "loss")
        c.add(f"rise under attack, {name}", rise, unit=f"nats, scores pushed by {o.attack:g}")
        c.add(
            f"agreement, {name}",
            mean(name, eps, "agreement"),
            unit="Pearson, attention and slopes along words",
        )
    for name in (AT, IAT):
        losses = np.stack([mean(name, eps, "loss") for eps in o.lengths])
        c.add(
            f"spread over eps, {name}", losses.max(0) - losses.min(0), unit="nats between lengths of the step"
        )
    c.tables["Every training"] = [
        {
            "training": name, "eps": eps, "right": mean(name, eps, "right").mean(),
            "loss": mean(name, eps, "loss").mean(), "under attack": mean(name, eps, "attacked").mean(),
            "agreement": mean(name, eps, "agreement").mean(),
        }
        for name, eps in readings
    ]  # fmt: skip


def _heads(c: Conditions, setting: Setting) -> None:
    """How much the loss of the model rises when one head is pushed, along the slope and at random; heads are items."""
    o = setting.options
    ground, notes = grounds.text_or_random(setting.model, n=o.windows, seed=setting.seed)
    for said in notes:
        setting.note(said)
    _, ids = next(ground.batches())
    rows = {}
    for name, random in ((OWN, None), (DRAWN, setting.seed)):
        found = sensitivity.sensitivity(setting.model, ids, o.attack, random=random)
        means = found.rise.mean(0).flatten().numpy()
        rows[name] = means[np.isfinite(means)]
        c.add(name, rows[name], unit="nats, one head")
        if random is None:
            first = found.first_order.mean(0).flatten().numpy()
            c.draw_heads("Rise of the loss with one head pushed", found.rise.mean(0).numpy(), unit="nats")
            c.numbers["first order"] = float(first[np.isfinite(first)].mean())


ABLE = needs(
    at_least(f"right, {PLAIN}", LEARNED),
    f"trained as it is the classifier answers {{right, {PLAIN}:.0%}} of the texts; half is asked for, chance is "
    "{chance:.0%}",
)
PAPER, OURS = "abstract; formulas of the code", "a control of ours"
CLAIMS = {
    "robust": Claim(
        "trained with the worst steps, attention is less easily pushed",
        below(f"rise under attack, {AT}", f"rise under attack, {PLAIN}")
        & below(f"rise under attack, {AT}", f"rise under attack, {RANDOM}"),
        why="whether the training does anything at all; random steps of the same length are the control",
        where=PAPER, needs=[ABLE], models=2,
    ),
    "at": Claim(
        "with AT the classifier is no less accurate", no_worse(f"right, {AT}", f"right, {PLAIN}", within=KEPT),
        why="2 points of accuracy, on texts of other docstrings", where=PAPER, needs=[ABLE], models=2,
    ),
    "iat": Claim(
        "with iAT the classifier is no less accurate", no_worse(f"right, {IAT}", f"right, {PLAIN}", within=KEPT),
        paper="best on 9 of 10 tasks",
        why="2 points of accuracy, on texts of other docstrings", where=PAPER, needs=[ABLE], models=2,
    ),
    "agrees": Claim(
        "with AT attention agrees more with slopes along words",
        above(f"agreement, {AT}", f"agreement, {PLAIN}"),
        why="text by text, mean over seeds", where=PAPER, needs=[ABLE], models=2,
    ),
    "iat agrees": Claim(
        "with iAT attention agrees more with slopes along words",
        above(f"agreement, {IAT}", f"agreement, {PLAIN}"),
        why="text by text, mean over seeds", where=PAPER, needs=[ABLE], models=2,
    ),
    "direction": Claim(
        "it is the direction: AT agrees more than training with random steps",
        above(f"agreement, {AT}", f"agreement, {RANDOM}"),
        why="steps of the same length from the same start on the same batches", where=OURS, needs=[ABLE], models=2,
    ),
    "spread": Claim(
        "iAT depends less on the length of the step than AT",
        below(f"spread over eps, {IAT}", f"spread over eps, {AT}"),
        why="largest less smallest loss of a text over three lengths", where=PAPER, needs=[ABLE], models=2,
    ),
    "heads": Claim(
        "heads of a language model can be pushed: its loss rises more than with random steps",
        above(OWN, DRAWN),
        why="the same length for every query, one head at a time", where="an extension of ours",
    ),
    "tasks": untried(
        "iAT is best on nine of ten tasks", "accuracy on the ten data sets of the paper",
        "the data sets and embeddings of the paper cannot be had here", where="abstract",
    ),
}  # fmt: skip
REPLICATION = add_paper(Paper(
    name="attention-at", source="Kitada and Iyatomi 2020", model="zoo:stdlib", options=AttentionSizes,
    measure=measure, claims=CLAIMS,
))  # fmt: skip
