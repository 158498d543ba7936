"""`icl`: a small Llama that learns a task from the examples in its prompt: ``c -> cat ; k -> koala ; x ->``.

Every text shows one task of `workbench/tasks/mappings.py`; every answer carries loss, the first one too, which can
only be guessed: so the model knows all rules, and which one is meant only from the examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformer_lens.model_bridge import TransformerBridge
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from workbench.tasks.mappings import (
    ARROW,
    END,
    KINDS,
    MAPPINGS,
    PICKED,
    SIZE,
    WORDS,
    MappingTask,
    Shots,
    draw_shots,
)
from workbench.training.loop import fit
from workbench.training.pools import token_rows
from workbench.training.recipe import CardNumber, Trained, TrainingRecipe
from workbench.training.schedule import mixed_optimisers
from workbench.training.vocabulary import BOS, EOS, PAD, word_tokenizer

CONTEXT = 64
D_MODEL, LAYERS, HEADS = 64, 4, 8
STEPS = 800
TEXTS = 48  # texts in a step
SHARE_OF_THREES = 0.25  # of the texts
SHOTS = {"word": 8, "three": 5}  # examples before the question; texts of both kinds have one length


def build(seed: int, n_words: int) -> LlamaForCausalLM:
    """Return the untrained model."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=n_words,
        hidden_size=D_MODEL,
        intermediate_size=3 * D_MODEL,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )
    return LlamaForCausalLM(config)


def kind_of(task: MappingTask) -> str:
    """Return ``three`` or ``word``: how long its inputs are."""
    return "three" if task.inputs == "three" else "word"


class FewShotTexts:
    """Draws training texts as token ids, quickly."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        def ids(words):
            return np.array(tokenizer.convert_tokens_to_ids(list(words)))

        self.arrow, self.end = ids([ARROW, END]).tolist()
        words = [task for task in MAPPINGS.values() if task.inputs != "three"]
        self.given = np.stack([ids(KINDS[task.inputs]) for task in words])  # (task, word)
        self.answers = np.stack([ids(KINDS[task.gives]) for task in words])
        self.trainable = np.array([[not task.held_out(w) for w in KINDS[task.inputs]] for task in words])
        self.picked = np.stack([ids(KINDS[kind]) for kind in PICKED])  # (kind, word)

    def words(self, rng: np.random.Generator, n: int) -> Int[Tensor, "text pos"]:
        """Return texts of the tasks with one-word inputs, all inputs of a text different, no held-out pair."""
        task = rng.integers(0, len(self.given), n)[:, None]
        order = np.where(self.trainable[task[:, 0]], rng.random((n, SIZE)), 2.0)
        drawn = order.argsort(1)[:, : SHOTS["word"] + 1]
        return self._texts(self.given[task, drawn][:, :, None], self.answers[task, drawn])

    def threes(self, rng: np.random.Generator, n: int) -> Int[Tensor, "text pos"]:
        """Return texts of the tasks that take one of three words."""
        k = SHOTS["three"] + 1
        order = rng.random((n, k, 3)).argsort(2)  # which kind stands where
        drawn = self.picked[order, rng.integers(0, SIZE, (n, k, 3))]
        task = rng.integers(0, len(PICKED), n)
        return self._texts(drawn, drawn[order == task[:, None, None]].reshape(n, k))

    def _texts(self, given: np.ndarray, answers: np.ndarray) -> Int[Tensor, "text pos"]:
        """``<bos>``, then ``given -> answer ;`` for every pair."""
        n, k, _ = given.shape
        arrow, end = np.full((n, k, 1), self.arrow), np.full((n, k, 1), self.end)
        pairs = np.concatenate([given, arrow, answers[:, :, None], end], axis=2)
        return torch.from_numpy(np.concatenate([np.full((n, 1), BOS), pairs.reshape(n, -1)], axis=1))


def train(seed: int, scratch: Path | None = None, *, steps: int = STEPS, texts: int = TEXTS) -> Trained:
    """Return all tasks at once."""
    tokenizer = word_tokenizer(WORDS)
    model = build(seed, len(tokenizer))
    drawn, threes = FewShotTexts(tokenizer), int(SHARE_OF_THREES * texts)
    recent: list[tuple[float, float]] = [(0.0, 0.0)]

    def loss_of_step(step: int) -> Tensor:
        rng = np.random.default_rng([seed, step])
        ids = torch.cat([drawn.words(rng, texts - threes), drawn.threes(rng, threes)])
        mask, wanted = ids[:, :-1] == drawn.arrow, ids[:, 1:]
        logits = model(ids).logits[:, :-1]
        right = (logits.argmax(-1) == wanted)[:, -2]  # the last answer of each text
        recent.append((right[:-threes].float().mean().item(), right[-threes:].float().mean().item()))
        return cross_entropy(logits[mask], wanted[mask])

    phase = fit(
        model,
        loss_of_step,
        optimisers=mixed_optimisers(model, lr=0.02, outer_lr=4e-3),
        steps=steps,
        warmup=50,
        decay=0.5,
        every=50,
        watch=lambda step: "words {:.3f}, threes {:.3f}".format(*np.mean(recent[-50:], axis=0)),
        checkpoint=None if scratch is None else scratch / "icl.pt",
    )
    return Trained(tokenizer=tokenizer, phases={"all tasks": phase}, model=model)


@torch.no_grad()
def accuracy(model: TransformerBridge, prompts: Sequence[str], answers: Sequence[str]) -> float:
    """Return the share of prompts after which the right answer is the most likely of all tokens; all of one length."""
    ids = torch.tensor([[BOS, *row] for row in token_rows(prompts, model.tokenizer)])
    wanted = torch.tensor(model.tokenizer.convert_tokens_to_ids(list(answers)))
    return (model(ids)[:, -1].argmax(-1) == wanted).float().mean().item()


def measure(model: TransformerBridge) -> list[CardNumber]:
    """Accuracy with examples and without, over all tasks and for some, on held-out pairs and on trained ones."""
    found: list[CardNumber] = []
    words = [task for task in MAPPINGS.values() if task.inputs != "three"]
    for held_out, needs in ((True, 0.9), (False, 0.95)):
        which = "held-out pairs" if held_out else "trained pairs"
        for k in (8, 4, 2, 1, 0):
            prompts = [shot for task in words for shot in _asked(task, 8, shots=k, held_out=held_out)]
            found.append(
                _measured(model, f"49 tasks, {which}, {k} examples", prompts, needs if k == 8 else None)
            )
    for name in (name for name, task in MAPPINGS.items() if task.inputs == "three"):
        for k in (SHOTS["three"], 0):
            drawn = draw_shots(name, 200, shots=k, seed=1)
            found.append(_measured(model, f"{name}, {k} examples", drawn, 0.95 if k else None))
    return found


def _asked(task: MappingTask, n: int, *, shots: int, held_out: bool) -> tuple[Shots, ...]:
    places = [i for i, word in enumerate(KINDS[task.inputs]) if task.held_out(word) == held_out]
    return draw_shots(task.name, n, shots=shots, seed=1, places=places)


def _measured(
    model: TransformerBridge, name: str, prompts: Sequence[Shots], needs: float | None
) -> CardNumber:
    value = accuracy(model, [p.text for p in prompts], [p.answer for p in prompts])
    return CardNumber(name=name, value=value, n=len(prompts), needs=needs)


RECIPE = TrainingRecipe(
    name="icl",
    title="learns a task from the examples in its prompt",
    what="Llama shape: RMSNorm, rotary positions, gated MLP, 8 heads in each of 4 layers. Knows 52 rules on seven "
    "kinds of words; which one is meant it can only tell from the examples: c -> cat ; k -> koala ; x ->",
    train=train,
    measure=measure,
    held_out={
        "pairs": "a thirteenth of the pairs of input and answer of each one-word task is in no training text, neither "
        "asked nor shown",
        "picking": "nothing but the combinations, which are drawn anew each time",
    },
    limits=(
        "rules it was not trained on: it chooses among those it knows",
        f"prompts over {CONTEXT - 1} words, or more than {SHOTS['word']} examples",
    ),
    source="kind of task: Todd et al. 2024, arXiv:2310.15213; Hendel et al. 2023, arXiv:2310.15916",
)
