"""Two runs side by side: which numbers moved, by how much, and what was different about the runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from workbench.core.errors import OptionError, RunError
from workbench.core.run_file import load_record
from workbench.core.run_record import NAME
from workbench.core.show import Told
from workbench.engine.run_folders.numbers import Numbers, numbers_of

_LARGEST = 10
_SETTING = ("command", "arguments", "model", "pairs", "versions", "plugins", "git", "threads")


@dataclass(frozen=True, kw_only=True)
class Moved:
    """What became of the numbers of one file, or of one part of it.

    Attributes:
        count: Numbers that both runs have.
        moved: Those that are not equal; a number against none counts, and differs by infinity.
        beyond: Those that moved by more than ``tolerance * max(1, |before|, |after|)``.
        max_relative: Largest difference over the larger of the two sizes.
        only_before, only_after: Names that one run alone has: an edge that is in one circuit only, say.
        largest: Name, before, after, difference; largest first.
        identical: Same names, and every number equal bit for bit.
    """

    what: str
    unit: str
    count: int
    moved: int
    beyond: int
    max_absolute: float
    max_relative: float
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    largest: tuple[tuple[str, float, float, float], ...]
    words: tuple[tuple[str, str, str], ...]
    identical: bool

    def row(self) -> dict[str, Any]:
        return {
            "what": self.what,
            "numbers": self.count,
            "moved": self.moved,
            "beyond": self.beyond,
            "largest": _plain(self.max_absolute),
            "relative": _plain(self.max_relative),
            "unit": self.unit,
            "only before": len(self.only_before),
            "only after": len(self.only_after),
            "texts": len(self.words),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        rows = [{"name": n, "before": _plain(a), "after": _plain(b), "difference": _plain(d)}
                for n, a, b, d in self.largest]  # fmt: skip
        words = [{"name": n, "before": a, "after": b} for n, a, b in self.words]
        lists = {"only_before": list(self.only_before), "only_after": list(self.only_after)}
        counted = {"what": self.what, "unit": self.unit, "numbers": self.count, "moved": self.moved}
        sizes = {"max_absolute": _plain(self.max_absolute), "max_relative": _plain(self.max_relative)}
        last = {**lists, "largest": rows, "texts": words, "identical": self.identical}
        return {**counted, "beyond": self.beyond, **sizes, **last}


@dataclass(frozen=True, kw_only=True)
class RunDifference(Told):
    """Two runs compared. ``within`` says whether no number moved by more than the tolerance."""

    before: Path
    after: Path
    tolerance: float
    parts: tuple[Moved, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    setting: tuple[tuple[str, str, str], ...]

    @property
    def identical(self) -> bool:
        return not self.only_before and not self.only_after and all(p.identical for p in self.parts)

    @property
    def within(self) -> bool:
        lost = self.only_before or self.only_after
        return not lost and not any(p.beyond or p.only_before or p.only_after for p in self.parts)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "before": str(self.before),
            "after": str(self.after),
            "tolerance": self.tolerance,
            "identical": self.identical,
            "within_tolerance": self.within,
            "parts": [p.to_dict() for p in self.parts],
            "only_before": list(self.only_before),
            "only_after": list(self.only_after),
            "setting": [{"what": w, "before": a, "after": b} for w, a, b in self.setting],
        }

    def to_terminal(self) -> list[Any]:
        """Return lines, rows and tables for a terminal."""
        total = sum(p.count for p in self.parts)
        shown: list[Any] = [self._verdict(total)]
        if not self.identical:
            rows = [p.row() for p in self.parts]
            used = [k for k in rows[0] if k in ("what", "numbers", "moved") or any(r[k] for r in rows)]
            shown.append([{k: r[k] for k in used} for r in rows])
        for part in self.parts:
            shown += _details(part)
        for side, names in (("before", self.only_before), ("after", self.only_after)):
            shown += [f"only {side}: {', '.join(names)}"] if names else []
        if self.setting:
            rows = [{"asked or run with": w, "before": a, "after": b} for w, a, b in self.setting]
            shown += ["What was different about the runs", rows]
        return shown

    def _verdict(self, total: int) -> str:
        if self.identical:
            return f"bit-identical: all {total} numbers of {self.before} and {self.after}"
        moved = sum(p.moved for p in self.parts)
        if self.within:
            words = "equal" if not moved else f"{moved} of {total} numbers moved"
            return f"{words}, none beyond the tolerance of {self.tolerance:g}"
        beyond = sum(p.beyond for p in self.parts)
        names = sum(len(p.only_before) + len(p.only_after) for p in self.parts)
        also = f"; {names} names are in one run only" if names else ""
        return f"{beyond} of {total} numbers moved beyond the tolerance of {self.tolerance:g}{also}"


def _details(part: Moved) -> list[Any]:
    rows = part.to_dict()
    shown: list[Any] = [f"{part.what}: what moved most", rows["largest"]] if part.largest else []
    for side, names in (("before", part.only_before), ("after", part.only_after)):
        more = f" and {len(names) - _LARGEST} more" if len(names) > _LARGEST else ""
        shown += [f"{part.what}, only {side}: {', '.join(names[:_LARGEST])}{more}"] if names else []
    return [*shown, *([f"{part.what}: texts", rows["texts"][:_LARGEST]] if part.words else [])]


def compare_runs(before: str | Path, after: str | Path, *, tolerance: float = 0.0) -> RunDifference:
    """Return every number of two folders side by side.

    Args:
        tolerance: How far a number may move, as a share of the larger of the two and of 1.

    Raises:
        OptionError: for a tolerance that is negative or no number.
        RunError: if the two have no kind of result in common.
    """
    if not 0 <= tolerance < math.inf:
        said = "a finite number that is not negative is expected"
        raise OptionError(f"the tolerance is {tolerance}; {said}", hint="--tolerance 1e-6")
    left, right = numbers_of(before), numbers_of(after)
    common = [name for name in left if name in right]
    if not common:
        raise RunError(
            f"nothing to compare: {before} has {', '.join(left)}; {after} has {', '.join(right)}",
            hint="give two runs of the same kind",
        )
    return RunDifference(
        before=Path(before),
        after=Path(after),
        tolerance=tolerance,
        parts=tuple(_moved(name, left[name], right[name], tolerance) for name in common),
        only_before=tuple(n for n in left if n not in right),
        only_after=tuple(n for n in right if n not in left),
        setting=_settings(Path(before), Path(after)),
    )


def _moved(what: str, left: Numbers, right: Numbers, tolerance: float) -> Moved:
    if left.labels == right.labels:
        labels, a, b = left.labels, left.values, right.values
    else:
        index = {name: i for i, name in enumerate(right.labels)}
        kept = [i for i, name in enumerate(left.labels) if name in index]
        labels = tuple(left.labels[i] for i in kept)
        a, b = left.values[kept], right.values[[index[name] for name in labels]]
    absolute = _distance(a, b)
    larger = np.fmax(np.abs(a), np.abs(b))
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = np.where(absolute > 0, absolute / larger, 0.0)
        beyond = absolute > tolerance * np.fmax(1.0, larger)
    relative = np.where(np.isnan(relative), np.inf, relative)
    order = [i for i in np.argsort(-absolute, kind="stable")[:_LARGEST] if absolute[i] > 0]
    shared = set(labels)
    alone = set(left.labels) ^ set(right.labels)  # said already, with their texts
    words = tuple(word for word in _changed(left.words, right.words) if word[0] not in alone)
    return Moved(
        what=what,
        unit=left.unit if left.unit == right.unit else f"{left.unit} / {right.unit}",
        count=len(labels),
        moved=int((absolute > 0).sum()),
        beyond=int((beyond | np.isinf(absolute)).sum()),
        max_absolute=float(absolute.max(initial=0.0)),
        max_relative=float(relative.max(initial=0.0)),
        only_before=tuple(n for n in left.labels if n not in shared),
        only_after=tuple(n for n in right.labels if n not in shared),
        largest=tuple((labels[i], float(a[i]), float(b[i]), float(absolute[i])) for i in order),
        words=words,
        identical=left.labels == right.labels and _same_bits(a, b) and left.words == right.words,
    )


def _distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``|a - b|``; 0 where both are NaN or the same infinity, infinity where only one is a number."""
    with np.errstate(invalid="ignore"):
        found = np.abs(a - b)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    return np.where(same, 0.0, np.where(np.isnan(found), np.inf, found))


def _same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal bit for bit, NaNs of any kind being one."""
    a, b = (np.where(np.isnan(x), np.nan, x) for x in (a, b))
    return a.tobytes() == b.tobytes()


def _changed(left: Mapping[str, str], right: Mapping[str, str]) -> tuple[tuple[str, str, str], ...]:
    names = dict.fromkeys([*left, *right])
    return tuple((n, left.get(n, ""), right.get(n, "")) for n in names if left.get(n) != right.get(n))


def _settings(before: Path, after: Path) -> tuple[tuple[str, str, str], ...]:
    """What the two records say otherwise, as path, before, after; nothing where one has no record."""
    if not (before / NAME).is_file() or not (after / NAME).is_file():
        return ()
    a, b = (load_record(folder).to_dict() for folder in (before, after))
    left, right = ({k: v for name in _SETTING for k, v in _leaves(d.get(name, {}), name)} for d in (a, b))
    return _changed(left, right)


def _leaves(value: Any, path: str) -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        return [pair for key, item in value.items() for pair in _leaves(item, f"{path}.{key}")]
    return [(path, str(value))]


def _plain(value: float) -> float | str | None:
    """A number as JSON has it: NaN is null, infinity a word."""
    if np.isnan(value):
        return None
    return value if np.isfinite(value) else "infinite"
