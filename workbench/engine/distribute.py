"""Who computes which part of a long computation: this process, one of several jobs, or workers elsewhere.

A computation falls into *parts* that need nothing of each other. Its list of parts is the same wherever it runs, and
so is what is stacked into one forward pass; that is why a table put together from several processes is bit-identical
to that of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from workbench.core.errors import OptionError, RunError
from workbench.engine.store import SweepStore

if TYPE_CHECKING:
    from workbench.engine.batch import Batch
    from workbench.engine.paired_runs import PairedRuns

Compute = Callable[["WorkPart"], np.ndarray]
MOST_MEMORY = 10**9  # bytes of the finished parts of one interrupted call
MOST_UNFINISHED = 4  # interrupted calls that are kept; the oldest goes first
_UNFINISHED: dict[str, dict[str, np.ndarray]] = {}  # by question
_STEPS: dict[str, dict[str, Any]] = {}  # by question


@dataclass(frozen=True, kw_only=True)
class WorkPart:
    """One part: ``key`` names it on disk and between processes.

    Attributes:
        shape: Shape of its values; None where it is not known beforehand.
        batch: The batch of pairs it belongs to; parts of one batch share its recorded activations.
        cost: Work of this part against that of others, in any unit.
        what: What is being done, for whoever waits.
    """

    key: str
    shape: tuple[int, ...] | None
    batch: int
    cost: float = 1.0
    what: str = ""


def batch_parts(runs: PairedRuns, name: str, shape: Callable[[Batch], tuple[int, ...]]) -> list[WorkPart]:
    """Return one part for each batch of pairs.

    Args:
        name: What is computed, where one method has several such lists.
    """
    return [
        WorkPart(
            key=f"{name}-b{b:05d}",
            shape=shape(batch),
            batch=b,
            cost=float(len(batch) * batch.n_tokens),
            what=f"{len(batch)} pairs of {batch.n_tokens} tokens",
        )
        for b, batch in enumerate(runs.batches)
    ]


@dataclass(frozen=True, kw_only=True)
class Here:
    """This process computes every part, one after the other; finished ones are read from the store.

    Attributes:
        question: Digest of what is measured; parts of different questions never mix.
        store: Where finished parts are kept; nowhere if None.
        prefix: Of the names of parts on disk.
        within: Whether a method is at work. A method that it asks then has names of its own for its parts.
        memory: Where finished parts are kept without a store, so that an interrupted call goes on (`remembered`).
    """

    question: str = ""
    store: SweepStore | None = None
    prefix: str = ""
    within: bool = False
    memory: dict[str, np.ndarray] | None = field(default=None, compare=False, repr=False)

    def asked(self, question: str, store: SweepStore | None) -> Self:
        """Return the same division for one computation; within another, whose store it shares, its parts have its
        name.
        """
        shared = store is self.store if store is not None else self.memory is not None
        return replace(self, question=question, store=store, prefix=f"{question}-" if shared else "")

    def finished(self, part: WorkPart, compute: Compute) -> np.ndarray:
        """Return the values of a part: from the store, or computed now and kept."""
        key = self.prefix + part.key
        values = self.store.get(key, part.shape) if self.store else self._kept(key)
        if values is None:
            values = compute(part)
            if self.store:
                self.store.put(key, values)
            elif self.memory is not None and sum(v.nbytes for v in self.memory.values()) < MOST_MEMORY:
                self.memory[key] = values.copy()  # whoever asked may add to theirs
        return values

    def _kept(self, key: str) -> np.ndarray | None:
        found = None if self.memory is None else self.memory.get(key)
        return None if found is None else found.copy()

    def values(self, parts: Sequence[WorkPart], compute: Compute) -> Iterator[np.ndarray]:
        """Return the values of all parts, in their order."""
        for part in parts:
            yield self.finished(part, compute)


@contextmanager
def remembered(division: Here, question: str, *, bare: bool) -> Iterator[Here]:
    """Within, what is finished is kept in this process, if it is kept nowhere else; it stays after an interruption.

    So the same call in a notebook goes on. When the work ends in any other way it is forgotten.

    Args:
        question: Digest of all that decides the numbers.
        bare: Whether nobody attached anything to the model; what somebody attached has no digest.
    """
    if not bare or type(division) is not Here or division.store is not None or division.memory is not None:
        yield division
        return
    memory = _UNFINISHED.pop(question, {})
    try:
        yield replace(division, memory=memory)
    except (KeyboardInterrupt, MemoryError) as stop:
        _kept_for_later(_UNFINISHED, question, memory)
        vars(stop)["keeps"] = True  # whoever tells the reader of the interruption says so
        raise


@contextmanager
def remembered_steps(question: str, *, bare: bool) -> Iterator[dict[str, Any]]:
    """Give what an interrupted call of the same question finished, by step; what is added stays after an interruption.

    For work of a few long steps, each of its own kind. When it ends in any other way it is forgotten.

    Args:
        question, bare: As in `remembered`.
    """
    steps = _STEPS.pop(question, {}) if bare else {}
    try:
        yield steps
    except KeyboardInterrupt:
        if bare:
            _kept_for_later(_STEPS, question, steps)
        raise


def _kept_for_later(place: dict[str, Any], question: str, found: Any) -> None:
    place[question] = found
    while len(place) > MOST_UNFINISHED:
        del place[next(iter(place))]


def unfinished() -> dict[str, int]:
    """Return how many finished parts are kept of each interrupted call of this process, by its question."""
    return {question: len(parts) for question, parts in {**_UNFINISHED, **_STEPS}.items()}


@dataclass(frozen=True, kw_only=True)
class Shard(Here):
    """This process computes the ``index``-th of ``count`` shares, each about the same work, and nothing else.

    Raises:
        OptionError: if there is no such share.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise OptionError(
                f"there is no shard {self.index} of {self.count}", hint=f"--shard 1/{max(1, self.count)}"
            )

    @property
    def name(self) -> str:
        """``shard-2-of-8``: the folder of its own."""
        return f"shard-{self.index}-of-{self.count}"

    def values(self, parts: Sequence[WorkPart], compute: Compute) -> Iterator[np.ndarray]:
        """Compute and keep the parts of this share, then stop with ``ShardFinished``: the rest is not here."""
        mine = share_of(parts, self.index, self.count)
        if self.store is None:
            raise OptionError("a shard must keep its parts", hint="give a folder with --out")
        for part in mine:
            self.finished(part, compute)
        raise ShardFinished(self.prefix, parts, mine)
        yield  # never reached: this is a generator, as the others are


class ShardFinished(Exception):
    """A share of the parts is on disk. Not an error: whoever asked for a shard catches it."""

    def __init__(self, prefix: str, parts: Sequence[WorkPart], mine: Sequence[WorkPart]) -> None:
        super().__init__(f"{len(mine)} of {len(parts)} parts")
        self.parts = tuple((prefix + p.key, p.shape) for p in parts)  # as they are called on disk
        self.mine = tuple(prefix + p.key for p in mine)


def share_of(parts: Sequence[WorkPart], index: int, count: int) -> list[WorkPart]:
    """Return the ``index``-th (from 1) of ``count`` contiguous shares of about equal cost; every part is in exactly
    one.

    Contiguous, because parts of one batch share its activations.

    Example:
        >>> parts = [WorkPart(key=str(n), shape=(), batch=0) for n in range(5)]
        >>> [[p.key for p in share_of(parts, i, 2)] for i in (1, 2)]
        [['0', '1'], ['2', '3', '4']]
    """
    whole = sum(p.cost for p in parts)
    before, chosen = 0.0, []
    for part in parts:
        middle = (before + part.cost / 2) / whole
        if min(count, int(middle * count) + 1) == index:
            chosen.append(part)
        before += part.cost
    return chosen


def parse_shard(text: str | None) -> Shard | None:
    """Return ``2/8`` as a shard; None for None.

    Raises:
        OptionError: for any other form, or a share that does not exist.
    """
    if text is None:
        return None
    index, slash, count = text.partition("/")
    if not slash or not (index.isdecimal() and count.isdecimal()):
        raise OptionError(f"cannot read the shard {text!r}", hint="write I/N, counted from 1: --shard 2/8")
    return Shard(index=int(index), count=int(count))


@dataclass(frozen=True, kw_only=True)
class Serving(Here):
    """In a worker: compute the parts that a queue asks for, until it asks for nothing.

    The worker runs the same program as everybody else up to the place where it falls into parts, and stays there.

    Attributes:
        inbox: ``(question, key)``, or None to stop.
        outbox: The values, or the error.
    """

    inbox: SimpleQueue
    outbox: SimpleQueue

    def values(self, parts: Sequence[WorkPart], compute: Compute) -> Iterator[np.ndarray]:
        """Serve until told to stop, then end the program with ``Served``."""
        by_key = {part.key: part for part in parts}
        while (asked := self.inbox.get()) is not None:
            question, key = asked
            if question != self.question or key not in by_key:
                raise RunError(
                    "a worker was asked for something else than what it computes: its model, its prompts or its "
                    "version of the workbench are not those of the process that asks",
                    hint="install the same versions everywhere, and let every machine read the same files",
                )
            self.outbox.put(compute(by_key[key]))
        raise Served
        yield


class Served(Exception):
    """A worker was told that nothing is left to do."""
