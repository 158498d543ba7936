"""Hidden attention sinks and their calibration: not every sink helps, and calibrating those that harm does.

Tokens beyond the first collect attention that their meaning does not explain, and some of these sinks harm. ACT finds
the heads where scaling them down helps, and does so while the model runs. Here heads are chosen on prompts of a task
that the model does imperfectly and judged on others, beside random heads, other columns and all heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.errors import OptionError, WorkbenchError
from workbench.core.loading import lazily
from workbench.core.progress import Progress, silent
from workbench.edits.kinds import ALPHA, Calibration
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
    """Where heads are chosen and judged (``task``), unrelated tasks (``beside``), and how many prompts there are.

    ``language`` is the model of the claim about text; half of its ``windows`` are to choose heads.
    """

    task: str = "docstring"
    beside: tuple[str, ...] = ("ioi", "greater-than", "colored-objects", "induction")
    selection: int = 200
    evaluation: int = 300
    draws: int = 20
    language: str = "zoo:stdlib"
    windows: int = 96
    window: int = 64

    def __post_init__(self) -> None:
        if min(self.selection, self.evaluation, self.windows // 2) < 2 or self.draws < 1:
            raise OptionError("two prompts are the least that has an interval, one draw the least control")


def measure(setting: Setting) -> Conditions:
    """Choose heads on some prompts, calibrate them on others; unrelated tasks; another model."""
    o = setting.options

    def quiz(task: str, **how: Any) -> sinks.Quiz:
        """Selection and evaluation prompts are of other combinations of answers, in the same templates."""
        how |= {"templates": "held-out"} if task == "docstring" else {}
        runs = setting.begin(of_task.paired_runs(setting.model, task, seed=setting.seed, **how))
        return sinks.Quiz(name=f"{task}, {how.get('split', 'test')}", runs=runs)

    parts = quiz(o.task, n=o.selection, split="validation"), quiz(o.task, n=o.evaluation)
    c = calibrated(*parts, draws=o.draws, seed=setting.seed, progress=setting.progress)
    chosen = Calibration(heads=tuple(c.numbers["chosen"])) if c.numbers["chosen"] else None
    for task in o.beside if chosen else ():
        try:
            asked = quiz(task, n=min(200, o.evaluation))
        except WorkbenchError as problem:
            setting.note(f"{task} is left out: {problem.message}")
            continue
        c[f"{task}, {PLAIN}"], c[f"{task}, {CHOSEN}"] = asked.accuracy(), asked.accuracy(chosen)
    beside = [task for task in o.beside if f"{task}, {PLAIN}" in c]
    if beside:
        worst = min(beside, key=lambda task: c.interval(f"{task}, {CHOSEN}", f"{task}, {PLAIN}").low)
        c.numbers["most harmed"] = worst
        for name in (PLAIN, CHOSEN):
            c[f"most harmed task, {name}"] = c[f"{worst}, {name}"]
    _text(setting, c)
    return c


def calibrated(
    selection: sinks.Quiz, evaluation: sinks.Quiz, *, draws: int, seed: int, progress: Progress = silent
) -> Conditions:
    """Accuracy on the evaluation prompts with the heads calibrated that help on the selection prompts, and controls."""
    heads, ask = sinks.heads_of(selection.bridge), evaluation.accuracy
    chosen = sinks.improving(sinks.solo(selection, heads, progress=progress))
    c = Conditions(model=evaluation.bridge, unit="accuracy")
    c[PLAIN], c[ALL] = ask(), ask(Calibration(heads=heads))
    c.numbers |= {"chosen": list(chosen), "n chosen": len(chosen), "attention moved": {}}
    if chosen:
        some = partial(Calibration, heads=chosen)
        for name, edit in ((CHOSEN, some()), (COLUMNS, some(columns="others", seed=seed))):
            c[name] = ask(edit)
            c.numbers["attention moved"][name] = sinks.attention_moved(evaluation, edit)
        c[ALPHA_3], c[ALPHA_7] = ask(some(alpha=3.0)), ask(some(alpha=7.0))
        random = c.matched(chosen, heads, draws=draws, seed=seed)
        c.draws[RANDOM] = [ask(Calibration(heads=drawn)) for drawn in random]
        if random:
            c.numbers |= {"sets": len(random), "p of chosen heads": BEATS(c).p}
    _each_head(c, evaluation, sinks.solo(evaluation, heads, progress=progress))
    return c


def _each_head(c: Conditions, evaluation: sinks.Quiz, fresh: dict[str, np.ndarray]) -> None:
    """Which heads have later sinks, and what calibrating each alone does on fresh prompts: who harms, who helps."""
    shares, even = sinks.sink_shares(evaluation, alpha=ALPHA)
    c.tell(
        "share of heads", np.mean([share > COMMON for share in shares.values()]), control=even, n=c.n(PLAIN)
    )
    alone = {head: float(change.mean()) for head, change in fresh.items()}
    for name, heads in (("harming", c.numbers["chosen"]), ("helping", fresh)):
        ps = sinks.p_of_each(fresh, falls=name == "helping")
        found = [head for head in heads if ps[head] < LEVEL]
        c.numbers |= {f"n {name}": len(found), f"p, {name}": ps}
        c.numbers[name] = ", ".join(f"{head} {alone[head]:+.3f}" for head in found) or "none"
    c.draw_heads("Share of prompts with a sink beyond the first token", shares, unit="share")
    c.draw_heads("Change of accuracy when one head's later sinks are calibrated", alone, unit="accuracy")


def _text(setting: Setting, c: Conditions) -> None:
    """Heads chosen on half of the held-out files of the language model's corpus, judged on the other half."""
    c.numbers["language model"] = setting.options.language
    try:
        model = setting.open(setting.options.language)
        parts = held_out_windows(model, setting.options, setting.seed)
    except WorkbenchError as problem:
        c.numbers["why no text"] = problem.message
        return
    choosing, judging = (sinks.Quiz(name="text", model=model, windows=part) for part in parts)
    heads = sinks.heads_of(model)
    chosen = sinks.improving(sinks.solo(choosing, heads, progress=setting.progress))
    c.numbers |= {"chosen on text": list(chosen), "why no text": "no head's calibration helps on that text"}
    for name, some in ((CHOSEN, chosen), (ALL, heads)) if chosen else ():
        c[f"text, {name}"] = judging.accuracy(Calibration(heads=some))
    if chosen:
        c[f"text, {PLAIN}"] = judging.accuracy()


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
MOVED = ", {{attention moved[{}]:.1%}} of the attention moved"
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
        found=f"{{shown of {CHOSEN} minus {name}:+.3f}}; gain of the heads {GAIN}" + MOVED.format(CHOSEN),
        control=f"{{shown of {name} minus {PLAIN}:+.3f}}" + (MOVED.format(name) if name == COLUMNS else ""),
    )


CLAIMS = {
    "later": Claim(
        "sinks are found beyond the first token",
        fact(
            f"more than {COMMON:.0%} of all heads have one in more than {COMMON:.0%} of the prompts",
            lambda c: c.numbers["share of heads"] > COMMON,
            name="share of heads",
        ),
        why="the paper finds them throughout the middle layers; even attention has none by this threshold",
        where="abstract",
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
