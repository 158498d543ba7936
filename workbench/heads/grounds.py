"""What heads are looked at on: repeated random tokens, the built-in text, or a user's corpus.

Nothing is padded, cut off without a word, or replaced: what a tokenizer does not know is counted and said.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor

from workbench.core.errors import OptionError, TaskError
from workbench.core.run_record import digest_of
from workbench.core.strict_json import read_text
from workbench.heads.text import TEXT
from workbench.model.architecture import describe
from workbench.model.identity import other_inputs_of
from workbench.tasks.token_ids import beyond_embedding

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

LENGTH = 101  # BOS and fifty random tokens twice
SHORTEST = 8  # a text window of fewer tokens says nothing about distances
BATCH_TOKENS = 4096
MOST_CORPUS = 500_000_000  # bytes of a file of text

Corpus = Path | str | Sequence[Path | str] | None
"""Text files (``Path``), texts (``str``), several of either, or None for the built-in text."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Ground:
    """Token sequences that heads are looked at on.

    Attributes:
        name: ``random`` or ``text``.
        about: What it is, in one sentence.
        sequences: One tensor ``(pos,)`` each.
        prefix: Tokens before the text (BOS, ``[CLS]``).
        period: Tokens per copy where every sequence is random tokens twice, else None.
        digest: Of all token ids.
        asked: How many sequences were asked for; there may be fewer, and among those of a text some may be alike.
    """

    name: Literal["random", "text"]
    about: str
    sequences: tuple[Int[Tensor, " pos"], ...]
    prefix: int
    period: int | None
    digest: str
    asked: int

    @property
    def n_tokens(self) -> int:
        return sum(len(s) for s in self.sequences)

    @property
    def n_distinct(self) -> int:
        """Sequences that differ from each other."""
        return len({tuple(s.tolist()) for s in self.sequences})

    @property
    def rows(self) -> slice | None:
        """Queries that look back at a first copy: all of the second; None (all queries) where nothing is planned."""
        if self.period is None:
            return None
        start = self.prefix + self.period
        return slice(start, start + self.period)

    def batches(self, batch_tokens: int = BATCH_TOKENS) -> Iterator[tuple[list[int], Int[Tensor, "row pos"]]]:
        """Return sequences of one length together: their indices and ``(row, pos)`` ids."""
        lengths = [len(s) for s in self.sequences]
        for length in sorted(set(lengths)):
            where = [i for i, n in enumerate(lengths) if n == length]
            size = max(1, batch_tokens // length)
            for start in range(0, len(where), size):
                part = where[start : start + size]
                yield part, torch.stack([self.sequences[i] for i in part])

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a record."""
        return {
            "name": self.name,
            "about": self.about,
            "n": len(self.sequences),
            "asked": self.asked,
            "distinct": self.n_distinct,
            "tokens": self.n_tokens,
            "period": self.period,
            "digest": self.digest,
        }


def random_ground(
    model: TransformerBridge, *, n: int = 16, length: int | None = None, seed: int = 0
) -> tuple[Ground, tuple[str, ...]]:
    """Return ``BOS r_1..r_N r_1..r_N``: N different random tokens of the model's vocabulary, twice; and what must
    be said.

    All sequences differ; where the vocabulary has fewer orders than ``n`` there are fewer sequences.

    Raises:
        OptionError: if ``length`` does not fit the context, or leaves less than two tokens to repeat.
        TaskError: if the model has no embedding for BOS or another mark that its prompts begin or end with.
    """
    before, after = frame_of(model)
    words = vocabulary(model)
    total, notes = _length(model, length)
    period = (total - len(before) - len(after)) // 2
    if period > len(words):
        notes += (f"random tokens: {len(words)} per copy, all there are in the vocabulary",)
        period = len(words)
    if period < 2:
        context = describe(model).n_ctx
        raise OptionError(
            f"sequences of {total} tokens leave {period} to repeat; at least 2 are needed",
            hint=f"the model's context holds no more than {context}"
            if total == context
            else "a larger --length",
        )
    generator = torch.Generator().manual_seed(seed)
    choice, device = torch.tensor(words), next(iter(model.parameters())).device
    sequences = []
    for copy in _different(choice, period, _count(n), generator):
        parts = (torch.tensor(before, dtype=torch.long), copy, copy, torch.tensor(after, dtype=torch.long))
        sequences.append(torch.cat(parts).to(device))
    start = "BOS, then " if before and not after else "[CLS], then " if before else ""
    return (
        Ground(
            name="random",
            about=f"{start}{period} random tokens, twice; {_how_many(len(sequences), n, 'sequences')}, seed {seed}",
            sequences=tuple(sequences),
            prefix=len(before),
            period=period,
            digest=digest_of([s.tolist() for s in sequences]),
            asked=n,
        ),
        notes,
    )


def text_or_random(
    model: TransformerBridge, *, n: int = 16, length: int | None = None, seed: int = 0
) -> tuple[Ground, tuple[str, ...]]:
    """Return windows of the built-in text where the tokenizer covers it, else repeated random tokens; and why.

    Raises:
        OptionError: if ``length`` does not fit the context.
        TaskError: if random tokens are needed and the model has no embedding for its marks.
    """
    ground, notes = text_ground(model, n=n, length=length, seed=seed)
    if ground is not None:
        return ground, notes
    random, more = random_ground(model, n=n, length=length, seed=seed)
    return random, (*(f"random tokens in place of the text: {said}" for said in notes), *more)


def text_ground(
    model: TransformerBridge, corpus: Corpus = None, *, n: int = 16, length: int | None = None, seed: int = 0
) -> tuple[Ground | None, tuple[str, ...]]:
    """Return windows of the corpus, or of the built-in text where the tokenizer covers it; else None and the
    reason.

    Windows follow each other without overlap. Where there are more than ``n`` they are drawn by the seed; a text
    shorter than a window is used whole, from ``SHORTEST`` tokens on. Windows with a token that the model has no
    embedding for are left out, counted and named.

    Raises:
        TaskError: if a corpus was given and nothing of it can be used.
        OptionError: if ``length`` does not fit the context.
    """
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None or not len(tokenizer):
        if corpus is not None:
            raise TaskError(
                "the model has no tokenizer, so a corpus cannot become tokens",
                hint="leave out corpus (--corpus): random tokens are used",
            )
        return None, ("no text: the model has no tokenizer",)
    source, texts = read_corpus(corpus)
    ids = [tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] for text in texts]
    unknown = _unknown(tokenizer, ids, texts)
    if corpus is None and unknown:
        return None, (f"the built-in text is not used: {unknown}",)
    total, notes = _length(model, length)
    before, after = frame_of(model)
    room = total - len(before) - len(after)
    windows, short = _windows(ids, room)
    windows, beyond = _embedded(model, windows)
    if not windows and corpus is None:
        return None, (f"the built-in text is not used: {beyond or f'it has no {room} tokens in a row'}",)
    if not windows:
        raise TaskError(
            f"{source} has no {SHORTEST} tokens in a row" + (f": {beyond}" if beyond else ""),
            hint="give a longer text with --corpus",
        )
    notes += (f"{source}: {beyond}",) if beyond else ()
    notes += (f"{source}: {unknown}",) if unknown else ()
    if short:
        notes += (f"{source}: {short} tokens at ends of texts, less than {SHORTEST} in a row, are left out",)
    if len(windows) > _count(n):
        order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(seed))[:n]
        windows = [windows[i] for i in sorted(order.tolist())]
    device = next(iter(model.parameters())).device
    sequences = tuple(torch.tensor([*before, *w, *after], device=device) for w in windows)
    different = len({tuple(w) for w in windows})
    said = f"{source}: {_how_many(len(sequences), n, 'windows', different)} of {_span(sequences)} tokens, seed {seed}"
    return _of_text(sequences, said, prefix=len(before), asked=n), notes


def _windows(ids: Sequence[Sequence[int]], room: int) -> tuple[list[Sequence[int]], int]:
    """Texts cut into windows, and how many tokens at their ends are too few for one."""
    whole = [row[i : i + room] for row in ids for i in range(0, len(row), room)]
    least = min(SHORTEST, room)
    return [w for w in whole if len(w) >= least], sum(len(w) for w in whole if len(w) < least)


def _span(sequences: Sequence[Tensor]) -> str:
    """The lengths of some sequences, shortest to longest."""
    lengths = sorted({len(s) for s in sequences})
    return f"{lengths[0]}" if len(lengths) == 1 else f"{lengths[0]}-{lengths[-1]}"


def _of_text(sequences: tuple[Tensor, ...], about: str, *, prefix: int, asked: int) -> Ground:
    digest = digest_of([s.tolist() for s in sequences])
    return Ground(
        name="text",
        about=about,
        sequences=sequences,
        prefix=prefix,
        period=None,
        digest=digest,
        asked=asked,
    )


def read_corpus(corpus: Corpus) -> tuple[str, tuple[str, ...]]:
    """Say where texts come from, in words, and the texts.

    Raises:
        TaskError: if a file cannot be read as UTF-8, or nothing is there.
    """
    if corpus is None:
        return "the built-in text", (TEXT,)
    items = [corpus] if isinstance(corpus, str | Path) else list(corpus)
    texts, names = [], []
    for item in items:
        if not isinstance(item, Path):
            texts.append(item)
            continue
        texts.append(read_text(item, most_bytes=MOST_CORPUS, error=TaskError))
        names.append(item.name)
    if not any(text.strip() for text in texts):
        raise TaskError("the corpus is empty", hint="give text files with --corpus FILE")
    given = len(texts) - len(names)
    return ", ".join([*names, *([f"{given} given texts"] if given else [])]), tuple(texts)


def _different(
    choice: Int[Tensor, " word"], period: int, n: int, generator: torch.Generator
) -> list[Int[Tensor, " pos"]]:
    """``n`` different draws of ``period`` different words, or as many as there are."""
    found: dict[tuple[int, ...], Tensor] = {}
    while len(found) < min(n, math.perm(len(choice), period)):
        drawn = choice[torch.randperm(len(choice), generator=generator)[:period]]
        found.setdefault(tuple(drawn.tolist()), drawn)
    return list(found.values())


def _how_many(n: int, asked: int, what: str, different: int | None = None) -> str:
    """``16 sequences``, or with what must be said where fewer are different than were asked for."""
    different = n if different is None else different
    alike = f", {different} of them different" if different < n else ""
    return f"{n} {what}{alike}" + (f" ({asked} were asked for)" if different < asked else "")


def _embedded(model: TransformerBridge, windows: Sequence[Sequence[int]]) -> tuple[list[Sequence[int]], str]:
    """The windows that the model can read, and what is said of the others."""
    size, named = int(model.cfg.d_vocab), dict[str, str]()
    kept = []
    for window in windows:
        beyond = beyond_embedding(model.tokenizer, window, size)
        named |= beyond
        kept += [] if beyond else [window]
    lost = len(windows) - len(kept)
    said = f"{lost} windows are left out: {'; '.join(list(named.values())[:3])}" if lost else ""
    return kept, said


def frame_of(model: TransformerBridge) -> tuple[list[int], list[int]]:
    """Return tokens that the model's prompts begin and end with: BOS; for encoders ``[CLS]`` and ``[SEP]``.

    The same as pairs are given when they are aligned.

    Raises:
        TaskError: if the model has no embedding for one of them.
    """
    tokenizer, described = getattr(model, "tokenizer", None), describe(model)
    if tokenizer is None or not len(tokenizer):
        return [], []
    before, after = ([], []) if described.causal else _marks(model)
    bos = tokenizer.bos_token_id
    if described.prepend_bos and bos is not None and before[:1] != [bos]:
        before = [bos, *before]
    if beyond := beyond_embedding(tokenizer, [*before, *after], described.d_vocab):
        raise TaskError(
            f"a mark around every prompt: {next(iter(beyond.values()))}",
            hint="resize the model's embedding, or use the tokenizer that the model was trained with",
        )
    return before, after


def _marks(model: TransformerBridge) -> tuple[list[int], list[int]]:
    """What an encoder's tokenizer puts before and after a word."""
    tokenizer = model.tokenizer
    word = tokenizer.convert_ids_to_tokens(vocabulary(model)[0])
    full = tokenizer(word, add_special_tokens=True, verbose=False)["input_ids"]
    special = set(tokenizer.all_special_ids)
    inside = [i for i, token in enumerate(full) if token not in special] or [0]
    return full[: inside[0]], full[inside[-1] + 1 :]


def vocabulary(model: TransformerBridge) -> list[int]:
    """Return token ids that stand for text: those the tokenizer has, without special ones and those that stand for
    pictures; all ids without a tokenizer.

    Raises:
        TaskError: if the model has no embedding for any of them.
    """
    tokenizer, size = getattr(model, "tokenizer", None), int(model.cfg.d_vocab)
    if tokenizer is None or not len(tokenizer):
        return list(range(size))
    special = {*tokenizer.all_special_ids, *other_inputs_of(model)}
    words = [i for i in sorted(set(tokenizer.get_vocab().values())) if i < size and i not in special]
    if not words:
        raise TaskError(
            f"none of the tokenizer's words is among the {size} tokens that the model reads",
            hint="give a tokenizer that belongs to the model: open_model(..., tokenizer=...)",
        )
    return words


def _length(model: TransformerBridge, length: int | None) -> tuple[int, tuple[str, ...]]:
    """Tokens per sequence, and a note where the context is shorter than the default."""
    context = describe(model).n_ctx
    if length is None:
        if context and context < LENGTH:
            return context, (f"sequences of {context} tokens, the whole context",)
        return LENGTH, ()
    if length < SHORTEST or (context and length > context):
        most = f" and at most {context}, the context" if context else ""
        raise OptionError(
            f"length is {length}; at least {SHORTEST} is needed{most}",
            hint=f"length={min(context or 64, 64)} (--length {min(context or 64, 64)})",
        )
    return length, ()


def _count(n: int) -> int:
    if n < 2:
        raise OptionError(
            f"n is {n}; at least 2 sequences are needed for a standard error", hint="n=16 (--sequences 16)"
        )
    return n


def _unknown(tokenizer: Any, ids: Sequence[Sequence[int]], texts: Sequence[str]) -> str:
    """What the tokenizer does not know of the texts, in words; empty if it covers them."""
    total = sum(len(row) for row in ids)
    missing = (
        sum(row.count(tokenizer.unk_token_id) for row in ids) if tokenizer.unk_token_id is not None else 0
    )
    if missing:
        return f"{missing:,} of {total:,} tokens are unknown to the tokenizer"
    kept = sum(_letters(tokenizer.decode(row, skip_special_tokens=True)) for row in ids)
    there = sum(_letters(text) for text in texts)
    if kept < 0.98 * there:  # accents and ligatures may be normalised; whole words may not vanish
        return f"the tokenizer keeps {kept:,} of {there:,} letters"
    return ""


def _letters(text: str) -> int:
    return sum(character.isalnum() for character in text)
