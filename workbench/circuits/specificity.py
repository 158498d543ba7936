"""Is a circuit one task's? What cutting it out of the model takes from its own task, and what from others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workbench.core.show import Told
from workbench.core.stats.dependent_pairs import grouped, resampled_means
from workbench.core.stats.intervals import (
    RESAMPLES,
    ROUNDING,
    Interval,
    no_interval,
    ratio,
    resampled_interval,
    resamples,
    too_few_draws,
)
from workbench.core.text import printable

LEAST_OTHERS = 3  # other tasks that a mean of damages rests on


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskDamage:
    """What cutting a circuit out of the model does to one task.

    Attributes:
        pairs: Digest of the task's pairs; tasks of equal pairs are resampled together.
        full, without, nothing: ``(pair,)`` metric of the model, the model without the circuit, everything ablated.
        random: ``(draw,)`` mean metric of the model without each random circuit.
        clusters: A number per pair, equal for pairs that are not independent; empty where all are.

    Example:
        >>> told = {"task": "a", "metric": "logit-difference", "unit": "logits", "pairs": "1"}
        >>> values = {"full": np.array([4.0, 4.0]), "without": np.array([1.0, 3.0]), "nothing": np.zeros(2)}
        >>> TaskDamage(**told, **values, random=np.zeros(0)).drop
        0.5
    """

    task: str
    metric: str
    unit: str
    pairs: str
    full: np.ndarray
    without: np.ndarray
    nothing: np.ndarray
    random: np.ndarray
    clusters: tuple[int, ...] = ()

    @property
    def drop(self) -> float:
        """Share of the task's gap that is lost: 0 for none, 1 for all; NaN without a gap."""
        return 1 - ratio(self.without, self.full, self.nothing)

    @property
    def random_drops(self) -> np.ndarray:
        """``(draw,)`` the same for the model without each random circuit."""
        gap = self.full.mean() - self.nothing.mean()
        known = np.isfinite(ratio(self.full, self.full, self.nothing))
        return (self.full.mean() - self.random) / gap if known else np.full(len(self.random), np.nan)

    @property
    def independent(self) -> int:
        """Say how many independent pairs there are."""
        return len(set(self.clusters)) or len(self.full)

    def resampled(self, draws: int, seed: int) -> np.ndarray:
        """Return ``(draw,)`` drops over resampled pairs; a pair keeps all of its values."""
        values = np.stack([self.full, self.without, self.nothing])
        if grouped(self.clusters):
            full, without, nothing = resampled_means(values, self.clusters, draws=draws, seed=seed).T
        else:
            drawn = resamples(values.shape[1], draws=draws, seed=seed)
            full, without, nothing = (row[drawn].mean(1) for row in values)
        gap = np.where(full == nothing, np.nan, full - nothing)
        return (full - without) / gap

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        arrays = ("full", "without", "nothing", "random")
        told = {name: getattr(self, name) for name in ("task", "metric", "unit", "pairs")}
        return {**told, "clusters": list(self.clusters), **{n: getattr(self, n).tolist() for n in arrays}}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TaskDamage:
        """Read what ``to_dict`` wrote."""
        arrays = {
            name: np.array(data[name], dtype=float) for name in ("full", "without", "nothing", "random")
        }
        return cls(**{**data, **arrays, "clusters": tuple(data["clusters"])})


@dataclass(frozen=True, kw_only=True)
class PartDamage:
    """What cutting one part of a circuit out of the model does.

    Attributes:
        name: Which part: in every task's circuit, in some, in this task's alone, or what heads write.
        size: Edges.
        own: Share of its own task's gap that is lost.
        others: Mean share that other tasks lose.
        random_own, random_others: The same when random circuits of its size are cut out, mean over draws.
    """

    name: str
    size: int
    own: float
    others: float
    random_own: float
    random_others: float

    @property
    def value(self) -> float:
        """Drop of its own task minus the mean drop of the others."""
        return self.own - self.others


@dataclass(frozen=True, kw_only=True, eq=False)
class Specificity(Told):
    """What a circuit's loss costs its own task, and what it costs others.

    Attributes:
        own: Damage to the task that the circuit is of.
        others: Damage to other tasks that the model does.
        sizes: Edges (or nodes) of each random circuit; the same ones are cut out on every task.
        skipped: Tasks that were looked at and left out -> why.
        seed: Of the random circuits.
        parts: Parts of the circuit by how many tasks' circuits have them, and what heads alone write.
    """

    own: TaskDamage
    others: tuple[TaskDamage, ...]
    sizes: tuple[int, ...]
    seed: int
    skipped: Mapping[str, str] = field(default_factory=dict)
    parts: tuple[PartDamage, ...] = ()

    @property
    def value(self) -> float:
        """Drop of its own task minus the mean drop of the others, as shares of their gaps."""
        return self.own.drop - float(np.mean([other.drop for other in self.others]))

    @property
    def random(self) -> np.ndarray:
        """``(draw,)`` the same for random circuits of its size."""
        return self.own.random_drops - np.mean([other.random_drops for other in self.others], axis=0)

    @property
    def independent(self) -> int:
        """Say how many independent pairs the task has that has the fewest."""
        return min(damage.independent for damage in (self.own, *self.others))

    def interval(self, *, draws: int = RESAMPLES, seed: int = 0) -> Interval:
        """Estimate the 95 % interval of the specificity by bootstrap over the pairs of every task.

        A pair keeps its values with and without the circuit, and tasks of the same pairs are resampled together.

        Returns:
            Ends and standard error, shares of the gap. NaN with a reason where a task has fewer than two
            independent pairs, or no gap.
        """
        every = (self.own, *self.others)
        for damage in every:
            if few := too_few_draws(len(damage.full), damage.clusters):
                return no_interval(f"{damage.task}: {few}")
        if not np.isfinite(self.value):
            return no_interval("a task has no gap")
        first = [next(i for i, one in enumerate(every) if one.pairs == damage.pairs) for damage in every]
        drops = np.stack([d.resampled(draws, seed + i) for d, i in zip(every, first, strict=True)])
        found = drops[0] - drops[1:].mean(0)
        # with equal pairs and values it is zero but for the order of adding
        found = np.where(np.abs(found) <= ROUNDING, 0.0, found)
        return resampled_interval(found, 0.0 if abs(self.value) <= ROUNDING else self.value)

    def sentence(self, interval: Interval | None = None) -> str:
        """Say the specificity with what it is made of."""
        interval = interval or self.interval()
        others = ", ".join(f"{d.task} {d.drop:.1%}" for d in self.others)
        text = (
            f"specificity {self.value:.3f} ({interval.shown()}): without the circuit its task loses "
            f"{self.own.drop:.1%} of its gap, {len(self.others)} others {self.own.drop - self.value:.1%} on average "
            f"({others})"
        )
        if not len(self.sizes):
            return text
        own = float(self.own.random_drops.mean())
        drawn = f"{len(self.sizes)} random circuits of its size"
        return f"{text}; {drawn} {own:.1%} and {own - float(self.random.mean()):.1%}"

    def rows(self) -> list[dict[str, Any]]:
        """Task, loss of its gap, the same for random circuits: its own task first."""
        return [
            {
                "task": d.task,
                "its own": d is self.own,
                "loses of its gap": d.drop,
                "mean of random circuits": float(d.random_drops.mean()) if len(d.random) else None,
                "metric without it": float(d.without.mean()),
                "of": float(d.full.mean()),
                "unit": d.unit,
                "n": len(d.full),
            }
            for d in (self.own, *self.others)
        ]

    def part_rows(self) -> list[dict[str, Any]]:
        """Return one row for each part of the circuit: its size, and what is lost without it."""
        return [
            {
                "part": part.name,
                "edges": part.size,
                "its own task loses": part.own,
                "others lose": part.others,
                "difference": part.value,
                "of random circuits": part.random_own - part.random_others,
            }
            for part in self.parts
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            **({"parts": [_finite(vars(part)) for part in self.parts]} if self.parts else {}),
            "seed": self.seed,
            "sizes": list(self.sizes),
            "own": self.own.to_dict(),
            "others": [other.to_dict() for other in self.others],
            "skipped": dict(self.skipped),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Specificity:
        """Read what ``to_dict`` wrote."""
        return cls(
            own=TaskDamage.from_dict(data["own"]),
            others=tuple(TaskDamage.from_dict(other) for other in data["others"]),
            sizes=tuple(data["sizes"]),
            seed=data["seed"],
            skipped=dict(data.get("skipped", {})),
            parts=tuple(_part_damage(part) for part in data.get("parts") or ()),
        )

    def to_terminal(self) -> list[Any]:
        """Return lines, rows and tables for a terminal."""
        return [self.sentence(), self.rows(), *([self.part_rows()] if self.parts else [])]

    def to_dataframe(self):
        """One row per task."""
        import pandas as pd

        return pd.DataFrame(self.rows())

    def __repr__(self) -> str:
        return printable(
            f"<Specificity {self.value:.3f}: {self.own.task} against {len(self.others)} other tasks>"
        )


def _part_damage(values: Mapping[str, Any]) -> PartDamage:
    """Read the damage of one part, with what is not finite as it was."""
    numbers: dict[str, Any] = {k: float("nan") if v is None else v for k, v in values.items()}
    return PartDamage(**numbers)


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in values.items()}
