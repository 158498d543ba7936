"""Effects: exact changes of a metric, one row per intervention, with the per-pair values behind each mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from workbench.circuits.addresses import parse_node
from workbench.circuits.behavior import Behavior
from workbench.circuits.selection.rules import RANKINGS
from workbench.core.errors import NameFormatError, OptionError, ShapeError, expect_word
from workbench.core.run_record import measured_on
from workbench.core.show import Shown
from workbench.core.stats.intervals import beyond_rounding
from workbench.core.stats.sign_flips import SignFlips, sign_flips
from workbench.core.stats.student import standard_errors
from workbench.core.text import printable

MARKS = ("", "*", "**")
MODES = ("noising", "denoising")


@dataclass(frozen=True, kw_only=True, eq=False)
class Effects(
    Shown,
    shown_in="workbench.circuits.show.terminal workbench.circuits.show.notebook",
    saved_in="workbench.circuits.files.effects_file",
):
    """What a sweep measured. Positive supports the behavior, whatever the metric's own direction.

    Noising and ablation: ``effect = direction * (base - patched)``, the drop. Denoising:
    ``effect = direction * (patched - base)``, the gain. ``base`` is the metric of the run that was edited.

    Attributes:
        labels: One address (or other label) per row.
        patched: ``(row, pair)``: the metric under each intervention.
        base: ``(pair,)``: the metric of the run that was edited.
        gap: ``(pair,)``: metric of the clean minus the corrupted run, times direction; None without a partner.
        notes: What is to be said of the file that they were read from; not written to files.
        clusters: A number per pair, equal for pairs that are not independent; empty where all are.
        behavior: What the model itself does on these pairs; None where nobody looked.
    """

    labels: tuple[str, ...]
    patched: np.ndarray
    base: np.ndarray
    gap: np.ndarray | None
    direction: Literal[1, -1]
    mode: Literal["noising", "denoising"]
    kind: str
    metric: str
    unit: str
    task: str = ""
    model: str = ""
    pair_ids: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    clusters: tuple[int, ...] = ()
    behavior: Behavior | None = None

    def __post_init__(self) -> None:
        expect_word("mode", self.mode, MODES)
        if self.patched.shape != (len(self.labels), len(self.base)):
            raise ShapeError(
                f"patched values have shape {self.patched.shape}; expected {(len(self.labels), len(self.base))}",
                hint="give patched one row for each label and one column for each pair of base",
            )

    @cached_property
    def per_pair(self) -> np.ndarray:
        """``(row, pair)`` effects."""
        sign = self.direction if self.mode == "denoising" else -self.direction
        return sign * (self.patched - self.base[None, :]) + 0.0  # no effect is 0.0, not -0.0

    @cached_property
    def mean(self) -> np.ndarray:
        """``(row,)`` mean effect over pairs."""
        return self.per_pair.mean(1)

    @cached_property
    def stderr(self) -> np.ndarray:
        """``(row,)`` standard error of the mean, cluster-robust where pairs are grouped; NaN for a single pair."""
        return standard_errors(self.per_pair, self.clusters)

    @cached_property
    def share(self) -> np.ndarray:
        """``(row,)`` mean effect over mean gap (ratio of means): 1 is as much as corrupting everything.

        NaN where there is no partner, or the gap is noise: within two standard errors of zero, or said to be.
        """
        noise = self.behavior is not None and self.behavior.finding == "noise"
        if self.gap is None or len(self.gap) < 2 or noise:
            return np.full(len(self.labels), np.nan)
        gap, error = self.gap.mean(), standard_errors(self.gap, self.clusters)
        return self.mean / gap if abs(gap) > 2 * error else np.full(len(self.labels), np.nan)

    @cached_property
    def significance(self) -> SignFlips:
        """Which effects are clear of zero, all rows tested together by sign flips of independent pairs.

        Changes that are float32 in another order (1e-5 of the largest score) count as none.
        """
        clear = beyond_rounding(self.per_pair, self.base, self.patched)
        return sign_flips(clear, self.clusters)

    @property
    def marks(self) -> tuple[str, ...]:
        """A mark per row: ``*`` survives Benjamini-Hochberg over all rows, ``**`` the family-wise max-T as well."""
        found = self.significance
        strict = found.survives & (found.family <= found.resolution.alpha)
        return tuple(MARKS[int(kept) + int(more)] for kept, more in zip(found.survives, strict, strict=True))

    @property
    def legend(self) -> str:
        """What the marks mean, how many rows have them, and what the pairs can show at all."""
        found, marks = self.significance, self.marks
        kept, strict = sum(map(bool, marks)), marks.count("**")
        alpha = f"{found.resolution.alpha:.0%}"
        return (
            f"{kept} of {len(self)} effects survive Benjamini-Hochberg over all rows at {alpha} (*), {strict} of them "
            f"the family-wise max-T too (**); {found.resolution.words}"
        )

    @property
    def n_pairs(self) -> int:
        return len(self.base)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, label: str) -> float:
        """Mean effect of one row."""
        if label not in self.labels:
            raise OptionError(
                f"the table has no row {label!r}", hint=f"rows: {', '.join(self.labels[:6])} ..."
            )
        return float(self.mean[self.labels.index(label)])

    def top(self, n: int, *, by: Literal["absolute", "signed"] = "absolute") -> list[tuple[str, float]]:
        """Return the ``n`` rows with the largest mean effect; ties keep the table's order."""
        expect_word("ranking", by, RANKINGS)
        keys = -np.abs(self.mean) if by == "absolute" else -self.mean
        return [(self.labels[i], float(self.mean[i])) for i in np.argsort(keys, kind="stable")[:n]]

    def to_dataframe(self):
        """One row per intervention: label, layer, head, position, effect, stderr, n, share, patched, unit, p, q ...

        ``p`` is of the row by itself, ``q`` after Benjamini-Hochberg over all rows, ``p_family`` by max-T.
        """
        import pandas as pd

        rows, tested = [], self.significance
        for i, label in enumerate(self.labels):
            tower, layer, index, position = _place(label)
            rows.append(
                {
                    "label": label,
                    **({} if tower is None else {"tower": tower}),
                    "layer": layer,
                    "head": index,
                    "position": position,
                    "effect": self.mean[i],
                    "stderr": self.stderr[i],
                    "n": self.n_pairs,
                    "share": self.share[i],
                    "patched": self.patched[i].mean(),
                    "unit": self.unit,
                    "p": tested.p[i],
                    "q": tested.q[i],
                    "p_family": tested.family[i],
                    "survives": bool(tested.survives[i]),
                }
            )
        frame = pd.DataFrame(rows)
        return frame.astype({"layer": "Int64", "head": "Int64"}) if rows else frame

    def grid(self) -> tuple[np.ndarray, list[str], list[str]]:
        """Mean effects as a picture: layers against heads, or layers against positions.

        Returns:
            ``(row, column)`` values (NaN where nothing was measured), row labels, column labels.
        """
        rows, columns, _ = self._places()
        return self._in_grid(self.mean), rows, columns

    def _in_grid(self, values: np.ndarray) -> np.ndarray:
        """``(row, column)`` of one number per intervention; NaN where there is none."""
        rows, columns, places = self._places()
        row_of, column_of = ({name: i for i, name in enumerate(names)} for names in (rows, columns))
        found = np.full((len(rows), len(columns)), np.nan)
        for (row, column), value in zip(places, values, strict=True):
            if row in row_of and column in column_of:
                found[row_of[row], column_of[column]] = value
        return found

    def _places(self) -> tuple[list[str], list[str], list[tuple[str, str]]]:
        """Labels of the rows and columns of the grid, and the place of every intervention in it.

        Layers are rows. Columns are positions where only they differ, else heads; where both do, every head of every
        layer has a row.
        """
        placed = [_place(label) for label in self.labels]
        known = sorted({(tower or "", layer) for tower, layer, _, _ in placed if layer is not None})
        layers = [_row_name(tower, layer) for tower, layer in known]
        parts = [(_row_name(tower, layer), head, at) for tower, layer, head, at in placed]
        heads = [str(h) for h in sorted({head for _, head, _ in parts if head is not None})]
        positions = list(dict.fromkeys(str(at) for _, _, at in parts if at is not None))
        if heads and len(positions) > 1:
            rows = [f"{layer}.{head}" for layer in layers for head in heads]
            return rows, positions, [(f"{layer}.{head}", str(at)) for layer, head, at in parts]
        if positions and not heads:
            return layers, positions, [(str(layer), str(at)) for layer, _, at in parts]
        named = [(str(layer), "all" if head is None else str(head)) for layer, head, _ in parts]
        return layers, heads or ["all"], named

    @property
    def title(self) -> str:
        """What is shown, for captions."""
        model = measured_on(self.model, self.provenance)
        where = f" in {model}" if model else ""
        return f"{self.kind} ({self.mode}), {self.metric} on {self.task}{where}, n={self.n_pairs}"

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values; per-pair values included."""

        def number(x: float) -> float | None:
            return float(x) if np.isfinite(x) else None

        tested = self.significance
        rows = [
            {
                "label": label,
                "effect": number(self.mean[i]),
                "stderr": number(self.stderr[i]),
                "share": number(self.share[i]),
                "p": number(tested.p[i]),
                "q": number(tested.q[i]),
                "p_family": number(tested.family[i]),
                "survives": bool(tested.survives[i]),
                "per_pair": [float(x) for x in self.per_pair[i]],
            }
            for i, label in enumerate(self.labels)
        ]
        return {
            "behavior": None if self.behavior is None else self.behavior.to_dict(),
            "task": self.task,
            "model": self.model,
            "kind": self.kind,
            "mode": self.mode,
            "metric": self.metric,
            "unit": self.unit,
            "direction": self.direction,
            "n": self.n_pairs,
            "base": number(self.base.mean()),
            "gap": None if self.gap is None else number(self.gap.mean()),
            "significance": {**tested.resolution.to_dict(), "survive": int(tested.survives.sum())},
            "rows": rows,
            "provenance": dict(self.provenance),
        }

    @property
    def marks_in_grid(self) -> np.ndarray:
        """``marks`` as numbers, laid out as ``grid``: how many stars each cell has."""
        return self._in_grid(np.array([len(mark) for mark in self.marks], dtype=float))

    @property
    def lead(self) -> str:
        """What the model itself does: the sentence that every view begins with; empty where nobody looked."""
        return "" if self.behavior is None else self.behavior.sentence()

    def to_rows(self, most: int = 20) -> list[dict[str, Any]]:
        """Return the strongest rows, for tables."""
        order = np.argsort(-np.abs(self.mean), kind="stable")[:most]
        rows, marks = [], self.marks
        for i in order:
            row = {"part": self.labels[i], f"effect ({self.unit})": float(self.mean[i])}
            row["± se"] = float(self.stderr[i]) if np.isfinite(self.stderr[i]) else None
            row["share of gap"] = float(self.share[i]) if np.isfinite(self.share[i]) else None
            row["q"] = float(self.significance.q[i])
            row["survives"] = marks[i]
            rows.append(row)
        return rows

    @property
    def shown_rows(self) -> str:
        """Say how many rows ``to_rows`` leaves out; empty where it shows all."""
        shown = len(self.to_rows())
        return "" if shown == len(self) else f"the {shown} largest of {len(self)} rows"

    def __repr__(self) -> str:
        return printable(f"<Effects {self.title}: {len(self)} rows>")


def _row_name(tower: str | None, layer: int | None) -> str:
    """A layer as a row of the grid; of a tower with its name."""
    return f"{tower}:{layer}" if tower else str(layer)


def _place(label: str) -> tuple[str | None, int | None, int | None, str | int | None]:
    """Tower, layer, head and position of a row's label; all None when it is no single address."""
    try:
        node = parse_node(label, towers=True)
    except NameFormatError:
        return None, None, None, None
    return node.tower, (0 if node.kind == "input" else node.layer), node.index, node.position
