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
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from workbench.core.errors import OptionError
from workbench.core.loading import lazily
from workbench.core.stats.intervals import SHARE
from workbench.edits.kinds import Mask
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Criterion, Need, Paper, needs, untried
from workbench.papers.kit.criteria import above, at_least, at_most, beats_draws
from workbench.papers.registry import add_paper
from workbench.tasks.scenes.layout import World
from workbench.tasks.scenes.questions import KINDS

with lazily():
    from workbench.edits import leaks, masks
    from workbench.heads import asked_pictures
    from workbench.training import recipe, vlm_mutual

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

# Criteria, fixed before anything was measured.
LEARNED, RIGHT, ROOM = 0.5, 0.9, 0.98
FIRST_SEED = 24_000_000  # pictures of this paper: no other seed of pictures is near
OWN_SEEDS = 10  # of twins trained anew
BLIND, SEES = "patches are blind to the question", "patches see the question"
OWN, IMPOSED, RANDOM = "loss, usual mask", "loss, patches see the question", "loss, as many entries at random"
TRAINED, TAKEN = "loss of twins that see", "loss of twins that see, made blind"
OPEN, LEAKS = "share of opened entries that are felt", "answers that are felt before them"
AFTER = 4  # words of an answer


@dataclass(frozen=True, kw_only=True)
class MutualSizes:
    """Sizes.

    Attributes:
        questions: Of each of seven kinds.
        noise: Of pixels.
        draws: Of masks with entries opened at random, on a seventh of the questions.
        leak: Let patches see the answer too; the claim about leaks must then fail.
        retrain: Train the twins anew, with seeds of their own: half an hour of one core with all ``steps``.
        tower_steps: Of the tower that the twins of a pair share.
    """

    questions: int = 150
    noise: float = 0.04
    draws: int = 20
    leak: bool = False
    retrain: bool = False
    steps: int = 5000
    tower_steps: int = 900

    def __post_init__(self) -> None:
        if self.questions < 4:
            raise OptionError("four questions of each kind are the least", hint="--set questions=100")


def measure(setting: Setting) -> Conditions:
    """Ask twins the same questions, impose the mask on a model that was trained without it, and look for leaks.

    Raises:
        ModelError: for a model that does not read a picture and words.
    """
    o: MutualSizes = setting.options
    model, seed = setting.model, FIRST_SEED + 1000 * setting.seed
    world, c = (
        World(objects=(0, 1, 1, 1), noise=o.noise),
        Conditions(unit="nats", within=None, seed=setting.seed),
    )
    asked = asked_pictures.ask_pictures(model, world, kinds=KINDS, n=o.questions * len(KINDS), seed=seed)
    for pair, twins in enumerate(_twins(setting)):
        setting.progress(pair, 3, f"twins, pair {pair}")
        _ask(c, pair, twins, asked)
    setting.progress(2, 3, "the mask imposed")
    plain, seen = asked_pictures.right_and_loss(model, asked), _under(_open(model, asked), model, asked)
    c.numbers["right"], c[OWN], c[IMPOSED] = float(plain.right.mean()), plain.loss, seen.loss
    drawn = _at_random(asked, o.draws, seed)
    some = asked[: max(4, len(asked) // len(KINDS))]
    c[f"{IMPOSED}, some questions"] = seen.loss[: len(some)]
    c.draws[RANDOM] = [_under(_edit(model, each), model, some).loss for each in drawn]
    _look_for_leaks(c, model, asked[:4], leak=o.leak)
    return c


def _edit(model: TransformerBridge, allowed) -> Mask:
    return Mask(heads=tuple(f"a{layer}" for layer in range(model.cfg.n_layers)), allowed=allowed)


def _open(model: TransformerBridge, asked: asked_pictures.AskedPictures) -> Mask:
    """The mask of the paper: patches see the words behind them."""
    n, image = asked.prompt.shape[1], (min(asked.image), max(asked.image) + 1)
    return _edit(model, masks.unlock(masks.causal(n), image, (image[1], n)))


def _at_random(asked: asked_pictures.AskedPictures, draws: int, seed: int) -> list:
    """Masks that open as many entries as that of the paper, in the same rows, at random places ahead."""
    usual, opened = masks.causal(asked.prompt.shape[1]), len(asked.image) * (len(asked.question) + 1)
    rows = min(asked.image), max(asked.image) + 1
    return [masks.unlock_at_random(usual, opened, seed=seed + i, queries=rows) for i in range(draws)]


def _under(
    edit: Mask, model: TransformerBridge, asked: asked_pictures.AskedPictures
) -> asked_pictures.RightAndLoss:
    with edit.on(model):
        return asked_pictures.right_and_loss(model, asked)


def _twins(setting: Setting) -> Iterator[tuple[TransformerBridge, TransformerBridge]]:
    """Pairs of models: trained with the usual mask, and trained to see."""
    o: MutualSizes = setting.options
    for twins in vlm_mutual.PAIRS:
        if not o.retrain:
            yield setting.open(f"zoo:{twins[0].name}"), setting.open(f"zoo:{twins[1].name}")
            continue
        with TemporaryDirectory() as folder:  # twins find the tower of their pair there
            for twin in twins:
                sizes = {"steps": o.steps, "tower_steps": o.tower_steps}
                made = twin.train(OWN_SEEDS + twin.seed, Path(folder), **sizes)
                recipe.save(made, Path(folder) / twin.name)
            yield setting.open(f"{folder}/{twins[0].name}"), setting.open(f"{folder}/{twins[1].name}")


def _ask(
    c: Conditions,
    pair: int,
    twins: tuple[TransformerBridge, TransformerBridge],
    asked: asked_pictures.AskedPictures,
) -> None:
    """Ask both twins, each as it was trained; what was found of earlier pairs is averaged with it."""
    _, sees = twins
    own, other = (asked_pictures.right_and_loss(twin, asked) for twin in twins)
    for name, found in ((BLIND, own), (SEES, other)):
        for kind in ("", *KINDS):
            rows = np.array([kind in ("", q.kind) for q in asked.questions])
            what, now = ", ".join(filter(None, (kind, name))), found.right[rows]
            mean = now if pair == 0 else (c[what] * pair + now) / (pair + 1)
            for told, value in ((what, mean), (f"{what}, pair {pair}", now)):
                c.add(told, value, within=SHARE, unit="share of right answers")
    taken = _under(_edit(sees, masks.causal(asked.prompt.shape[1])), sees, asked).loss
    for name, loss in ((TRAINED, other.loss), (TAKEN, taken)):
        c[name] = loss if pair == 0 else (c[name] * pair + loss) / (pair + 1)


def _look_for_leaks(
    c: Conditions, model: TransformerBridge, asked: asked_pictures.AskedPictures, *, leak: bool
) -> None:
    """Change what stands at every position of prompts with an answer behind them, and see what is felt before it."""
    prompt, n, image = (
        asked_pictures.with_words(asked.prompt, [asked.right] * AFTER),
        asked.prompt.shape[1],
        asked.image,
    )
    span, until = (min(image), max(image) + 1), n + AFTER if leak else n
    allowed = masks.unlock(masks.causal(n + AFTER), span, (span[1], until))
    felt = leaks.depends(model, prompt, _edit(model, allowed)).numpy()
    c.numbers[OPEN] = float(felt[span[0] : span[1], span[1] : n].mean())
    c.tell(LEAKS, int(felt[:n, n:].sum()), n=n * AFTER)


def _each(kind: str = "") -> Criterion:
    """Twins that see are right more often: the mean of the pairs, and each pair."""
    blind, sees = (f"{kind}, {name}" if kind else name for name in (BLIND, SEES))
    return (
        above(sees, blind)
        & above(f"{sees}, pair 0", f"{blind}, pair 0")
        & above(f"{sees}, pair 1", f"{blind}, pair 1")
    )


ABLE = needs(at_least("right", RIGHT), "the model answers {right:.0%} of the questions; 90% is asked for")
FIT = needs(
    at_least(BLIND, LEARNED), f"blind twins answer {{{BLIND}:.0%}} of the questions; half is asked for"
)


def _room(kind: str) -> Need:
    name = f"{kind}, {BLIND}"
    return needs(at_most(name, ROOM), f"blind twins answer {{{name}:.1%}}: there is no room to gain")


CLAIMS = {
    "felt": Claim(
        "patches see the question, and all of it",
        at_least(OPEN, 0.99),
        why="an entry of the mask that changes nothing would make the rest empty",
        where="section on the mask",
    ),
    "leaks": Claim(
        "answers never leak",
        at_most(LEAKS, 0),
        why="what stands in an answer is changed, and no output before it may change by a bit",
        where="section on the mask",
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
        kind: Claim(
            f"so it is with questions of {kind}",
            _each(kind),
            why="the same rule, by kind of question",
            where="an extension of ours",
            needs=[FIT, _room(kind)],
            models=2,
        )
        for kind in KINDS
    },
    "imposed": Claim(
        "imposed without training, the mask shifts the model",
        above(IMPOSED, OWN),
        why="loss of the right answer; the same questions, paired",
        where="an extension of ours",
        needs=[ABLE],
    ),
    "random": Claim(
        "more than as many entries opened at random do",
        beats_draws(f"{IMPOSED}, some questions", RANDOM),
        why="any mask that a model does not know may shift it; patches alone look ahead in both",
        where="a control of ours",
        needs=[ABLE],
    ),
    "needed": Claim(
        "and a model that was trained with it needs it",
        above(TAKEN, TRAINED),
        why="if nothing were lost without it, nothing would be read from what patches saw",
        where="an extension of ours",
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
}  # fmt: skip
REPLICATION = add_paper(
    Paper(
        name="modality-mutual",
        title="Seeing is Understanding: Unlocking Causal Attention into Modality-Mutual Attention for Multimodal LLMs",
        source="Wang et al. 2025",
        model="zoo:vlm",
        options=MutualSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
