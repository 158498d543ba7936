"""`ioi`: a small GPT-2-shaped model that does IOI, Colored Objects, greater-than and the other short tasks.

Induction heads come first, alone: random words repeated, a part of the vocabulary, then all of it. Then the mixture
of tasks, train split only, with a new warm-up. Answers weigh far more than the unpredictable words around them.
Of Colored Objects there are scenes of one, two and three objects, with and without an answered example.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from workbench.tasks.pairs import Pairs
from workbench.tasks.registry import make_pairs
from workbench.tasks.words import vocabulary
from workbench.training.drills import argument_lists, lookups
from workbench.training.loop import Fit, fit
from workbench.training.pools import Pool, answer_accuracy, join, shifted_positions, task_pool, weighted_loss
from workbench.training.recipe import Measured, Recipe, Trained
from workbench.training.repeats import copying_accuracy, copying_loss, repeated
from workbench.training.schedule import mixed_optimisers
from workbench.training.vocabulary import BOS, EOS, N_SPECIAL, PAD, word_tokenizer

CONTEXT = 96
D_MODEL, LAYERS, HEADS = 64, 4, 4
STEPS = 3000
TEXT = 0.1  # weight of a prompt's own words against its answer
SHIFTED = 0.6  # share of prompts that stand somewhere else in the context than at its beginning


@dataclass(frozen=True, kw_only=True)
class Part:
    """A task in the mixture: how many prompts of it a step draws, and with which options."""

    task: str
    share: int
    size: int = 8000
    corruption: str | None = None
    corrupted: bool = False
    options: tuple[tuple[str, str | int | bool], ...] = ()

    def pool(self, tokenizer: PreTrainedTokenizerFast, *, seed: int, n: int | None = None) -> Pool:
        """Its prompts; ``n`` overrides how many."""
        n = n or self.size
        if self.task == "lookups":
            return lookups(tokenizer, vocabulary(), n=n, seed=seed)
        if self.task == "argument-lists":
            return argument_lists(tokenizer, n=n, seed=seed)
        options = {"corruption": self.corruption, "corrupted": self.corrupted, **dict(self.options)}
        return task_pool(self.task, tokenizer, n=n, seed=seed, **options)


GROUPS = (  # by length, so that little is padded
    (
        Part(task="ioi", share=16, size=30_000),
        Part(task="ioi", share=2, corruption="abc", corrupted=True),
        Part(task="greater-than", share=6, options=(("style", "spaced"),)),
        Part(task="gendered-pronoun", share=4),
        Part(task="sva", share=4),
        Part(task="induction", share=6, size=20_000),
    ),
    (
        Part(task="colored-objects", share=3, corruption="colors", options=(("n_objects", 1), ("shots", 0))),
        Part(task="colored-objects", share=6, size=20_000, options=(("n_objects", 2), ("shots", 0))),
        Part(task="colored-objects", share=9, size=30_000, options=(("n_objects", 3), ("shots", 0))),
        Part(task="lookups", share=8, size=20_000),
        Part(task="docstring", share=5, size=20_000),
        Part(task="docstring", share=1, corruption="random", corrupted=True),
        Part(task="argument-lists", share=6, size=20_000),
    ),
    (
        Part(task="colored-objects", share=2, size=20_000, options=(("n_objects", 2), ("shots", 1))),
        Part(task="colored-objects", share=6, size=30_000),
    ),
)


def build(seed: int, n_words: int) -> GPT2LMHeadModel:
    """The untrained model."""
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=n_words,
        n_positions=CONTEXT,
        n_embd=D_MODEL,
        n_layer=LAYERS,
        n_head=HEADS,
        activation_function="relu",
        tie_word_embeddings=False,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )
    return GPT2LMHeadModel(config)


def learn_to_copy(
    model: GPT2LMHeadModel,
    tokens: np.ndarray,
    *,
    seed: int,
    steps: int,
    until: float,
    checkpoint: Path | None = None,
) -> Fit:
    """Train on repeated random words until the copying accuracy reaches ``until``."""

    def accuracy() -> float:
        return copying_accuracy(
            lambda ids: model(ids).logits, tokens, n=64, length=47, periods=(6, 24), seed=seed
        )

    def loss_of_step(step: int) -> Tensor:
        rng = np.random.default_rng([seed, len(tokens), step])
        ids, known = repeated(rng, tokens, n=64, length=47, periods=(6, 24))
        return copying_loss(model(ids).logits, ids, known)

    return fit(
        model, loss_of_step, optimisers=mixed_optimisers(model), steps=steps, warmup=50, decay=0.0, every=25,
        watch=lambda step: f"copies {accuracy():.3f}", stop=lambda step: accuracy() >= until, checkpoint=checkpoint,
    )  # fmt: skip


def learn_tasks(
    model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, *, seed: int, steps: int = STEPS, watch=None,
    checkpoint: Path | None = None, small: int | None = None,
) -> Fit:  # fmt: skip
    """Train on the mixture. ``small`` shrinks every pool, for tests."""
    groups = [
        [
            (part.share, part.pool(tokenizer, seed=seed + 100 * index, n=small))
            for index, part in enumerate(parts)
        ]
        for parts in GROUPS
    ]

    def loss_of_step(step: int) -> Tensor:
        rng = np.random.default_rng([seed, 7, step])
        losses = []
        for group in groups:
            batch = join([pool.draw(rng, share) for share, pool in group])
            places = shifted_positions(batch.ids, rng, context=CONTEXT, share=SHIFTED)
            logits = model(batch.ids, position_ids=places).logits
            losses.append(len(batch.ids) * weighted_loss(logits, batch, text=TEXT))
        return sum(losses) / sum(share for group in groups for share, _ in group)

    return fit(
        model, loss_of_step, optimisers=mixed_optimisers(model), steps=steps, warmup=100, decay=0.4, every=100,
        watch=watch, checkpoint=checkpoint,
    )  # fmt: skip


def train(seed: int, scratch: Path | None = None, *, steps: int = STEPS, small: int | None = None) -> Trained:
    """Copying a part of the vocabulary, copying all of it, then the tasks."""
    words = vocabulary()
    tokenizer = word_tokenizer(words)
    model = build(seed, N_SPECIAL + len(words))
    everything = np.arange(N_SPECIAL, N_SPECIAL + len(words))
    part = np.random.default_rng(seed).permutation(everything)[:130]
    phases = {
        "copying 130 words": learn_to_copy(
            model, part, seed=seed, steps=steps, until=0.5, checkpoint=_in(scratch, "ioi-copy-130.pt")
        ),
        "copying all words": learn_to_copy(
            model, everything, seed=seed, steps=steps, until=0.8, checkpoint=_in(scratch, "ioi-copy-all.pt")
        ),
        "tasks": learn_tasks(
            model,
            tokenizer,
            seed=seed,
            steps=steps,
            small=small,
            checkpoint=_in(scratch, "ioi-tasks.pt"),
            watch=_validation(model, tokenizer),
        ),
    }
    return Trained(tokenizer=tokenizer, phases=phases, model=model)


def _in(scratch: Path | None, name: str) -> Path | None:
    return None if scratch is None else scratch / name


def _validation(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast):
    """Accuracy on the validation split every 300 steps, for the eye only."""
    tests = {
        name: make_pairs(task, n=100, seed=2, split="validation", distinct=False, **options)
        for name, task, options, _ in TESTS
    }

    def told(step: int) -> str:
        if step % 300 != 299:
            return ""
        return ", ".join(
            f"{name} {answer_accuracy(lambda ids: model(ids).logits, pairs, tokenizer):.2f}"
            for name, pairs in tests.items()
        )

    return told


TESTS: tuple[tuple[str, str, dict[str, str | int | bool], float], ...] = (
    ("IOI", "ioi", {}, 0.98),
    ("greater-than", "greater-than", {"style": "spaced"}, 0.95),
    ("docstring", "docstring", {}, 0.9),
    ("gendered pronoun", "gendered-pronoun", {}, 0.9),
    ("subject-verb agreement", "sva", {}, 0.95),
    ("induction, period 10", "induction", {}, 0.9),
    (
        "Colored Objects, 1 object, no example",
        "colored-objects",
        {"n_objects": 1, "shots": 0, "corruption": "colors"},
        0.9,
    ),
    ("Colored Objects, 2 objects, no example", "colored-objects", {"n_objects": 2, "shots": 0}, 0.9),
    ("Colored Objects, 3 objects, no example", "colored-objects", {"n_objects": 3, "shots": 0}, 0.9),
    ("Colored Objects, 3 objects, one example", "colored-objects", {"n_objects": 3, "shots": 1}, 0.9),
)


def measure(model: TransformerBridge) -> list[Measured]:
    """Accuracy of every task on held-out combinations in held-out templates, the whole vocabulary competing."""
    found = []
    for name, task, options, needs in TESTS:
        pairs = make_pairs(task, n=400, seed=1, split="test", distinct=False, **options)
        accuracy = answer_accuracy(model, pairs, model.tokenizer)
        found.append(Measured(name=name, value=accuracy, n=len(pairs), needs=needs))
        if task == "ioi":
            found.append(ioi_difference(model, pairs))
    return found


@torch.no_grad()
def ioi_difference(model: TransformerBridge, pairs: Pairs) -> Measured:
    """Mean logit of the receiver minus the subject at the end of the prompt."""
    ids = model.tokenizer.convert_tokens_to_ids
    total = 0.0
    for pair in pairs:
        prompt = model.tokenizer(pair.clean, add_special_tokens=False)["input_ids"]
        logits = model(torch.tensor([[BOS, *prompt]]))[0, -1]
        total += (logits[ids(pair.correct[0].strip())] - logits[ids(pair.incorrect[0].strip())]).item()
    return Measured(name="IOI logit difference", value=total / len(pairs), n=len(pairs), unit="logits")


RECIPE = Recipe(
    name="ioi",
    title="a small GPT-2 for IOI and the other short tasks",
    what="GPT-2 shape with MLPs, whole words as tokens. Finds indirect objects and does greater-than, agreement and more.",
    train=train,
    measure=measure,
    held_out={
        "names": "a tenth of the unordered pairs of names never occurs in training; the test prompts use only these",
        "templates": "the test prompts' templates never occur in training",
        "other tasks": "likewise: combinations and templates of the test split of each task are unseen",
    },
    limits=(
        "free text: it knows a few hundred words and the tasks' sentences",
        f"prompts over {CONTEXT - 1} words",
    ),
    source="IOI: Wang et al. 2023, arXiv:2211.00593; the other tasks name theirs",
)
