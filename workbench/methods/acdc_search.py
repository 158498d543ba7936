"""The search behind ACDC: which removals are tried in which order, and how many of them share a forward pass.

Four things make it fast and none changes a decision:

*Guessing ahead.* One test needs the outcome of all tests before it. The outcomes of the next ``K`` tests are guessed;
under the guess all ``K`` candidate circuits are known and are run as stacked copies of one forward pass. Read in
order, the first is exact, and each next one is exact as long as all guesses before it were right: its circuit is then
the very circuit that one test at a time would have run. The first wrong guess ends the reading (its own measurement
still counts), and the search goes on from there. So a guess decides how much work is lost, never what is kept. ``K``
doubles while all guesses hold.

*Layers that cannot have changed.* Targets are visited from the logits backwards, so every removed edge ends in the
layer of the edge under test or after it: the pass starts there, from the clean residual stream.

*Parts that cannot have changed.* Circuits are run by their live parts alone, and a part that reads what it read in an
earlier circuit is looked up (``workbench/engine/live_parts.py``). A circuit that is measured alone looks nothing up.

*Edges that cannot matter.* An edge into a part that has no way to the logits any more, or from a source that writes the
same in both runs, changes nothing, whatever the numbers: its damage is exactly 0, and no pass is run for it. (A part is
visited after all its readers, so what is cut off stays cut off.) What cut-off parts read is left as it is.

With positions every edge stands once at each label of the tokens, and the same search runs over
``(label, source, target)``. At a label a query or an MLP has a way to the logits when what it feeds is still read
there, a key or a value when that is still read at any label.

Stacked copies differ from single ones in the last bits. A decision whose margin to ``tau`` is within ``error_bound`` is
therefore measured again as one test at a time would: alone, from the same layer, against a value measured alone.
The bound is measured, not derived: where a model itself jumps (a token on the edge between two experts), rounding can
move the metric further than it says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Literal

import numpy as np
import torch

from workbench.circuits.graph import Graph
from workbench.engine.distribute import WorkPart
from workbench.engine.edges import ablate_edges, copies_that_fit
from workbench.engine.interventions.words import Ablation
from workbench.engine.live_parts import live_parts
from workbench.engine.paired_runs import Batch, PairedRuns
from workbench.engine.reference import reference_outputs
from workbench.engine.room import cached_tokens
from workbench.engine.source_outputs import changing

Mask = np.ndarray  # (*label, source, target), True where the edge carries its reference
Place = tuple[int, ...]  # (*label, source, target)
Mode = Literal["batched", "sequential"]
FIRST_STACK = 8
REMEMBERED = 2**26  # numbers of parts of circuits, 0.25 GB in float32
# Rounding of stacked against single copies, in units of the precision's epsilon times the size of the metric: at most
# 3.4 seen on six families of the tests (16 random circuits each, float32), 0.8 on the built-in IOI model.
EPSILONS = 32


class Meter:
    """The metric of circuits: mean over all pairs, turned so that higher is better; each circuit is run once.

    Args:
        per_position: Circuits are masks ``(label, source, target)`` over ``runs.position_labels``.
    """

    def __init__(
        self, runs: PairedRuns, graph: Graph, ablation: Ablation, *, per_position: bool = False
    ) -> None:
        self.runs, self.graph, self.per_position = runs, graph, per_position
        self.labels = (len(runs.position_labels),) if per_position else ()
        self.references = [reference_outputs(runs, batch, graph, ablation) for batch in runs.batches]
        self.clean = float(runs.metric.direction * runs.clean.mean())
        self._live = [
            None if per_position else live_parts(runs, batch, graph, reference, room=self._remembered(batch))
            for batch, reference in zip(runs.batches, self.references, strict=True)
        ]
        self.copies, self.passes, self._asked = 0, 0, 0
        self._known: dict[tuple[bytes, int | None], float] = {}

    @property
    def error_bound(self) -> float:
        """How far two measurements of one circuit may be apart: alone, or stacked with others."""
        size = max(1.0, float(np.abs(self.runs.clean).mean()), float(np.abs(self.runs.corrupted).mean()))
        dtype = next(self.runs.model.parameters()).dtype
        return EPSILONS * torch.finfo(dtype).eps * size

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a circuit's mask."""
        return (*self.labels, *self.graph.edge_mask.shape)

    @torch.no_grad()
    def idle_sources(self) -> np.ndarray:
        """Return ``(*label, source)``: True where ablation changes nothing of what a source writes, at any such
        token.
        """
        idle = np.ones((*self.labels, len(self.graph.sources)), dtype=bool)
        for batch, reference in zip(self.runs.batches, self.references, strict=True):
            moved = changing(self.runs, batch, self.graph, reference, per_position=self.per_position)
            idle &= ~(moved if self.per_position else moved[0])
        return idle

    def knows(self, mask: Mask) -> bool:
        return (_key(mask), None) in self._known

    def stacked(self, masks: Sequence[Mask], start: int) -> list[float]:
        """Return metrics of circuits run together, from layer ``start``; what was measured before is not run again."""
        keys = [(_key(m), None) for m in masks]
        new = {k: m for k, m in zip(keys, masks, strict=True) if k not in self._known}
        if new:
            for key, value in zip(new, self._run(list(new.values()), start), strict=True):
                self._known[key] = value
        return [self._known[k] for k in keys]

    def alone(self, mask: Mask, start: int) -> float:
        """Return the metric of one circuit in a pass of its own, from layer ``start``."""
        key = (_key(mask), start)
        if key not in self._known:
            self._known[key] = self._run([mask], start, alone=True)[0]
        return self._known[key]

    def room(self) -> int:
        """Return copies that fit into one pass over the largest batch."""
        return min(map(self._copies, self.runs.batches))

    def _copies(self, batch: Batch) -> int:
        tokens = len(batch) * batch.n_tokens
        return min(copies_that_fit(self.runs, batch, self.graph), max(1, cached_tokens(self.runs) // tokens))

    def _remembered(self, batch: Batch) -> int:
        """How many numbers of parts of circuits are kept: as many as one pass of stacked copies has, or 0.25 GB."""
        floats = len(batch) * batch.n_tokens * self.runs.wiring.d_model * len(self.graph.targets)
        return min(REMEMBERED, max(1, self._copies(batch)) * floats)

    def _run(self, masks: list[Mask], start: int, *, alone: bool = False) -> list[float]:
        """Metrics of circuits, measured now or by an earlier start of this search.

        The search decides by them alone. One that starts again therefore asks for the same circuits in the same order,
        and finds those that were measured before it was killed.
        """
        self._asked += 1
        content = blake2b(np.packbits(np.stack(masks)).tobytes(), digest_size=8).hexdigest()
        part = WorkPart(key=f"acdc-{self._asked:06d}-{content}", shape=(len(masks),), batch=0)
        values = self.runs.division.finished(part, lambda part: self._measured(masks, start, alone))
        self.copies += len(masks)
        self.passes += sum(-(-len(masks) // self._copies(batch)) for batch in self.runs.batches)
        return values.tolist()

    @torch.no_grad()
    def _measured(self, masks: list[Mask], start: int, alone: bool) -> np.ndarray:
        total = np.zeros(len(masks))
        ablated = torch.as_tensor(np.stack(masks), device=self.runs.device)
        for batch, reference, live in zip(self.runs.batches, self.references, self._live, strict=True):
            size = self._copies(batch)
            if live is not None:
                for k in range(0, len(masks), size):
                    found = live.values(np.stack(masks[k : k + size]), afresh=alone)
                    total[k : k + size] += found.double().sum(1).cpu().numpy()
                continue
            labels = self.runs.labels_of(batch) if self.per_position else None
            for k in range(0, len(masks), size):
                chunk = ablated[k : k + size]
                values = ablate_edges(
                    self.runs, batch, self.graph, chunk, reference=reference, start=start, labels=labels
                )
                total[k : k + size] += values.double().sum(1).cpu().numpy()
        return self.runs.metric.direction * total / self.runs.n_pairs


def _key(mask: Mask) -> bytes:
    return blake2b(np.packbits(mask).tobytes(), digest_size=16).digest()


@dataclass(eq=False)
class SearchState:
    """A search under way: what is removed, which ``(*label, target)`` still reach the logits, the metric now."""

    removed: Mask
    alive: np.ndarray
    current: float
    mask: Mask | None = (
        None  # the circuit as it was measured last, and from which layer: None for the whole model
    )
    start: int = 0

    def copy(self) -> SearchState:
        return SearchState(self.removed.copy(), self.alive.copy(), self.current, self.mask, self.start)


@dataclass(frozen=True, kw_only=True, eq=False)
class Trial:
    """One test: the circuit without the edge, and whether its removal was guessed."""

    at: int
    mask: Mask
    guess: bool


@dataclass(eq=False)
class Search:
    """ACDC over one graph. ``run(tau)`` gives the damage of every edge; searches of several ``tau`` share work.

    Args:
        guess: ``(*label, source, target)`` expected damages; they decide speed only.
        absolute: Remove when the size of the damage is below ``tau``, whatever its sign.
    """

    meter: Meter
    guess: np.ndarray
    absolute: bool = False
    tested: int = 0
    measured_again: int = 0
    _order: list[Place] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        graph = self.meter.graph
        self._order = [
            (*label, i, j)
            for j in reversed(range(len(graph.targets)))
            for i in _sources_of(graph, j)
            for label in reversed(list(np.ndindex(self.meter.labels)))
        ]
        self._writes = [
            [graph.source_index[n] for n in graph.fed_by(t.writer) if n in graph.source_index]
            for t in graph.targets
        ]
        self._idle = self.meter.idle_sources()

    def run(self, tau: float, *, mode: Mode, progress: Callable[[int, int, str], None]) -> np.ndarray:
        """Return ``(*label, source, target)`` damage of each edge when tested; below ``tau`` it was removed. NaN:
        no edge.
        """
        found = np.full(self.meter.shape, np.nan)
        alive = np.zeros((*self.meter.labels, len(self.meter.graph.targets)), bool)
        state = SearchState(np.zeros(self.meter.shape, bool), alive, self.meter.clean)
        stack, at = FIRST_STACK, 0
        while at < len(self._order):
            if mode == "sequential":
                after = self._one(state, tau, at, found)
            else:
                trials = list(self._ahead(state.copy(), tau, at, min(stack, self.meter.room())))
                after, held = self._read(state, tau, at, trials, found)
                stack = 2 * stack if held else max(2, stack // 2)
            at = after
            progress(
                at, len(self._order), f"edges decided at tau {tau:g}, {int(state.removed.sum())} removed"
            )
        return found

    # -- the order, and what needs no pass -----------------------------------------------------------------

    def _start(self, at: int) -> int:
        """The first layer that the edge at this place of the order can change."""
        return self.meter.graph.start_of[self._order[at][-1]]

    def _enter(self, state: SearchState, at: int) -> bool:
        """Whether the next edge needs a test; marks its target alive where it reaches the logits."""
        *label, i, j = self._order[at]
        if i == self.meter.graph.n_visible[j] - 1:  # the first edges into it: all its readers are decided
            state.alive[..., j] = self._reaches(state, j)
        return bool(state.alive[(*label, j)]) and not self._idle[(*label, i)]

    def _reaches(self, state: SearchState, j: int) -> np.ndarray:
        """``(*label,)``: whether what a target feeds is still read by something that reaches the logits."""
        graph = self.meter.graph
        if j == len(graph.targets) - 1:
            return np.ones(self.meter.labels, bool)
        after = slice(j + 1, len(graph.targets))
        kept = ~state.removed[..., after] & graph.edge_mask[:, after] & state.alive[..., None, after]
        read = kept[..., self._writes[j], :].any((-2, -1))
        # queries and MLPs act at their own token; keys and values at others too
        return np.broadcast_to(read.any(), read.shape) if graph.targets[j].slot in ("k", "v") else read

    def _without(self, state: SearchState, at: int) -> Mask:
        mask = state.removed & state.alive[..., None, :]
        mask[self._order[at]] = True
        return mask

    def _removes(self, damage: float, tau: float) -> bool:
        return (abs(damage) if self.absolute else damage) < tau

    # -- one test at a time ----------------------------------------------------------------------------------

    def _one(self, state: SearchState, tau: float, at: int, found: np.ndarray) -> int:
        if not self._enter(state, at):
            return self._decide(state, tau, at, 0.0, found)
        self.tested += 1
        mask, start = self._without(state, at), self._start(at)
        value = self.meter.alone(mask, start)
        return self._decide(state, tau, at, state.current - value, found, (value, mask, start))

    def _decide(
        self,
        state: SearchState,
        tau: float,
        at: int,
        damage: float,
        found: np.ndarray,
        measured: tuple[float, Mask, int] | None = None,
    ) -> int:
        """Write a decision down; the next place of the order."""
        found[self._order[at]] = damage
        if self._removes(damage, tau):
            state.removed[self._order[at]] = True
            if measured is not None:
                state.current, state.mask, state.start = measured
        return at + 1

    # -- many tests in one pass ------------------------------------------------------------------------------

    def _ahead(self, state: SearchState, tau: float, at: int, most: int) -> Iterator[Trial]:
        """The next tests as they will be if every guess is right; all of one first layer."""
        start, new = None, 0
        for place in range(at, len(self._order)):
            if not self._enter(state, place):
                if self._removes(0.0, tau):
                    state.removed[self._order[place]] = True
                continue
            if start is not None and self._start(place) != start:
                return
            start = self._start(place)
            mask = self._without(state, place)
            new += not self.meter.knows(mask)
            if new > most:
                return
            guess = self._removes(float(self.guess[self._order[place]]), tau)
            yield Trial(at=place, mask=mask, guess=guess)
            if guess:
                state.removed[self._order[place]] = True

    def _read(
        self, state: SearchState, tau: float, at: int, trials: list[Trial], found: np.ndarray
    ) -> tuple[int, bool]:
        """Decide in order up to the first wrong guess; the next place, and whether all guesses held."""
        values = self.meter.stacked([t.mask for t in trials], self._start(trials[0].at)) if trials else []
        self._learn(state, trials, values)
        for trial, value in zip(trials, values, strict=True):
            at = self._free(state, tau, at, trial.at, found)
            self._enter(state, at)
            self.tested += 1
            damage, start = state.current - value, self._start(at)
            if abs((abs(damage) if self.absolute else damage) - tau) <= self.meter.error_bound:
                damage, value = self._again(state, trial.mask, start)
            at = self._decide(state, tau, at, damage, found, (value, trial.mask, start))
            if self._removes(damage, tau) != trial.guess:
                return at, False
        if not trials:
            at = self._free(state, tau, at, len(self._order), found)
        return at, True

    def _free(self, state: SearchState, tau: float, at: int, until: int, found: np.ndarray) -> int:
        """Decide the edges before ``until`` that need no pass."""
        while at < until:
            self._enter(state, at)
            at = self._decide(state, tau, at, 0.0, found)
        return at

    def _again(self, state: SearchState, mask: Mask, start: int) -> tuple[float, float]:
        """Damage and metric measured alone, as one test at a time measures them."""
        self.measured_again += 1
        before = self.meter.clean if state.mask is None else self.meter.alone(state.mask, state.start)
        value = self.meter.alone(mask, start)
        return before - value, value

    def _learn(self, state: SearchState, trials: list[Trial], values: list[float]) -> None:
        """Better guesses: damages under the guessed circuits, for tests that will have to be made again."""
        before = state.current
        for trial, value in zip(trials, values, strict=True):
            self.guess[self._order[trial.at]] = before - value
            before = value if trial.guess else before


def _sources_of(graph: Graph, target: int) -> range:
    """Sources a target reads, later ones first."""
    return range(int(graph.n_visible[target]) - 1, int(graph.first_visible[target]) - 1, -1)
