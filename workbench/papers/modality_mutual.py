"""Modality-mutual attention: patches that see the question behind them.

The paper opens the causal mask of a model that reads a picture and a question: positions of the picture may look at the
question, and nothing else changes. Here two pairs of twins are trained by one recipe, each pair from one start on the
same pictures and the same three questions to each; within a pair the mask alone differs. `zoo:vlm` saw fifteen
questions to a picture and is no fair partner of `zoo:vlm-mutual`. All are asked the same questions; a claim about
twins looks at the mean of the two pairs, and each pair by itself must show it.

Controls:
- the twin that was trained with the usual mask, from the same start and on the same questions
- as many entries of the mask opened at random places ahead, in the rows of the patches too
- a mask under which patches see the answer too (`--set leak=true`), which the check for leaks must find
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from workbench.core.loading import lazily
from workbench.core.stats.intervals import SHARE
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Criterion, Paper, untried
from workbench.papers.kit.criteria import above, at_least, at_most, beats_draws
from workbench.papers.kit.frames import Control, Extension, above_in_pairs, answers, room
from workbench.papers.options import Sizes, size
from workbench.papers.registry import add_paper
from workbench.tasks.scenes.layout import World
from workbench.tasks.scenes.questions import KINDS

with lazily():
    from workbench.edits import mutual
    from workbench.heads import asked_pictures
    from workbench.training import vlm_mutual

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

# Criteria, fixed before anything was measured.
LEARNED, RIGHT, ROOM = 0.5, 0.9, 0.98
FIRST_SEED = 24_000_000  # pictures of this paper: no other seed of pictures is near
BLIND, SEES = "patches are blind to the question", "patches see the question"
OWN, IMPOSED, RANDOM = "loss, usual mask", "loss, patches see the question", "loss, as many entries at random"
TRAINED, TAKEN = "loss of twins that see", "loss of twins that see, made blind"
OPEN, LEAKS = "share of opened entries that are felt", "answers that are felt before them"


@dataclass(frozen=True, kw_only=True)
class MutualSizes(Sizes):
    """Numbers of questions, and how twins are trained anew."""

    questions: int = size(150, "of each of seven kinds", least=4)
    noise: float = size(0.04, "of pixels")
    draws: int = size(20, "masks with entries opened at random, on a seventh of the questions")
    leak: bool = size(False, "let patches see the answer too; the claim about leaks must then fail")
    retrain: bool = size(False, "train the twins anew: half an hour of one core with all steps")
    steps: int = size(5000, "of twins trained anew, with seeds of their own")
    tower_steps: int = size(900, "of the tower that the twins of a pair share")


def measure(setting: Setting) -> Conditions:
    """Ask twins the same questions, impose the mask on a model that was trained without it, and look for leaks.

    Raises:
        ModelError: for a model that does not read a picture and words.
    """
    o, model, seed = setting.options, setting.model, FIRST_SEED + 1000 * setting.seed
    world, c = (
        World(objects=(0, 1, 1, 1), noise=o.noise),
        Conditions(unit="nats", within=None, seed=setting.seed),
    )
    asked = asked_pictures.ask_pictures(model, world, kinds=KINDS, n=o.questions * len(KINDS), seed=seed)
    _ask(c, asked, _twins(setting))
    setting.progress(2, 3, "the mask imposed")
    plain = asked_pictures.right_and_loss(model, asked)
    seen = mutual.asked_under(mutual.mutual_mask(model, asked), model, asked)
    c.numbers["right"], c[OWN], c[IMPOSED] = float(plain.right.mean()), plain.loss, seen.loss
    some = asked[: max(4, len(asked) // len(KINDS))]
    c[f"{IMPOSED}, some questions"] = seen.loss[: len(some)]
    drawn = mutual.random_masks(model, asked, o.draws, seed)
    c.draws[RANDOM] = [mutual.asked_under(each, model, some).loss for each in drawn]
    felt = mutual.leaks_of(model, asked[:4], leak=o.leak)
    c.numbers[OPEN] = felt.opened
    c.tell(LEAKS, felt.leaks, n=felt.n)
    return c


def _twins(setting: Setting) -> Iterator[list[TransformerBridge]]:
    """Pairs of models: trained with the usual mask, and trained to see."""
    o: MutualSizes = setting.options
    for pair, twins in enumerate(vlm_mutual.PAIRS):
        setting.progress(pair, 3, f"twins, pair {pair}")
        with TemporaryDirectory() as folder:
            names = [f"zoo:{twin.name}" for twin in twins]
            if o.retrain:
                how = {"steps": o.steps, "tower_steps": o.tower_steps}
                names = [str(made) for made in vlm_mutual.train_pair(twins, Path(folder), **how)]
            yield [setting.open(name) for name in names]


def _ask(c: Conditions, asked, pairs: Iterator[list[TransformerBridge]]) -> None:
    """Ask the twins of every pair, each as it was trained: their mean over pairs, and each by itself."""
    found: dict[str, list[asked_pictures.RightAndLoss]] = {BLIND: [], SEES: [], TAKEN: []}
    for blind, sees in pairs:
        found[BLIND].append(asked_pictures.right_and_loss(blind, asked))
        found[SEES].append(asked_pictures.right_and_loss(sees, asked))
        found[TAKEN].append(mutual.asked_under(mutual.causal_mask(sees, asked), sees, asked))
    for name, kind in product((BLIND, SEES), ("", *KINDS)):
        rows = np.array([kind in ("", q.kind) for q in asked.questions])
        what, right = ", ".join(filter(None, (kind, name))), [one.right[rows] for one in found[name]]
        of_pairs = {f"{what}, pair {pair}": one for pair, one in enumerate(right)}
        for told, values in {what: np.mean(right, axis=0), **of_pairs}.items():
            c.add(told, values, within=SHARE, unit="share of right answers")
    c[TRAINED] = np.mean([one.loss for one in found[SEES]], axis=0)
    c[TAKEN] = np.mean([one.loss for one in found[TAKEN]], axis=0)


def _each(kind: str = "") -> Criterion:
    """Twins that see are right more often: the mean of the pairs, and each pair."""
    blind, sees = (f"{kind}, {name}" if kind else name for name in (BLIND, SEES))
    return above_in_pairs(sees, blind, pairs=2)


ABLE = answers("right", RIGHT)
FIT = answers(BLIND, LEARNED)
OfMask = partial(Claim, where="section on the mask")
CLAIMS = {
    "felt": OfMask(
        "patches see the question, and all of it",
        at_least(OPEN, 0.99),
        why="an entry of the mask that changes nothing would make the rest empty",
    ),
    "leaks": OfMask(
        "answers never leak",
        at_most(LEAKS, 0),
        why="what stands in an answer is changed, and no output before it may change by a bit",
    ),
    "better": Claim(
        "a model whose patches see the question answers better than its twin",
        _each(),
        paper="+7.2% on average over 12 benchmarks",
        why="same start, pictures and questions; two pairs, and chance may have made one",
        where="main results",
        needs=[FIT],
        models=2,
    ),
    **{
        kind: Extension(
            f"the twin whose patches see the question is better at questions of {kind}",
            _each(kind),
            why="the same rule, by kind of question",
            needs=[FIT, room(f"{kind}, {BLIND}", ROOM, f"blind twins answer {{{kind}, {BLIND}:.1%}}")],
            models=2,
        )
        for kind in KINDS
    },
    "imposed": Extension(
        "imposed without training, the mask shifts the model",
        above(IMPOSED, OWN),
        why="loss of the right answer; the same questions, paired",
        needs=[ABLE],
    ),
    "random": Control(
        "imposed, the mask shifts the model more than as many entries opened at random do",
        beats_draws(f"{IMPOSED}, some questions", RANDOM),
        why="any mask that a model does not know may shift it; patches alone look ahead in both",
        needs=[ABLE],
    ),
    "needed": Extension(
        "a model that was trained with this mask needs it",
        above(TAKEN, TRAINED),
        why="if nothing were lost without it, nothing would be read from what patches saw",
        needs=[FIT],
        models=2,
    ),
    "benchmarks": untried(
        "accuracy rises on twelve benchmarks",
        "accuracy on benchmarks of photographs",
        "photographs and models of billions of weights cannot be had here",
        paper="+7.2% on average",
        where="main results",
    ),
}
REPLICATION = add_paper(
    Paper(
        name="modality-mutual",
        source="Wang et al. 2025",
        model="zoo:vlm",
        options=MutualSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
