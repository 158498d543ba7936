"""What parts of a model add to its logits directly, and what the stream says layer by layer. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float

from workbench.core.errors import ShapeError, unknown
from workbench.core.show import Shown
from workbench.core.stats.dependent_pairs import independent_of, pairs_said
from workbench.core.stats.student import standard_errors
from workbench.core.text import printable

By = Literal["head", "layer"]
BIASES = "biases"


@dataclass(frozen=True, kw_only=True, eq=False)
class Lens:
    """What would be answered from the residual stream before each layer, and behind the last.

    Attributes:
        labels: ``r0``, ``r1``, ...: the stream that enters layer 0, 1, ...; the last is what leaves the model.
        values: The metric of the stream through its own norm and the unembedding: the logit lens.
        frozen: The same through the norm as it is in the whole model: what the parts so far add up to.
        right: Where the best correct answer beats every incorrect one, through the stream's own norm.
        clusters: A number per pair, equal for pairs that are not independent; empty where all are.
    """

    labels: tuple[str, ...]
    values: Float[np.ndarray, "stream pair"]
    frozen: Float[np.ndarray, "stream pair"]
    right: Bool[np.ndarray, "stream pair"]
    clusters: tuple[int, ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per stream: the lens, its standard error, the frozen norm's, the share that is right."""
        errors = standard_errors(self.values, self.clusters)
        return [
            {
                "stream": label,
                "lens": float(self.values[i].mean()),
                "stderr": _number(errors[i]),
                "frozen": float(self.frozen[i].mean()),
                "right": float(self.right[i].mean()),
            }
            for i, label in enumerate(self.labels)
        ]


@dataclass(frozen=True, kw_only=True, eq=False)
class Carried:
    """What heads add to the logits by the position that they carry it from, and where they look: means over pairs.

    Attributes:
        places: Positions: the names of the task, else the distance to the end.
        direct: What each head adds from each position.
        attention: Share of the attention from where the answer is read.
    """

    places: tuple[str, ...]
    direct: Float[np.ndarray, "row place"]
    attention: Float[np.ndarray, "row place"]

    def most(self, row: int) -> dict[str, Any]:
        """Say where a head looks most, and from where it carries most."""
        look, carry = int(self.attention[row].argmax()), int(np.abs(self.direct[row]).argmax())
        return {
            "looks_at": self.places[look],
            "attention": float(self.attention[row, look]),
            "carries_from": self.places[carry],
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class LogitParts(Shown, shown_in="workbench.circuits.show.logit_parts"):
    """What heads, or layers, add to a metric through the residual stream alone. Positive supports the behavior.

    Attributes:
        by: Whether rows are heads and MLPs, or the attention and the MLP of each layer.
        labels: Addresses; the last row is `biases`, which belong to no part.
        values: Direct logit attribution: what each part adds with the last norm's scale frozen. Rows sum to ``total``.
        live: What the metric loses when the part is taken out of the last stream and the norm is computed anew.
        total: The model's own metric, in the metric's unit.
        effect: What the metric loses when the part is ablated in the model; None where nobody asked, NaN where
            there is nothing to ablate.
        ablation: With what.
        lens: What the stream says layer by layer.
        carried: By position, of heads alone.
        errors: How far sums are from the model's own numbers.
        clusters: A number per pair, equal for pairs that are not independent; empty where all are.

    Example:
        >>> lens = Lens(labels=("r0",), values=np.ones((1, 2)), frozen=np.ones((1, 2)), right=np.ones((1, 2), bool))
        >>> own, said = np.array([[3.0, 1.0], [0.5, 0.5]]), {"metric": "logit-difference", "unit": "logits"}
        >>> what = {"task": "ioi", "model": "mine", "labels": ("a0.h0", BIASES), **said}
        >>> parts = LogitParts(by="head", values=own, live=own, total=own.sum(0), lens=lens, **what)
        >>> [(row["part"], row["direct"]) for row in parts.rows()]
        [('a0.h0', 2.0), ('biases', 0.5)]
    """

    by: By
    task: str
    model: str
    metric: str
    unit: str
    labels: tuple[str, ...]
    values: Float[np.ndarray, "row pair"]
    live: Float[np.ndarray, "row pair"]
    total: Float[np.ndarray, " pair"]
    lens: Lens
    effect: Float[np.ndarray, "row pair"] | None = None
    ablation: str = ""
    carried: Carried | None = None
    errors: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    clusters: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        expected = (len(self.labels), len(self.total))
        if self.values.shape != expected or self.live.shape != expected:
            raise ShapeError(
                f"values {self.values.shape} and live {self.live.shape} are not {expected} (row, pair)",
                hint="give one row for each label and one column for each pair",
            )

    @property
    def n_pairs(self) -> int:
        return len(self.total)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, label: str) -> float:
        """Mean over pairs of what one part adds."""
        if label not in self.labels:
            raise unknown("part", label, self.labels)
        return float(self.values[self.labels.index(label)].mean())

    @property
    def frozen_error(self) -> float:
        """Mean size of the difference between a part's contribution with the norm frozen and live, in ``unit``."""
        return float(np.abs(self.values[:-1] - self.live[:-1]).mean())

    @property
    def order(self) -> tuple[int, ...]:
        """Indices of the rows by the size of their mean, largest first; ties keep their order."""
        return tuple(int(i) for i in np.argsort(-np.abs(self.values.mean(1)), kind="stable"))

    def errors_of(self, values: Float[np.ndarray, "*row pair"]) -> Float[np.ndarray, "*row"]:
        """Return standard errors of means over the pairs; pairs that belong together count as one draw."""
        return standard_errors(values, self.clusters)

    def rows(self, most: int | None = None) -> list[dict[str, Any]]:
        """Return the parts in order: direct, norm live, share of the metric, ablation effect, where a head looks.

        ``effect`` is what the metric loses when the part is ablated; None where there is nothing to ablate.
        """
        total, live = float(self.total.mean()), self.live.mean(1)
        errors, effects = self.errors_of(self.values), None
        if self.effect is not None:
            effects = self.effect.mean(1), self.errors_of(self.effect)
        found = []
        for i in self.order[:most]:
            mean = float(self.values[i].mean())
            row: dict[str, Any] = {
                "part": self.labels[i],
                "direct": mean,
                "stderr": _number(errors[i]),
                "share": mean / total
                if abs(total) > 1e-9 * float(np.abs(self.values).sum(0).mean())
                else None,
                "norm_live": _number(live[i]),
            }
            if effects is not None:
                row |= {"effect": _number(effects[0][i]), "effect_stderr": _number(effects[1][i])}
            if self.carried is not None:
                row |= self.carried.most(i) if ".h" in self.labels[i] else dict.fromkeys(_LOOKS)
            found.append(row)
        return found

    def head_grid(self, values: Float[np.ndarray, " row"]) -> tuple[np.ndarray, list[str], list[str]]:
        """Lay one number per part out as a picture: layers from the top, heads and the MLP across.

        Returns:
            ``(layer, column)`` values (NaN where there is no such part), names of rows and of columns.
        """
        placed = [_place(label) for label in self.labels]
        layers = sorted({p[0] for p in placed if p is not None})
        columns = sorted({p[1] for p in placed if p is not None}, key=_across)
        grid = np.full((len(layers), len(columns)), np.nan)
        for place, value in zip(placed, values, strict=True):
            if place is not None:
                grid[layers.index(place[0]), columns.index(place[1])] = value
        return grid, [f"layer {layer}" for layer in layers], columns

    @property
    def title(self) -> str:
        """What is shown, for captions."""
        return f"direct contributions to {self.metric} on {self.task} in {self.model}, n={self.n_pairs}"

    @property
    def pairs_said(self) -> str:
        """Say how many pairs there are, and in how many groups where they are grouped."""
        return pairs_said(self.n_pairs, len(set(self.clusters)) or self.n_pairs)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values: means over pairs, every part and every stream."""
        by_place = self.carried
        return {
            "by": self.by,
            "task": self.task,
            "model": self.model,
            "metric": self.metric,
            "unit": self.unit,
            "n_pairs": self.n_pairs,
            **independent_of(self.clusters),
            "total": float(self.total.mean()),
            "frozen_norm_error": self.frozen_error,
            "ablation": self.ablation,
            "parts": self.rows(),
            "lens": self.lens.rows(),
            "by_position": None
            if by_place is None
            else {
                "places": list(by_place.places),
                "direct": dict(zip(self.labels, by_place.direct.tolist(), strict=False)),
                "attention": dict(zip(self.labels, by_place.attention.tolist(), strict=False)),
            },
            "errors": dict(self.errors),
            "notes": list(self.notes),
            "provenance": dict(self.provenance),
        }

    def to_dataframe(self):
        """Return one row per part, the largest first."""
        import pandas as pd

        return pd.DataFrame(self.rows())

    def __repr__(self) -> str:
        first = self.rows(1)[0]["part"]
        return printable(f"<LogitParts by {self.by}: {self.title}, most by {first}>")


_LOOKS = ("looks_at", "attention", "carries_from")


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _across(column: str) -> tuple[bool, int]:
    """Heads in their order, then the MLP."""
    return column == "MLP", int(column[1:]) if column[1:].isdecimal() else 0


def _place(label: str) -> tuple[int, str] | None:
    """Layer and column of a part in the picture; None for the input and the biases."""
    name, _, head = label.partition(".")
    if name[0] not in "am" or not name[1:].isdecimal():
        return None
    return int(name[1:]), head or ("MLP" if name[0] == "m" else "attention")
