"""Hidden attention sinks and their calibration: not every sink helps, and calibrating those that harm does.

Tokens beyond the first collect attention that their meaning does not explain, and some of these sinks harm. ACT finds
the heads where scaling them down helps, and does so while the model runs. Here heads are chosen on prompts of a task
that the model does imperfectly and judged on others.

Controls:
- random heads, as many in the same layers
- as many columns of the same heads that are no sinks
- all heads, without the filter
- unrelated tasks
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from workbench.core.loading import lazily
from workbench.core.progress import Progress, silent
from workbench.edits.kinds import ALPHA, Calibration
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, needs
from workbench.papers.kit.criteria import above, at_least, beats_draws, between, more, no_worse
from workbench.papers.kit.refusals import found_or_refused
from workbench.papers.options import Sizes, size
from workbench.papers.registry import add_paper

with lazily():
    from workbench.edits import sinks
    from workbench.engine import of_task
    from workbench.training import language

LEVEL = 0.05  # of the tests of every head
PLAIN, CHOSEN, COLUMNS = "as it is", "chosen heads", "chosen heads, other columns"
RANDOM, ALL = "matched random heads", "all heads"
LATER, WORST = "share of heads with a later sink in half of the prompts", "most harmed task"
ALPHA_3, ALPHA_7 = "chosen heads, alpha 3", "chosen heads, alpha 7"


@dataclass(frozen=True, kw_only=True)
class CalibrationSizes(Sizes):
    """How much is asked, and of what."""

    task: str = size("docstring", "on which heads are chosen and judged")
    beside: tuple[str, ...] = size(("ioi", "greater-than", "colored-objects", "induction"), "unrelated tasks")
    selection: int = size(200, "prompts on which heads are chosen", least=2)
    evaluation: int = size(300, "others on which they are judged", least=2)
    draws: int = size(20, "random sets of heads", least=1)
    language: str = size("zoo:stdlib", "a model of text")
    windows: int = size(96, "of text, half to choose heads and half to judge them", least=4)
    window: int = size(64, "tokens of each")


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
    _text(setting, c)
    n = min(200, o.evaluation)
    known, refused = found_or_refused(o.beside if CHOSEN in c else (), lambda task: quiz(task, n=n))
    for task, why in refused.items():
        setting.note(f"{task} is left out: {why}")
    for task, asked in known.items():
        c[f"{task}, {PLAIN}"] = asked.accuracy()
        c[f"{task}, {CHOSEN}"] = asked.accuracy(Calibration(heads=tuple(c.numbers["chosen"])))
    if beside := [task for task in o.beside if f"{task}, {PLAIN}" in c]:
        low = {task: c.interval(f"{task}, {CHOSEN}", f"{task}, {PLAIN}").low for task in beside}
        c.numbers["most harmed"] = worst = min(beside, key=lambda task: low[task])
        c[f"{WORST}, {PLAIN}"], c[f"{WORST}, {CHOSEN}"] = c[f"{worst}, {PLAIN}"], c[f"{worst}, {CHOSEN}"]
    else:
        c.lack(f"{WORST}, {CHOSEN}", c.lacking.get(CHOSEN, "no unrelated task fits this model"))
    return c


def calibrated(
    selection: sinks.Quiz, evaluation: sinks.Quiz, *, draws: int, seed: int, progress: Progress = silent
) -> Conditions:
    """Accuracy on the evaluation prompts with the heads calibrated that help on the selection prompts, and controls."""
    chosen = sinks.choose_on(selection, progress=progress)
    heads, ask = sinks.heads_of(selection.bridge), evaluation.accuracy
    c = Conditions(model=evaluation.bridge, unit="accuracy", numbers={"chosen": list(chosen)})
    c[PLAIN], c[ALL] = ask(), ask(Calibration(heads=heads))
    _each_head(c, evaluation, sinks.solo(evaluation, heads, progress=progress))
    if not chosen:
        c.lacking |= dict.fromkeys((CHOSEN, ALPHA_3), "no head's calibration helps on the selection prompts")
        return c
    some = partial(Calibration, heads=chosen)
    edits = {CHOSEN: some(), COLUMNS: some(columns="others", seed=seed)}
    for name, edit in (edits | {ALPHA_3: some(alpha=3.0), ALPHA_7: some(alpha=7.0)}).items():
        c[name] = ask(edit)
    moved = {name: sinks.attention_moved(evaluation, edit) for name, edit in edits.items()}
    c.tables["Share of the attention that calibration moves"] = [moved]
    c.draws[RANDOM] = [ask(Calibration(heads=h)) for h in c.matched(chosen, heads, draws=draws, seed=seed)]
    return c


def _each_head(c: Conditions, evaluation: sinks.Quiz, fresh: dict[str, np.ndarray]) -> None:
    """Which heads have later sinks, and what calibrating each alone does on fresh prompts: who harms, who helps."""
    shares, even = sinks.sink_shares(evaluation, alpha=ALPHA)
    c.tell(LATER, np.mean([share > 0.5 for share in shares.values()]), control=even, n=c.n(PLAIN))
    alone = {head: float(change.mean()) for head, change in fresh.items()}
    for name, heads in (("harming", c.numbers["chosen"]), ("helping", fresh)):
        found = sinks.changed_by(fresh, heads, level=LEVEL, falls=name == "helping")
        c.tell(f"n {name}", len(found), control=f"of {len(heads)} heads", n=c.n(PLAIN))
        c.numbers[name] = ", ".join(f"{head} {alone[head]:+.3f}" for head in found) or "none"
    c.draw_heads("Share of prompts with a sink beyond the first token", shares, unit="share")
    c.draw_heads("Change of accuracy when one head's later sinks are calibrated", alone, unit="accuracy")


def _text(setting: Setting, c: Conditions) -> None:
    """Heads chosen on half of the held-out files of the language model's corpus, judged on the other half."""
    c.numbers["language model"] = setting.options.language
    with c.unless_refused(f"text, {CHOSEN}"):
        choosing, judging = held_out_quizzes(setting)
        c.numbers["chosen on text"] = chosen = sinks.choose_on(choosing, progress=setting.progress)
        if not chosen:
            c.lack(f"text, {CHOSEN}", "no head's calibration helps on the selection text")
            return
        c[f"text, {PLAIN}"] = judging.accuracy()
        c[f"text, {CHOSEN}"] = judging.accuracy(Calibration(heads=chosen))


def held_out_quizzes(setting: Setting) -> tuple[sinks.Quiz, sinks.Quiz]:
    """Windows of files that the language model was not trained on: of some to choose heads, of the others to judge."""
    o, files = setting.options, language.held_out_texts()
    return sinks.text_quizzes(setting.open(o.language), files, n=o.windows, size=o.window, seed=setting.seed)


CAN_MOVE = f"accuracy is {{{PLAIN}:.1%}} as it is; between 20% and 98% it can rise and fall"
Gains = partial(Claim, needs=[needs(between(PLAIN, 0.2, 0.98), CAN_MOVE)])
HOLM = f"sign test over prompts, Holm over all heads, p below {LEVEL:g}"
CLAIMS = {
    "later": Claim(
        "sinks are found beyond the first token", more(LATER, 0.5),
        why="the paper finds them throughout the middle layers; the control is even attention, which has none",
        where="abstract",
    ),
    "harm": Gains(
        "some sinks harm", at_least("n harming", 1),
        f"a head whose calibration helps on the selection prompts helps on fresh ones too: {HOLM}",
        why="a head picked for helping helps on the same prompts by construction",
        where="abstract and the filter of heads", found="{harming}",
    ),
    "help": Gains(
        "other sinks help", at_least("n helping", 1),
        f"calibrating some head lowers accuracy on fresh prompts: {HOLM}",
        why="the paper filters heads because calibrating all of them harms", where="abstract",
        found="{helping}",
    ),
    "act": Gains(
        "calibration raises accuracy on held-out prompts", above(CHOSEN, PLAIN),
        paper="up to +7.3 points (Llama-30B)", why="no prompt was used to choose the heads", where="abstract",
    ),
    "random": Gains(
        "calibrating the chosen heads raises accuracy more than calibrating random heads",
        above(CHOSEN, RANDOM) & beats_draws(CHOSEN, RANDOM, over=PLAIN) & above(CHOSEN, PLAIN),
        why="as many other heads in the same layers. Without a gain there is nothing that these heads bring",
        where="a control of ours (the paper filters heads)",
    ),
    "columns": Gains(
        "taking attention from sinks raises accuracy more than taking it from other tokens",
        above(CHOSEN, COLUMNS) & above(CHOSEN, PLAIN),
        why="any change of these heads might do; as many columns are not as much attention: a table has what both move",
        where="a control of ours",
    ),
    "filter": Gains(
        "calibrating the chosen heads is better than calibrating all heads",
        above(CHOSEN, ALL) & above(CHOSEN, PLAIN), why="the paper's step 1", where="the method",
    ),
    "alpha": Gains(
        "with other thresholds of what is a sink calibration raises accuracy, too",
        above(ALPHA_3, PLAIN) & above(ALPHA_7, PLAIN), why="the paper's ablation", where="the ablation",
    ),
    "kept": Claim(
        "calibration does not harm other tasks", no_worse(f"{WORST}, {CHOSEN}", f"{WORST}, {PLAIN}", within=0.02),
        why="the heads were chosen for one task; collateral damage is not in the paper",
        where="a control of ours", control=f"{{{WORST}, {PLAIN}:.3f}} on {{most harmed}}",
    ),
    "text": Claim(
        "calibration raises accuracy in a language model, too", above(f"text, {CHOSEN}", f"text, {PLAIN}"),
        why="the paper's models are language models; a model of a few tasks might be special",
        where="abstract", model="{language model}",
    ),
}  # fmt: skip
REPLICATION = add_paper(Paper(
    name="attention-calibration", source="Yu et al. 2024, arXiv:2406.15765", model="zoo:ioi",
    options=CalibrationSizes, measure=measure, claims=CLAIMS,
))  # fmt: skip
