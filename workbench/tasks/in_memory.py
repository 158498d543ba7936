"""Pairs that are given in memory: dicts, ``Pair`` objects or four texts each, checked as those of a file are."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from workbench.core.errors import OptionError, TaskError
from workbench.tasks.pairs import Pair, Pairs
from workbench.tasks.pairs_file import Problem, load_pairs, parse_pair, refuse

_FORMS = (
    'dicts {"clean": ..., "corrupted": ..., "correct": ..., "incorrect": ...}, or four texts in that order'
)


def as_pairs(
    given: Pairs | Sequence[Pair | Mapping[str, object] | Sequence[str]], *, task: str = ""
) -> Pairs:
    """Make pairs of what is in memory, checked as strictly as a file.

    Args:
        given: ``Pairs``, or a list whose members are ``Pair``, dicts with the keys of a pairs file, or four texts:
            clean, corrupted, correct and incorrect answer. An answer may be one text or a list of texts.
        task: What results call them; by default ``my-pairs``, or the name that ``Pairs`` have.

    Returns:
        The pairs in their order; ids are given where there are none.

    Raises:
        TaskError: naming every member that cannot be used.

    Example:
        >>> given = as_pairs([("Mary and John: John,", "Mary and John: Mary,", " Mary", " John")])
        >>> given.task, given[0].correct
        ('my-pairs', (' Mary',))
    """
    if isinstance(given, Pairs):
        return replace(given, task=task) if task else given
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Sequence):
        raise TaskError(
            f"pairs are of type {type(given).__name__}; a list is expected", hint=f"a list of {_FORMS}"
        )
    items: list[Pair] = []
    problems: list[Problem] = []
    for number, member in enumerate(given):
        pair, wrong = parse_pair(_as_row(member), default_id=f"pair-{number:03d}")
        if pair is not None and any(pair.id == other.id for other in items):
            wrong = [f"id {pair.id!r} is there twice"]
        problems += [Problem(line=number + 1, message=message) for message in wrong]
        items += [pair] if pair is not None and not wrong else []
    if not items and not problems:
        problems = [Problem(line=0, message="there are no pairs")]
    refuse(problems, "pairs in memory (line 1 is the first)")
    return Pairs(items=tuple(items), task=task or "my-pairs", split="all", source="given in memory")


def _as_row(member: object) -> object:
    """One member as a row of a pairs file."""
    if isinstance(member, Pair):
        return member.to_dict() | ({} if member.image is None else {"image": member.image})
    if isinstance(member, Mapping):
        return {
            key: _listed(value) if key in ("correct", "incorrect") else value for key, value in member.items()
        }
    if isinstance(member, Sequence) and not isinstance(member, str) and len(member) == 4:
        clean, corrupted, correct, incorrect = member
        return {
            "clean": clean,
            "corrupted": corrupted,
            "correct": _listed(correct),
            "incorrect": _listed(incorrect),
        }
    return list(member) if isinstance(member, tuple) else member


def _listed(answers: object) -> object:
    """Answers as a list; one text is one answer."""
    if isinstance(answers, str):
        return [answers]
    return list(answers) if isinstance(answers, tuple) else answers


def given_pairs(
    task: str | Path | Pairs | Sequence[Pair | Mapping[str, object] | Sequence[str]],
    *,
    n: int | None,
    seed: int,
    corruption: str | None,
) -> Pairs:
    """Return the user's pairs, of a file or in memory; ``n`` of them are drawn by the seed and keep their order.

    Raises:
        OptionError: if a corruption is asked for; given pairs already have theirs.
    """
    if corruption is not None:
        raise OptionError(
            "these pairs have their corrupted prompts; --corruption is for tasks by name",
            hint="leave out --corruption (corruption=)",
        )
    pairs = load_pairs(Path(task)) if isinstance(task, str | Path) else as_pairs(task)
    if n is None or n >= len(pairs):
        return pairs
    chosen = sorted(random.Random(seed).sample(range(len(pairs)), n))
    return replace(pairs, items=tuple(pairs[i] for i in chosen))
