"""Imbalanced attention: less and less of it goes to the picture with depth, and emphasis on chosen patches.

The paper finds that attention to the picture falls with depth. It chooses patches twice by where the class token of the
picture's tower looks: those for detail in the first layer, those for the whole in the layer before the last. Scores of
these patches are raised by a share of their own size before the softmax, and descriptions then name fewer things that
are not there. Beyond a factor the model breaks down.

The class token of the tower in `zoo:vlm` was never trained. Patches are therefore chosen by the tower of `zoo:clip` on
the same picture, which has the same 36 patches (`--set tower=own` takes the model's own). All layers but the first are
edited, where the paper leaves out the first two of 32. Pixel noise is 0.12: in clean pictures the model says hardly
anything that is not there. No factor was chosen by what came out: those of the paper are taken, and others are in a
table.

Controls:
- as many random patches of each kind, drawn for every picture
- how much of what is there is still named
- questions about colours, shapes and places
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from workbench.core.loading import lazily
from workbench.core.stats.intervals import SHARE
from workbench.edits.emphasise import LOCAL, SUMMARY
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, untried
from workbench.papers.kit.criteria import below, no_worse, slopes
from workbench.papers.kit.frames import NO_PHOTOGRAPHS, Control, Extension, add_layers, answers, enough
from workbench.papers.options import size
from workbench.papers.registry import add_paper
from workbench.tasks.scenes.layout import World
from workbench.tasks.scenes.questions import DESCRIBE

with lazily():
    from workbench.edits import raised_scores
    from workbench.heads import asked_pictures, dual_stream, existence, span_attention, told_scenes

# Criteria, fixed before anything was measured.
ENOUGH, RIGHT, WITHIN = 20, 0.6, 0.02
FIRST_SEED = 12_000_000  # pictures of this paper: no other seed of pictures is near
KINDS = ("colour", "shape", "place")
GIVEN, DEPTH = "attention to the picture in a layer", "layer"
INVENTED, INVENTED_EDIT = "invented, as it is", "invented, emphasised"
INVENTED_RANDOM = "invented, random patches"
NAMED, NAMED_EDIT = "named of what is there, as it is", "named of what is there, emphasised"
YES, YES_EDIT = "yes though absent, as it is", "yes though absent, emphasised"
YES_RANDOM = "yes though absent, random"
RIGHTLY, RIGHTLY_EDIT = "right answers, as it is", "right answers, emphasised"


@dataclass(frozen=True, kw_only=True)
class ImbalancedSizes:
    """How much is said and asked, and how much scores are raised."""

    pictures: int = size(160, "that are described")
    questions: int = size(400, "about what is absent; and as many others about colours, shapes and places")
    noise: float = size(0.12, "of pixels")
    alpha: float = size(LOCAL, "how much scores of patches for detail are raised")
    beta: float = size(SUMMARY, "how much those of patches for the whole are")
    alphas: tuple[float, ...] = size((0.3, 0.5, 0.9, 1.5), "of a table")
    local: float = size(0.25, "share of all patches that are for detail")
    spatial: float = size(0.0, "a further share, by what patches get from patches")
    tower: str = size("zoo:clip", "whose class token chooses: own, or a model by name")
    draws: int = size(4, "random patches")


def measure(setting: Setting) -> Conditions:
    """Follow attention to the picture through the layers, emphasise patches, and count what is said of absent things.

    Raises:
        ModelError: for a model that does not read a picture and words, or a tower with another grid.
    """
    o: ImbalancedSizes = setting.options
    model, seed = setting.model, FIRST_SEED + 1000 * setting.seed
    world = World(objects=(0, 1, 1, 1), noise=o.noise)
    ask = partial(asked_pictures.ask_pictures, model, world)
    absent = ask(kinds=["exist"], n=o.questions, seed=seed, wanted=[lambda q, scene: q.answer == "no"])
    others = ask(kinds=KINDS, n=o.questions, seed=seed + 1)
    shown = ask(kinds=["colour"], n=o.pictures, seed=seed + 2)
    told = shown.asking(model, DESCRIBE)
    tower = model if o.tower == "own" else setting.open(o.tower)
    c = Conditions(unit="share", within=SHARE, seed=setting.seed)
    _by_layer(c, model, others)
    choose = partial(dual_stream.patches_of_asked, tower, local=o.local, spatial=o.spatial)
    chosen = {id(one): choose(one) for one in (absent, others, shown)}
    c.numbers |= chosen[id(shown)].counts()

    def under(asked, *, alpha: float = o.alpha, beta: float = o.beta, draw: int | None = None):
        """The edit for some rows of these prompts; ``draw`` takes random patches."""
        kinds = chosen[id(asked)] if draw is None else chosen[id(asked)].drawn(setting.seed * 997 + draw)
        return raised_scores.emphasis(model, asked, kinds, alpha=alpha, beta=beta)

    def described(edit=None) -> Any:
        return told_scenes.hallucination(told_scenes.descriptions(model, told, under=edit), shown.scenes)

    says_yes = partial(existence.says_yes, model, absent)
    rightly = partial(asked_pictures.answered, model, others)
    setting.progress(1, 3, "descriptions")
    plain, raised = described(), described(under(shown))
    c[INVENTED], c[INVENTED_EDIT] = plain.invented, raised.invented
    c[NAMED], c[NAMED_EDIT] = plain.recall, raised.recall
    c.draws[INVENTED_RANDOM] = [described(under(shown, draw=i)).invented for i in range(o.draws)]
    c[YES], c[YES_EDIT] = says_yes(), says_yes(under=under(absent))
    c.draws[YES_RANDOM] = [says_yes(under=under(absent, draw=i)) for i in range(o.draws)]
    c[RIGHTLY], c[RIGHTLY_EDIT] = rightly(), rightly(under=under(others))
    c.numbers |= {"invented things": int((plain.invented * plain.named).sum()), "yes": int(c[YES].sum())}
    setting.progress(2, 3, "factors")
    rows = [(0.0, plain, c[YES], c[RIGHTLY]), (o.alpha, raised, c[YES_EDIT], c[RIGHTLY_EDIT])]
    for alpha in o.alphas:
        beta = alpha * o.beta / o.alpha if o.alpha else o.beta
        at = partial(under, alpha=alpha, beta=beta)
        rows.append((alpha, described(at(shown)), says_yes(under=at(absent)), rightly(under=at(others))))
    c.tables["How much scores are raised (alpha; beta in proportion)"] = [
        {"alpha": alpha, **said.row(), "yes though absent": no.mean(), "right": right.mean()}
        for alpha, said, no, right in sorted(rows, key=lambda row: row[0])
    ]
    return c


def _by_layer(c: Conditions, model, asked) -> None:
    """What the last token gives to the picture in every layer, heads averaged."""
    given = span_attention.span_attention(model, asked.prompt).sum(-1).mean(-1)
    add_layers(c, GIVEN, DEPTH, given, unit="share of a row", within=SHARE)
    c.tables["Attention of the last token to the picture"] = [
        {"layer": layer, "share": share} for layer, share in enumerate(given.mean(0))
    ]


ABLE = answers(RIGHTLY, RIGHT)
INVENTS = enough("invented things", least=ENOUGH, of="{invented things} things are named that are not there")
SAYS_YES = enough("yes", least=ENOUGH, of="{yes} absent things get a yes")
CLAIMS = {
    "falls": Claim(
        "attention to the picture falls with depth",
        slopes(GIVEN, DEPTH, falls=True),
        why="questions are drawn whole, with all their layers",
        where="analysis of attention by layer",
    ),
    "lowers": Claim(
        "emphasis on chosen patches makes descriptions name fewer things that are not there",
        below(INVENTED_EDIT, INVENTED),
        paper="CHAIR_I 13.8 to 4.0, CHAIR_S 46.2 to 17.6",
        why="the share of each picture; what is there is known exactly",
        where="results on captions",
        needs=[INVENTS],
    ),
    "random": Control(
        "chosen patches: descriptions name fewer absent things than with as many random patches",
        below(INVENTED_EDIT, INVENTED_RANDOM),
        why="random patches, drawn for every picture, get the same factors",
        needs=[INVENTS],
    ),
    "named": Claim(
        "what is there is still named",
        no_worse(NAMED_EDIT, NAMED, within=WITHIN),
        paper="F1 75.9 to 71.8",
        why="two points; who says nothing invents nothing",
        where="results on captions",
    ),
    "absent": Extension(
        "questions about what is absent get a yes less often",
        below(YES_EDIT, YES),
        why="one word, said at once: no long description is needed; the truth is exact",
        needs=[ABLE, SAYS_YES],
    ),
    "absent, random": Control(
        "questions about what is absent get a yes less often than with as many random patches",
        below(YES_EDIT, YES_RANDOM),
        why="random patches, drawn for every picture, get the same factors",
        needs=[ABLE, SAYS_YES],
    ),
    "kept": Control(
        "other questions are answered as well as before",
        no_worse(RIGHTLY_EDIT, RIGHTLY, within=WITHIN),
        why="two points",
        needs=[ABLE],
    ),
    "coco": untried(
        "captions of photographs name up to 62% fewer things that are not there",
        "CHAIR on COCO with LLaVA-1.5",
        NO_PHOTOGRAPHS,
        paper="CHAIR_S 46.2 to 17.6, CHAIR_I 13.8 to 4.0",
        where="results on captions",
    ),
}
REPLICATION = add_paper(
    Paper(
        name="imbalanced-attention",
        source="Arif et al. 2025",
        model="zoo:vlm",
        options=ImbalancedSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
