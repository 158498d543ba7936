"""Products of differences and gradients, counted per pair; what the work on one batch at one level consists of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from typing import Protocol, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.circuits.graph import Graph
from workbench.core.errors import ShapeError
from workbench.engine.paired_runs import Batch, PairedRuns
from workbench.engine.reader_gradients import Differentiated, wide
from workbench.engine.rules import Backward
from workbench.engine.spans import Spans
from workbench.model.wiring import Site

MOST_KEPT = 10**8  # numbers; per-pair scores beyond this (0.4 GB) are not kept, the mean is the same


K = TypeVar("K", bound=Hashable)


class Sums(Protocol):
    """Where the work on a batch puts its products: a tally, or the part of one that a stack fills."""

    def labels(self, batch: Batch) -> Int[Tensor, "pair pos"] | None: ...

    def open(self, batch: Batch) -> None: ...

    def add(self, found: Float[Tensor, "pair pos *place"], where: tuple, labels: Tensor | None) -> None: ...

    def close(self, batch: Batch) -> None: ...


class Tally:
    """Scores per pair, summed over positions or over those of each span, and their mean."""

    def __init__(
        self,
        runs: PairedRuns,
        shape: tuple[int, ...],
        *,
        exists: np.ndarray | None,
        spans: Spans | None = None,
        absolute: bool,
    ) -> None:
        self.runs, self.exists, self.absolute, self.spans = runs, exists, absolute, spans
        self.n_labels = len(spans.names) if spans else 0
        full = (self.n_labels, *shape) if spans else shape
        small = runs.n_pairs * int(np.prod(full)) <= MOST_KEPT
        self.per_pair = np.zeros((runs.n_pairs, *full), dtype=np.float32) if small else None
        self._sum = np.zeros(full)
        self.closed: np.ndarray | None = None
        self._of_batch: np.ndarray | None = None
        self._rounds: np.ndarray | None = None

    def values(self) -> Float[np.ndarray, " pair *place"]:
        """Return the values of the batch that was closed last."""
        if self.closed is None:
            raise ShapeError("no batch is closed", hint="close a batch first")
        return self.closed

    @property
    def _open(self) -> np.ndarray:
        if self._of_batch is None:
            raise ShapeError("no batch is open", hint="open a batch first")
        return self._of_batch

    def labels(self, batch: Batch) -> Int[Tensor, "pair pos"] | None:
        """Return the span of every token, or None when positions are summed over."""
        return self.spans.of(batch) if self.spans else None

    def open(self, batch: Batch) -> None:
        """Begin a batch."""
        self._of_batch = np.zeros((len(batch), *self._sum.shape), dtype=np.float32)

    def add(self, found: Float[Tensor, "pair pos *place"], where: tuple, labels: Tensor | None) -> None:
        """Add products at these places of the open batch."""
        if labels is None:
            values = found.sum(1)
            self._open[(slice(None), *where)] += values.float().cpu().numpy()
            return
        pairs = len(found)
        index = labels + self.n_labels * torch.arange(pairs, device=labels.device)[:, None]
        values = found.new_zeros(pairs * self.n_labels, *found.shape[2:])
        values.index_add_(0, index.flatten(), found.flatten(0, 1))
        values = values.unflatten(0, (pairs, self.n_labels))
        self._open[(slice(None), slice(None), *where)] += values.float().cpu().numpy()

    def end_round(self, weight: float = 1.0) -> None:
        """Of several rounds over an open batch whose sizes are added: this one is complete."""
        done = weight * np.abs(self._open)
        self._rounds = done if self._rounds is None else self._rounds + done
        self._open[:] = 0

    def close(self, batch: Batch) -> None:
        """End a batch: its values per pair are in ``closed``, to be taken in here or by another process."""
        values = self._open if self._rounds is None else self._rounds
        self._rounds = None
        if self.absolute:
            values = np.abs(values)
        if self.exists is not None:
            values[..., ~self.exists] = np.nan
        self.closed, self._of_batch = values, None

    def shape_of(self, batch: Batch) -> tuple[int, ...]:
        """Return the shape of the values of a batch."""
        return (len(batch), *self._sum.shape)

    def take(self, batch: Batch, values: Float[np.ndarray, " pair *place"]) -> None:
        """Count the pairs of a batch."""
        if self.per_pair is not None:
            self.per_pair[batch.index] = values
        self._sum += values.sum(0, dtype=np.float64)

    def mean(self) -> np.ndarray:
        """Return the mean over pairs."""
        return self._sum / self.runs.n_pairs


class Work(ABC):
    """One batch at one level: taps for the runs, and what is done with their gradients."""

    def __init__(self, runs: PairedRuns, batch: Batch, graph: Graph, tally: Sums) -> None:
        self.runs, self.batch, self.graph, self.tally = runs, batch, graph, tally
        self.labels = tally.labels(batch)
        tally.open(batch)

    @staticmethod
    @abstractmethod
    def sites(runs: PairedRuns, graph: Graph) -> list[Site]:
        """Where differences are taken."""

    @abstractmethod
    def taps(self, *, walked: bool) -> tuple[list[str], list[str]]:
        """Hooks whose gradients are wanted, and hooks that are only kept."""

    @abstractmethod
    def start(self, differences: dict[Site, Tensor]) -> None:
        """Begin with the differences of the batch."""

    @abstractmethod
    def add(self, run: Differentiated, weight: float, backward: Backward) -> None:
        """Add the gradients of one run."""

    @abstractmethod
    def multiply(self) -> None:
        """Multiply the differences with the gradients that came since they were given, and add to the tally."""

    def finish(self) -> None:
        """Multiply, and end the batch."""
        self.multiply()
        self.tally.close(self.batch)


def accumulate(sums: dict[K, Tensor], key: K, value: Tensor, weight: float) -> None:
    """Add a weighted tensor, in float32 or wider, to the sum of its key."""
    value = wide(value)
    if key not in sums:
        sums[key] = value if weight == 1 else value * weight
    else:
        sums[key].add_(value, alpha=weight)
