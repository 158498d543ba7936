"""Prompts made of documents whose order can be changed, and what a model answers in every order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from workbench.core.errors import OptionError
from workbench.edits.edit import ModelEdit
from workbench.edits.pine import Pine
from workbench.model.outputs import require_words
from workbench.model.reading import require_tokens
from workbench.tasks.kv_retrieval import FILLER, QUERY
from workbench.tasks.words import NAMES, TWO_DIGITS

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Kind = Literal["conflict", "majority", "single"]
Order = tuple[int, ...]
ROWS = 48  # prompts in one forward pass


@dataclass(frozen=True, kw_only=True)
class Words:
    """Token ids of what documents are made of; ``before`` and ``query`` stand around them."""

    keys: np.ndarray
    values: np.ndarray
    fillers: np.ndarray
    before: tuple[int, ...]
    query: tuple[int, ...]
    known: bool


@dataclass(frozen=True, kw_only=True)
class Question:
    """Documents, the question after them, and the two answers of which one is right.

    Attributes:
        at: Documents that say ``right``, and those that say ``wrong``.
    """

    documents: tuple[tuple[int, ...], ...]
    ask: tuple[int, ...]
    right: int
    wrong: int
    at: tuple[tuple[int, ...], tuple[int, ...]]


def words_of(model: TransformerBridge, *, seed: int = 0) -> Words:
    """Keys, values and fillers of the key-value task where the model knows them, disjoint random tokens elsewhere.

    Raises:
        ModelError: if the model puts out no words.
    """
    require_words(model, "a question about documents")
    tokenizer = getattr(model, "tokenizer", None)
    vocabulary = tokenizer.get_vocab() if tokenizer is not None else {}
    bos = getattr(tokenizer, "bos_token_id", None)
    before = () if bos is None else (int(bos),)
    query: tuple[int, ...]
    if all(word in vocabulary for word in (*NAMES, *TWO_DIGITS, *FILLER, QUERY)):
        keys, values, fillers = (np.array([vocabulary[w] for w in ws]) for ws in (NAMES, TWO_DIGITS, FILLER))
        query, known = (vocabulary[QUERY],), True
    else:
        special = set(getattr(tokenizer, "all_special_ids", ()))
        usable = [i for i in range(model.cfg.d_vocab) if i not in special]
        if len(usable) < 60:
            raise OptionError(
                f"{len(usable)} tokens are too few to make documents of; 60 are needed",
                hint="open a model with more tokens: zoo:stdlib",
            )
        drawn = np.random.default_rng(seed).permutation(usable)[:300]
        third = len(drawn) // 3
        keys, values, fillers = drawn[:third], drawn[third : 2 * third], drawn[2 * third :]
        query, known = (), False
    return Words(keys=keys, values=values, fillers=fillers, before=before, query=query, known=known)


def questions(words: Words, kind: Kind, *, n: int, sizes: Sequence[int], seed: int) -> tuple[Question, ...]:
    """Return ``n`` questions about documents of ``sizes`` tokens, each of fillers and one key with its value.

    ``single``: one document tells the value of the key that is asked for. ``conflict``: two do, and say different
    things; either may count as right. ``majority``: three do, and two of them agree: that value is right.

    Raises:
        OptionError: for fewer than 3 documents, or documents of fewer than 2 tokens.
    """
    if len(sizes) < 3 or min(sizes) < 2:
        raise OptionError(
            f"sizes is {tuple(sizes)}; at least 3 documents of at least 2 tokens are needed",
            hint="sizes=(8, 8, 8)",
        )
    rng = np.random.default_rng([seed, len(sizes), *(kind.encode())])
    return tuple(_question(words, kind, sizes, rng) for _ in range(n))


def _question(words: Words, kind: Kind, sizes: Sequence[int], rng: np.random.Generator) -> Question:
    n = len(sizes)
    keys, values = rng.permutation(words.keys)[:n].copy(), rng.permutation(words.values)[:n].copy()
    a, b, c = rng.permutation(n)[:3]
    asked, right, wrong = keys[a], values[a], values[b]
    says: tuple[tuple[int, ...], tuple[int, ...]] = ((int(a),), ())
    if kind != "single":
        keys[b], says = asked, ((int(a),), (int(b),))
    if kind == "majority":
        keys[c], values[c], says = asked, right, ((int(a), int(c)), (int(b),))
    documents = []
    for key, value, size in zip(keys, values, sizes, strict=True):
        text = rng.choice(words.fillers, size)
        at = int(rng.integers(0, size - 1))
        text[at : at + 2] = key, value
        documents.append(tuple(int(t) for t in text))
    ask = (*words.query, int(asked))
    return Question(documents=tuple(documents), ask=ask, right=int(right), wrong=int(wrong), at=says)


def spans(words: Words, question: Question, order: Order) -> tuple[tuple[int, int], ...]:
    """Token ranges of the documents in this order."""
    lengths = np.array([len(question.documents[j]) for j in order])
    ends = len(words.before) + lengths.cumsum()
    return tuple((int(end - n), int(end)) for end, n in zip(ends, lengths, strict=True))


def prompt(words: Words, question: Question, order: Order) -> list[int]:
    """Return tokens of the documents in this order, and the question."""
    return [*words.before, *(t for j in order for t in question.documents[j]), *question.ask]


@dataclass(frozen=True, kw_only=True, eq=False)
class DocumentAnswers:
    """What was answered in every order.

    Attributes:
        answers: Most likely token, ``(question, order)``.
        right: Whether it is the right one.
        difference: Log-probability of the right minus that of the wrong answer, in nats.
        spread: Largest difference of any token's log-probability between two orders, one per question, in nats.
        later: Whether the documents that say right stand, on average, after those that say wrong.
    """

    answers: np.ndarray
    right: np.ndarray
    difference: np.ndarray
    spread: np.ndarray
    later: np.ndarray

    @property
    def changes(self) -> np.ndarray:
        """Per question: 1 if the answer depends on the order."""
        return (self.answers != self.answers[:, :1]).any(1).astype(float)

    @property
    def lean(self) -> np.ndarray:
        """Per question: how much the nearer document is believed, in nats; 0 without position bias."""
        return (self.difference * np.where(self.later, 1.0, -1.0)).mean(1)

    @property
    def accuracy(self) -> np.ndarray:
        """Per question: share of orders in which it is answered right."""
        return self.right.mean(1)

    def moved_from(self, plain: DocumentAnswers) -> np.ndarray:
        """Per question: how far the difference is from that in other answers, mean over orders, in nats."""
        return np.abs(self.difference - plain.difference).mean(1)


@torch.no_grad()
def in_every_order(
    model: TransformerBridge,
    words: Words,
    asked: Sequence[Question],
    options: Mapping[str, Any] | None,
    *,
    seed: int = 0,
) -> DocumentAnswers:
    """Ask every question with its documents in every order, with PINE (or a control of it) or the model as it is.

    Args:
        options: Of ``Pine``; None for the model as it is.
        seed: Of an order that is random.
    """
    orders = list(permutations(range(len(asked[0].documents))))
    jobs = [(i, o) for i in range(len(asked)) for o in range(len(orders))]
    equal = len({len(d) for question in asked for d in question.documents}) == 1
    size = ROWS if equal else 1  # documents of other lengths stand elsewhere in another order
    found: dict[tuple[int, int], torch.Tensor] = {}
    for start in range(0, len(jobs), size):
        part = jobs[start : start + size]
        rows = [prompt(words, asked[i], orders[o]) for i, o in part]
        ids = torch.tensor(rows, device=next(iter(model.parameters())).device)
        at = spans(words, asked[part[0][0]], orders[part[0][1]])
        edit = None if options is None else Pine(documents=at, seed=seed, **options)
        found |= dict(zip(part, _log_probs(model, ids, edit), strict=True))
    table = torch.stack([torch.stack([found[i, o] for o in range(len(orders))]) for i in range(len(asked))])
    return _answers(table, asked, orders)


def unequal_spread(
    model: TransformerBridge, words: Words, size: int, options: Mapping[str, Any] | None, *, seed: int
) -> float:
    """Largest difference between orders of three documents of other lengths, in nats."""
    sizes = tuple(size - 2 + 2 * i for i in range(3))
    asked = questions(words, "conflict", n=3, sizes=sizes, seed=seed + 1)
    return max(float(in_every_order(model, words, (q,), options).spread.max()) for q in asked)


def _log_probs(model: TransformerBridge, ids: torch.Tensor, edit: ModelEdit | None) -> torch.Tensor:
    require_tokens(model, ids)
    with nullcontext() if edit is None else edit.on(model):
        return model(ids)[:, -1].float().log_softmax(-1).cpu()


def _answers(table: torch.Tensor, asked: Sequence[Question], orders: Sequence[Order]) -> DocumentAnswers:
    """From log-probabilities ``(question, order, d_vocab)``."""
    n = torch.arange(len(asked))
    right = torch.tensor([question.right for question in asked])
    wrong = torch.tensor([question.wrong for question in asked])
    answers = table.argmax(-1)
    later = [[_is_later(question, order) for order in orders] for question in asked]
    return DocumentAnswers(
        answers=answers.numpy(),
        right=(answers == right[:, None]).numpy(),
        difference=(table[n, :, right] - table[n, :, wrong]).double().numpy(),
        spread=(table.amax(1) - table.amin(1)).amax(-1).double().numpy(),
        later=np.array(later),
    )


def _is_later(question: Question, order: Order) -> bool:
    place = {document: i for i, document in enumerate(order)}
    right, wrong = ([place[d] for d in documents] for documents in question.at)
    return bool(wrong) and float(np.mean(right)) > float(np.mean(wrong))
