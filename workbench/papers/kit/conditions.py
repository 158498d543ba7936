"""Conditions: by name, an edit of a model and one value per item under it; what claims are tested on."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from string import Formatter
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.claims import Rows
from workbench.core.errors import OptionError, RunError, ShapeError, WorkbenchError, unknown
from workbench.core.stats.crossed import crossed_interval
from workbench.core.stats.intervals import CHANGE, SHARE, Interval, mean_interval
from workbench.core.stats.matched import matched_heads
from workbench.papers.kit.beside import Beside, Measure, Range, ToldMean, balanced, finite, keys_of
from workbench.view.pictures import Bars, Heatmap, Picture

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    from workbench.edits.edit import ModelEdit


@dataclass(kw_only=True, eq=False)
class Conditions:
    """Name -> one value per item, with everything that a claim about them needs.

    A value is set by name: ``c["nothing"] = None`` asks ``score`` of the model as it is, an edit asks it under the
    edit, an array is taken as the values. ``c.draws["random heads"] = [...]`` holds several edits or arrays of one
    kind; under its name stands their mean.

    Attributes:
        unit, within, clusters: Of values that are set by ``[]``; ``add`` says others. Items of one cluster are drawn
            together.
        score: Values of all items by a model, for conditions that are edits.
        numbers: Further measured numbers (or words), for claims and for the file.
        tables, pictures: Beside those that conditions give by themselves.
        why: The reason why none of the claims can be tested here; then nothing else needs to be set.
        beside: By the name of a number that was told, what was told with it.
        lacking: By the name of what was not measured, the reason. No claim about it can be tested.

    Example:
        >>> c = Conditions()
        >>> c["plain"], c["edited"] = np.array([0.0, 1.0, 0.0, 0.0]), np.array([1.0, 1.0, 0.0, 1.0])
        >>> c.mean("edited"), c.mean("edited", "plain"), c.n("plain")
        (0.75, 0.5, 4)
    """

    unit: str = "share of right answers"
    within: Range = SHARE
    clusters: Sequence[object] = ()
    seed: int = 0
    model: TransformerBridge | None = None
    score: Callable[[TransformerBridge], np.ndarray] | None = None
    numbers: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, Rows] = field(default_factory=dict)
    pictures: dict[str, Picture] = field(default_factory=dict)
    why: str = ""
    values: dict[str, np.ndarray] = field(default_factory=dict)
    measures: dict[str, Measure] = field(default_factory=dict)
    beside: dict[str, Beside] = field(default_factory=dict)
    lacking: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.draws = Draws(self)

    def __setitem__(self, name: str, value: np.ndarray | ModelEdit | None) -> None:
        self.add(name, value, within=self.within, unit=self.unit, clusters=self.clusters)

    def add(
        self,
        name: str,
        value: np.ndarray | ModelEdit | None,
        *,
        within: Range = None,
        unit: str = "",
        clusters: Sequence[object] = (),
        undefined: bool = False,
    ) -> None:
        """Set a condition whose values are of another kind than most here.

        Args:
            undefined: NaN may be among the values, such as a correlation with what does not vary. Then no claim about
                them can be tested.

        Raises:
            OptionError: for a value that is not finite.
        """
        self.values[name] = finite(name, self._asked(value), undefined=undefined)
        self.measures[name] = Measure(unit or self.unit, within, clusters)

    def tell(
        self,
        name: str,
        value: Any = None,
        *,
        control: Any = None,
        n: int | None = None,
        around: tuple[float, float] | None = None,
        p: float | None = None,
    ) -> None:
        """Set a measured number with what else a claim about it tells; of a condition, only what else.

        Args:
            control: That of its control, or a word.
            n: How many items it is over.
            around: Ends of its 95 % interval.
            p: That of a test against chance.

        What is told of ``one minus other`` is of the difference of two numbers; so is a condition of this name.

        Example:
            >>> c = Conditions()
            >>> c.tell("share of heads", 0.25, control=0.5, n=4, around=(0.1, 0.4))
            >>> c.mean("share of heads"), c.interval("share of heads").high, c.beside["share of heads"].control
            (0.25, 0.4, 0.5)
        """
        if name not in self.values:
            self.numbers[name] = value
        self.lacking.pop(name, None)
        interval = None if around is None else Interval(*around, float("nan"))
        self.beside[name] = Beside(control, n, interval, p)

    def lack(self, name: str, why: str) -> None:
        """Say why a condition or number was not measured; a claim whose criterion reads it gives this reason.

        Example:
            >>> c = Conditions()
            >>> c.lack("facts", "the model answers none")
            >>> c.lacking
            {'facts': 'the model answers none'}
        """
        self.lacking[name] = why

    @contextmanager
    def unless_refused(self, *names: str) -> Iterator[None]:
        """Measure conditions inside the block; where something there is refused, the message is why they lack."""
        try:
            yield
        except WorkbenchError as problem:
            for name in names:
                self.lack(name, problem.message)

    def p_of(self, name: str) -> float:
        """The p that was told with a number or a condition."""
        found = self.beside.get(name, Beside()).p
        if found is None:
            raise RunError(f"no p was told of {name!r}", hint=f"Conditions.tell({name!r}, p=...)")
        return found

    def _asked(self, value: np.ndarray | ModelEdit | None) -> np.ndarray:
        if value is not None and not hasattr(value, "on"):
            return np.asarray(value, dtype=float)
        if self.score is None or self.model is None:
            raise RunError(
                "an edit is measured by a score on a model", hint="Conditions(model=..., score=...)"
            )
        if value is None:
            return np.asarray(self.score(self.model), dtype=float)
        with value.on(self.model):
            return np.asarray(self.score(self.model), dtype=float)

    def __getitem__(self, name: str) -> np.ndarray:
        """One value per item.

        Raises:
            RunError: for a condition that was not measured, with the closest spellings.
        """
        if name not in self.values:
            raise unknown("condition", name, self.values, error=RunError)
        return self.values[name]

    def __contains__(self, name: object) -> bool:
        return name in self.values

    def of(self, name: str, over: str | None = None) -> np.ndarray:
        """One value per item, or by how much each exceeds that of another condition, paired."""
        if over is None:
            return self[name]
        if self[name].shape != self[over].shape:
            raise ShapeError(
                f"{name} has {self[name].shape} values, {over} {self[over].shape}; they are paired",
                hint="measure both on the same items",
            )
        return self[name] - self[over]

    def mean(self, name: str, over: str | None = None) -> float:
        """Mean over all items, or the mean difference of two conditions; of a number, the number."""
        if name in self.values:
            return float(self.of(name, over).mean())
        if over is not None:
            both = f"{name} minus {over}"
            known = both in self.values or both in self.numbers
            return self.mean(both) if known else self.mean(name) - self.mean(over)
        return float(self.number(name)) if keys_of(name)[0] in self.numbers else float(self[name].mean())

    def number(self, name: str) -> Any:
        """Find a measured number (or word) by name; ``gain[heads]`` is in ``numbers["gain"]``."""
        first, *inner = keys_of(name)
        found = self.numbers[first]
        for key in inner:
            found = found[int(key)] if isinstance(found, list | tuple) else found[key]
        return found

    def say(self, text: str) -> Any:
        """Put what was measured where a text has ``{name}``; a text that is one field alone gives the value.

        A name is that of a number, of a condition (its mean) or of a difference (``one minus other``), of which
        ``low of`` and ``high of`` are the ends of the interval, ``around of`` is both, ``shown of`` is mean and
        interval, and ``n of`` is how many items there are.

        Example:
            >>> c = Conditions(numbers={"gain": {"heads": 0.5}})
            >>> c["plain"], c["edited"] = np.array([0.0, 1.0, 0.0, 0.0]), np.array([1.0, 1.0, 0.0, 1.0])
            >>> c.say("{edited minus plain:.0%} of {n of plain}"), c.say("{gain[heads]}")
            ('50% of 4', 0.5)
        """
        parts = list(Formatter().parse(text))
        if len(parts) == 1 and text == f"{{{parts[0][1]}}}":
            return self._said(text[1:-1])
        return "".join(
            before if name is None else before + format(self._said(name), form or "")
            for before, name, form, _ in parts
        )

    def _said(self, name: str) -> Any:
        if name not in self.values and keys_of(name)[0] in self.numbers:
            return self.number(name)
        found = re.fullmatch(r"(?:(low|high|around|shown|n) of )?(.+?)(?: minus (.+))?", name)
        if found is None:
            raise RunError("a field of a text has no name", hint="write {{ and }} where braces are meant")
        what, one, over = found.groups()
        if what is None:
            return self.mean(one, over)
        if what in ("around", "shown"):
            return ToldMean(self, one, over, bare=what == "around")
        return self.n(one) if what == "n" else getattr(self.interval(one, over), what)

    def interval(self, name: str, over: str | None = None) -> Interval:
        """95 % interval of the same mean: over items, over clusters, or over tasks and items; else what was told."""
        if name not in self.values:
            own = name if over is None else f"{name} minus {over}"
            if own in self.values:
                return self.interval(own)
            if (told := self.beside.get(own, Beside()).interval) is not None:
                return told
        values, kind = self.of(name, over), self.measures[name]
        within = kind.within if over is None else CHANGE if kind.within == SHARE else None
        if kind.rows:
            tasks = np.asarray(kind.rows)
            parts = [values[tasks == task] for task in dict.fromkeys(kind.rows)]
            return crossed_interval(parts, within=within, seed=self.seed)
        means = balanced(values, kind.clusters)
        if (
            means is not None and len(means) > 1
        ):  # clusters that all came out alike then get the width of as many draws
            return mean_interval(means, within=within, seed=self.seed)
        return mean_interval(values, within=within, clusters=kind.clusters, seed=self.seed)

    def clusters_of(self, name: str) -> Sequence[object]:
        """What is drawn together when items are: tasks where it has some, clusters otherwise."""
        kind = self.measures[name]
        return kind.rows if len(kind.rows) else kind.clusters

    def n(self, name: str) -> int:
        """How many independent items stand behind a condition: its clusters where it has some; else what was told."""
        if name not in self.values and (told := self.beside.get(name, Beside()).n) is not None:
            return told
        return len(set(self.measures[name].clusters)) or len(self[name])

    def shown(self, name: str, over: str | None = None, *, form: str = ".3f", unit: str = "") -> str:
        """The mean with its interval, in words."""
        mean, around = self.mean(name, over), self.interval(name, over).shown(form)
        return f"{mean:{form}} ({around}){f' {unit}' if unit else ''}"

    def table(self) -> Rows:
        """One row per condition."""
        rows = []
        for name, kind in self.measures.items():
            low, high, _ = self.interval(name)
            row = {"condition": name, "unit": kind.unit, "mean": self.mean(name), "low": low, "high": high}
            rows.append({**row, "n": len(self[name])})
        return rows

    def told(self) -> Rows:
        """One row per number that was told with its interval, p, control or n."""
        return [
            {
                "number": name,
                "value": self.numbers[name],
                "low": None if one.interval is None else one.interval.low,
                "high": None if one.interval is None else one.interval.high,
                "p": one.p,
                "control": one.control,
                "n": one.n,
            }
            for name, one in self.beside.items()
            if name in self.numbers
        ]

    def bars(self) -> dict[str, Picture]:
        """The conditions as bars with intervals, one picture per unit; one alone has nothing beside it, and no bar."""
        made: dict[str, Picture] = {}
        for unit in dict.fromkeys(kind.unit for kind in self.measures.values()):
            bars, names = [], [n for n, kind in self.measures.items() if kind.unit == unit]
            for name in names if len(names) > 1 else ():
                low, high, _ = self.interval(name)
                bars.append((name, self.mean(name), low, high, f"n = {len(self[name])}"))
            if bars:
                made[f"All conditions: {unit} (mean, 95 % interval)"] = Bars.of(bars, x_label=unit, width=720)
        return made

    def matched(
        self, heads: Sequence[str], allowed: Collection[str], *, draws: int, seed: int | Sequence[int]
    ) -> list[tuple[str, ...]]:
        """Draw the control of every choice of heads: random others, as many in each layer; none where there are none.

        The one rule of all papers; why there are none is among the numbers, as ``no random heads``.
        """
        try:
            return matched_heads(heads, allowed, draws=draws, seed=seed)
        except OptionError as problem:
            self.numbers["no random heads"] = problem.message
            return []

    def draw_heads(self, caption: str, values: Mapping[str, float] | np.ndarray, *, unit: str) -> None:
        """Keep a picture of one value per head, layers from the top: by address, or ``(layer, head)``."""
        if isinstance(values, Mapping):
            places = [tuple(map(int, head[1:].split(".h"))) for head in values]
            grid = np.full(tuple(np.max(places, axis=0) + 1), np.nan)
            grid[tuple(zip(*places, strict=True))] = list(values.values())
        else:
            grid = np.asarray(values)
        self.pictures[caption] = Heatmap.of_heads(grid, range(len(grid)), title=caption, unit=unit)

    def keep(self, *pictures: Picture) -> None:
        """Keep pictures under their own titles."""
        self.pictures |= {picture.title: picture for picture in pictures}

    @classmethod
    def joined(cls, parts: Mapping[str, Conditions], *, crossed: bool = False) -> Conditions:
        """Put the items of several tasks one after the other; a condition that a task lacks has fewer items.

        Args:
            crossed: Tasks and questions are both drawn for intervals; else the parts' clusters are.
        """
        one = next(iter(parts.values()))
        found = cls(unit=one.unit, within=one.within, seed=one.seed)
        for name in dict.fromkeys(name for part in parts.values() for name in part.values):
            own = {task: part for task, part in parts.items() if name in part}
            kind = next(iter(own.values())).measures[name]
            found.values[name] = np.concatenate([part[name] for part in own.values()])
            found.measures[name] = kind._replace(
                clusters=[x for part in own.values() for x in part.measures[name].clusters],
                rows=[task for task, part in own.items() for _ in part[name]] if crossed else (),
            )
        found.tables["Mean of every task"] = [
            {"condition": name, **{task: part.mean(name) for task, part in parts.items() if name in part}}
            for name in found.values
        ]
        return found


class Draws(dict[str, list[np.ndarray]]):
    """Several random edits (or their values) under one name; their mean is the condition of this name."""

    def __init__(self, conditions: Conditions) -> None:
        super().__init__()
        self._conditions = conditions

    def __setitem__(self, name: str, values: Sequence[np.ndarray | ModelEdit]) -> None:
        c = self._conditions
        self.add(name, values, within=c.within, unit=c.unit, clusters=c.clusters)

    def add(self, name: str, values: Sequence[np.ndarray | ModelEdit], **kind: Any) -> None:
        """Set draws whose values are of another kind than most here; ``kind`` is what ``Conditions.add`` takes."""
        asked = map(self._conditions._asked, values)
        found = [finite(f"{name}, draw {i}", value) for i, value in enumerate(asked, start=1)]
        super().__setitem__(name, found)
        if found:
            self._conditions.add(name, np.mean(found, axis=0), **kind)
        else:
            self._conditions.lack(
                name, self._conditions.numbers.get("no random heads", f"nothing was drawn for {name}")
            )
