"""Hidden attention sinks and ACT (Yu et al. 2024): not every sink helps, and calibrating those that harm does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformer_lens.model_bridge import TransformerBridge

from workbench.claims import Claim, judge, source_of, untestable
from workbench.edits.act import ALPHA, BETA, Calibration
from workbench.errors import OptionError, WorkbenchError
from workbench.replications.attention_calibration_measures import (
    Quiz,
    attention_moved,
    heads_of,
    improving,
    matched_sets,
    sign_tests,
    sink_shares,
    solo,
)
from workbench.replications.kinds import Findings, Replication, Setting
from workbench.statistics import CHANGE, mean_interval
from workbench.study import paired_runs
from workbench.view.bars import bars_svg
from workbench.view.heatmap import heatmap_svg

# Criteria, fixed before anything was measured.
COMMON, LEVEL, KEPT, ROOM = 0.5, 0.05, 0.02, (0.2, 0.98)
PAPER = "Yu et al. 2024, arXiv:2406.15765"
CRITERIA: Mapping[str, tuple[str, str, str, str]] = {
    "later": (
        "sinks are found beyond the first token",
        f"more than {COMMON:.0%} of all heads have one in more than {COMMON:.0%} of the prompts",
        "the paper finds them throughout the middle layers; even attention has none by this threshold",
        "abstract",
    ),
    "harm": (
        "some sinks harm",
        f"a head whose calibration helps on the selection prompts helps on fresh ones too: sign test, Holm over all "
        f"heads, p < {LEVEL:g}",
        "a head picked for helping helps on the same prompts by construction",
        "abstract and the filter of heads",
    ),
    "help": (
        "other sinks help",
        f"calibrating some head lowers accuracy on fresh prompts: sign test, Holm over all heads, p < {LEVEL:g}",
        "the paper filters heads because calibrating all of them harms",
        "abstract",
    ),
    "act": (
        "calibration raises accuracy on held-out prompts",
        "paired difference above 0, interval included",
        "no prompt was used to choose the heads",
        "abstract",
    ),
    "random": (
        "it is these heads",
        f"there is a gain, it exceeds the mean gain of matched random sets, intervals included, and p < {LEVEL:g}, "
        "p = (1 + sets that gain as much) / (1 + sets)",
        "as many heads in the same layers; some of them may be useful too, and where a layer leaves little choice they "
        "are in every set. Without a gain there is nothing that these heads bring",
        "a control of ours (the paper filters heads)",
    ),
    "columns": (
        "it is the sinks",
        "there is a gain, and it exceeds that of as many columns of the same heads that are no sinks, intervals "
        "included",
        "any change of these heads might do; as many columns are not as much attention, so what both move is told",
        "a control of ours",
    ),
    "filter": (
        "heads have to be filtered",
        "there is a gain, and it exceeds that of calibrating all heads, intervals included",
        "the paper's step 1",
        "the method",
    ),
    "alpha": (
        "the threshold does not matter much",
        "with alpha 3 and with alpha 7 the same heads gain too: both differences above 0, intervals included",
        "the paper's ablation",
        "the ablation",
    ),
    "kept": (
        "other tasks are not harmed",
        f"on every unrelated task accuracy falls by at most {KEPT:.0%}, interval included",
        "the heads were chosen for one task; collateral damage is not in the paper",
        "a control of ours",
    ),
    "text": (
        "and so in a language model",
        "on held-out text next-token accuracy rises with the heads chosen on other text: above 0, interval included",
        "the paper's models are language models; a model of a few tasks might be special",
        "abstract",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Options:
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


@dataclass(frozen=True, kw_only=True)
class Study:
    """What was found on one quiz.

    Attributes:
        shares: Per head, share of prompts with a later sink; ``even``: the same for even attention.
        chosen: Heads whose calibration helps on the selection prompts.
        fresh: Per head, change of accuracy on evaluation prompts.
        plain: Accuracy per evaluation prompt as it is.
        gains: Condition -> change of accuracy per evaluation prompt.
        draws: Mean change of every matched random set.
        forced: Heads that are in every matched set, because their layer leaves no choice.
        moved: Condition -> share of a row's attention that it moves.
    """

    shares: dict[str, float]
    even: float
    selection: dict[str, np.ndarray]
    fresh: dict[str, np.ndarray]
    chosen: tuple[str, ...]
    plain: np.ndarray
    gains: dict[str, np.ndarray]
    draws: np.ndarray
    forced: tuple[str, ...]
    moved: dict[str, float]


def run(setting: Setting) -> Findings:
    """Choose heads on some prompts, calibrate them on others; controls; another model."""
    options: Options = setting.options
    total = 3 * len(heads_of(setting.model)) + options.draws
    done = 0

    def advance(what: str) -> None:
        nonlocal done
        done += 1
        setting.progress(min(done, total), total, what)

    quizzes = _quizzes(setting)
    found = _study(*quizzes, options, seed=setting.seed, advance=advance)
    beside = _beside(setting, found.chosen) if found.chosen else {}
    text = _text(setting, advance)
    return Findings(
        claims=_claims(options, found, beside, text),
        tables={"Every head": _head_rows(found), "Calibrated": _gain_rows(found, beside, text, options)},
        pictures=_pictures(setting.model, found),
        numbers={
            "chosen": list(found.chosen),
            "accuracy as it is": float(found.plain.mean()),
            "gains": {name: float(g.mean()) for name, g in found.gains.items()},
            "random sets": [float(g) for g in found.draws],
            "in every random set": list(found.forced),
            "attention moved": found.moved,
            "language model": {k: v for k, v in text.items() if not isinstance(v, np.ndarray)},
        },
    )


def _quizzes(setting: Setting) -> tuple[Quiz, Quiz]:
    """Selection and evaluation prompts: other combinations of answers, the same templates."""
    options: Options = setting.options
    extra = {"templates": options.templates} if options.templates and options.task == "docstring" else {}
    made = []
    for split, n in (("validation", options.selection), ("test", options.evaluation)):
        runs = paired_runs(setting.model, options.task, n=n, split=split, seed=setting.seed, **extra)
        made.append(Quiz(name=f"{options.task}, {split}", runs=runs))
    return made[0], made[1]


def _study(selection: Quiz, evaluation: Quiz, options: Options, *, seed: int, advance) -> Study:
    heads, how = heads_of(selection.bridge), {"alpha": options.alpha, "beta": options.beta}
    shares, even = sink_shares(evaluation, alpha=options.alpha)
    first = solo(selection, heads, advance=advance, **how)
    chosen = improving(first)
    fresh = solo(evaluation, heads, advance=advance, **how)
    plain = evaluation.accuracy()
    gains: dict[str, np.ndarray] = {}
    draws, forced, moved = np.zeros(0), (), {}
    if chosen:
        gains["chosen heads"] = evaluation.accuracy(Calibration(heads=chosen, **how)) - plain
        others = Calibration(heads=chosen, columns="others", seed=seed, **how)
        gains["chosen heads, other columns"] = evaluation.accuracy(others) - plain
        moved["chosen heads"] = attention_moved(evaluation, Calibration(heads=chosen, **how))
        moved["chosen heads, other columns"] = attention_moved(evaluation, others)
        for alpha in (3.0, 7.0):
            own = Calibration(heads=chosen, alpha=alpha, beta=options.beta)
            gains[f"chosen heads, alpha {alpha:g}"] = evaluation.accuracy(own) - plain
        random = []
        sets = matched_sets(evaluation.bridge, chosen, draws=options.draws, seed=seed)
        forced = tuple(sorted(set(sets[0]).intersection(*sets)))
        for heads_drawn in sets:
            random.append(evaluation.accuracy(Calibration(heads=heads_drawn, **how)) - plain)
            advance("random heads")
        draws = np.array([gain.mean() for gain in random])
        gains["matched random heads, mean"] = np.mean(random, axis=0)
    gains["all heads"] = evaluation.accuracy(Calibration(heads=heads, **how)) - plain
    return Study(
        shares=shares,
        even=even,
        selection=first,
        fresh=fresh,
        chosen=chosen,
        plain=plain,
        gains=gains,
        draws=draws,
        forced=forced,
        moved=moved,
    )


def _beside(setting: Setting, chosen: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Change of accuracy on unrelated tasks that the model can be asked."""
    options: Options = setting.options
    found = {}
    edit = Calibration(heads=chosen, alpha=options.alpha, beta=options.beta)
    for task in options.beside:
        try:
            runs = paired_runs(setting.model, task, n=min(200, options.evaluation), seed=setting.seed)
        except WorkbenchError as problem:
            setting.note(f"{task} is left out: {problem.message}")
            continue
        quiz = Quiz(name=task, runs=runs)
        found[task] = quiz.accuracy(edit) - quiz.accuracy()
    return found


def _text(setting: Setting, advance) -> dict[str, Any]:
    """Heads chosen on half of the held-out files of the language model's corpus, judged on the other half."""
    options: Options = setting.options
    try:
        model = setting.open(options.language)
        chosen_on, judged_on = _windows(model, options, setting.seed)
    except WorkbenchError as problem:
        return {"why": problem.message, "model": options.language}
    selection = Quiz(name="text, selection", model=model, windows=chosen_on)
    evaluation = Quiz(name="text", model=model, windows=judged_on)
    how = {"alpha": options.alpha, "beta": options.beta}
    chosen = improving(solo(selection, heads_of(model), advance=advance, **how))
    shares, _ = sink_shares(evaluation, alpha=options.alpha)
    if not chosen:
        why = "no head's calibration helps on the selection text"
        return {"why": why, "sinks": shares, "model": options.language}
    plain = evaluation.accuracy()
    return {
        "chosen": list(chosen),
        "accuracy": float(plain.mean()),
        "heads with later sinks": sum(share > COMMON for share in shares.values()),
        "gain": evaluation.accuracy(Calibration(heads=chosen, **how)) - plain,
        "model": options.language,
        "gain of all heads": float(
            (evaluation.accuracy(Calibration(heads=heads_of(model), **how)) - plain).mean()
        ),
    }


def _windows(model: TransformerBridge, options: Options, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Windows of files that the language model was not trained on: of some to choose heads, of the others to judge."""
    from workbench.training.language import is_held_out, sources

    files = [text for name, text in sorted(sources().items()) if is_held_out(name)]
    rng, half = np.random.default_rng(seed), len(files) // 2
    return (
        windows_of(model, files[:half], n=options.windows // 2, size=options.window, rng=rng),
        windows_of(model, files[half:], n=options.windows // 2, size=options.window, rng=rng),
    )


def _shown(values: np.ndarray) -> str:
    low, high, _ = mean_interval(values, within=CHANGE)
    return f"{values.mean():+.3f} ({low:+.3f} to {high:+.3f})"


def _low(values: np.ndarray) -> float:
    return mean_interval(values, within=CHANGE).low


def _claims(
    options: Options,
    found: Study,
    beside: dict[str, np.ndarray],
    text: dict[str, Any],
) -> tuple[Claim, ...]:
    base = float(found.plain.mean())
    made: dict[str, tuple[bool, Any, Any, int | None]] = {}
    common = sum(share > COMMON for share in found.shares.values())
    n_heads, n = len(found.shares), len(found.plain)
    made["later"] = (
        common > COMMON * n_heads,
        f"{common} of {n_heads} heads",
        f"even attention: {found.even:.0%}",
        n,
    )
    better, worse = sign_tests(found.fresh, better=True), sign_tests(found.fresh, better=False)
    harming = [h for h in found.chosen if better[h] < LEVEL]
    helping = [h for h in found.fresh if worse[h] < LEVEL]
    made["harm"] = bool(harming), _named(harming, found.fresh), f"{len(found.chosen)} chosen", n
    made["help"] = bool(helping), _named(helping, found.fresh), None, n
    if found.chosen:
        made |= _gain_claims(options, found, beside)
    if "gain" in text:
        gain = text["gain"]
        made["text"] = _low(gain) > 0, _shown(gain), f"all heads: {text['gain of all heads']:+.3f}", len(gain)
    return tuple(_claim(key, made.get(key), base, found, text) for key in CRITERIA)


def _gain_claims(
    options: Options, found: Study, beside: dict[str, np.ndarray]
) -> dict[str, tuple[bool, Any, Any, int | None]]:
    gain, base, n = found.gains["chosen heads"], float(found.plain.mean()), len(found.plain)
    made: dict[str, tuple[bool, Any, Any, int | None]] = {}
    made["act"] = _low(gain) > 0, f"{base:.3f} -> {base + gain.mean():.3f}: {_shown(gain)}", None, n
    random = found.gains["matched random heads, mean"]
    p = (1 + int((found.draws >= gain.mean()).sum())) / (1 + len(found.draws))
    made["random"] = (
        _low(gain) > 0 and _low(gain - random) > 0 and p < LEVEL,
        f"{_shown(gain - random)}; gain of the heads {_shown(gain)}; p {p:.3g}",
        f"{random.mean():+.3f} over {len(found.draws)} sets{_forced(found)}",
        n,
    )
    for key, name in (("columns", "chosen heads, other columns"), ("filter", "all heads")):
        made[key] = (
            _low(gain) > 0 and _low(gain - found.gains[name]) > 0,
            f"{_shown(gain - found.gains[name])}; gain of the heads {_shown(gain)}{_moved(found, 'chosen heads')}",
            f"{_shown(found.gains[name])}{_moved(found, name)}",
            n,
        )
    alphas = [found.gains[f"chosen heads, alpha {a:g}"] for a in (3.0, 7.0)]
    made["alpha"] = all(_low(g) > 0 for g in alphas), "; ".join(_shown(g) for g in alphas), _shown(gain), n
    if beside:
        worst = min(beside, key=lambda task: _low(beside[task]))
        made["kept"] = (
            _low(beside[worst]) >= -KEPT,
            f"{worst}: {_shown(beside[worst])}",
            None,
            len(beside[worst]),
        )
    return made


def _forced(found: Study) -> str:
    return f"; {', '.join(found.forced)} in every set, as the layer leaves no choice" if found.forced else ""


def _moved(found: Study, name: str) -> str:
    both = "chosen heads, other columns" in found.moved and name in found.moved
    return f", {found.moved[name]:.1%} of the attention moved" if both else ""


def _named(heads: list[str], changes: dict[str, np.ndarray]) -> str:
    return ", ".join(f"{head} {changes[head].mean():+.3f}" for head in heads) or "none"


def _claim(key: str, made: tuple | None, base: float, found: Study, text: dict[str, Any]) -> Claim:
    words, criterion, reason, where = CRITERIA[key]
    fixed = {"reason": reason, "source": source_of(PAPER, where)}
    if key == "act":
        fixed["paper"] = "up to +7.3 points (Llama-30B)"
    if key == "text" and made is None:
        return untestable(words, criterion, text["why"], model=text["model"], **fixed)
    if made is None:
        why = (
            "no unrelated task fits this model"
            if found.chosen
            else "no head's calibration helps on the selection prompts"
        )
        return untestable(words, criterion, why, **fixed)
    if key != "text" and not ROOM[0] <= base <= ROOM[1] and key not in ("later", "kept"):
        why = f"accuracy is {base:.1%} as it is; between {ROOM[0]:.0%} and {ROOM[1]:.0%} it can rise and fall"
        return untestable(words, criterion, why, **fixed)
    sets = len(found.draws)
    if key == "random" and 1 / (1 + sets) >= LEVEL:
        why = f"only {sets} other sets of as many heads in these layers: p cannot fall below {1 / (1 + sets):.2g}"
        why += _forced(found)
        return untestable(words, criterion, why, control=made[2], **fixed)
    holds, value, control, n = made
    if key == "text":
        fixed["model"] = text["model"]
    return judge(words, criterion, bool(holds), found=value, control=control, n=n, **fixed)


def _head_rows(found: Study) -> list[dict[str, Any]]:
    return [
        {
            "head": head,
            "prompts with a later sink": share,
            "alone, selection": float(found.selection[head].mean()),
            "alone, fresh prompts": float(found.fresh[head].mean()),
            "chosen": head in found.chosen,
        }
        for head, share in found.shares.items()
    ]


def _gain_rows(
    found: Study, beside: dict[str, np.ndarray], text: dict[str, Any], options: Options
) -> list[dict[str, Any]]:
    rows = {**found.gains, **{f"chosen heads, {task}": g for task, g in beside.items()}}
    if "gain" in text:
        rows[f"{options.language}, heads chosen there"] = text["gain"]
    made = []
    for name, change in rows.items():
        low, high, _ = mean_interval(change, within=CHANGE)
        made.append(
            {
                "condition": name,
                "change of accuracy": float(change.mean()),
                "low": low,
                "high": high,
                "n": len(change),
                "attention moved": found.moved.get(name),
            }
        )
    return made


def _pictures(model: TransformerBridge, found: Study) -> dict[str, str]:
    from workbench.model.probe import wiring

    wired = wiring(model)
    layers = wired.attention_layers

    def grid(values: Mapping[str, float]) -> np.ndarray:
        return np.array([[values[f"a{layer}.h{h}"] for h in range(wired.n_heads)] for layer in layers])

    rows, columns = [f"layer {n}" for n in layers], [f"head {h}" for h in range(wired.n_heads)]
    alone = {head: float(change.mean()) for head, change in found.fresh.items()}
    bars = []
    for name, gain in found.gains.items():
        low, high, _ = mean_interval(gain, within=CHANGE)
        bars.append((name, float(gain.mean()), low, high, f"{gain.mean():+.3f}"))
    return {
        "Share of prompts with a sink beyond the first token": heatmap_svg(
            grid(found.shares), rows, columns, unit="share"
        ),
        "Change of accuracy when one head's later sinks are calibrated": heatmap_svg(
            grid(alone), rows, columns, unit="accuracy"
        ),
        "Calibrated on the fly: change of accuracy on held-out prompts": bars_svg(
            bars, x_label="accuracy", width=720
        ),
    }


REPLICATION = Replication(
    name="attention-calibration",
    about=(
        "Tokens beyond the first collect attention that their meaning does not explain, and some of these sinks harm. "
        "ACT finds the heads where scaling them down helps, and does so while the model runs. Here heads are chosen "
        "on prompts of a task that the model does imperfectly and judged on others, beside random heads, other "
        "columns and all heads."
    ),
    options=Options,
    controls=(
        "random heads, as many in the same layers",
        "as many columns of the same heads that are no sinks",
        "all heads, without the filter",
        "unrelated tasks",
    ),
    run=run,
)
