"""Hidden attention sinks and their calibration: not every sink helps, and calibrating those that harm does.

Tokens beyond the first collect attention that their meaning does not explain, and some of these sinks harm. ACT finds
the heads where scaling them down helps, and does so while the model runs. Here heads are chosen on prompts of a task
that the model does imperfectly and judged on others, beside random heads, other columns and all heads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.errors import OptionError, WorkbenchError
from workbench.core.loading import lazily
from workbench.core.stats.multiplicity import holm
from workbench.core.stats.permutation import sign_test_p
from workbench.edits.kinds import ALPHA, BETA, Calibration
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, needs
from workbench.papers.kit.criteria import above, at_least, beats_draws, fact, no_worse
from workbench.papers.registry import add_paper

with lazily():
    from workbench.edits import sinks
    from workbench.engine import of_task
    from workbench.training import language

if TYPE_CHECKING:
    import torch
    from transformer_lens.model_bridge import TransformerBridge

# Criteria, fixed before anything was measured.
COMMON, LEVEL, KEPT, ROOM = 0.5, 0.05, 0.02, (0.2, 0.98)
PLAIN, CHOSEN, COLUMNS = "as it is", "chosen heads", "chosen heads, other columns"
RANDOM, ALL = "matched random heads", "all heads"
ALPHA_3, ALPHA_7 = "chosen heads, alpha 3", "chosen heads, alpha 7"


@dataclass(frozen=True, kw_only=True)
class CalibrationSizes:
    """Sizes and thresholds.

    Attributes:
        task, templates: Where heads are chosen and accuracy is measured; templates as the task has them.
        beside: Unrelated tasks.
        selection, evaluation: Prompts on which heads are chosen, and on which they are judged.
        alpha, beta: A sink has more than ``alpha / N`` of the attention; ``beta`` of it is left.
        draws: Random sets of heads.
        language: The model of the claim about text.
        windows: Windows of text, half of them to choose heads.
    """

    task: str = "docstring"
    templates: str = "held-out"
    beside: tuple[str, ...] = ("ioi", "greater-than", "colored-objects", "induction")
    selection: int = 200
    evaluation: int = 300
    alpha: float = ALPHA
    beta: float = BETA
    draws: int = 20
    language: str = "zoo:stdlib"
    windows: int = 96
    window: int = 64

    def __post_init__(self) -> None:
        if min(self.selection, self.evaluation, self.windows // 2) < 2 or self.draws < 1:
            raise OptionError("two prompts are the least that has an interval, one draw the least control")


def measure(setting: Setting) -> Conditions:
    """Choose heads on some prompts, calibrate them on others; controls; another model."""
    o: CalibrationSizes = setting.options
    extra = {"templates": o.templates} if o.templates and o.task == "docstring" else {}

    def asked(task: str, **how: Any) -> sinks.Quiz:
        """Selection and evaluation prompts are of other combinations of answers, in the same templates."""
        runs = setting.begin(of_task.paired_runs(setting.model, task, seed=setting.seed, **how))
        return sinks.Quiz(name=f"{task}, {how.get('split', 'test')}", runs=runs)

    selection = asked(o.task, n=o.selection, split="validation", **extra)
    evaluation = asked(o.task, n=o.evaluation, split="test", **extra)
    advance = _counter(setting, 3 * len(sinks.heads_of(setting.model)) + o.draws)
    c = calibrated(selection, evaluation, o, seed=setting.seed, advance=advance)
    for task in o.beside if c.numbers["chosen"] else ():
        try:
            quiz = asked(task, n=min(200, o.evaluation))
        except WorkbenchError as problem:
            setting.note(f"{task} is left out: {problem.message}")
            continue
        c[f"{task}, {PLAIN}"] = quiz.accuracy()
        c[f"{task}, {CHOSEN}"] = quiz.accuracy(_edit(o, c.numbers["chosen"]))
    beside = [name.removesuffix(f", {CHOSEN}") for name in c.values if name.endswith(f", {CHOSEN}")]
    if beside:
        worst = min(beside, key=lambda task: c.interval(f"{task}, {CHOSEN}", f"{task}, {PLAIN}").low)
        c.numbers["most harmed"] = worst
        for name in (PLAIN, CHOSEN):
            c[f"most harmed task, {name}"] = c[f"{worst}, {name}"]
    _text(setting, c, advance)
    return c


def _counter(setting: Setting, total: int) -> Callable[[str], None]:
    done = iter(range(1, 10**9))
    return lambda what: setting.progress(min(next(done), total), total, what)


def _edit(o: CalibrationSizes, heads, **other: Any) -> Calibration:
    return Calibration(**{"heads": tuple(heads), "alpha": o.alpha, "beta": o.beta, **other})


def calibrated(
    selection: sinks.Quiz,
    evaluation: sinks.Quiz,
    o: CalibrationSizes,
    *,
    seed: int,
    advance: Callable[[str], None],
) -> Conditions:
    """Accuracy on the evaluation prompts with the heads calibrated that help on the selection prompts, and controls."""
    heads, how = sinks.heads_of(selection.bridge), {"alpha": o.alpha, "beta": o.beta}
    chosen = sinks.improving(sinks.solo(selection, heads, advance=advance, **how))
    fresh = sinks.solo(evaluation, heads, advance=advance, **how)
    c = Conditions(model=evaluation.bridge, unit="accuracy")
    ask, edit = evaluation.accuracy, partial(_edit, o)
    c[PLAIN], c[ALL] = ask(), ask(edit(heads))
    moved = {CHOSEN: "", COLUMNS: ""}
    if chosen:
        for name, made in {CHOSEN: edit(chosen), COLUMNS: edit(chosen, columns="others", seed=seed)}.items():
            c[name] = ask(made)
            share = sinks.attention_moved(evaluation, made)
            c.tables.setdefault("Share of the attention that calibration moves", []).append(
                {"condition": name, "attention moved": share}
            )
            moved[name] = f", {share:.1%} of the attention moved"
        for name, alpha in ((ALPHA_3, 3.0), (ALPHA_7, 7.0)):
            c[name] = ask(edit(chosen, alpha=alpha))
        c.draws[RANDOM] = [ask(edit(drawn)) for drawn in c.matched(chosen, heads, draws=o.draws, seed=seed)]
        if c.draws[RANDOM]:
            c.numbers |= {"sets": len(c.draws[RANDOM]), "p of chosen heads": BEATS(c).p}
    c.numbers |= {"chosen": list(chosen), "n chosen": len(chosen), "moved": moved}
    _each_head(c, evaluation, fresh, o)
    return c


def _each_head(
    c: Conditions, evaluation: sinks.Quiz, fresh: dict[str, np.ndarray], o: CalibrationSizes
) -> None:
    """Which heads have later sinks, and what calibrating each alone does on fresh prompts: who harms, who helps."""
    shares, even = sinks.sink_shares(evaluation, alpha=o.alpha)
    common = sum(share > COMMON for share in shares.values())
    c.numbers |= {
        "common": common,
        "share of heads": common / len(shares),
        "n heads": len(shares),
        "even": even,
    }
    alone = {head: float(change.mean()) for head, change in fresh.items()}
    for name, sign, heads in (("harming", 1.0, c.numbers["chosen"]), ("helping", -1.0, fresh)):
        ps = dict(zip(fresh, holm([sign_test_p(sign * change) for change in fresh.values()]), strict=True))
        found = [head for head in heads if ps[head] < LEVEL]
        c.numbers |= {f"n {name}": len(found), f"p, {name}": {head: float(p) for head, p in ps.items()}}
        c.numbers[name] = ", ".join(f"{head} {alone[head]:+.3f}" for head in found) or "none"
    c.draw_heads("Share of prompts with a sink beyond the first token", shares, unit="share")
    c.draw_heads("Change of accuracy when one head's later sinks are calibrated", alone, unit="accuracy")


def _text(setting: Setting, c: Conditions, advance: Callable[[str], None]) -> None:
    """Heads chosen on half of the held-out files of the language model's corpus, judged on the other half."""
    o: CalibrationSizes = setting.options
    c.numbers["language model"] = o.language
    try:
        model = setting.open(o.language)
        quizzes = [
            sinks.Quiz(name="text", model=model, windows=w) for w in held_out_windows(model, o, setting.seed)
        ]
    except WorkbenchError as problem:
        c.numbers["why no text"] = problem.message
        return
    heads = sinks.heads_of(model)
    chosen = sinks.improving(sinks.solo(quizzes[0], heads, advance=advance, alpha=o.alpha, beta=o.beta))
    c.numbers["chosen on text"] = list(chosen)
    c.numbers["why no text"] = "no head's calibration helps on the selection text"
    if chosen:
        for name, some in ((CHOSEN, chosen), (ALL, heads)):
            c[f"text, {name}"] = quizzes[1].accuracy(_edit(o, some))
        c[f"text, {PLAIN}"] = quizzes[1].accuracy()


def held_out_windows(
    model: TransformerBridge, o: CalibrationSizes, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Windows of files that the language model was not trained on: of some to choose heads, of the others to judge."""
    files = [text for name, text in sorted(language.sources().items()) if language.is_held_out(name)]
    rng, half = np.random.default_rng(seed), len(files) // 2
    made = partial(sinks.windows_of, model, n=o.windows // 2, size=o.window, rng=rng)
    return made(files[:half]), made(files[half:])


BEATS = beats_draws(CHOSEN, RANDOM, over=PLAIN)
GAIN = f"{{shown of {CHOSEN} minus {PLAIN}:+.3f}}"
ANY = needs(lambda c: c.numbers["chosen"], "no head's calibration helps on the selection prompts")
CAN_MOVE = needs(
    lambda c: ROOM[0] <= c.mean(PLAIN) <= ROOM[1],
    f"accuracy is {{{PLAIN}:.1%}} as it is; between {ROOM[0]:.0%} and {ROOM[1]:.0%} it can rise and fall",
)
Gains = partial(Claim, needs=[ANY, CAN_MOVE])


def _exceeds(says: str, name: str, why: str, where: str) -> Claim:
    return Gains(
        says,
        above(CHOSEN, PLAIN) & above(CHOSEN, name),
        why=why,
        where=where,
        found=f"{{shown of {CHOSEN} minus {name}:+.3f}}; gain of the heads {GAIN}{{moved[{CHOSEN}]}}",
        control=f"{{shown of {name} minus {PLAIN}:+.3f}}" + (f"{{moved[{name}]}}" if name == COLUMNS else ""),
    )


CLAIMS = {
    "later": Claim(
        "sinks are found beyond the first token",
        fact(
            f"more than {COMMON:.0%} of all heads have one in more than {COMMON:.0%} of the prompts",
            lambda c: c.numbers["share of heads"] > COMMON,
        ),
        why="the paper finds them throughout the middle layers; even attention has none by this threshold",
        where="abstract",
        found="{common} of {n heads} heads",
        control="even attention: {even:.0%}",
        n=f"{{n of {PLAIN}}}",
    ),
    "harm": Claim(
        "some sinks harm",
        at_least("n harming", 1),
        f"a head whose calibration helps on the selection prompts helps on fresh ones too: sign test, Holm over all "
        f"heads, p < {LEVEL:g}",
        why="a head picked for helping helps on the same prompts by construction",
        where="abstract and the filter of heads",
        needs=[CAN_MOVE],
        found="{harming}",
        control="{n chosen} chosen",
        n=f"{{n of {PLAIN}}}",
    ),
    "help": Claim(
        "other sinks help",
        at_least("n helping", 1),
        f"calibrating some head lowers accuracy on fresh prompts: sign test, Holm over all heads, p < {LEVEL:g}",
        why="the paper filters heads because calibrating all of them harms",
        where="abstract",
        needs=[CAN_MOVE],
        found="{helping}",
        n=f"{{n of {PLAIN}}}",
    ),
    "act": Gains(
        "calibration raises accuracy on held-out prompts",
        above(CHOSEN, PLAIN),
        paper="up to +7.3 points (Llama-30B)",
        why="no prompt was used to choose the heads",
        where="abstract",
        found=f"{{{PLAIN}:.3f}} -> {{{CHOSEN}:.3f}}: {GAIN}",
        control=None,
    ),
    "random": Claim(
        "it is these heads",
        above(CHOSEN, PLAIN) & above(CHOSEN, RANDOM) & BEATS,
        why="as many other heads in the same layers. Without a gain there is nothing that these heads bring",
        where="a control of ours (the paper filters heads)",
        needs=[ANY, CAN_MOVE, needs(lambda c: RANDOM in c, "{no random heads}")],
        found=f"{{shown of {CHOSEN} minus {RANDOM}:+.3f}}; gain of the heads {GAIN}; p {{p of chosen heads:.3g}}",
        control=f"{{{RANDOM} minus {PLAIN}:+.3f}} over {{sets}} sets",
    ),
    "columns": _exceeds(
        "it is the sinks",
        COLUMNS,
        "any change of these heads might do; as many columns are not as much attention, so what both move is told",
        "a control of ours",
    ),
    "filter": _exceeds("heads have to be filtered", ALL, "the paper's step 1", "the method"),
    "alpha": Gains(
        "the threshold does not matter much",
        above(ALPHA_3, PLAIN) & above(ALPHA_7, PLAIN),
        why="the paper's ablation",
        where="the ablation",
        found=f"{{shown of {ALPHA_3} minus {PLAIN}:+.3f}}; {{shown of {ALPHA_7} minus {PLAIN}:+.3f}}",
        control=GAIN,
    ),
    "kept": Claim(
        "other tasks are not harmed",
        no_worse(f"most harmed task, {CHOSEN}", f"most harmed task, {PLAIN}", within=KEPT),
        why="the heads were chosen for one task; collateral damage is not in the paper",
        where="a control of ours",
        needs=[ANY, needs(lambda c: "most harmed" in c.numbers, "no unrelated task fits this model")],
        found=f"{{most harmed}}: {{shown of most harmed task, {CHOSEN} minus most harmed task, {PLAIN}:+.3f}}",
        control=None,
    ),
    "text": Claim(
        "and so in a language model",
        above(f"text, {CHOSEN}", f"text, {PLAIN}"),
        why="the paper's models are language models; a model of a few tasks might be special",
        where="abstract",
        needs=[needs(lambda c: f"text, {CHOSEN}" in c, "{why no text}")],
        found=f"{{shown of text, {CHOSEN} minus text, {PLAIN}:+.3f}}",
        control=f"all heads: {{text, {ALL} minus text, {PLAIN}:+.3f}}",
        model="{language model}",
    ),
}
REPLICATION = add_paper(
    Paper(
        name="attention-calibration",
        title="Unveiling and Harnessing Hidden Attention Sinks: Enhancing Large Language Models without Training "
        "through Attention Calibration",
        source="Yu et al. 2024, arXiv:2406.15765",
        model="zoo:ioi",
        options=CalibrationSizes,
        controls=(
            "random heads, as many in the same layers",
            "as many columns of the same heads that are no sinks",
            "all heads, without the filter",
            "unrelated tasks",
        ),
        measure=measure,
        claims=CLAIMS,
    )
)
