"""`induction`: two attention-only layers that continue repeated text.

Words of the induction task, d_model 64, four heads a layer, LayerNorm, learned positions. First repeated random words
of a part of the vocabulary, then of all of it: the copying circuit forms far sooner in a small vocabulary. In the
second phase the copying loss leaves out the word pairs that the task holds out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformer_lens import TransformerBridgeConfig
from transformer_lens.model_bridge import TransformerBridge

from workbench.tasks.draw import allowed
from workbench.tasks.induction import WORDS
from workbench.tasks.registry import make_pairs
from workbench.training.loop import Fit, fit
from workbench.training.pools import answer_accuracy
from workbench.training.recipe import CardNumber, Trained, TrainingRecipe
from workbench.training.repeats import copying_accuracy, copying_loss, induction_scores, repeated
from workbench.training.schedule import mixed_optimisers
from workbench.training.vocabulary import N_SPECIAL, word_tokenizer

CONTEXT = 64
PERIODS = (6, 24)
STEPS = 1500


def build(seed: int, n_words: int) -> TransformerBridge:
    """Return the untrained model."""
    torch.manual_seed(seed)
    bridge: Any = TransformerBridge  # TransformerLens hangs ``boot_native`` on the class when it is imported
    return bridge.boot_native(
        TransformerBridgeConfig(
            d_model=64,
            d_head=16,
            n_heads=4,
            n_layers=2,
            n_ctx=CONTEXT,
            d_vocab=n_words,
            attn_only=True,
            act_fn="relu",
            normalization_type="LN",
            seed=seed,
        )
    )


def trainable_neighbors(tokens: np.ndarray) -> np.ndarray:
    """Table (word, next word) of the combinations that the task's train split may hold."""
    table = np.zeros((tokens.max() + 1, tokens.max() + 1), dtype=bool)
    for i, first in enumerate(WORDS):
        for j, second in enumerate(WORDS):
            table[N_SPECIAL + i, N_SPECIAL + j] = allowed("train", first, second)
    return table


def copy_phase(
    model: TransformerBridge, tokens: np.ndarray, *, seed: int, steps: int, until: float | None, decay: float,
    neighbors: np.ndarray | None = None,
) -> Fit:  # fmt: skip
    """Train on repeated words; with ``neighbors``, only on predictions of combinations the table allows."""

    def accuracy() -> float:
        return copying_accuracy(model, tokens, n=64, length=CONTEXT - 1, periods=PERIODS, seed=seed)

    def loss_of_step(step: int) -> Tensor:
        rng = np.random.default_rng([seed, len(tokens), steps, step])
        ids, known = repeated(rng, tokens, n=64, length=CONTEXT - 1, periods=PERIODS)
        if neighbors is not None:
            known = known & torch.from_numpy(neighbors[ids[:, :-1], ids[:, 1:]])
        return copying_loss(model(ids), ids, known)

    return fit(
        model, loss_of_step, optimisers=mixed_optimisers(model), steps=steps, warmup=50, decay=decay, every=50,
        watch=lambda step: f"copies {accuracy():.3f}",
        stop=None if until is None else lambda step: accuracy() >= until,
    )  # fmt: skip


def train(seed: int, scratch: Path | None = None, *, steps: int = STEPS) -> Trained:
    """Return the three phases."""
    tokenizer = word_tokenizer(WORDS)
    model = build(seed, N_SPECIAL + len(WORDS))
    model.requires_grad_(True)
    everything = np.arange(N_SPECIAL, N_SPECIAL + len(WORDS))
    part = np.random.default_rng(seed).permutation(everything)[:100]
    phases = {
        "copying 100 words": copy_phase(model, part, seed=seed, steps=steps, until=0.5, decay=0.0),
        "copying all words": copy_phase(
            model,
            everything,
            seed=seed,
            steps=steps,
            until=None,
            decay=0.5,
            neighbors=trainable_neighbors(everything),
        ),
    }
    config = {name: _plain(value) for name, value in model.cfg.to_dict().items()}
    config |= {"device": None, "init_weights": False}
    return Trained(tokenizer=tokenizer, phases=phases, native=(config, model.state_dict()))


def _plain(value: object) -> object:
    return str(value).removeprefix("torch.") if isinstance(value, torch.dtype) else value


def measure(model: TransformerBridge) -> list[CardNumber]:
    """Accuracy on held-out word pairs, copying of random words, and which heads do it."""
    pairs = make_pairs("induction", n=500, seed=1, split="test")
    accuracy = answer_accuracy(model, pairs, model.tokenizer)
    found = [
        CardNumber(name="induction, word pairs of the test split", value=accuracy, n=len(pairs), needs=0.95)
    ]
    tokens = np.arange(N_SPECIAL, len(model.tokenizer))
    copied = copying_accuracy(model, tokens, n=100, length=CONTEXT - 1, periods=PERIODS, seed=5)
    found.append(
        CardNumber(name="copies repeated random words, period 6-24", value=copied, n=100, needs=0.95)
    )
    for layer, (prefix, previous) in enumerate(head_scores(model, tokens, period=20)):
        name, unit = f"layer {layer}, strongest head", "attention"
        found.append(CardNumber(name=f"prefix matching, {name}", value=prefix.max().item(), n=50, unit=unit))
        found.append(CardNumber(name=f"previous token, {name}", value=previous.max().item(), n=50, unit=unit))
    return found


@torch.no_grad()
def head_scores(model: TransformerBridge, tokens: np.ndarray, *, period: int) -> list[tuple[Tensor, Tensor]]:
    """Prefix-matching and previous-token score of every head, layer by layer, on repeated random tokens."""
    ids, _ = repeated(np.random.default_rng(11), tokens, n=50, length=2 * period, periods=(period, period))
    _, cache = model.run_with_cache(ids)
    return [
        induction_scores(cache[f"blocks.{layer}.attn.hook_pattern"], period)
        for layer in range(model.cfg.n_layers)
    ]


RECIPE = TrainingRecipe(
    name="induction",
    title="two attention-only layers that continue repeated words",
    what="Attention-only, LayerNorm, learned positions. Composes a previous-token head with an induction head.",
    train=train,
    measure=measure,
    held_out={
        "induction": "the sequences. A tenth of all word pairs (A, B) is left out of the copying loss of the second "
        "phase; the short first phase and the weak loss on all tokens of random sequences do not leave them out"
    },
    limits=(f"texts longer than {CONTEXT - 1} words", "anything but repeated words: it knows no language"),
    source="task: Olsson et al. 2022, arXiv:2209.11895",
)
