"""Exercises that are no task but build what the tasks need: looking up what stood before a word, argument lists."""

from __future__ import annotations

import numpy as np
from transformers import PreTrainedTokenizerFast

from workbench.tasks.draw import allowed
from workbench.tasks.words import ARGUMENTS, COLORS, FUNCTIONS, OBJECTS
from workbench.training.pools import Pool, pool_of, token_rows


def lookups(tokenizer: PreTrainedTokenizerFast, words: list[str], *, n: int, seed: int) -> Pool:
    """Return pairs of words and then the second of each with its first: ``red pen, blue cup. cup blue pen red``.

    Half of them are colors and objects (train combinations only), half any words; the separators vary.
    """
    rng = np.random.default_rng([seed, 1])
    table = [[allowed("train", color, name) for name in OBJECTS] for color in COLORS]
    rest = [word for word in words if word[0].isalpha() and word not in COLORS]
    texts: list[str] = []
    places: list[int] = []
    while len(texts) < n:
        k = int(rng.integers(2, 6))
        if len(texts) % 2:
            firsts, seconds = rng.permutation(len(COLORS))[:k], rng.permutation(len(OBJECTS))[:k]
            if not all(table[i][j] for i, j in zip(firsts, seconds, strict=True)):
                continue
            scene = [(COLORS[i], OBJECTS[j]) for i, j in zip(firsts, seconds, strict=True)]
        else:
            drawn = rng.permutation(len(rest))[: 2 * k]
            scene = [(rest[i], rest[j]) for i, j in zip(drawn[::2], drawn[1::2], strict=True)]
        before, between = str(rng.choice(["", "a "])), str(rng.choice([" ", ", ", ", and "]))
        head = between.join(f"{before}{first} {second}" for first, second in scene)
        asked = rng.permutation(k)
        texts.append(f"{head} . " + " ".join(f"{scene[i][1]} {scene[i][0]}" for i in asked))
        places.append(k)
    rows = token_rows(texts, tokenizer)
    return pool_of(
        rows, [[len(row) - 1 - 2 * i for i in range(k)] for row, k in zip(rows, places, strict=True)]
    )


def argument_lists(tokenizer: PreTrainedTokenizerFast, *, n: int, seed: int) -> Pool:
    """Docstrings of functions with three to six arguments, of which one to three in a row are documented.

    All neighbors are of the task's train split.
    """
    rng = np.random.default_rng([seed, 2])
    texts: list[str] = []
    while len(texts) < n:
        drawn = [ARGUMENTS[i] for i in rng.permutation(len(ARGUMENTS))]
        size, done = int(rng.integers(3, 7)), int(rng.integers(1, 4))
        names, rest = drawn[:size], drawn[size:]
        if done >= size or not all(allowed("train", *names[i : i + 2]) for i in range(size - 1)):
            continue
        first = int(rng.integers(0, size - done))
        listed = ", ".join(["self"] * int(rng.random() < 0.5) + names)
        text = f'def {rng.choice(FUNCTIONS)}({listed}):\n    """{" ".join(rest[:3])}\n\n'
        for i, name in enumerate(names[first : first + done]):
            text += f"    :param {name}: {rest[3 + 2 * i]} {rest[4 + 2 * i]}\n"
        texts.append(f"{text}    :param {names[first + done]}")
    rows = token_rows(texts, tokenizer)
    return pool_of(rows, [[len(row) - 1] for row in rows])
