"""Answers of several tokens: which models can be asked for them, and pairs that were read for one token or for many."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from workbench.core.errors import OptionError, TaskError
from workbench.tasks.outputs import Outputs
from workbench.tasks.token_ids import Aligner

if TYPE_CHECKING:
    from workbench.tasks.alignment import AlignedPairs
    from workbench.tasks.captions import CaptionAligner
    from workbench.tasks.picture_ids import PictureAligner


def require_whole(
    work: Aligner | PictureAligner | CaptionAligner, outputs: Outputs, *, special_tokens: bool
) -> None:
    """Do nothing if a model spells an answer token by token, from left to right.

    Raises:
        OptionError: if it puts out classes, compares captions, or fills gaps.
    """
    reason = ""
    if outputs.classes:
        reason = f"this model puts out {outputs.describe()}"
    elif not isinstance(work, Aligner):
        reason = "this model spells no words"
    elif special_tokens:
        reason = "this model fills gaps and spells nothing from left to right"
    if reason:
        raise OptionError(
            f"the metric reads answers token by token, and {reason}", hint="--metric logit-difference, or nll"
        )


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
