"""Pairs for one tokenizer: token ids, answers and positions, and what had to be left out."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from workbench.errors import TaskError
from workbench.tasks.pairs import Pair, Pairs, Span

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

KINDS = {
    "empty": "empty prompt",
    "unknown": "words the tokenizer does not know",
    "length": "clean and corrupted of different length",
    "context": "longer than the model's context",
    "position": "a named position that is not the same token in both prompts",
    "answer": "an answer that is not one token",
    "same-answer": "one token is both a correct and an incorrect answer",
}


# What pairs must be like instead, for those who write their own.
_NEEDED = {
    "empty": "write both prompts of every pair",
    "unknown": "use words that the tokenizer knows, or another model",
    "length": "clean and corrupted need equally many tokens: reword one of them",
    "context": "shorten the prompts to what the model reads",
    "position": "a named position must be the same token index in clean and corrupted",
    "answer": "every pair needs a correct answer, and each answer must be exactly one token",
    "same-answer": "correct and incorrect answers must be different tokens",
}


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """A pair that was left out: why, which words were at fault, and the kind of reason (see `KINDS`)."""

    id: str
    reason: str
    words: tuple[str, ...] = ()
    kind: str = ""

    def to_dict(self) -> dict[str, object]:
        return {"id": self.id, "kind": self.kind, "reason": self.reason, "words": list(self.words)}


@dataclass(frozen=True, kw_only=True)
class AlignedPairs:
    """Pairs as token ids: within a pair both prompts have one length, and nothing is padded.

    Args:
        pairs: The kept pairs, in their order.
        clean: Token ids of each clean prompt, int64, with the BOS token if ``prepend_bos``.
        corrupted: The same for the corrupted prompts.
        correct: Token ids of the correct answers of each pair.
        incorrect: Token ids of the incorrect answers; may be empty.
        positions: Name -> token index (BOS counted), valid in both prompts; always has ``end``, the last
            token of the text.
        dropped: What was left out.
    """

    pairs: Pairs
    clean: tuple[np.ndarray, ...]
    corrupted: tuple[np.ndarray, ...]
    correct: tuple[tuple[int, ...], ...]
    incorrect: tuple[tuple[int, ...], ...]
    positions: tuple[dict[str, int], ...]
    dropped: tuple[Dropped, ...]
    prepend_bos: bool

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: slice) -> AlignedPairs:
        if not isinstance(index, slice):
            raise TypeError("take aligned pairs by slice; single pairs are in .pairs")
        names = ("pairs", "clean", "corrupted", "correct", "incorrect", "positions")
        return replace(self, **{name: getattr(self, name)[index] for name in names})

    def subset(self, indices: Sequence[int]) -> AlignedPairs:
        """These pairs in this order; one may come twice."""
        names = ("clean", "corrupted", "correct", "incorrect", "positions")
        chosen = {name: tuple(getattr(self, name)[i] for i in indices) for name in names}
        return replace(self, pairs=replace(self.pairs, items=tuple(self.pairs[i] for i in indices)), **chosen)

    def __repr__(self) -> str:
        lengths = sorted({len(ids) for ids in self.clean})
        tokens = f"{lengths[0]}-{lengths[-1]} tokens" if lengths else "no tokens"
        return f"AlignedPairs({len(self)} of {len(self) + len(self.dropped)} pairs, {tokens})"

    def _repr_html_(self) -> str:
        drops = "".join(
            f"<tr>{''.join(f'<td>{html.escape(text)}</td>' for text in (drop.id, drop.reason))}</tr>"
            for drop in self.dropped[:10]
        )
        more = f"<p>and {len(self.dropped) - 10} more</p>" if len(self.dropped) > 10 else ""
        table = f"<p>dropped: {len(self.dropped)}</p><table>{drops}</table>{more}" if drops else ""
        return f"<p>{html.escape(repr(self))}</p>{self.pairs._repr_html_()}{table}"

    @property
    def reasons(self) -> dict[str, int]:
        """Kind of reason -> number of pairs dropped for it, most frequent first."""
        return dict(Counter(drop.kind for drop in self.dropped).most_common())


def align(
    pairs: Pairs,
    tokenizer: PreTrainedTokenizerBase,
    *,
    prepend_bos: bool,
    n_ctx: int | None = None,
    special_tokens: bool = False,
    minimum: int = 1,
) -> AlignedPairs:
    """Tokenize pairs and keep those in which clean and corrupted line up token by token.

    A pair is dropped, with a reason, when a prompt is empty, holds words the tokenizer does not know, is
    longer than ``n_ctx`` or than its partner; when a named position is not made of whole tokens or is another
    token index in the partner; when an answer is not exactly one known token; or when one token is both
    correct and incorrect. Answers are read as they continue the clean prompt; where prompt and answer would
    merge into one token (a year, "17" and "00") the answer's own token is taken.

    Args:
        prepend_bos: Put the BOS token first, unless the text already starts with it.
        n_ctx: Most tokens a prompt may have, BOS counted.
        special_tokens: Let the tokenizer add its own special tokens (encoders: ``[CLS] ... [SEP]``).
        minimum: Fewest pairs that must be left.

    Raises:
        TaskError: if fewer are left, naming the words at fault; if a BOS token is wanted and there is none.
    """
    if prepend_bos and tokenizer.bos_token_id is None:
        raise TaskError(
            "a BOS token is to be prepended, but this tokenizer has none",
            hint="open the model with a tokenizer that defines bos_token, or use prepend_bos=False",
        )
    work = _Aligner(tokenizer, prepend_bos, n_ctx, special_tokens)
    work.read_ahead(pairs)
    rows, dropped = [], []
    for pair in pairs:
        try:
            rows.append((pair, *work.align(pair)))
        except _Drop as drop:
            dropped.append(Dropped(id=pair.id, reason=drop.reason, words=tuple(drop.words), kind=drop.kind))
    kept, clean, corrupted, correct, incorrect, positions = zip(*rows, strict=True) if rows else ((),) * 6
    found = AlignedPairs(
        pairs=replace(pairs, items=tuple(kept)),
        clean=tuple(clean),
        corrupted=tuple(corrupted),
        correct=tuple(correct),
        incorrect=tuple(incorrect),
        positions=tuple(positions),
        dropped=tuple(dropped),
        prepend_bos=prepend_bos,
    )
    if len(found) < minimum:
        raise too_few(found, minimum, hint=_hint(found))
    return found


def too_few(
    found: AlignedPairs, minimum: int, *, hint: str = "use another task or tokenizer, or ask for more pairs"
) -> TaskError:
    """The error for an alignment that left fewer pairs than needed."""
    total = len(found) + len(found.dropped)
    message = f"{len(found)} of {total} pairs of task {found.pairs.task!r} align with this tokenizer"
    message += f"; {minimum} needed"
    if found.dropped:
        said = "; ".join(f"{count} {KINDS[kind]}" for kind, count in found.reasons.items())
        first = found.dropped[0]
        message += f". Dropped: {said}\n  first: pair {first.id}: {first.reason}"
    if words := list(count_words(found.dropped).items())[:8]:
        message += "\n  words at fault: " + ", ".join(f"{word!r} ({count})" for word, count in words)
    return TaskError(message, hint=hint)


def _hint(found: AlignedPairs) -> str:
    """What given pairs need, by the reason most were dropped for, with its first pair unless that is said."""
    if not found.dropped:
        return "give more pairs"
    kind = next(iter(found.reasons))
    first = next(drop for drop in found.dropped if drop.kind == kind)
    return _NEEDED[kind] + ("" if first is found.dropped[0] else f"; pair {first.id}: {first.reason}")


class _Drop(Exception):
    def __init__(self, kind: str, reason: str, words: Iterable[str] = ()) -> None:
        self.kind, self.reason, self.words = kind, reason, words


@dataclass(frozen=True)
class _Tokens:
    """One prompt: its ids and the characters each covers (special tokens cover none)."""

    text: str
    ids: list[int]
    spans: list[Span]
    special: list[bool]

    def covering(self, span: Span) -> list[int]:
        return [
            index
            for index, (start, end) in enumerate(self.spans)
            if not self.special[index] and start < span[1] and end > span[0]
        ]

    def token(self, index: int) -> str:
        start, end = self.spans[index]
        return self.text[start:end]


class _Aligner:
    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, prepend_bos: bool, n_ctx: int | None, special_tokens: bool
    ) -> None:
        self.tokenizer, self.prepend_bos = tokenizer, prepend_bos
        self.n_ctx, self.special_tokens = n_ctx, special_tokens
        self.prompts: dict[str, _Tokens] = {}
        self.answers: dict[tuple[str, str], int | _Drop] = {}

    def read_ahead(self, pairs: Pairs) -> None:
        """Tokenize all prompts in one call: ten times faster than one by one."""
        texts = list(
            dict.fromkeys(text for pair in pairs for text in (pair.clean, pair.corrupted) if text.strip())
        )
        if not texts:
            return
        if not self.tokenizer.is_fast:
            self.prompts = {text: self._slow(text) for text in texts}
            return
        out = self.tokenizer(
            texts,
            add_special_tokens=self.special_tokens,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            truncation=False,
            padding=False,
            verbose=False,
        )
        columns = zip(texts, out["input_ids"], out["offset_mapping"], out["special_tokens_mask"], strict=True)
        for text, ids, spans, special in columns:
            marks = [bool(mark) and a == b for mark, (a, b) in zip(special, spans, strict=True)]
            self.prompts[text] = _Tokens(text, list(ids), [tuple(span) for span in spans], marks)

    def _slow(self, text: str) -> _Tokens:
        """Character spans without offsets, from how many tokens each prefix of the text has."""
        if self.special_tokens:
            raise TaskError(
                "this tokenizer gives no character offsets, which special tokens need", hint="use a fast one"
            )
        ids = self._ids([text])[0]
        ends, done = [], 0
        for end in range(1, len(text) + 1):
            prefix = self._ids([text[:end]])[0]
            while done < len(ids) and len(prefix) > done and prefix[: done + 1] == ids[: done + 1]:
                ends.append(end)
                done += 1
        if len(ends) != len(ids):
            ends += [len(text)] * (len(ids) - len(ends))
        return _Tokens(text, ids, list(zip([0, *ends[:-1]], ends, strict=True)), [False] * len(ids))

    def _ids(self, texts: list[str]) -> list[list[int]]:
        return self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]

    def align(
        self, pair: Pair
    ) -> tuple[np.ndarray, np.ndarray, tuple[int, ...], tuple[int, ...], dict[str, int]]:
        for side, text in (("clean", pair.clean), ("corrupted", pair.corrupted)):
            if not text.strip():
                raise _Drop("empty", f"the {side} prompt is empty")
        clean, corrupted = self.prompts[pair.clean], self.prompts[pair.corrupted]
        for side, tokens in (("clean", clean), ("corrupted", corrupted)):
            self._check_known(side, tokens)
        clean_ids, shift = self._with_bos(clean.ids)
        corrupted_ids, other_shift = self._with_bos(corrupted.ids)
        if len(clean_ids) != len(corrupted_ids):
            raise _different_length(clean, corrupted, len(clean_ids), len(corrupted_ids))
        if self.n_ctx is not None and len(clean_ids) > self.n_ctx:
            raise _Drop("context", f"{len(clean_ids)} tokens, the model's context holds {self.n_ctx}")
        positions = {
            name: _position(name, *spans, clean, corrupted) for name, spans in pair.positions.items()
        }
        positions["end"] = max(index for index, special in enumerate(clean.special) if not special)
        if shift != other_shift:
            raise _Drop("length", "only one of the two prompts starts with the BOS token")
        correct = self._answers(pair, clean, pair.correct)
        if not correct:
            raise _Drop("answer", "there is no correct answer")
        incorrect = self._answers(pair, clean, pair.incorrect)
        for answer, token in zip(pair.incorrect, incorrect, strict=True):
            if token in correct:
                other = pair.correct[correct.index(token)]
                raise _Drop(
                    "same-answer", f"correct {other!r} and incorrect {answer!r} are the same token", [answer]
                )
        indices = {name: index + shift for name, index in positions.items()}
        return np.array(clean_ids), np.array(corrupted_ids), correct, incorrect, indices

    def _with_bos(self, ids: list[int]) -> tuple[list[int], int]:
        bos = self.tokenizer.bos_token_id
        if self.prepend_bos and ids[:1] != [bos]:
            return [bos, *ids], 1
        return ids, 0

    def _check_known(self, side: str, tokens: _Tokens) -> None:
        if not any(not special for special in tokens.special):
            raise _Drop("empty", f"the {side} prompt has no tokens")
        unknown = self.tokenizer.unk_token_id
        if unknown is None or unknown not in tokens.ids:
            return
        places = [i for i, token in enumerate(tokens.ids) if token == unknown and not tokens.special[i]]
        words = [tokens.token(i).strip() for i in places]
        words = [
            word for word in words if word != self.tokenizer.unk_token
        ]  # written out, as GPT-2's <|endoftext|>
        if words:
            listed = ", ".join(repr(word) for word in dict.fromkeys(words))
            raise _Drop(
                "unknown", f"the {side} prompt has words this tokenizer does not know: {listed}", words
            )

    def _answers(self, pair: Pair, prompt: _Tokens, answers: Sequence[str]) -> tuple[int, ...]:
        last_word = re.search(r"\S*\s*$", pair.clean).group()  # an answer can merge with no more than this
        missing = [answer for answer in answers if (last_word, answer) not in self.answers]
        if missing:
            joined = self._ids([pair.clean + answer for answer in missing])
            alone = self._ids(list(missing))
            base = self._ids([pair.clean])[0] if self.special_tokens else prompt.ids
            for answer, with_prompt, own in zip(missing, joined, alone, strict=True):
                self.answers[last_word, answer] = self._answer(answer, base, with_prompt, own)
        found = [self.answers[last_word, answer] for answer in answers]
        for value in found:
            if isinstance(value, _Drop):
                raise value
        return tuple(found)

    def _answer(self, answer: str, prompt: list[int], joined: list[int], alone: list[int]) -> int | _Drop:
        tokens = joined[len(prompt) :] if joined[: len(prompt)] == prompt else alone
        if len(tokens) != 1:
            names = (
                " + ".join(repr(name) for name in self.tokenizer.convert_ids_to_tokens(tokens)) or "nothing"
            )
            return _Drop(
                "answer",
                f"answer {answer!r} is {len(tokens)} tokens, not one: {names}",
                [answer.strip() or answer],
            )
        if tokens[0] == self.tokenizer.unk_token_id and answer.strip() != self.tokenizer.unk_token:
            return _Drop("answer", f"answer {answer!r} is not a word this tokenizer knows", [answer.strip()])
        return tokens[0]


def _position(name: str, clean_span: Span, corrupted_span: Span, clean: _Tokens, corrupted: _Tokens) -> int:
    index = _last_token(name, clean_span, clean, "clean")
    other = _last_token(name, corrupted_span, corrupted, "corrupted")
    if index != other:
        words = [clean.text[slice(*clean_span)], corrupted.text[slice(*corrupted_span)]]
        found = f"token {index} of the clean and token {other} of the corrupted prompt"
        raise _Drop("position", f"position {name} is {found} ({words[0]!r} / {words[1]!r})", words)
    return index


def _last_token(name: str, span: Span, tokens: _Tokens, side: str) -> int:
    covering = tokens.covering(span)
    word = tokens.text[slice(*span)]
    if not covering:
        raise _Drop("position", f"position {name} ({word!r}) covers no token of the {side} prompt", [word])
    start, end = tokens.spans[covering[0]][0], tokens.spans[covering[-1]][1]
    outside = tokens.text[start : span[0]] + tokens.text[span[1] : end]
    if outside.strip():
        parts = " + ".join(repr(tokens.token(index)) for index in covering)
        reason = f"position {name} ({word!r}) of the {side} prompt is not made of whole tokens: {parts}"
        raise _Drop("position", reason, [word])
    return covering[-1]


def _different_length(clean: _Tokens, corrupted: _Tokens, n_clean: int, n_corrupted: int) -> _Drop:
    both = min(len(clean.ids), len(corrupted.ids))
    first = next((i for i in range(both) if clean.ids[i] != corrupted.ids[i]), both)
    names = [
        repr(tokens.token(first)) if first < len(tokens.ids) else "(end)" for tokens in (clean, corrupted)
    ]
    reason = (
        f"{n_clean} clean and {n_corrupted} corrupted tokens; first difference: "
        f"token {first + n_clean - len(clean.ids)} {names[0]} / {names[1]}"
    )
    return _Drop("length", reason, _uneven_words(clean, corrupted, first))


def _uneven_words(clean: _Tokens, corrupted: _Tokens, first: int) -> list[str]:
    """Words that take the place of one another but have different numbers of tokens."""
    spans = [
        [found.span() for found in re.finditer(r"\w+|[^\w\s]+", tokens.text)] for tokens in (clean, corrupted)
    ]
    if len(spans[0]) == len(spans[1]):
        words = []
        for a, b in zip(*spans, strict=True):
            sizes = len(clean.covering(a)), len(corrupted.covering(b))
            if sizes[0] != sizes[1]:
                words.append(clean.text[slice(*a)] if sizes[0] > sizes[1] else corrupted.text[slice(*b)])
        if words:
            return words
    return [tokens.token(first).strip() for tokens in (clean, corrupted) if first < len(tokens.ids)]


def count_words(dropped: Iterable[Dropped]) -> Mapping[str, int]:
    """How many dropped pairs each word was at fault in, most frequent first."""
    words = Counter(word for drop in dropped for word in sorted(set(drop.words)))
    return dict(sorted(words.items(), key=lambda item: (-item[1], item[0])))
