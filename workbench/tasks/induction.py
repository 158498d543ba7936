"""Induction: random words, then the same words again; say what comes next."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.core.errors import OptionError
from workbench.tasks.draw import Draw, allowed
from workbench.tasks.pairs import Pair, Span
from workbench.tasks.registry import task
from workbench.tasks.words import ARGUMENTS, COLORS, GIFTS, NAMES, NOUNS, OBJECTS, PLACES

WORDS = tuple(
    sorted(
        {*ARGUMENTS, *COLORS, *GIFTS, *NAMES, *OBJECTS, *PLACES, *(word for pair in NOUNS for word in pair)}
    )
)


@task(
    "induction",
    source="Olsson et al. 2022, arXiv:2209.11895",
    corruptions=("answer", "match", "unrelated"),
    positions=("A1", "B1", "A2"),
    describe="Continue a sequence of random words that is being repeated.",
    texts=WORDS,
)
def induction(draw: Draw, *, split: str, corruption: str, period: int = 10, repeated: int = 0) -> Pair:
    """One induction pair: ``w1 ... wp w1 ... wk`` is to be continued with word k + 1.

    A1 is the first occurrence of the last word, B1 the word after it (the answer), A2 the last word.
    ``answer`` changes B1, so that the incorrect answer becomes right; ``match`` changes A1, so that the last
    word has no earlier occurrence; ``unrelated`` is another sequence, of none of these words. Held out are
    pairs (A, B); no training sequence holds such neighbors. There are no templates: all splits share one group
    per length. The text starts with a space, so that its first word is the same token at both occurrences.

    Args:
        period: Words before the repetition, 3 to 100.
        repeated: Words of the repetition that are given, 1 to period - 1; 0 draws it anew for each pair.
    """
    if not 3 <= period <= 100:
        raise OptionError(
            f"period is {period}; expected 3 to 100", hint="period=10 (--task-option period=10)"
        )
    if not 0 <= repeated < period:
        raise OptionError(
            f"repeated is {repeated}; expected 0 to {period - 1}",
            hint="repeated=0 (--task-option repeated=0)",
        )
    k = repeated or 1 + draw.below(period - 1)
    words, (b_wrong, a_wrong) = _sequence(draw, split, period, k, WORDS)
    first, last, correct, incorrect = list(words), words[:k], words[k], b_wrong
    if corruption == "answer":
        first[k] = b_wrong
    elif corruption == "match":
        first[k - 1] = a_wrong
    else:
        others = [word for word in WORDS if word not in words]
        first, _ = _sequence(draw, split, period, k, others)
        last, incorrect = first[:k], first[k]
    clean, clean_spans = join_words([*words, *words[:k]])
    corrupted, spans = join_words([*first, *last])
    places = {"A1": k - 1, "B1": k, "A2": period + k - 1}
    return Pair(
        id="",
        clean=clean,
        corrupted=corrupted,
        correct=(f" {correct}",),
        incorrect=(f" {incorrect}",),
        positions={name: (clean_spans[place], spans[place]) for name, place in places.items()},
        group=f"induction-{period}-{k}",
    )


def _sequence(
    draw: Draw, split: str, period: int, k: int, known: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Different words whose pair (k - 1, k) is of the split, and two more; in training every pair is."""
    words = draw.sample(known, period + 2)
    spare = words[period:]
    for i in range(1, period):
        while (i == k or split == "train") and not allowed(split, words[i - 1], words[i]):
            words[i] = draw.pick(known)
            while words[i] in words[:i] or words[i] in words[i + 1 :]:
                words[i] = draw.pick(known)
    return words[:period], spare


def join_words(words: list[str]) -> tuple[str, list[Span]]:
    """Return words with a space before each, and where each stands."""
    text, spans = "", []
    for word in words:
        spans.append((len(text) + 1, len(text) + 1 + len(word)))
        text += f" {word}"
    return text, spans
