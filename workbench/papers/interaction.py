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
- interactions dealt to other questions, so that no question keeps its own
- shuffled labels of right and hallucinated answers
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from workbench.core.loading import lazily
from workbench.core.stats.intervals import SHARE
from workbench.core.stats.permutation import derangement
from workbench.papers.kinds import Setting
from workbench.papers.kit import Conditions, Paper, untried
from workbench.papers.kit.criteria import above, area, beats_draws, below, dealt, no_worse, tells
from workbench.papers.kit.frames import (
    HALLUCINATED,
    NO_PHOTOGRAPHS,
    RECONSTRUCTED,
    Control,
    Extension,
    Reconstructed,
    answers,
    enough,
)
from workbench.papers.options import Sizes, size
from workbench.papers.registry import add_paper

with lazily():
    from workbench.evaluate import interaction
    from workbench.heads import asked_pictures, existence

# Criteria, fixed before anything was measured.
WITHIN, ENOUGH, RIGHT = 0.02, 20, 0.6
FIRST_SEED = 34_000_000  # pictures of this paper: no other seed of pictures is near
KINDS = ("colour", "shape", "size", "place", "count")
OWN, OTHERS = "interaction on right answers", "interaction of the other prompts on the same word"
TERM, TRUE = "interaction on answers yes", "the object is there"
PLAIN, GUIDED, CONTRASTED, DEALT = "as it is", "guided", "contrasted", "guided by others' interactions"
ABSENT, PRESENT, ANY = "yes though absent", "yes where present", "right, other kinds"


@dataclass(frozen=True, kw_only=True)
class InteractionSizes(Sizes):
    """Numbers of questions, and how strongly the interaction guides."""

    questions: int = size(1200, "whether something is there, half about what is not", least=4)
    others: int = size(600, "questions of other kinds", least=4)
    noise: float = size(0.12, "of pixels")
    beside: tuple[float, ...] = size((0.04, 0.2), "further noises, of a table")
    strength: float = size(1.0, "of guidance and of contrastive decoding")
    strengths: tuple[float, ...] = size((0.25, 0.5, 2.0), "further ones, of a table")
    draws: int = size(40, "of interactions dealt to other questions")
    how: Literal["mask", "mean"] = size("mask", "a part that is away: masked, or what is there on average")


def measure(setting: Setting) -> Conditions:
    """Take picture and question away in turn, and let what they do together choose the answer.

    Raises:
        ModelError: for a model that does not read a picture and words.
    """
    o, model, seed = setting.options, setting.model, FIRST_SEED + 1000 * setting.seed
    c = Conditions(unit="share of questions answered yes", seed=setting.seed)
    yes = asked_pictures.token_of(model, "yes")
    asked = existence.ask_at_noise(model, o.noise, n=o.questions, seed=seed)
    found, there = _apart(setting, asked), asked.there
    _on_answers(c, found, asked, yes)
    for name, says in interaction.decodings(found, strength=o.strength).items():
        c[f"{ABSENT}, {name}"], c[f"{PRESENT}, {name}"] = existence.yes_answers(says == yes, there)
    rng = np.random.default_rng([seed, 1])
    others = [derangement(len(asked), rng) for _ in range(o.draws)]
    drawn = [interaction.guided_by_others(found, each, strength=o.strength) == yes for each in others]
    c.draws[f"{ABSENT}, {DEALT}"] = [says[~there] for says in drawn]
    setting.progress(1, 3, "other kinds of questions")
    other = existence.ask_kinds(model, o.noise, kinds=KINDS, n=o.others, seed=seed + 1)
    for name, says in interaction.decodings(_apart(setting, other), strength=o.strength).items():
        c.add(f"{ANY}, {name}", says == other.right, within=SHARE, unit="share of right answers")
    setting.progress(2, 3, "tables")
    c.tables["How strong"] = [
        {"strength": s, "decoding": name, **existence.yes_answers(says == yes, there).row()}
        for s in sorted({o.strength, *o.strengths})
        for name, says in interaction.decodings(found, strength=s).items()
    ]
    c.tables["Noise of pixels"] = [_of_noise(setting, x, seed + 2) for x in (*o.beside, o.noise)]
    return c


def _apart(setting: Setting, of: asked_pictures.AskedPictures) -> interaction.Interaction:
    how = setting.options.how
    return interaction.interaction(setting.model, of.prompt, of.image, of.question, how=how)


def _on_answers(c: Conditions, found: interaction.Interaction, asked, yes: int) -> None:
    """The interaction on right answers, beside that of other prompts on the same word, and on answers yes."""
    term, says = found.term.double().numpy(), found.both.argmax(1).numpy()
    right, there = says == asked.right, asked.there
    c.add(OWN, term[right, asked.right[right]], unit="nats")
    c.add(OTHERS, interaction.of_others(term)[right, asked.right[right]], unit="nats")
    c.add(TERM, term[says == yes, yes], unit="nats")
    c.add(TRUE, there[says == yes], within=SHARE, unit="share of answers yes")
    sure = existence.tells_true(found.both.amax(1).double().numpy(), says == yes, there)
    c.numbers |= {"right": float(right.mean()), "AUROC of the model's own probability": sure}
    c.numbers |= existence.yes_answers(says == yes, there).counts


def _of_noise(setting: Setting, noise: float, seed: int) -> dict[str, float]:
    """What is said at a noise by every way of decoding, and whether the interaction tells answers yes apart."""
    o, yes = setting.options, asked_pictures.token_of(setting.model, "yes")
    asked = existence.ask_at_noise(setting.model, noise, n=max(4, o.questions // 4), seed=seed)
    found = _apart(setting, asked)
    says = {name: token == yes for name, token in interaction.decodings(found, strength=o.strength).items()}
    told = existence.tells_true(found.term[:, yes].numpy(), says[PLAIN], asked.there)
    return existence.noise_row(noise, says, asked.there) | {"AUROC of the interaction": told}


ERRS = enough("hallucinated", "truly", least=ENOUGH, of=HALLUCINATED)
CLAIMS = {
    "together": Reconstructed(
        "picture and question work together on right answers",
        above(OWN),
        why="effects that add up have an interaction of 0",
    ),
    "own": Control(
        "picture and question of an answer work together on its word more than those of other prompts",
        above(OWN, OTHERS),
        why="an answer may have its interaction whatever is asked and seen; all prompts but its own, whatever "
        "their answer",
    ),
    "tells": Reconstructed(
        "picture and question work together more on right answers than on hallucinated ones",
        tells(TERM, TRUE)
        & dealt("AUROC of the interaction for answers yes that are right", area, TERM, TRUE),
        why="the word is the same in both, so that only what it is about differs",
        needs=[ERRS],
        control="{AUROC of the model's own probability:.3f} for the model's own probability of the answer",
    ),
    "lowers": Reconstructed(
        "decoding guided by the interaction lowers hallucination",
        below(f"{ABSENT}, {GUIDED}", f"{ABSENT}, {PLAIN}"),
        why="the truth about what is absent is exact",
        needs=[ERRS],
    ),
    "contrast": Reconstructed(
        "guided decoding lowers hallucination more than contrastive decoding",
        below(f"{ABSENT}, {GUIDED}", f"{ABSENT}, {CONTRASTED}"),
        why="the same strength and the same plausible tokens",
        needs=[ERRS],
    ),
    "dealt": Control(
        "guided decoding lowers hallucination more than guidance by the interactions of other questions",
        beats_draws(f"{ABSENT}, {GUIDED}", f"{ABSENT}, {DEALT}", lower=True),
        why="any change of scores may make a model say yes less often",
        needs=[ERRS],
    ),
    "kept": Control(
        "right answers about what is there are kept",
        no_worse(f"{PRESENT}, {GUIDED}", f"{PRESENT}, {PLAIN}", within=WITHIN),
        why="two points; a model that never says yes hallucinates nothing",
    ),
    "kinds": Extension(
        "questions of other kinds are answered better",
        above(f"{ANY}, {GUIDED}", f"{ANY}, {PLAIN}"),
        why="colour, shape, size, place and count, at the same noise",
    ),
    "photographs": untried(
        "descriptions of photographs hallucinate less",
        "the benchmarks of the paper",
        NO_PHOTOGRAPHS,
        where=RECONSTRUCTED,
    ),
}
REPLICATION = add_paper(
    Paper(
        name="interaction",
        source="INTER 2025",
        model="zoo:vlm",
        options=InteractionSizes,
        measure=measure,
        needs=[answers("right", RIGHT)],
        claims=CLAIMS,
    )
)
