"""Minimality: each part of a circuit matters, by itself or once its like are gone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from workbench.circuits.verdicts.statistics import Interval, mean_interval
from workbench.core.errors import OptionError, expect_word
from workbench.core.show import Shown
from workbench.core.stats.dependent_pairs import independent_of
from workbench.core.text import printable
from workbench.evaluate.subject import Progress, Subject, classes_of


@dataclass(frozen=True, kw_only=True, eq=False)
class LeftOut:
    """A part left out of the circuit from which ``rest`` was taken already.

    Attributes:
        rest: The set ``K``: nothing, or the other members of the part's class.
        kept, left_out: ``(pair,)`` metric of ``C`` without ``K``, and without ``K`` and the part.
        direction: 1 when more of the metric is more of the behavior, else -1.
        clusters: A number per pair, equal for pairs that are not independent; empty where all are.
    """

    part: str
    of: str
    rest: tuple[str, ...]
    kept: np.ndarray
    left_out: np.ndarray
    direction: int = 1
    clusters: tuple[int, ...] = ()

    @property
    def effect(self) -> float:
        """Mean drop of the metric when the part goes; positive supports the behavior."""
        return float(self.changes.mean())

    @property
    def changes(self) -> np.ndarray:
        """``(pair,)`` drop of the metric."""
        return self.direction * (self.kept - self.left_out)

    @property
    def interval(self) -> Interval:
        """95 % interval of the effect, bootstrap over pairs; those of one cluster are drawn together."""
        return mean_interval(self.changes, clusters=self.clusters)


@dataclass(frozen=True, kw_only=True, eq=False)
class Minimality(Shown, shown_in="workbench.evaluate.show"):
    """Every part with what leaving it out does."""

    rows: tuple[LeftOut, ...]
    gap: float
    metric: str
    unit: str
    ablation: str

    def best(self) -> dict[str, LeftOut]:
        """Part -> the row in which it matters most."""
        found: dict[str, LeftOut] = {}
        for row in self.rows:
            if row.part not in found or abs(row.effect) > abs(found[row.part].effect):
                found[row.part] = row
        return found

    def to_rows(self) -> list[dict[str, Any]]:
        """Return one row per part and set ``K``; effects in the metric's unit and as a share of the gap."""
        return [
            {
                "part": row.part,
                "class": row.of,
                "after removing": ", ".join(row.rest) or "nothing",
                "effect": row.effect,
                "stderr": row.interval.stderr,
                "low": row.interval.low,
                "high": row.interval.high,
                "share_of_gap": row.effect / self.gap if self.gap else float("nan"),
                "n": len(row.kept),
                **independent_of(row.clusters),
            }
            for row in self.rows
        ]

    def to_dataframe(self):
        """``to_rows`` as a table."""
        import pandas as pd

        return pd.DataFrame(self.to_rows())

    def __repr__(self) -> str:
        best = self.best()
        weakest = min(best.values(), key=lambda row: abs(row.effect))
        text = f"{len(best)} parts, weakest {weakest.part} {weakest.effect:+.3g} {self.unit}"
        return printable(f"<Minimality: {text}>")


def minimality(
    subject: Subject,
    *,
    parts: Literal["nodes", "edges"] = "nodes",
    limit: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Minimality:
    """Measure what leaving out each node (or edge) does, from the whole circuit and once the rest of its class is
    gone.

    Args:
        limit: Most parts to test; by default all. More than that are sampled by the seed.

    Returns:
        Per part the change of the metric in its unit, one value per pair; positive where the part supports the
        behavior.

    Source:
        Wang et al. 2023, arXiv:2211.00593, section 4.2.

    Example:
        >>> import workbench as wb
        >>> runs = wb.paired_runs(wb.open_model("zoo:ioi"), "ioi", n=4)
        >>> subject = wb.Subject(runs=runs, circuit=wb.score(runs, "eap").top(100))
        >>> len(wb.minimality(subject, limit=2).rows) > 0
        True
    """
    expect_word("kind of parts", parts, ("nodes", "edges"))
    every = subject.nodes if parts == "nodes" else subject.edges
    if not every:
        raise OptionError(
            f"the circuit has no {parts} that could be left out",
            hint="keep more: workbench discover --keep 10%",
        )
    chosen = sampled(every, limit, seed)
    cases = list(_cases(subject, chosen, parts))
    masks = []
    for part, _, rest in cases:
        before = subject.without(subject.kept, rest)
        masks += [before, subject.without(before, [part])]
    values = subject.measure([*masks, subject.nothing], progress)
    metric = subject.runs.metric
    rows = tuple(
        LeftOut(
            part=part,
            of=of,
            rest=rest,
            kept=values[2 * i],
            left_out=values[2 * i + 1],
            direction=metric.direction,
            clusters=subject.runs.pairs.pairs.clusters,
        )
        for i, (part, of, rest) in enumerate(cases)
    )
    gap = metric.direction * float(subject.runs.clean.mean() - values[-1].mean())
    return Minimality(rows=rows, gap=gap, metric=metric.name, unit=metric.unit, ablation=subject.ablation)


def sampled(parts: tuple[str, ...], limit: int | None, seed: int) -> tuple[str, ...]:
    """At most ``limit`` of the parts, drawn by the seed, in their order."""
    if limit is None or len(parts) <= limit:
        return parts
    drawn = np.sort(np.random.default_rng(seed).permutation(len(parts))[:limit])
    return tuple(parts[i] for i in drawn)


def _cases(
    subject: Subject, chosen: tuple[str, ...], parts: Literal["nodes", "edges"]
) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """(part, class, K): K is nothing; for nodes that have others of their class, also those."""
    if parts == "edges":
        yield from ((edge, "edge", ()) for edge in chosen)
        return
    for name, members in classes_of(subject.circuit, subject.nodes).items():
        for node in members:
            if node not in chosen:
                continue
            yield node, name, ()
            rest = tuple(other for other in members if other != node)
            if rest:
                yield node, name, rest
