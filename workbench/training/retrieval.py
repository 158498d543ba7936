"""`kv`: a Llama-shaped model (rotary, two query heads to a key head) that finds values of keys in long texts.

Fillers with needles ``key value ...`` and questions ``Q key value ...`` at the end, loss on the values of the
questions only; the context starts at 32 and doubles whenever the accuracy is good, and at last all lengths are mixed.
Keys, values and fillers are the task's, and so are the combinations never trained.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformer_lens.model_bridge import TransformerBridge
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from workbench.tasks.draw import PIECES, allowed
from workbench.tasks.kv_retrieval import FILLER, QUERY
from workbench.tasks.registry import get_task, make_pairs
from workbench.tasks.words import NAMES, TWO_DIGITS
from workbench.training.loop import Fit, fit
from workbench.training.pools import answer_accuracy
from workbench.training.recipe import CardNumber, Trained, TrainingRecipe
from workbench.training.schedule import mixed_optimisers
from workbench.training.vocabulary import BOS, EOS, PAD, word_tokenizer

CONTEXT = 1024
CONTEXTS = (32, 64, 128, 256, 512, 1024)
TOKENS_PER_STEP = 2048
GOOD = 0.9  # accuracy from which the context doubles
STEPS = 800  # at most, for each context
QUESTIONS = 6


def build(seed: int, n_words: int) -> LlamaForCausalLM:
    """Return the untrained model."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=n_words,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )
    return LlamaForCausalLM(config)


class RetrievalTexts:
    """Draws training texts as token ids, quickly."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        def ids(words):
            return np.array(tokenizer.convert_tokens_to_ids(list(words)))

        self.keys, self.values, self.fillers = ids(NAMES), ids(TWO_DIGITS), ids(FILLER)
        self.query = int(ids([QUERY])[0])
        self.trainable = np.array(
            [[allowed("train", key, f"-{value}") for value in TWO_DIGITS] for key in NAMES]
        )

    def draw(
        self, rng: np.random.Generator, *, n: int, context: int
    ) -> tuple[Int[Tensor, "text pos"], Bool[Tensor, "text step"]]:
        """Return texts of ``context`` tokens and, for each next-token prediction, whether it is an answer.

        One step's texts share the number of needles and of values for each.
        """
        size = int(rng.integers(1, 4)) if context >= 64 else 1
        needles = int(rng.integers(2, 3 + min(9, (context - 8) // (4 * (1 + size)))))
        questions = min(needles, QUESTIONS)
        tail = questions * (2 + size)
        body = context - 1 - tail
        ids = np.full((n, context), BOS)
        answer = np.zeros((n, context), dtype=bool)
        table = self._tables(rng, n=n, needles=needles, size=size)
        ids[:, 1 : 1 + body] = self.fillers[rng.integers(0, len(self.fillers), (n, body))]
        gaps = np.sort(rng.integers(0, body - needles * (1 + size) + 1, (n, needles)), axis=1)
        rows = np.arange(n)[:, None]
        starts = (
            1 + gaps + np.arange(needles)[None, :] * (1 + size)
        )  # the earlier needles push the later ones on
        for offset in range(1 + size):
            ids[rows, starts + offset] = table[:, :, offset]
        asked = table[rows, rng.random((n, needles)).argsort(1)[:, :questions]]
        ends = 1 + body + np.arange(questions)[None, :] * (2 + size)
        ids[:, ends[0]] = self.query
        for offset in range(1 + size):
            ids[:, ends[0] + 1 + offset] = asked[:, :, offset]
            answer[:, ends[0] + 1 + offset] = offset > 0
        return torch.from_numpy(ids), torch.from_numpy(answer[:, 1:])

    def _tables(self, rng: np.random.Generator, *, n: int, needles: int, size: int) -> np.ndarray:
        """Keys and their values (text, needle, 1 + size), all different in one text.

        The first value of each key is a combination that may be trained; texts where one is not are drawn anew.
        """
        keys = np.zeros((n, needles), dtype=np.int64)
        values = np.zeros((n, needles, size), dtype=np.int64)
        left = np.arange(n)
        while len(left):
            keys[left] = rng.random((len(left), len(self.keys))).argsort(1)[:, :needles]
            drawn = rng.random((len(left), len(self.values))).argsort(1)[:, : needles * size]
            values[left] = drawn.reshape(len(left), needles, size)
            left = left[~self.trainable[keys[left], values[left, :, 0]].all(1)]
        return np.concatenate([self.keys[keys][:, :, None], self.values[values]], axis=2)


class TextSource(Protocol):
    """Draws training texts, and says which next-token predictions are answers."""

    def draw(
        self, rng: np.random.Generator, *, n: int, context: int
    ) -> tuple[Int[Tensor, "text pos"], Bool[Tensor, "text step"]]: ...


def learn_to_retrieve(
    model: LlamaForCausalLM,
    texts: TextSource,
    *,
    contexts: tuple[int, ...],
    seed: int,
    steps: int,
    until: float | None,
    rate: float = 0.01,
    decay: float = 0.0,
    tokens: int = TOKENS_PER_STEP,
    checkpoint: Path | None = None,
) -> Fit:
    """Train on texts of the lengths given, one length a step, until the accuracy is good or for all steps."""
    recent: list[float] = []

    def loss_of_step(step: int) -> Tensor:
        rng = np.random.default_rng([seed, contexts[-1], step, *contexts[:-1]])
        context = contexts[0] if len(contexts) == 1 else int(rng.choice(contexts))
        ids, answer = texts.draw(rng, n=max(4, tokens // context), context=context)
        # Answers stand near the end: the unembedding is spared the rest.
        first = int(answer.any(0).nonzero()[0, 0])
        logits = model(ids, logits_to_keep=context - first).logits[:, :-1]
        wanted, mask = ids[:, first + 1 :], answer[:, first:]
        recent.append((logits.argmax(-1) == wanted)[mask].float().mean().item())
        return cross_entropy(logits[mask], wanted[mask])

    def mean() -> float:
        return float(np.mean(recent[-25:]))

    return fit(
        model,
        loss_of_step,
        optimisers=mixed_optimisers(model, lr=rate, outer_lr=rate / 5),
        steps=steps,
        warmup=20,
        decay=decay,
        every=25,
        watch=lambda step: f"context {contexts[-1]}: retrieves {mean():.3f}",
        stop=None if until is None else lambda step: mean() >= until,
        checkpoint=checkpoint,
        checkpoint_every=50,
    )


def words() -> list[str]:
    """Return all words of the task, sorted."""
    return sorted({piece for text in get_task("kv-retrieval").texts for piece in PIECES.findall(text)})


def train(
    seed: int, scratch: Path | None = None, *, contexts: tuple[int, ...] = CONTEXTS, steps: int = STEPS
) -> Trained:
    """Return every context length in turn."""
    tokenizer = word_tokenizer(words())
    model = build(seed, len(tokenizer))

    def saved(name: str) -> Path | None:
        return None if scratch is None else scratch / f"kv-{name}.pt"

    phases: dict[str, Fit] = {}
    texts = RetrievalTexts(tokenizer)
    for context in contexts:
        longest = context == contexts[-1]
        phases[f"context {context}"] = learn_to_retrieve(
            model,
            texts,
            contexts=(context,),
            seed=seed,
            steps=max(1, steps // 2) if longest else steps,
            until=None if longest else GOOD,
            decay=0.5 if longest else 0.0,
            checkpoint=saved(str(context)),
        )
    phases["all lengths"] = learn_to_retrieve(
        model,
        texts,
        contexts=contexts,
        seed=seed,
        steps=max(1, steps // 2),
        until=None,
        decay=0.8,
        tokens=2 * TOKENS_PER_STEP,
        checkpoint=saved("all"),
    )
    return Trained(tokenizer=tokenizer, phases=phases, model=model)


def measure(model: TransformerBridge) -> list[CardNumber]:
    """Accuracy on held-out combinations at several lengths, with one value and with three."""
    found = []
    cases = [
        (48, 1, 0, 200),
        (128, 1, 0, 100),
        (512, 1, 0, 50),
        (1000, 1, 0, 30),
        (256, 3, 0, 50),
        (256, 3, 2, 50),
    ]
    for context, values, given, n in cases:
        pairs = make_pairs(
            "kv-retrieval", n=n, seed=1, split="test", context=context, values=values, given=given
        )
        accuracy = answer_accuracy(model, pairs, model.tokenizer)
        what = "" if values == 1 else f", value {given + 1} of {values}"
        found.append(
            CardNumber(name=f"retrieval, 6 keys, {context} words{what}", value=accuracy, n=n, needs=0.95)
        )
    return found


RECIPE = TrainingRecipe(
    name="kv",
    title="finds values of keys in texts of up to 1,000 words",
    what="Llama shape: RMSNorm, rotary positions, gated MLP, 4 query heads on 2 key-value heads, 3 layers. Retrieves "
    "what stood after a name, far back among fillers.",
    train=train,
    measure=measure,
    held_out={"retrieval": "a tenth of all combinations of key and first value never occurs in training"},
    limits=(f"texts over {CONTEXT - 1} words", "free text: it knows names, two-digit numbers and fillers"),
    source="task: Wu et al. 2024, arXiv:2404.15574, reduced to keys and values",
)
