"""Small damage to the wording of training prompts, so that a model learns the task and not its few templates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def reword(
    row: Sequence[int],
    answers: Sequence[int],
    neutral: Sequence[int],
    rng: np.random.Generator,
    *,
    edits: int = 3,
) -> tuple[list[int], list[int]]:
    """Return one prompt with up to ``edits`` changes among its neutral words; answers and the two words before
    stay.

    A change inserts one to three neutral words (the prompt grows by five at most), drops up to five neighboring
    neutral words, or exchanges one.

    Args:
        row: Token ids.
        answers: Indices of the answer tokens in it.
        neutral: Ids of words that carry nothing of the task: function words, commas, places.

    Returns:
        The new ids and the indices of the answers in them.
    """
    kept = {place for answer in answers for place in range(answer - 2, answer + 1)}
    words = [(token, place in kept, place in set(answers)) for place, token in enumerate(row)]
    free = set(neutral)
    for _ in range(int(rng.integers(1, edits + 1))):
        place = int(rng.integers(0, len(words)))
        kind = rng.integers(0, 3)
        grown = len(words) - len(row)
        if (
            kind == 0 and not words[place][1] and grown < 3
        ):  # before a word not kept, so never before an answer
            new = [(int(rng.choice(neutral)), False, False) for _ in range(int(rng.integers(1, 4)))]
            words[place:place] = new
        elif kind == 1:
            end = place
            while end < min(len(words), place + int(rng.integers(1, 6))) and _is_free(words[end], free):
                end += 1
            del words[place:end]
        elif kind == 2 and _is_free(words[place], free):
            words[place] = (int(rng.choice(neutral)), False, False)
    return [token for token, _, _ in words], [i for i, (_, _, is_answer) in enumerate(words) if is_answer]


def _is_free(word: tuple[int, bool, bool], free: set[int]) -> bool:
    """Whether a word may be dropped or exchanged."""
    return word[0] in free and not word[1]
