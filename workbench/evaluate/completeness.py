"""Completeness: take the same parts from the circuit and from the model; a complete circuit changes alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.circuits.verdicts.statistics import Interval, mean_interval
from workbench.core.errors import OptionError
from workbench.core.show import Shown
from workbench.core.stats.dependent_pairs import independent_of
from workbench.core.text import printable
from workbench.evaluate.subject import Progress, Subject, classes_of


@dataclass(frozen=True, kw_only=True, eq=False)
class Removal:
    """One set ``K`` taken from both.

    Attributes:
        kind: ``class``, ``random nodes``, ``random edges`` or ``greedy``.
        circuit, model: ``(pair,)`` metric of the circuit and of the model without ``K``.
        searched: Pairs on which a greedy set was found; it is judged on the others.
        clusters: A number per pair, equal for pairs that are not independent; empty where all are.
    """

    kind: str
    name: str
    removed: tuple[str, ...]
    circuit: np.ndarray
    model: np.ndarray
    searched: tuple[int, ...] = ()
    clusters: tuple[int, ...] = ()

    @property
    def judged(self) -> np.ndarray:
        """Indices of the pairs that had no part in choosing the set."""
        return np.setdiff1d(np.arange(len(self.model)), self.searched)

    @property
    def incompleteness(self) -> float:
        """``F(C without K) - F(M without K)``, mean over the judged pairs, in the metric's unit."""
        return float((self.circuit - self.model)[self.judged].mean())

    @property
    def interval(self) -> Interval:
        """95 % interval of the incompleteness, bootstrap over the judged pairs; a cluster is drawn as a whole."""
        return mean_interval((self.circuit - self.model)[self.judged], clusters=self.judged_clusters)

    @property
    def judged_clusters(self) -> tuple[int, ...]:
        """The clusters of the judged pairs."""
        return tuple(self.clusters[i] for i in self.judged) if self.clusters else ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Completeness(Shown, shown_in="workbench.evaluate.show"):
    """Removals with the metric of the whole model and of nothing beside them."""

    rows: tuple[Removal, ...]
    full: np.ndarray
    empty: np.ndarray
    metric: str
    unit: str
    ablation: str

    @property
    def gap(self) -> float:
        """Mean metric of the model minus that of nothing."""
        return float(self.full.mean() - self.empty.mean())

    @property
    def worst(self) -> Removal:
        """The removal under which circuit and model differ most."""
        return max(self.rows, key=lambda row: abs(row.incompleteness))

    def to_rows(self) -> list[dict[str, Any]]:
        """Return one row per removal; incompleteness in the metric's unit and as a share of the gap."""
        return [
            {
                "kind": row.kind,
                "name": row.name,
                "removed": ", ".join(row.removed),
                "n_removed": len(row.removed),
                "circuit": float(row.circuit[row.judged].mean()),
                "model": float(row.model[row.judged].mean()),
                "incompleteness": row.incompleteness,
                "stderr": row.interval.stderr,
                "low": row.interval.low,
                "high": row.interval.high,
                "share_of_gap": row.incompleteness / self.gap if self.gap else float("nan"),
                "n": len(row.judged),
                **independent_of(row.judged_clusters),
            }
            for row in self.rows
        ]

    def to_dataframe(self):
        """``to_rows`` as a table."""
        import pandas as pd

        return pd.DataFrame(self.to_rows())

    def __repr__(self) -> str:
        worst = self.worst
        text = f"{len(self.rows)} sets, worst {worst.name} {worst.incompleteness:+.3g} {self.unit}"
        return printable(f"<Completeness: {text}>")


def completeness(
    subject: Subject,
    *,
    random_sets: int = 10,
    restarts: int = 3,
    steps: int = 4,
    candidates: int = 5,
    seed: int = 0,
    progress: Progress | None = None,
) -> Completeness:
    """Compare circuit and model without each class of nodes, random halves, and the worst sets a search finds.

    Args:
        random_sets: Random halves of the nodes, and as many of the edges.
        restarts: Greedy searches; each adds ``steps`` nodes, each time the one of ``candidates`` random ones that
            raises ``|F(C without K) - F(M without K)|`` most. A search sees every second pair only; what it finds is
            judged on the others.

    Returns:
        Per set taken away, the metric of circuit and model in the metric's unit, one value per pair; their difference
        is 0 for a complete circuit.

    Source:
        Wang et al. 2023, arXiv:2211.00593, section 4.1 and appendix on the greedy search.

    Example:
        >>> import workbench as wb
        >>> runs = wb.paired_runs(wb.open_model("zoo:ioi"), "ioi", n=4)
        >>> subject = wb.Subject(runs=runs, circuit=wb.score(runs, "eap").top(100))
        >>> found = wb.completeness(subject, random_sets=1, restarts=1, steps=1, candidates=1)
        >>> len(found.rows) > 0
        True
    """
    if not subject.nodes:
        raise OptionError(
            "the circuit has no nodes that could be taken away",
            hint="keep more: workbench discover --keep 10%",
        )
    rng = np.random.default_rng(seed)
    sets = [("class", name, members) for name, members in classes_of(subject.circuit, subject.nodes).items()]
    sets += _random_halves(subject, random_sets, rng)
    searched = tuple(range(0, subject.runs.n_pairs, 2)) if subject.runs.n_pairs > 3 else ()
    for k in range(restarts):
        found = _search(
            subject, steps, candidates, rng, np.array(searched or range(subject.runs.n_pairs)), progress
        )
        sets.append(("greedy", f"search {k + 1}", found))
    masks = [
        subject.without(whole, removed)
        for _, _, removed in sets
        for whole in (subject.kept, subject.everything)
    ]
    values = subject.measure([*masks, subject.nothing], progress)
    rows = tuple(
        Removal(
            kind=kind,
            name=name,
            removed=removed,
            circuit=values[2 * i],
            model=values[2 * i + 1],
            searched=searched if kind == "greedy" else (),
            clusters=subject.runs.pairs.pairs.clusters,
        )
        for i, (kind, name, removed) in enumerate(sets)
    )
    metric = subject.runs.metric
    return Completeness(
        rows=rows,
        full=subject.runs.clean,
        empty=values[-1],
        metric=metric.name,
        unit=metric.unit,
        ablation=subject.ablation,
    )


def _random_halves(
    subject: Subject, n: int, rng: np.random.Generator
) -> list[tuple[str, str, tuple[str, ...]]]:
    """Random halves of the nodes and of the edges: kind, name and what is taken away."""
    found = []
    for what, parts in (("nodes", subject.nodes), ("edges", subject.edges)):
        for k in range(n if len(parts) > 1 else 0):
            half = np.sort(rng.permutation(len(parts))[: len(parts) // 2])
            removed = tuple(parts[i] for i in half)
            found.append((f"random {what}", f"random half {k + 1} of the {what}", removed))
    return found


def _search(
    subject: Subject,
    steps: int,
    candidates: int,
    rng: np.random.Generator,
    pairs: np.ndarray,
    progress: Progress | None,
) -> tuple[str, ...]:
    """Grow a set of nodes that circuit and model disagree on; the best set on the way is returned."""
    chosen: tuple[str, ...] = ()
    best: tuple[float, tuple[str, ...]] = (-1.0, ())
    for _ in range(min(steps, len(subject.nodes))):
        left = [node for node in subject.nodes if node not in chosen]
        tried = [(*chosen, left[i]) for i in np.sort(rng.permutation(len(left))[:candidates])]
        differences = _incompleteness(subject, tried, pairs, progress)
        top = int(np.argmax(differences))
        chosen = tried[top]
        best = max(best, (float(differences[top]), chosen), key=lambda item: item[0])
    return best[1]


def _incompleteness(
    subject: Subject, sets: Sequence[tuple[str, ...]], pairs: np.ndarray, progress: Progress | None
) -> np.ndarray:
    masks = [subject.without(whole, k) for k in sets for whole in (subject.kept, subject.everything)]
    values = subject.measure(masks, progress)[:, pairs].mean(1)
    return np.abs(values[::2] - values[1::2])
