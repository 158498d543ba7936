"""Why an edge does what it does: rankings of what makes an attention score, or of what is carried to the logits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from workbench.core.errors import ShapeError
from workbench.core.show import Shown
from workbench.core.stats.student import standard_errors

Read = Literal["q", "k", "v", "mlp", "logits"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranking:
    """Terms that sum to one number per pair, the largest mean first.

    Attributes:
        title: What the terms are.
        sums_to: What their sum is.
        labels: One address or place for each term.
        values: The term of every pair, in ``unit``.
        clusters: A number per pair, equal for pairs that are not independent; empty where all are.
    """

    title: str
    sums_to: str
    unit: str
    labels: tuple[str, ...]
    values: Float[np.ndarray, "term pair"]
    clusters: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.values.shape[0] != len(self.labels):
            raise ShapeError(
                f"{len(self.labels)} labels for terms of shape {self.values.shape}",
                hint="give one label for each row of values",
            )

    @property
    def mean(self) -> Float[np.ndarray, " term"]:
        """Mean of each term over pairs."""
        return self.values.mean(1)

    @property
    def total(self) -> float:
        """Mean over pairs of what the terms sum to."""
        return float(self.values.sum(0).mean())

    @property
    def share(self) -> Float[np.ndarray, " term"]:
        """Mean of each term over the mean of the sum: shares sum to 1; NaN where the sum is rounding."""
        scale = np.abs(self.values).sum(0).mean()
        return self.mean / self.total if abs(self.total) > 1e-9 * scale else np.full(len(self.labels), np.nan)

    @property
    def order(self) -> tuple[int, ...]:
        """Indices of the terms by the size of their mean, largest first; ties keep their order."""
        return tuple(int(i) for i in np.argsort(-np.abs(self.mean), kind="stable"))

    def rank(self, label: str) -> int:
        """Return the place of a term in the order, 1 for the largest."""
        return self.order.index(self.labels.index(label)) + 1

    def rows(self, most: int | None = None) -> list[dict[str, Any]]:
        """Return the terms in order: mean, standard error, share of the sum, and the share of all up to this one."""
        mean, share, errors, found, sofar = (
            self.mean,
            self.share,
            standard_errors(self.values, self.clusters),
            [],
            0.0,
        )
        for i in self.order[:most]:
            sofar += float(share[i])
            found.append(
                {
                    "term": self.labels[i],
                    "mean": float(mean[i]),
                    "stderr": _number(errors[i]),
                    "share": _number(share[i]),
                    "cumulative": _number(sofar),
                }
            )
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "title": self.title,
            "sums_to": self.sums_to,
            "unit": self.unit,
            "total": self.total,
            "terms": self.rows(),
        }


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


@dataclass(frozen=True, kw_only=True, eq=False)
class Reason(Shown, shown_in="workbench.circuits.show.reason"):
    """The reason of one edge on some pairs.

    Attributes:
        edge: Its address.
        read: Which input of the reader it is: of a head its query, key or value; the input of an MLP; the logits.
        places: Where it was looked at, and for how many pairs: rows of ``query``, ``key``, ``pairs``.
        rankings: What makes the score, or what is carried; the edge's own side first.
        facts: Single numbers by name, means over pairs: attention before and after, the edge's score in its parts.
        errors: Largest differences between what is summed here and what the model computes.
        notes: What is to be known besides.

    Example:
        >>> what = {"task": "induction", "model": "mine", "n_pairs": 4, "places": (), "rankings": (), "errors": {}}
        >>> Reason(edge="a0.h1->a1.h0<k>", read="k", facts={"attention": 0.5}, **what).to_dict()["facts"]
        {'attention': 0.5}
    """

    edge: str
    read: Read
    task: str
    model: str
    n_pairs: int
    places: tuple[Mapping[str, Any], ...]
    rankings: tuple[Ranking, ...]
    facts: Mapping[str, float | str | None]
    errors: Mapping[str, float]
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "edge": self.edge,
            "read": self.read,
            "task": self.task,
            "model": self.model,
            "n_pairs": self.n_pairs,
            "places": [dict(place) for place in self.places],
            "rankings": [ranking.to_dict() for ranking in self.rankings],
            "facts": dict(self.facts),
            "errors": dict(self.errors),
            "notes": list(self.notes),
            "provenance": dict(self.provenance),
        }

    def to_dataframe(self):
        """Return one row per term: ranking, term, mean, stderr, share, cumulative."""
        import pandas as pd

        return pd.DataFrame([{"ranking": r.title, **row} for r in self.rankings for row in r.rows()])

    def __repr__(self) -> str:
        best = self.rankings[0].rows(1)
        first = f", most by {best[0]['term']}" if best else ""
        return f"<Reason {self.edge}: n={self.n_pairs}{first}>"
