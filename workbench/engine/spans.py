"""Spans of prompts: which tokens are looked at together, by names that all pairs share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from workbench.core.errors import OptionError, unknown
from workbench.engine.batch import Batch
from workbench.engine.interventions.words import SPAN_KINDS, SpanKind
from workbench.engine.paired_runs import PairedRuns

BEFORE = "start"  # tokens before the first named position


@dataclass(frozen=True, kw_only=True)
class Spans:
    """Names of spans, and in which of them each token of a batch is.

    Every token is in exactly one span, and a span may be empty.
    """

    names: tuple[str, ...]
    of: Callable[[Batch], Int[Tensor, "pair pos"]]


def spans_of(runs: PairedRuns, kind: SpanKind = "spans") -> Spans:
    """Return the spans of these prompts.

    Args:
        kind: ``spans`` begin at each named position and are called by it, ``start`` is what stands before all of them;
            ``positions`` are the named tokens one by one, and ``rest``; ``tokens`` are all tokens, by number.

    Returns:
        Names, and a function from a batch to ``(pair, pos)`` indices into them.

    Raises:
        OptionError: for an unknown kind.

    Example:
        >>> import workbench as wb
        >>> runs = wb.paired_runs(wb.open_model("zoo:induction"), "induction", n=2)
        >>> spans_of(runs).names
        ('start', 'A1', 'B1', 'A2', 'end')
    """
    if kind not in SPAN_KINDS:
        raise unknown("kind of spans", kind, SPAN_KINDS, error=OptionError)
    if kind == "positions":
        return Spans(names=runs.position_labels, of=runs.labels_of)
    if kind == "tokens":
        longest = max(batch.n_tokens for batch in runs.batches)
        return Spans(names=tuple(str(i) for i in range(longest)), of=_by_number)
    names = runs.position_names
    return Spans(names=(BEFORE, *names), of=lambda batch: _begun(batch, names))


def _by_number(batch: Batch) -> Int[Tensor, "pair pos"]:
    return torch.arange(batch.n_tokens, device=batch.clean.device).expand(len(batch), -1)


def _begun(batch: Batch, names: tuple[str, ...]) -> Int[Tensor, "pair pos"]:
    """The name that stands last at or before each token; of two on one token the first one counts."""
    place = torch.arange(batch.n_tokens, device=batch.clean.device)[None]
    found = torch.zeros_like(batch.clean)
    latest = torch.full_like(batch.clean, -1)
    for label, name in enumerate(names, start=1):
        begins = batch.at(name)[:, None]
        nearer = (begins <= place) & (begins > latest)
        found, latest = torch.where(nearer, label, found), torch.where(nearer, begins, latest)
    return found
