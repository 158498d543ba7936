"""`needle-base`, `needle-other`, `needle`: Llama-shaped models of 48 heads that copy needles and know facts by heart.

Texts are those of `kv` (fillers, needles ``key value ...``, questions ``Q key value ...``) with questions about facts
beside them: ``F subject value value``, where the values are the same in every text and stand nowhere in it. Needles
and facts are answered with the same words, so a head that matters to one and not to the other is no output head.

`needle-base` knows texts up to 128 tokens, `needle-other` is the same from another seed, and `needle` is
`needle-base` trained on for longer texts, as long-context models are made from shorter ones.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from workbench.model.builtin import ZOO
from workbench.tasks.draw import Draw
from workbench.tasks.registry import make_pairs
from workbench.tasks.words import COLORS, FUNCTIONS, TWO_DIGITS
from workbench.training.first_phase import learn_to_copy
from workbench.training.loop import Fit
from workbench.training.pools import answer_accuracy
from workbench.training.recipe import CardNumber, Trained, TrainingRecipe
from workbench.training.retrieval import GOOD, RetrievalTexts, learn_to_retrieve, words
from workbench.training.vocabulary import BOS, EOS, PAD, word_tokenizer

LAYERS, HEADS, D_HEAD = 4, 12, 16
CONTEXT = 512
SHORT, LONG = (48, 128), (128, 256, 512)
VERY_GOOD = 0.98
TOKENS = 2048  # of a step, while the context grows
STEPS = 1000  # at most, for each context
FACT = "F"
SUBJECTS = tuple(sorted({*COLORS, *FUNCTIONS}))
VALUES = 2  # of every fact
ASKED = 2  # facts in one text


def facts() -> dict[str, tuple[str, ...]]:
    """Say what is true in every text: each subject's two numbers."""
    draw = Draw("needle-facts")
    return {subject: tuple(draw.sample(TWO_DIGITS, VALUES)) for subject in SUBJECTS}


def fact_prompts() -> list[tuple[str, tuple[str, ...]]]:
    """Return ``F subject`` and the answer, for every subject."""
    return [(f"{FACT} {subject}", values) for subject, values in facts().items()]


def build(seed: int, n_words: int) -> LlamaForCausalLM:
    """Return the untrained model: 48 heads, so that a twentieth of them is more than one."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=n_words,
        hidden_size=72,
        intermediate_size=144,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        head_dim=D_HEAD,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )
    return LlamaForCausalLM(config)


class FactTexts:
    """Texts of `kv` with questions about facts before or after the questions about needles."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.texts = RetrievalTexts(tokenizer)
        known = facts()
        rows = [[FACT, subject, *known[subject]] for subject in SUBJECTS]
        self.rows = np.array([tokenizer.convert_tokens_to_ids(row) for row in rows])

    def draw(
        self, rng: np.random.Generator, *, n: int, context: int
    ) -> tuple[Int[Tensor, "text pos"], Bool[Tensor, "text step"]]:
        """Return texts of ``context`` tokens and, for each next-token prediction, whether it is an answer."""
        size = ASKED * self.rows.shape[1]
        ids, answer = self.texts.draw(rng, n=n, context=context - size)
        asked = self.rows[rng.integers(0, len(self.rows), (n, ASKED))].reshape(n, size)
        is_fact = np.tile(np.arange(self.rows.shape[1]) >= 2, ASKED)[None].repeat(n, 0)
        questions = int((ids[0] == self.texts.query).nonzero()[0, 0])
        at = questions if rng.random() < 0.5 else ids.shape[1]
        marked = np.concatenate([np.zeros((n, 1), dtype=bool), answer.numpy()], axis=1)
        longer = np.insert(ids.numpy(), [at] * size, asked, axis=1)
        marked = np.insert(marked, [at] * size, is_fact, axis=1)
        return torch.from_numpy(longer), torch.from_numpy(marked[:, 1:])


def _tokenizer() -> PreTrainedTokenizerFast:
    return word_tokenizer(sorted({*words(), *SUBJECTS, FACT}))


def _learn(
    model: LlamaForCausalLM,
    *,
    contexts: tuple[int, ...],
    last: int,
    seed: int,
    steps: int,
    scratch: Path | None,
    rate: float = 0.01,
    until: float | None = None,
) -> dict[str, Fit]:
    """Every context length until it is good, then ``last`` steps of all, or ``until`` they are, at a falling rate."""
    texts = FactTexts(_tokenizer())

    def saved(name: object) -> Path | None:
        return None if scratch is None else scratch / f"needle-{seed}-{contexts[-1]}-{name}.pt"

    phases = {}
    for context in contexts:
        phases[f"context {context}"] = learn_to_retrieve(
            model,
            texts,
            contexts=(context,),
            seed=seed,
            steps=steps,
            until=GOOD,
            rate=rate,
            tokens=max(TOKENS, 4 * context),
            checkpoint=saved(context),
        )
    phases["all lengths"] = learn_to_retrieve(
        model,
        texts,
        contexts=contexts,
        seed=seed,
        steps=last,
        until=until,
        rate=rate,
        decay=0.8,
        checkpoint=saved("all"),
    )
    return phases


def train_base(
    seed: int,
    scratch: Path | None = None,
    *,
    contexts: tuple[int, ...] = SHORT,
    steps: int = STEPS,
    last: int = 300,
    until: float | None = None,
) -> Trained:
    """From random weights: repeated words until the model copies, then short texts."""
    tokenizer = _tokenizer()
    model = build(seed, len(tokenizer))
    # No numbers: combinations of key and value that are held out must not stand side by side by chance.
    copied = np.array(tokenizer.convert_tokens_to_ids(sorted({*words(), *SUBJECTS} - {*TWO_DIGITS})))
    first = learn_to_copy(
        model,
        copied,
        seed=seed,
        steps=steps,
        until=GOOD,
        checkpoint=None if scratch is None else scratch / f"needle-{seed}-copies.pt",
    )
    phases = {"repeated words": first}
    phases |= _learn(
        model, contexts=contexts, last=last, seed=seed, steps=steps, scratch=scratch, until=until
    )
    return Trained(tokenizer=tokenizer, phases=phases, model=model)


def train_longer(
    seed: int,
    scratch: Path | None = None,
    *,
    contexts: tuple[int, ...] = LONG,
    steps: int = 200,
    last: int = 200,
    base: Path = ZOO / "needle-base",
) -> Trained:
    """From the base model, on longer texts."""
    model = LlamaForCausalLM.from_pretrained(base)
    phases = _learn(
        model,
        contexts=contexts,
        last=last,
        seed=seed + 100,
        steps=steps,
        scratch=scratch,
        rate=0.005,
        until=VERY_GOOD,
    )
    return Trained(tokenizer=_tokenizer(), phases=phases, model=model)


def _measure(model: TransformerBridge, contexts: tuple[int, ...]) -> list[CardNumber]:
    """Needles of two values at each length, the second one last; facts without and with a text before them."""
    found = []
    for context in contexts:
        n = 60 if context <= 128 else 30
        for given in (0, 1):
            pairs = make_pairs(
                "kv-retrieval", n=n, seed=1, split="test", context=context, values=2, given=given, needles=4
            )
            accuracy = answer_accuracy(model, pairs, model.tokenizer)
            name = f"retrieval, 4 keys, {context} words, value {given + 1} of 2"
            found.append(CardNumber(name=name, value=accuracy, n=n, needs=0.9))
    found.append(
        CardNumber(name="facts, no text before", value=fact_accuracy(model), n=len(SUBJECTS), needs=0.9)
    )
    return found


@torch.no_grad()
def fact_accuracy(model: TransformerBridge) -> float:
    """Return the share of facts whose both values are the model's first choices."""
    tokenizer, right = model.tokenizer, []
    for prompt, values in fact_prompts():
        row = [BOS, *tokenizer.convert_tokens_to_ids([*prompt.split(), *values])]
        chosen = model(torch.tensor([row]))[0].argmax(-1).tolist()
        right.append(chosen[-VALUES - 1 : -1] == row[-VALUES:])
    return float(np.mean(right))


def measure_base(model: TransformerBridge) -> list[CardNumber]:
    """At the lengths it was trained on."""
    return _measure(model, (48, 120))


def measure_longer(model: TransformerBridge) -> list[CardNumber]:
    """At all lengths up to its longest."""
    return _measure(model, (48, 120, 250, 500))


_WHAT = (
    "Llama shape: RMSNorm, rotary positions, gated MLP, 12 heads of 16 dimensions, 4 layers. Copies the values that "
    "stood after a name, and knows twenty facts that no text tells it."
)
_HELD_OUT = {"retrieval": "a tenth of all combinations of key and first value never occurs in training"}
_SOURCE = "task: Wu et al. 2024, arXiv:2404.15574, reduced to keys and values"
_LIMIT = "free text: it knows names, two-digit numbers, fillers and twenty facts"

BASE = TrainingRecipe(
    name="needle-base",
    title="copies needles from texts of up to 128 words, and knows facts; 48 heads",
    what=_WHAT,
    train=train_base,
    measure=measure_base,
    held_out=_HELD_OUT,
    limits=("texts over 127 tokens", _LIMIT),
    source=_SOURCE,
)
OTHER = TrainingRecipe(
    name="needle-other",
    title="the same as needle-base from another seed",
    what=_WHAT,
    train=partial(train_base, until=VERY_GOOD),
    measure=measure_base,
    held_out=_HELD_OUT,
    limits=("texts over 127 tokens", _LIMIT),
    source=_SOURCE,
    seed=1,
)
LONGER = TrainingRecipe(
    name="needle",
    title="needle-base, trained on for texts of up to 512 words",
    what=_WHAT,
    train=train_longer,
    measure=measure_longer,
    held_out=_HELD_OUT,
    limits=(f"texts over {CONTEXT - 1} tokens", _LIMIT),
    source=_SOURCE,
)
