"""Prompts with needles for a model: the key-value task where the model knows its words, random tokens elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from workbench.core.errors import OptionError, TaskError
from workbench.edits.masked_heads import Asked, Masking
from workbench.heads.retrieval import (
    ANSWERED,
    Count,
    Needle,
    RetrievalScores,
    random_needles,
    retrieval_scores,
)
from workbench.model.architecture import describe
from workbench.tasks.pairs import Pair
from workbench.tasks.registry import get_task, make_pairs
from workbench.tasks.words import TWO_DIGITS
from workbench.training.needles import FACT, fact_prompts

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

TASK = "kv-retrieval"


def knows_task(model: TransformerBridge) -> bool:
    """Say whether every word of the key-value task is one token of the model's tokenizer."""
    return _knows(model, get_task(TASK).texts)


def _knows(model: TransformerBridge, words: Sequence[str]) -> bool:
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None or not len(tokenizer):
        return False
    known = tokenizer.get_vocab()
    return all(word in known for word in words)


def number_words(model: TransformerBridge) -> frozenset[int]:
    """Return ids of the numbers that are the task's values; none where the model does not know the task."""
    return frozenset(model.tokenizer.convert_tokens_to_ids(list(TWO_DIGITS)) if knows_task(model) else ())


def longest(model: TransformerBridge, values: int) -> int:
    """Return words of the longest prompt that leaves room for BOS and the answer."""
    context = describe(model).n_ctx or 512
    return context - values - 1


def needles(
    model: TransformerBridge,
    *,
    n: int,
    context: int,
    depth: int = -1,
    values: int = 3,
    keys: int = 2,
    split: str = "test",
    seed: int = 0,
) -> tuple[Needle, ...]:
    """Return ``n`` prompts of ``context`` words (tokens of random text where the model does not know the task).

    Args:
        depth: Where the needle stands, 0 to 100; -1 anywhere. Random text is anywhere.
        values: Tokens of the needle.
        keys: Needles in a text; one of them is asked for.
        split: Combinations of key and first value that the built-in models were trained on, or not.
    """
    if not knows_task(model):
        return random_needles(model, n=n, length=context, size=values, seed=seed)
    pairs = make_pairs(
        TASK, n=n, seed=seed, split=split, context=context, depth=depth, values=values, needles=keys
    )
    return tuple(_needle(model, pair, values, context, depth) for pair in pairs.items)


def contexts_within(model: TransformerBridge, contexts: Sequence[int], *, values: int = 3) -> tuple[int, ...]:
    """Return the contexts that fit the model, in words; its longest if none does."""
    most = longest(model, values)
    return tuple(c for c in contexts if c <= most) or (most,)


def needles_of(model: TransformerBridge, contexts: Sequence[int], **how: Any) -> list[Needle]:
    """Return needles of every context that fits the model, one after the other.

    Args:
        how: What ``needles`` takes; ``n`` is for each context.
    """
    fit = contexts_within(model, contexts)
    return [needle for context in fit for needle in needles(model, context=context, **how)]


def score_needles(
    model: TransformerBridge,
    contexts: Sequence[int],
    *,
    n: int,
    count: Count = "set",
    most: int | None = None,
    seed: int = 0,
) -> RetrievalScores:
    """Score every head on needles in all contexts that fit the model, from combinations seen in training.

    Args:
        contexts: Words of a text.
        n: Prompts in all, shared among the contexts; rounded up to as many of each.
        count: What ``retrieval_scores`` counts.
        most: The longest context that is asked; where all are longer, the shortest.

    Example:
        >>> import workbench as wb
        >>> score_needles(wb.open_model("zoo:truth-induction"), [36], n=4).heads()[0]
        'a1.h0'
    """
    fit = contexts_within(model, contexts)
    own = tuple(c for c in fit if most is None or c <= most) or fit[:1]
    samples = needles_of(model, own, n=-(-n // len(own)), split="train", seed=seed)
    return retrieval_scores(model, samples, count=count)


def needle_cells(
    model: TransformerBridge, contexts: Sequence[int], depths: Sequence[int], *, n: int, seed: int = 0
) -> dict[tuple[int, int], list[Needle]]:
    """Make the prompts of a grid of contexts and depths, for ``Masking.grid``.

    Args:
        depths: 0 to 100; one of -1, anywhere, for a model that does not know the task: random text has no depth.
        n: Prompts of each cell.

    Example:
        >>> import workbench as wb
        >>> list(needle_cells(wb.open_model("zoo:truth-induction"), [36], [0, 100], n=2))
        [(36, -1)]
    """
    at = depths if knows_task(model) else (-1,)
    cells = [(context, depth) for context in contexts_within(model, contexts) for depth in at]
    return {(c, depth): list(needles(model, n=n, context=c, depth=depth, seed=seed)) for c, depth in cells}


def recall_of_facts(
    masking: Masking,
    samples: Sequence[Needle],
    heads: Sequence[str],
    *,
    n: int = 80,
    least: float = ANSWERED,
) -> tuple[Float[np.ndarray, " question"], Float[np.ndarray, " question"]]:
    """Ask for facts that weights know, after the texts of samples, as the model is and with heads masked.

    Args:
        n: Questions; each of twenty facts is asked after several texts.
        least: Share of the answers that the model must write as it is.

    Returns:
        Recall of each question: as the model is, and with the heads masked.

    Raises:
        OptionError: if the model has no words for the facts.
        TaskError: if it answers too few.
    """
    asked = fact_questions(masking.model, samples, n=n)
    plain = masking.recall((), asked)
    if plain.mean() < least:
        raise TaskError(
            f"the model answers {plain.mean():.0%} of the questions about facts",
            hint="open a model that was trained on them: zoo:kv",
        )
    return plain, masking.recall(heads, asked)


def _needle(model: TransformerBridge, pair: Pair, values: int, context: int, depth: int) -> Needle:
    """The tokens of a pair's clean prompt and where the values of its key stand."""
    prompt = tuple(model.to_tokens(pair.clean)[0].tolist())
    at = pair.positions["value"][0][0]
    start = len(model.to_tokens(pair.clean[:at].rstrip())[0])
    if prompt[start - 1] != prompt[-1]:
        raise TaskError(
            f"pair {pair.id}: the token before the needle is not the key that is asked for",
            hint="make the prompts anew with needles(model): another tokenizer splits them otherwise",
        )
    return Needle(prompt=prompt, start=start, end=start + values, context=context, depth=float(depth))


def fact_questions(model: TransformerBridge, samples: Sequence[Needle], *, n: int) -> tuple[Asked, ...]:
    """Return the texts of samples with a fact asked for at the end in place of the needle; nothing in them tells
    it.

    Every fact is asked in turn, each time after another text: with the texts used up they start again one further.

    Raises:
        OptionError: if the model has no words for the facts of ``workbench/training/needles.py``.
    """
    known = fact_prompts()
    if not _knows(model, [FACT, *(word for prompt, _ in known for word in prompt.split())]):
        raise OptionError(
            "the model's tokenizer has no words for the facts",
            hint="open a model that was trained on them: zoo:kv",
        )
    ids = model.tokenizer.convert_tokens_to_ids
    found = []
    for i in range(n):
        question, values = known[i % len(known)]
        text = samples[(i + i // len(samples)) % len(samples)].prompt[
            :-2
        ]  # without the question word and the key
        found.append(Asked(prompt=(*text, *ids(question.split())), answer=tuple(ids(list(values)))))
    return tuple(found)
