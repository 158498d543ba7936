"""A drawn language with three kinds of questions: a near word, a pair of the row, and what the row is about."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from workbench.tasks.streams.rows import NOTHING, StreamRows, check_at_least

KINDS = ("near", "recall", "gist")
WORDS = 16  # answers of every kind: chance is the same
VALUE, TITLE, FILLER, KEY, MARK = 0, WORDS, 2 * WORDS, 3 * WORDS, 4 * WORDS  # first token of each sort
VOCABULARY = MARK + 1
PAIRS = 4  # of a row
SHARES = (0.3, 0.5, 0.2)  # of sentences, in the order of KINDS


@dataclass(frozen=True, kw_only=True)
class GistRows(StreamRows):
    """Rows whose questions are of several kinds.

    Attributes:
        kind: Index in `KINDS` of the question at every position ``(row, pos)``; -1 where nothing is asked.
    """

    kind: Int[np.ndarray, "row pos"]

    @property
    def kinds(self) -> np.ndarray:
        """The kind of every question, in the order of rows."""
        return self.kind[self.asked]


def gist_rows(rng: np.random.Generator, n: int, *, length: int = 48) -> GistRows:
    """Draw rows of short sentences in random order, after the title of the row.

    A *near* sentence is three fillers: the third is a fixed function of the first, two tokens before it, so position
    alone says where to look. A *recall* sentence is one of four keys and its value, drawn anew for every row: asked
    from the second time on, and where the answer stands depends on the text. A *gist* sentence is a mark and the title,
    a word that stands once among the first tokens: the same key for every query.

    Returns:
        ``length`` tokens a row; the target at a position is the next token, where the row has decided it.

    Example:
        >>> rows = gist_rows(np.random.default_rng(0), 2)
        >>> rows.inputs.shape, sorted({KINDS[i] for i in rows.kinds})
        ((2, 48), ['gist', 'near', 'recall'])
    """
    check_at_least("length", length, 16)
    near = np.random.default_rng(0).permutation(WORDS)  # the language's own, the same in all draws
    drawn = [_row(rng, length, near) for _ in range(n)]
    inputs, target, source, kind = (np.stack(part) for part in zip(*drawn, strict=True))
    return GistRows(inputs=inputs, target=target, source=source, kind=kind)


def _row(rng: np.random.Generator, length: int, near: np.ndarray) -> tuple[np.ndarray, ...]:
    """One row: tokens, and at every place answer, its source and its kind."""
    keys, values = rng.permutation(WORDS)[:PAIRS], rng.integers(0, WORDS, PAIRS)
    title, at_title = int(rng.integers(WORDS)), int(rng.integers(2, 8))
    told: dict[int, int] = {}  # key -> where its value stood first
    tokens: list[int] = []
    asked = np.full((3, length), NOTHING)  # answer, source, kind

    def ask(answer: int, source: int, kind: int) -> None:
        if len(tokens) <= length:
            asked[:, len(tokens) - 1] = answer, source, kind

    while len(tokens) < length:
        if len(tokens) >= at_title and at_title >= 0:
            at_title, stands = -1, len(tokens)
            tokens.append(TITLE + title)
        kind = rng.choice(3, p=SHARES)
        if kind == 0:
            first, second = rng.integers(0, WORDS, 2)
            tokens += [FILLER + first, FILLER + second]
            ask(FILLER + near[first], len(tokens) - 2, 0)
            tokens.append(FILLER + near[first])
        elif kind == 1:
            which = int(rng.integers(PAIRS))
            tokens.append(KEY + keys[which])
            if which in told:
                ask(VALUE + values[which], told[which], 1)
            told.setdefault(which, len(tokens))
            tokens.append(VALUE + values[which])
        elif at_title < 0:
            tokens.append(MARK)
            ask(TITLE + title, stands, 2)
            tokens.append(TITLE + title)
    return (np.array(tokens[:length]), *asked)
