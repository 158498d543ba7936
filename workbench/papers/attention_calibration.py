"""Hidden attention sinks and ACT (Yu et al. 2024): not every sink helps, and calibrating those that harm does."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from workbench.core.errors import WorkbenchError
from workbench.core.stats.multiplicity import holm
from workbench.core.stats.permutation import sign_test_p
from workbench.edits.act import Calibration
from workbench.edits.sinks import (
    Advance,
    Quiz,
    attention_moved,
    heads_of,
    improving,
    matched_sets,
    sink_shares,
    solo,
    windows_of,
)
from workbench.engine.of_task import paired_runs
from workbench.model.probe import wiring
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, above, beats_draws, fact, needs
from workbench.papers.options import CalibrationSizes
from workbench.view.pictures import Heatmap

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

# Criteria, fixed before anything was measured.
COMMON, LEVEL, KEPT, ROOM = 0.5, 0.05, 0.02, (0.2, 0.98)
PLAIN, CHOSEN, COLUMNS, RANDOM, ALL = (
    "as it is",
    "chosen heads",
    "chosen heads, other columns",
    "matched random heads",
    "all heads",
)
ALPHAS = ("chosen heads, alpha 3", "chosen heads, alpha 7")
NONE_HELPS = "no head's calibration helps on the selection prompts"


def measure(setting: Setting) -> Conditions:
    """Choose heads on some prompts, calibrate them on others; controls; another model."""
    options: CalibrationSizes = setting.options
    total, done = 3 * len(heads_of(setting.model)) + options.draws, 0

    def advance(what: str) -> None:
        nonlocal done
        done += 1
        setting.progress(min(done, total), total, what)

    c = calibrated(*_quizzes(setting), options, seed=setting.seed, advance=advance)
    if c.numbers["chosen"]:
        _beside(setting, c)
    _text(setting, c, advance)
    c.pictures |= _pictures(setting.model, c)
    return c


def _quizzes(setting: Setting) -> tuple[Quiz, Quiz]:
    """Selection and evaluation prompts: other combinations of answers, the same templates."""
    options: CalibrationSizes = setting.options
    extra = {"templates": options.templates} if options.templates and options.task == "docstring" else {}
    made = []
    for split, n in (("validation", options.selection), ("test", options.evaluation)):
        runs = paired_runs(setting.model, options.task, n=n, split=split, seed=setting.seed, **extra)
        setting.begin(runs)
        made.append(Quiz(name=f"{options.task}, {split}", runs=runs))
    return made[0], made[1]


def calibrated(
    selection: Quiz, evaluation: Quiz, options: CalibrationSizes, *, seed: int, advance: Advance
) -> Conditions:
    """Accuracy on the evaluation prompts with the heads calibrated that help on the selection prompts, and controls."""
    heads, how = heads_of(selection.bridge), {"alpha": options.alpha, "beta": options.beta}
    shares, even = sink_shares(evaluation, alpha=options.alpha)
    first = solo(selection, heads, advance=advance, **how)
    chosen, fresh = improving(first), solo(evaluation, heads, advance=advance, **how)
    c = Conditions(model=evaluation.bridge, unit="accuracy")
    ask = evaluation.accuracy
    c[PLAIN] = ask()
    if chosen:
        c[CHOSEN] = ask(Calibration(heads=chosen, **how))
        others = Calibration(heads=chosen, columns="others", seed=seed, **how)
        c[COLUMNS] = ask(others)
        c.numbers["attention moved"] = {
            CHOSEN: attention_moved(evaluation, Calibration(heads=chosen, **how)),
            COLUMNS: attention_moved(evaluation, others),
        }
        c.tables["Share of the attention that calibration moves"] = [
            {"condition": name, "attention moved": moved}
            for name, moved in c.numbers["attention moved"].items()
        ]
        for name, alpha in zip(ALPHAS, (3.0, 7.0), strict=True):
            c[name] = ask(Calibration(heads=chosen, alpha=alpha, beta=options.beta))
        sets = matched_sets(evaluation.bridge, chosen, draws=options.draws, seed=seed)
        c.numbers["in every random set"] = sorted(set(sets[0]).intersection(*sets))
        c.draws[RANDOM] = [ask(Calibration(heads=drawn, **how)) for drawn in sets]
    c[ALL] = ask(Calibration(heads=heads, **how))
    c.numbers |= {"chosen": list(chosen), "later sinks": shares, "later sinks, even attention": even}
    c.numbers["alone"] = {head: float(change.mean()) for head, change in fresh.items()}
    for name, sign in (("p that it harms", 1.0), ("p that it helps", -1.0)):
        ps = holm([sign_test_p(sign * change) for change in fresh.values()])
        c.numbers[name] = dict(zip(fresh, map(float, ps), strict=True))
    c.tables["Every head"] = [
        {
            "head": head,
            "prompts with a later sink": share,
            "alone, selection": float(first[head].mean()),
            "alone, fresh prompts": c.numbers["alone"][head],
            "chosen": head in chosen,
        }
        for head, share in shares.items()
    ]
    return c


def _beside(setting: Setting, c: Conditions) -> None:
    """Accuracy on unrelated tasks that the model can be asked."""
    options: CalibrationSizes = setting.options
    edit = Calibration(heads=tuple(c.numbers["chosen"]), alpha=options.alpha, beta=options.beta)
    for task in options.beside:
        try:
            runs = paired_runs(setting.model, task, n=min(200, options.evaluation), seed=setting.seed)
            setting.begin(runs)
        except WorkbenchError as problem:
            setting.note(f"{task} is left out: {problem.message}")
            continue
        quiz = Quiz(name=task, runs=runs)
        c[f"{task}: {PLAIN}"], c[f"{task}: {CHOSEN}"] = quiz.accuracy(), quiz.accuracy(edit)


def _text(setting: Setting, c: Conditions, advance: Advance) -> None:
    """Heads chosen on half of the held-out files of the language model's corpus, judged on the other half."""
    options: CalibrationSizes = setting.options
    c.numbers["language model"], how = options.language, {"alpha": options.alpha, "beta": options.beta}
    try:
        model = setting.open(options.language)
        chosen_on, judged_on = held_out_windows(model, options, setting.seed)
    except WorkbenchError as problem:
        c.numbers["why no text"] = problem.message
        return
    selection = Quiz(name="text, selection", model=model, windows=chosen_on)
    evaluation = Quiz(name="text", model=model, windows=judged_on)
    chosen = improving(solo(selection, heads_of(model), advance=advance, **how))
    c.numbers["text, chosen"] = list(chosen)
    c.numbers["text, later sinks"] = sink_shares(evaluation, alpha=options.alpha)[0]
    if not chosen:
        c.numbers["why no text"] = "no head's calibration helps on the selection text"
        return
    for name, heads in ((CHOSEN, chosen), (ALL, heads_of(model))):
        c[f"text: {name}"] = evaluation.accuracy(Calibration(heads=heads, **how))
    c[f"text: {PLAIN}"] = evaluation.accuracy()


def held_out_windows(
    model: TransformerBridge, options: CalibrationSizes, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Windows of files that the language model was not trained on: of some to choose heads, of the others to judge."""
    from workbench.training.language import is_held_out, sources

    files = [text for name, text in sorted(sources().items()) if is_held_out(name)]
    rng, half = np.random.default_rng(seed), len(files) // 2
    made = partial(windows_of, model, n=options.windows // 2, size=options.window, rng=rng)
    return made(files[:half]), made(files[half:])


def _pictures(model: TransformerBridge, c: Conditions) -> dict[str, Heatmap]:
    wired = wiring(model)
    rows, columns = (
        [f"layer {n}" for n in wired.attention_layers],
        [f"head {h}" for h in range(wired.n_heads)],
    )

    def grid(values: Mapping[str, float]) -> np.ndarray:
        return np.array(
            [[values[f"a{layer}.h{h}"] for h in range(wired.n_heads)] for layer in wired.attention_layers]
        )

    return {
        "Share of prompts with a sink beyond the first token": Heatmap.of(
            grid(c.numbers["later sinks"]), rows, columns, unit="share"
        ),
        "Change of accuracy when one head's later sinks are calibrated": Heatmap.of(
            grid(c.numbers["alone"]), rows, columns, unit="accuracy"
        ),
    }


# -- claims -------------------------------------------------------------------------------------------------

_shown = partial(Conditions.shown, form="+.3f")


def _n(c: Conditions) -> int:
    return c.n(PLAIN)


def _common(c: Conditions) -> int:
    return sum(share > COMMON for share in c.numbers["later sinks"].values())


def harming(c: Conditions) -> list[str]:
    """Chosen heads whose calibration helps on fresh prompts too."""
    return [head for head in c.numbers["chosen"] if c.numbers["p that it harms"][head] < LEVEL]


def helping(c: Conditions) -> list[str]:
    """Heads whose calibration lowers accuracy."""
    return [head for head, p in c.numbers["p that it helps"].items() if p < LEVEL]


def _named(heads: list[str], c: Conditions) -> str:
    return ", ".join(f"{head} {c.numbers['alone'][head]:+.3f}" for head in heads) or "none"


def _moved(c: Conditions, name: str) -> str:
    moved = c.numbers["attention moved"]
    return f", {moved[name]:.1%} of the attention moved" if name in moved else ""


def _forced(c: Conditions) -> str:
    forced = c.numbers["in every random set"]
    return f"; {', '.join(forced)} in every set, as the layer leaves no choice" if forced else ""


def _random(c: Conditions) -> str:
    return f"{c.mean(RANDOM, PLAIN):+.3f} over {len(c.draws[RANDOM])} sets{_forced(c)}"


def _least_p(c: Conditions) -> float:
    return 1 / (1 + len(c.draws[RANDOM]))


def beside(c: Conditions) -> list[str]:
    """The unrelated tasks that were asked, the most harmed first."""
    tasks = [name.removesuffix(f": {CHOSEN}") for name in c.values if name.endswith(f": {CHOSEN}")]
    return sorted(
        (task for task in tasks if task != "text"),
        key=lambda task: c.interval(f"{task}: {CHOSEN}", f"{task}: {PLAIN}").low,
    )


def _on_worst(c: Conditions) -> tuple[str, str]:
    return f"{beside(c)[0]}: {CHOSEN}", f"{beside(c)[0]}: {PLAIN}"


BEATS = beats_draws(CHOSEN, RANDOM, over=PLAIN)
ANY = needs(lambda c: c.numbers["chosen"], NONE_HELPS)
CAN_MOVE = needs(
    lambda c: ROOM[0] <= c.mean(PLAIN) <= ROOM[1],
    lambda c: (
        f"accuracy is {c.mean(PLAIN):.1%} as it is; between {ROOM[0]:.0%} and {ROOM[1]:.0%} it can rise and fall"
    ),
)


def _exceeds(says: str, name: str, criterion: str, why: str, where: str) -> Claim:
    return Claim(
        says,
        above(CHOSEN, PLAIN) & above(CHOSEN, name),
        criterion,
        why=why,
        where=where,
        needs=[ANY, CAN_MOVE],
        found=lambda c: (
            f"{_shown(c, CHOSEN, name)}; gain of the heads {_shown(c, CHOSEN, PLAIN)}{_moved(c, CHOSEN)}"
        ),
        control=lambda c: f"{_shown(c, name, PLAIN)}{_moved(c, name)}",
    )


CLAIMS = {
    "later": Claim(
        "sinks are found beyond the first token",
        fact("most heads", lambda c: _common(c) > COMMON * len(c.numbers["later sinks"])),
        f"more than {COMMON:.0%} of all heads have one in more than {COMMON:.0%} of the prompts",
        why="the paper finds them throughout the middle layers; even attention has none by this threshold",
        where="abstract",
        found=lambda c: f"{_common(c)} of {len(c.numbers['later sinks'])} heads",
        control=lambda c: f"even attention: {c.numbers['later sinks, even attention']:.0%}",
        n=_n,
    ),
    "harm": Claim(
        "some sinks harm",
        fact("a chosen head helps again", harming),
        f"a head whose calibration helps on the selection prompts helps on fresh ones too: sign test, Holm over all "
        f"heads, p < {LEVEL:g}",
        why="a head picked for helping helps on the same prompts by construction",
        where="abstract and the filter of heads",
        needs=[CAN_MOVE],
        found=lambda c: _named(harming(c), c),
        control=lambda c: f"{len(c.numbers['chosen'])} chosen",
        n=_n,
    ),
    "help": Claim(
        "other sinks help",
        fact("some head helps", helping),
        f"calibrating some head lowers accuracy on fresh prompts: sign test, Holm over all heads, p < {LEVEL:g}",
        why="the paper filters heads because calibrating all of them harms",
        where="abstract",
        needs=[CAN_MOVE],
        found=lambda c: _named(helping(c), c),
        n=_n,
    ),
    "act": Claim(
        "calibration raises accuracy on held-out prompts",
        above(CHOSEN, PLAIN),
        "paired difference above 0, interval included",
        paper="up to +7.3 points (Llama-30B)",
        why="no prompt was used to choose the heads",
        where="abstract",
        needs=[ANY, CAN_MOVE],
        found=lambda c: f"{c.mean(PLAIN):.3f} -> {c.mean(CHOSEN):.3f}: {_shown(c, CHOSEN, PLAIN)}",
        control=None,
    ),
    "random": Claim(
        "it is these heads",
        above(CHOSEN, PLAIN) & above(CHOSEN, RANDOM) & BEATS,
        f"there is a gain, it exceeds the mean gain of matched random sets, intervals included, and p < {LEVEL:g}, "
        "p = (1 + sets that gain as much) / (1 + sets)",
        why="as many heads in the same layers; some of them may be useful too, and where a layer leaves little choice "
        "they are in every set. Without a gain there is nothing that these heads bring",
        where="a control of ours (the paper filters heads)",
        needs=[
            ANY,
            CAN_MOVE,
            needs(
                lambda c: _least_p(c) < LEVEL,
                lambda c: (
                    f"only {len(c.draws[RANDOM])} other sets of as many heads in these layers: p cannot fall below "
                    f"{_least_p(c):.2g}{_forced(c)}"
                ),
                "control",
            ),
        ],
        found=lambda c: (
            f"{_shown(c, CHOSEN, RANDOM)}; gain of the heads {_shown(c, CHOSEN, PLAIN)}; p {BEATS(c).p:.3g}"
        ),
        control=_random,
    ),
    "columns": _exceeds(
        "it is the sinks",
        COLUMNS,
        "there is a gain, and it exceeds that of as many columns of the same heads that are no sinks, intervals "
        "included",
        "any change of these heads might do; as many columns are not as much attention, so what both move is told",
        "a control of ours",
    ),
    "filter": _exceeds(
        "heads have to be filtered",
        ALL,
        "there is a gain, and it exceeds that of calibrating all heads, intervals included",
        "the paper's step 1",
        "the method",
    ),
    "alpha": Claim(
        "the threshold does not matter much",
        above(ALPHAS[0], PLAIN) & above(ALPHAS[1], PLAIN),
        "with alpha 3 and with alpha 7 the same heads gain too: both differences above 0, intervals included",
        why="the paper's ablation",
        where="the ablation",
        needs=[ANY, CAN_MOVE],
        found=lambda c: "; ".join(_shown(c, name, PLAIN) for name in ALPHAS),
        control=lambda c: _shown(c, CHOSEN, PLAIN),
    ),
    "kept": Claim(
        "other tasks are not harmed",
        fact(
            "no task loses much",
            lambda c: c.interval(*_on_worst(c)).low >= -KEPT,
            intervals=lambda c: [c.interval(f"{task}: {CHOSEN}", f"{task}: {PLAIN}") for task in beside(c)],
        ),
        f"on every unrelated task accuracy falls by at most {KEPT:.0%}, interval included",
        why="the heads were chosen for one task; collateral damage is not in the paper",
        where="a control of ours",
        needs=[ANY, needs(beside, "no unrelated task fits this model")],
        found=lambda c: f"{beside(c)[0]}: {_shown(c, *_on_worst(c))}",
        n=lambda c: c.n(_on_worst(c)[0]),
    ),
    "text": Claim(
        "and so in a language model",
        above(f"text: {CHOSEN}", f"text: {PLAIN}"),
        "on held-out text next-token accuracy rises with the heads chosen on other text: above 0, interval included",
        why="the paper's models are language models; a model of a few tasks might be special",
        where="abstract",
        needs=[needs(lambda c: f"text: {CHOSEN}" in c, lambda c: c.numbers["why no text"])],
        found=lambda c: _shown(c, f"text: {CHOSEN}", f"text: {PLAIN}"),
        control=lambda c: f"all heads: {c.mean(f'text: {ALL}', f'text: {PLAIN}'):+.3f}",
        model=lambda c: c.numbers["language model"],
    ),
}
REPLICATION = Paper(
    name="attention-calibration",
    authors="Yu et al. 2024, arXiv:2406.15765",
    about="Tokens beyond the first collect attention that their meaning does not explain, and some of these sinks "
    "harm. ACT finds the heads where scaling them down helps, and does so while the model runs. Here heads are chosen "
    "on prompts of a task that the model does imperfectly and judged on others, beside random heads, other columns and "
    "all heads.",
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
