"""Tuned arms of routed heads, shipped or tuned anew: ``python -m workbench.training.routed_arms --out FOLDER``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from workbench.core.errors import ModelError
from workbench.core.progress import Progress, silent
from workbench.edits.measure import on_text
from workbench.edits.route_heads import RouteHeads
from workbench.model.open import open_model
from workbench.training.language import encode, sources
from workbench.training.mixers.kept_weights import HOME, keep_weights, parts_under, read_weights
from workbench.training.routed_heads import ARMS, Arm, HeadTuning, Tuned, routed_names, tune_heads, windows_of

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

NAME, MODEL, SEEDS, EVERY = "routed-heads", "zoo:stdlib", (11, 12), 16
TUNING = HeadTuning()
CANNOT = "anything but to be added to the attention of zoo:stdlib; tuned on a sixteenth of its text alone"
TunedArms = dict[int, dict[Arm, Tuned]]


def recipe(tuning: HeadTuning = TUNING) -> dict[str, Any]:
    """Return everything that decides the tuned weights, seeds and the library's version apart."""
    return {
        "model": MODEL,
        "files of the standard library": f"one in {EVERY} of those trained on",
        **tuning.recipe(),
    }


def text_stream(model: TransformerBridge, *, held_out: bool, every: int = EVERY) -> Int[np.ndarray, " token"]:
    """Return source text of the standard library as one row of tokens: files that `zoo:stdlib` never saw, or others.

    Raises:
        ModelError: for a model without words.
    """
    if model.tokenizer is None:
        raise ModelError("the model has no tokenizer, and heads are tuned on a text", hint=f"-m {MODEL}")
    texts = [text for _, text in sorted(sources(held_out=held_out).items())]
    return encode(iter(texts[::every]), model.tokenizer)


def held_out_windows(
    model: TransformerBridge, n: int, *, window: int = TUNING.window, seed: int | list[int]
) -> Int[Tensor, "window pos"]:
    """Draw windows of files that `zoo:stdlib` was never trained on."""
    stream, tuning = text_stream(model, held_out=True, every=2), HeadTuning(windows=n, window=window)
    return windows_of(stream, np.random.default_rng(seed), tuning, model.tokenizer.bos_token_id)


def tuned_arms(
    model: TransformerBridge,
    *,
    retrain: bool = False,
    seeds: Sequence[int] = SEEDS,
    tuning: HeadTuning = TUNING,
    scratch: Path | None = None,
    progress: Progress = silent,
    home: Path = HOME,
) -> TunedArms:
    """Return the arms by seed: those that are shipped, for `zoo:stdlib`; or tuned anew, for any model of text.

    Raises:
        ModelError: if none are shipped, their recipe is another, or a file is not as it was written.
    """
    if not retrain:
        return read_tuned(model, tuning, home)
    stream = text_stream(model, held_out=False)
    found: TunedArms = {}
    for i, (seed, arm) in enumerate([(seed, arm) for seed in seeds for arm in ARMS]):
        how: dict[str, Any] = {"seed": seed, "begin": model.tokenizer.bos_token_id, "scratch": scratch}
        found.setdefault(seed, {})[arm] = tune_heads(model, stream, arm, tuning, **how)
        progress(i + 1, len(seeds) * len(ARMS), f"tuning heads, {arm}, seed {seed}")
    return found


def keep_tuned(
    model: TransformerBridge, arms: TunedArms, tuning: HeadTuning = TUNING, home: Path = HOME
) -> Path:
    """Write tuned arms with their card; the accuracies in it are of next tokens in 64 windows of held-out files."""
    windows = held_out_windows(model, 64, seed=987_001)
    tensors: dict[str, Tensor] = {}
    right: dict[Arm, list[float]] = {arm: [] for arm in ARMS}
    cores = 0.0
    order = {head: i for i, head in enumerate(routed_names(model, tuning))}
    for seed, own in arms.items():
        for i, (arm, tuned) in enumerate(own.items()):
            begin = f"{seed}/{i}/"
            tensors |= {f"{begin}delta/{name}": delta.contiguous() for name, delta in tuned.deltas.items()}
            if tuned.edit is not None:
                tensors |= {
                    f"{begin}router/{name}": value.clone() for name, value in tuned.edit.routers.items()
                }
                tensors[f"{begin}order"] = torch.tensor([order[head] for head in tuned.edit.heads])
            with tuned.on(model):
                right[arm].append(on_text(model, windows)["accuracy"].mean())
            cores += 0.0 if tuned.fit is None else tuned.fit.core_seconds
    return keep_weights(
        NAME,
        tensors,
        recipe=recipe(tuning),
        seeds=list(arms),
        home=home,
        retrain="python -m workbench.training.routed_arms",
        learned={arm: round(float(np.mean(found)), 4) for arm, found in right.items()},
        n=windows.shape[0] * (windows.shape[1] - 1),
        steps=tuning.steps,
        core_seconds=round(cores, 1),
        cannot=[CANNOT],
    )


def read_tuned(model: TransformerBridge, tuning: HeadTuning = TUNING, home: Path = HOME) -> TunedArms:
    """Return tuned arms that were kept.

    Raises:
        ModelError: if there are none, their recipe is another, or a file is not as it was written.
    """
    card, tensors = read_weights(NAME, recipe(tuning), home)
    names = routed_names(model, tuning)
    return {
        seed: {
            arm: _arm(arm, parts_under(f"{seed}/{i}/", tensors), names, tuning, seed)
            for i, arm in enumerate(ARMS)
        }
        for seed in card.seeds
    }


def _arm(arm: Arm, parts: Mapping[str, Tensor], names: Sequence[str], tuning: HeadTuning, seed: int) -> Tuned:
    """An arm of what was kept of it."""
    deltas = parts_under("delta/", parts)
    if arm == "all heads":
        return Tuned(arm=arm, deltas=deltas, edit=None)
    heads = tuple(names[i] for i in parts["order"].tolist())
    routers = parts_under("router/", parts)
    by: Any = {"same heads": "first"}.get(arm, arm)
    edit = RouteHeads(heads=heads, active=tuning.active, by=by, seed=seed, routers=routers)
    return Tuned(arm=arm, deltas=deltas, edit=edit)


def main() -> None:
    """Tune, keep and say where."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HOME, help="the folder of weights and card")
    parser.add_argument(
        "--scratch", type=Path, help="a folder for checkpoints, from which a killed run goes on"
    )
    parser.add_argument("--steps", type=int, default=TUNING.steps)
    asked = parser.parse_args()
    model, tuning = open_model(MODEL), replace(TUNING, steps=asked.steps)
    arms = tuned_arms(model, retrain=True, scratch=asked.scratch, tuning=tuning)
    print(f"wrote {keep_tuned(model, arms, tuning, asked.out)}")


if __name__ == "__main__":
    main()
