"""Guided networks, shipped or trained anew: ``python -m workbench.training.guided_arms --out FOLDER``."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from workbench.core.errors import ModelError
from workbench.core.progress import Progress, silent
from workbench.engine.threads import one_thread
from workbench.training.guidance import (
    WIDTH,
    AttentionNet,
    RecurrentNet,
    Task,
    fit_guided,
    right_share,
    sequence_rows,
)
from workbench.training.mixers.kept_weights import HOME, keep_weights, parts_under, read_weights
from workbench.training.mixers.shipped import CHECK_SEED, CHECKED

NAME, SEEDS, STEPS = "guided", (2000, 2001), 250
TASKS: tuple[Task, ...] = get_args(Task)
LENGTHS: dict[Task, int] = {"copy": 8, "parity": 12}
GUIDE, ALONE, GUIDED = "the guide", "alone", "guided"
SHUFFLED, UNTRAINED = "guided, rows shuffled", "guided, guide untrained"
ARMS = (GUIDE, ALONE, GUIDED, SHUFFLED, UNTRAINED)
HOW: dict[str, Any] = {"batch": 32, "rate": 3e-3, "weight": 1.0}
CANNOT = "anything but copying eight symbols, or the parity of twelve bits"
Net = RecurrentNet | AttentionNet
GuidedArms = dict[tuple[Task, int], dict[str, Net]]


def recipe(steps: int = STEPS) -> dict[str, Any]:
    """Return everything that decides the networks, seeds apart."""
    return {"arms": list(ARMS), "lengths": dict(LENGTHS), "steps": steps, "width": WIDTH, **HOW}


def begin(task: Task, seed: int) -> dict[str, Net]:
    """Return every network of a task at its start: all but the guide are of the other kind, and begin alike."""
    kinds = (AttentionNet, RecurrentNet)
    other, own = kinds if task == "copy" else kinds[::-1]
    return {arm: other(seed=seed + 7) if arm == GUIDE else own(seed=seed) for arm in ARMS}


def fit_arms(task: Task, seed: int, *, steps: int = STEPS) -> dict[str, Net]:
    """Train the guide, then the other networks alone and drawn to the guide, on the same batches."""
    nets = begin(task, seed)
    how: dict[str, Any] = {"steps": steps, "length": LENGTHS[task], "seed": seed, **HOW}
    guide, untrained = nets[GUIDE], type(nets[GUIDE])(seed=seed + 8)
    given: dict[str, dict[str, Any]] = {
        GUIDE: {},
        ALONE: {},
        GUIDED: {"guide": guide},
        SHUFFLED: {"guide": guide, "shuffled": True},
        UNTRAINED: {"guide": untrained},
    }
    with one_thread():
        for arm, net in nets.items():
            fit_guided(net, task, **how, **given[arm])
            net.requires_grad_(False).eval()
    return nets


def guided_arms(
    *,
    retrain: bool = False,
    seeds: Sequence[int] = SEEDS,
    steps: int = STEPS,
    progress: Progress = silent,
    home: Path = HOME,
) -> GuidedArms:
    """Return networks by task and seed: those that are shipped, or trained anew.

    Args:
        retrain: Train anew, with these seeds.
        seeds: Each has its own starts and its own batches; shipped networks have no others than theirs.

    Raises:
        ModelError: if none are shipped, their recipe or seeds are others, or a file is not as it was written.
    """
    if not retrain:
        return _read(tuple(seeds), steps, home)
    plan: list[tuple[Task, int]] = [(task, seed) for task in TASKS for seed in seeds]
    found: GuidedArms = {}
    for i, (task, seed) in enumerate(plan):
        found[task, seed] = fit_arms(task, seed, steps=steps)
        progress(i + 1, len(plan), "training networks")
    return found


def _read(seeds: tuple[int, ...], steps: int, home: Path) -> GuidedArms:
    """Networks that were kept, once recipe and digests are checked."""
    card, tensors = read_weights(NAME, recipe(steps), home)
    if seeds != tuple(card.seeds):
        raise ModelError(
            f"networks of {NAME} are shipped with seeds {card.seeds}, not {list(seeds)}",
            hint="train them: retrain=True",
        )
    found: GuidedArms = {(task, seed): begin(task, seed) for task in TASKS for seed in seeds}
    for (task, seed), nets in found.items():
        for i, net in enumerate(nets.values()):
            net.load_state_dict(parts_under(f"{task}/{seed}/{i}/", tensors))
            net.requires_grad_(False).eval()
    return found


def keep_guided(
    arms: GuidedArms, *, steps: int = STEPS, core_seconds: float = 0.0, home: Path = HOME
) -> Path:
    """Write networks with their card; the accuracies in it are of rows that no paper measures."""
    tensors = {
        f"{task}/{seed}/{i}/{name}": value.detach().contiguous().clone()
        for (task, seed), nets in arms.items()
        for i, net in enumerate(nets.values())
        for name, value in net.state_dict().items()
    }
    learned, seeds = {}, sorted({seed for _, seed in arms})
    for task in TASKS:
        rows = sequence_rows(task, CHECKED, LENGTHS[task], seed=CHECK_SEED)
        for arm in ARMS:
            right = [right_share(nets[arm], rows).mean() for (own, _), nets in arms.items() if own == task]
            learned[f"{task}, {arm}"] = round(float(np.mean(right)), 4)
    return keep_weights(
        NAME,
        tensors,
        recipe=recipe(steps),
        seeds=seeds,
        home=home,
        retrain="python -m workbench.training.guided_arms",
        learned=learned,
        n=CHECKED * min(LENGTHS.values()) * len(seeds),
        steps=steps,
        core_seconds=round(core_seconds, 1),
        cannot=[CANNOT],
    )


def main() -> None:
    """Train, keep and say where."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HOME, help="the folder of weights and card")
    out, began = parser.parse_args().out, time.process_time()
    arms = guided_arms(retrain=True)
    print(f"wrote {keep_guided(arms, core_seconds=time.process_time() - began, home=out)}")


if __name__ == "__main__":
    main()
