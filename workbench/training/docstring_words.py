"""Words of the standard library's own documentation, by module: short texts with a class, for small classifiers."""

from __future__ import annotations

import ast
import re
import sysconfig
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workbench.core.errors import TaskError

Labelled = list[tuple[int, list[str]]]
"""Texts of one module, each with the number of its module."""

MODULES = ("asyncio", "email", "http", "logging", "unittest", "_pydecimal")
UNKNOWN = 0  # the id of every word that is rare


@dataclass(frozen=True, kw_only=True)
class WordTexts:
    """Texts of equal length as ids of words, with the module that each is from.

    Attributes:
        ids: ``(text, pos)``; 0 is a rare word.
        labels: Which of ``classes``.
        first: How many texts are of the first part of the docstrings, to train on; the others are of other docstrings.
    """

    ids: np.ndarray
    labels: np.ndarray
    words: tuple[str, ...]
    classes: tuple[str, ...]
    first: int


def docstring_words(module: str) -> list[list[str]]:
    """Return the words of every docstring of a module or package of the standard library, in order of its files.

    Raises:
        TaskError: if this Python has no sources of it.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    files = sorted((root / module).glob("*.py")) or [root / f"{module}.py"]
    if not files[0].is_file():
        raise TaskError(
            f"this Python has no sources of {module} in {root}",
            hint="use a Python with the sources of its standard library",
        )
    found = []
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8", errors="replace"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                told = re.findall(r"[a-z]+", (ast.get_docstring(node) or "").lower())
                if told:
                    found.append(told)
    return found


def word_texts(
    modules: tuple[str, ...] = MODULES, *, length: int = 12, each: int = 400, most: int = 800, seed: int = 0
) -> WordTexts:
    """Cut docstrings into texts of so many words; halves of the docstrings, drawn by the seed, never mix.

    The names of the modules themselves are left out: they would say the class.

    Args:
        each: Texts of every module and half, at most; every class has as many.
        most: Words with ids of their own, the most frequent of the first half.

    Raises:
        TaskError: if a module has fewer than two texts in a half.
    """
    rng = np.random.default_rng(seed)
    halves: tuple[list[Labelled], list[Labelled]] = ([], [])
    for label, module in enumerate(modules):
        told = [[w for w in words if w not in modules] for words in docstring_words(module)]
        order = rng.permutation(len(told))
        for half, own in zip(halves, (order[::2], order[1::2]), strict=True):
            texts = [
                told[i][at : at + length] for i in own for at in range(0, len(told[i]) - length + 1, length)
            ]
            if len(texts) < 2:
                raise TaskError(
                    f"the docstrings of {module} have {len(texts)} texts of {length} words; 2 are needed",
                    hint="length=6, or modules with more docstrings",
                )
            half.append([(label, text) for text in texts[:each]])
    least = min(len(texts) for half in halves for texts in half)
    rows = [row for half in halves for texts in half for row in texts[:least]]
    first = least * len(modules)
    counts = Counter(word for _, text in rows[:first] for word in text)
    words = (
        "?",
        *(word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[: most - 1]),
    )
    number = {word: i for i, word in enumerate(words)}
    ids = np.array([[number.get(word, UNKNOWN) for word in text] for _, text in rows])
    return WordTexts(
        ids=ids, labels=np.array([label for label, _ in rows]), words=words, classes=modules, first=first
    )
