"""Hidden attention sinks and ACT (Yu et al. 2024): not every sink helps, and calibrating those that harm does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from workbench.circuits.verdicts.statistics import CHANGE, mean_interval
from workbench.core.errors import WorkbenchError
from workbench.edits.act import Calibration
from workbench.engine.of_task import paired_runs
from workbench.papers.attention_calibration_claims import COMMON, Study, claims_of
from workbench.papers.attention_calibration_measures import (
    Quiz,
    attention_moved,
    heads_of,
    improving,
    matched_sets,
    sink_shares,
    solo,
    windows_of,
)
from workbench.papers.kinds import Findings, Replication, Setting
from workbench.papers.options import CalibrationSizes
from workbench.view.pictures import Bars, Heatmap, Picture

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


def run(setting: Setting) -> Findings:
    """Choose heads on some prompts, calibrate them on others; controls; another model."""
    options: CalibrationSizes = setting.options
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
        claims=claims_of(found, beside, text),
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
    options: CalibrationSizes = setting.options
    extra = {"templates": options.templates} if options.templates and options.task == "docstring" else {}
    made = []
    for split, n in (("validation", options.selection), ("test", options.evaluation)):
        runs = paired_runs(setting.model, options.task, n=n, split=split, seed=setting.seed, **extra)
        setting.begin(runs)
        made.append(Quiz(name=f"{options.task}, {split}", runs=runs))
    return made[0], made[1]


def _study(selection: Quiz, evaluation: Quiz, options: CalibrationSizes, *, seed: int, advance) -> Study:
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
    options: CalibrationSizes = setting.options
    found = {}
    edit = Calibration(heads=chosen, alpha=options.alpha, beta=options.beta)
    for task in options.beside:
        try:
            runs = paired_runs(setting.model, task, n=min(200, options.evaluation), seed=setting.seed)
            setting.begin(runs)
        except WorkbenchError as problem:
            setting.note(f"{task} is left out: {problem.message}")
            continue
        quiz = Quiz(name=task, runs=runs)
        found[task] = quiz.accuracy(edit) - quiz.accuracy()
    return found


def _text(setting: Setting, advance) -> dict[str, Any]:
    """Heads chosen on half of the held-out files of the language model's corpus, judged on the other half."""
    options: CalibrationSizes = setting.options
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


def _windows(
    model: TransformerBridge, options: CalibrationSizes, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Windows of files that the language model was not trained on: of some to choose heads, of the others to judge."""
    from workbench.training.language import is_held_out, sources

    files = [text for name, text in sorted(sources().items()) if is_held_out(name)]
    rng, half = np.random.default_rng(seed), len(files) // 2
    return (
        windows_of(model, files[:half], n=options.windows // 2, size=options.window, rng=rng),
        windows_of(model, files[half:], n=options.windows // 2, size=options.window, rng=rng),
    )


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
    found: Study, beside: dict[str, np.ndarray], text: dict[str, Any], options: CalibrationSizes
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


def _pictures(model: TransformerBridge, found: Study) -> dict[str, Picture]:
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
        "Share of prompts with a sink beyond the first token": Heatmap.of(
            grid(found.shares), rows, columns, unit="share"
        ),
        "Change of accuracy when one head's later sinks are calibrated": Heatmap.of(
            grid(alone), rows, columns, unit="accuracy"
        ),
        "Calibrated on the fly: change of accuracy on held-out prompts": Bars.of(
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
    options=CalibrationSizes,
    controls=(
        "random heads, as many in the same layers",
        "as many columns of the same heads that are no sinks",
        "all heads, without the filter",
        "unrelated tasks",
    ),
    run=run,
)
