"""Aligned pairs whose answers were read for one token, or token by token."""

from __future__ import annotations

from dataclasses import replace

from workbench.core.errors import OptionError, TaskError
from workbench.tasks.alignment import AlignedPairs
from workbench.tasks.two_answers import WholeAnswers


def as_read_by(pairs: AlignedPairs, metric: str, whole_answers: WholeAnswers) -> AlignedPairs:
    """Return pairs as a metric reads them.

    Raises:
        OptionError: if they were read in another way, which this metric cannot mean.
        TaskError: if a pair has several correct answers where one is read token by token.
    """
    two = bool(pairs.read_at) and not all(pairs.correct)
    if two != (whole_answers == "both"):
        read = "with two whole answers" if two else "without their incorrect answers, or for one token"
        raise OptionError(
            f"metric {metric} cannot be taken on these pairs, which were read {read}",
            hint=f'give the pairs as text: paired_runs(model, pairs, metric="{metric}"); --metric {metric}',
        )
    if two:
        return pairs
    return whole(pairs) if whole_answers else single(pairs, metric)


def whole(pairs: AlignedPairs) -> AlignedPairs:
    """Return pairs whose one correct answer is read token by token; one of a single token is read at the end.

    Raises:
        TaskError: if a pair has several correct answers.
    """
    if pairs.read_at:
        return pairs
    many = [pair.id for pair, tokens in zip(pairs.pairs, pairs.correct, strict=True) if len(tokens) != 1]
    if many:
        raise TaskError(
            f"{len(many)} of {len(pairs)} pairs have several correct answers, the first {many[0]}; a whole answer is "
            "exactly one",
            hint="--metric nll sums the probabilities of all correct answers",
        )
    read_at = tuple((positions["end"],) for positions in pairs.positions)
    return replace(pairs, read_at=read_at, incorrect=((),) * len(pairs))


def single(pairs: AlignedPairs, metric: str) -> AlignedPairs:
    """Return pairs whose answers are single tokens.

    Raises:
        OptionError: if they were read as whole answers, which this metric cannot mean.
    """
    if pairs.read_at:
        raise OptionError(
            f"metric {metric} reads answers of one token; these pairs were read with whole answers",
            hint="--metric answer-logprob",
        )
    return pairs
