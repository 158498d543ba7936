"""Interaction guided sampling: picture and question work together on right answers, and less on hallucinated ones.

The interaction of picture and question on a token is what both together add to its log probability beyond what each
adds alone. The paper guides decoding by it: tokens on which both work together are preferred. Only the abstract of the
paper was read. Here the model is asked whether a coloured shape is in a drawn picture, and a *yes* about something
that is not there is a hallucination; other kinds of questions are asked beside. A part is away when no token outside
it looks at it, or with `--set how=mean` when what stands there on average stands there.

Pixel noise is 0.12, the noise of the model's card at which it hallucinates: in clean pictures it hardly ever does. The
strength of guidance is 1, and so is that of contrastive decoding, before anything was measured; other strengths are
rows of a table.

Controls:
- contrastive decoding, which takes the picture away and not the question
- interactions dealt to other questions
- shuffled labels of right and hallucinated answers
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from workbench.core.errors import OptionError
from workbench.core.loading import lazily
from workbench.core.stats.association import auroc
from workbench.core.stats.intervals import SHARE
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, needs, untried
from workbench.papers.kit.criteria import above, at_least, beats_draws, below, no_worse, permuted, tells
from workbench.papers.registry import add_paper
from workbench.tasks.scenes.layout import World

with lazily():
    from workbench.evaluate import interaction
    from workbench.heads import asked_pictures

# Criteria, fixed before anything was measured.
WITHIN, ENOUGH, RIGHT = 0.02, 20, 0.6
FIRST_SEED = 34_000_000  # pictures of this paper: no other seed of pictures is near
KINDS = ("colour", "shape", "size", "place", "count")
OWN, OTHERS = "interaction on right answers", "interaction of the other prompts on the same word"
TERM, TRUE = "interaction on answers yes", "the object is there"
PLAIN, GUIDED, CONTRASTED, DEALT = "as it is", "guided", "contrasted", "guided by others' interactions"
ABSENT, PRESENT, ANY = "yes though absent", "yes where present", "right, other kinds"
RECONSTRUCTED = "abstract, reconstructed"


@dataclass(frozen=True, kw_only=True)
class InteractionSizes:
    """Sizes.

    Attributes:
        questions, others: Whether something is there, half about what is not; and of other kinds.
        noise: Of pixels; ``beside`` are further ones, rows of a table.
        strength: Of guidance and of contrastive decoding; ``strengths`` are further ones.
        draws: Of interactions dealt to other questions.
        how: What being away is: ``mask`` a part from other tokens, or put there what is there on average (``mean``).
    """

    questions: int = 1200
    others: int = 600
    noise: float = 0.12
    beside: tuple[float, ...] = (0.04, 0.2)
    strength: float = 1.0
    strengths: tuple[float, ...] = (0.25, 0.5, 2.0)
    draws: int = 40
    how: Literal["mask", "mean"] = "mask"

    def __post_init__(self) -> None:
        if min(self.questions, self.others) < 4:
            raise OptionError("four questions are the least that has an interval for each answer")
        if self.how not in ("mask", "mean"):
            raise OptionError(f"how is {self.how!r}; mask or mean is expected", hint="--set how=mask")


def measure(setting: Setting) -> Conditions:
    """Take picture and question away in turn, and let what they do together choose the answer.

    Raises:
        ModelError: for a model that does not read a picture and words.
    """
    o: InteractionSizes = setting.options
    seed = FIRST_SEED + 1000 * setting.seed
    c = Conditions(unit="share of questions answered yes", seed=setting.seed)
    yes = asked_pictures.token_of(setting.model, "yes")
    asked = _asked(setting, ["exist"], o.questions, seed, o.noise)
    found, there = _apart(setting, asked), asked.there
    _on_answers(c, found, asked, found.both.argmax(1).numpy() == yes)
    for name, says in _said(found, o.strength).items():
        c[f"{ABSENT}, {name}"], c[f"{PRESENT}, {name}"] = (says == yes)[~there], (says == yes)[there]
    rng = np.random.default_rng([seed, 1])
    dealt = [_guided(found.both, found.term[rng.permutation(len(asked))], o.strength) for _ in range(o.draws)]
    c.draws[f"{ABSENT}, {DEALT}"] = [(says == yes)[~there] for says in dealt]
    setting.progress(1, 3, "other kinds of questions")
    other = _asked(setting, KINDS, o.others, seed + 1, o.noise)
    for name, says in _said(_apart(setting, other), o.strength).items():
        c.add(f"{ANY}, {name}", says == other.right, within=SHARE, unit="share of right answers")
    setting.progress(2, 3, "tables")
    c.tables["How strong"] = [
        {
            "strength": s,
            "decoding": name,
            ABSENT: (says == yes)[~there].mean(),
            PRESENT: (says == yes)[there].mean(),
        }
        for s in sorted({o.strength, *o.strengths})
        for name, says in _said(found, s).items()
    ]
    c.tables["Noise of pixels"] = [_of_noise(setting, noise, seed + 2) for noise in (*o.beside, o.noise)]
    return c


def _asked(
    setting: Setting, kinds: Sequence[str], n: int, seed: int, noise: float
) -> asked_pictures.AskedPictures:
    world = World(objects=(0, 1, 1, 1), noise=noise)
    if list(kinds) == ["exist"]:
        return asked_pictures.ask_existence(setting.model, world, n=n, seed=seed)
    return asked_pictures.ask_pictures(setting.model, world, kinds=kinds, n=n, seed=seed)


def _apart(setting: Setting, asked: asked_pictures.AskedPictures) -> interaction.Interaction:
    o: InteractionSizes = setting.options
    return interaction.interaction(setting.model, asked.prompt, asked.image, asked.question, how=o.how)


def _guided(both: Any, term: Any, strength: float) -> np.ndarray:
    return interaction.guided(both, term, strength=strength).argmax(1).numpy()


def _said(found: interaction.Interaction, strength: float) -> dict[str, np.ndarray]:
    """The token that is said, by way of decoding."""
    contrasted = interaction.contrasted(found.both, found.second, strength=strength)
    says = {PLAIN: found.both.argmax(1).numpy(), GUIDED: _guided(found.both, found.term, strength)}
    return says | {CONTRASTED: contrasted.argmax(1).numpy()}


def _on_answers(
    c: Conditions, found: interaction.Interaction, asked: asked_pictures.AskedPictures, yes: np.ndarray
) -> None:
    """The interaction on right answers, beside that of other prompts on the same word, and on answers yes."""
    term, says = found.term.double().numpy(), found.both.argmax(1).numpy()
    right, there = says == asked.right, asked.there
    c.add(OWN, term[right, asked.right[right]], unit="nats")
    c.add(OTHERS, _of_others(term)[right, asked.right[right]], unit="nats")
    c.add(TERM, term[yes, says[yes]], unit="nats")
    c.add(TRUE, there[yes], within=SHARE, unit="share of answers yes")
    sure = auroc(found.both.amax(1).double().numpy()[yes], there[yes])
    c.numbers |= {"right": float(right.mean()), "AUROC of the model's own probability": sure}
    c.numbers |= {"hallucinated": int((yes & ~there).sum()), "truly": int((yes & there).sum())}


def _of_others(term: np.ndarray) -> np.ndarray:
    """The mean interaction of all other prompts on each word, the prompt itself left out."""
    return (term.sum(0) - term) / (len(term) - 1)


def _of_noise(setting: Setting, noise: float, seed: int) -> dict[str, float]:
    asked = _asked(setting, ["exist"], max(4, setting.options.questions // 4), seed, noise)
    found, there = _apart(setting, asked), asked.there
    yes, row = asked_pictures.token_of(setting.model, "yes"), {"noise": noise}
    for name, says in _said(found, setting.options.strength).items():
        row |= {
            f"{ABSENT}, {name}": (says == yes)[~there].mean(),
            f"{PRESENT}, {name}": (says == yes)[there].mean(),
        }
    says = found.both.argmax(1).numpy() == yes
    return row | {"AUROC of the interaction": auroc(found.term[:, yes].numpy()[says], there[says])}


ABLE = needs(
    at_least("right", RIGHT), "the model answers {right:.0%} of the questions rightly; 60% is asked for"
)
ERRS = needs(
    lambda c: min(c.numbers["hallucinated"], c.numbers["truly"]) >= ENOUGH,
    "{hallucinated} answers yes are hallucinated and {truly} right; twenty of both are asked for",
)
CLAIMS = {
    "together": Claim(
        "picture and question work together on right answers",
        above(OWN),
        why="effects that add up have an interaction of 0",
        where=RECONSTRUCTED,
        needs=[ABLE],
    ),
    "own": Claim(
        "more than those of other prompts do on the same word",
        above(OWN, OTHERS),
        why="an answer may have its interaction whatever is asked and seen; all prompts but its own, whatever "
        "their answer",
        where="a control of ours",
        needs=[ABLE],
    ),
    "tells": Claim(
        "they work together more on right answers than on hallucinated ones",
        tells(TERM, TRUE)
        & permuted(
            "AUROC of the interaction for answers yes that are right",
            lambda labels, c: auroc(c[TERM], np.asarray(labels) > 0.5),
            lambda c: c[TRUE].tolist(),
        ),
        why="the word is the same in both, so that only what it is about differs",
        where=RECONSTRUCTED,
        needs=[ABLE, ERRS],
        control="{AUROC of the model's own probability:.3f} for the model's own probability of the answer",
    ),
    "lowers": Claim(
        "decoding guided by the interaction lowers hallucination",
        below(f"{ABSENT}, {GUIDED}", f"{ABSENT}, {PLAIN}"),
        why="the truth about what is absent is exact",
        where=RECONSTRUCTED,
        needs=[ABLE, ERRS],
    ),
    "contrast": Claim(
        "it lowers hallucination more than contrastive decoding",
        below(f"{ABSENT}, {GUIDED}", f"{ABSENT}, {CONTRASTED}"),
        why="the same strength and the same plausible tokens",
        where=RECONSTRUCTED,
        needs=[ABLE, ERRS],
    ),
    "dealt": Claim(
        "it lowers hallucination more than guidance by the interactions of other questions",
        beats_draws(f"{ABSENT}, {GUIDED}", f"{ABSENT}, {DEALT}", lower=True),
        why="any change of scores may make a model say yes less often",
        where="a control of ours",
        needs=[ABLE, ERRS],
    ),
    "kept": Claim(
        "right answers about what is there are kept",
        no_worse(f"{PRESENT}, {GUIDED}", f"{PRESENT}, {PLAIN}", within=WITHIN),
        why="two points; a model that never says yes hallucinates nothing",
        where="a control of ours",
        needs=[ABLE],
    ),
    "kinds": Claim(
        "questions of other kinds are answered better",
        above(f"{ANY}, {GUIDED}", f"{ANY}, {PLAIN}"),
        why="colour, shape, size, place and count, at the same noise",
        where="an extension of ours",
        needs=[ABLE],
    ),
    "photographs": untried(
        "descriptions of photographs hallucinate less",
        "the benchmarks of the paper",
        "photographs and models of seven billion weights cannot be had here",
        where=RECONSTRUCTED,
    ),
}  # fmt: skip
REPLICATION = add_paper(
    Paper(
        name="interaction",
        title="INTER: Mitigating Hallucination in Large Vision-Language Models by Interaction Guidance Sampling",
        source="INTER 2025",
        model="zoo:vlm",
        options=InteractionSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
