"""Rules of selection by name, one file each, open for those of others; ``pnr:0.7`` names a rule with its share."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np

from workbench.circuits.graph import Graph
from workbench.core.errors import OptionError, expect_word
from workbench.core.registry import Registry

Ranking = Literal["absolute", "signed"]
RANKINGS: tuple[str, ...] = get_args(Ranking)
Level = Literal["edge", "node", "neuron"]
LEVELS: tuple[str, ...] = get_args(Level)
Index = tuple[
    int, ...
]  # (position,) when there are positions, then (source, target), (source,) or (layer, unit)
_RULE = r"(?P<name>[\w-]+)(?::(?P<share>[\d.e+-]+))?"
_SAID = re.compile(rf"(?P<how>{_RULE}) (?P<n>\d+) by (?P<by>absolute|signed) score")
_LEAST = re.compile(r"(?P<by>absolute|signed) score >= (?P<tau>\S+)")
_ASKED = re.compile(_RULE)


class Ranked(Protocol):
    """Scores as a rule sees them: numbers on a graph, and their order."""

    @property
    def graph(self) -> Graph: ...
    @property
    def values(self) -> np.ndarray: ...
    @property
    def level(self) -> Level: ...
    @property
    def positions(self) -> tuple[str, ...]: ...
    @property
    def candidates(self) -> np.ndarray: ...
    def ranked(self, by: Ranking = "absolute") -> list[Index]: ...


Choose = Callable[[Ranked, int, Ranking, "float | None"], list[Index]]


@dataclass(frozen=True, kw_only=True)
class SelectionRule:
    """How ``n`` parts are chosen.

    Attributes:
        choose: ``(scores, n, by, share) -> indices``, best first.
        follows_edges: Whether it needs edges that stand for all positions.
        own_order: Whether it orders parts in its own way, so that none can be asked for.
        share: The share that is taken unless ``name:0.7`` says another; None for a rule that has none.
    """

    name: str
    claim: str
    choose: Choose
    follows_edges: bool = False
    own_order: bool = False
    share: float | None = None
    source: str = ""


RULES: Registry[SelectionRule] = Registry(
    "selection rule", group="workbench.selections", holds=lambda made: isinstance(made, SelectionRule)
)
RULES.read("workbench.circuits.selection", r'^@rule\(\s*"([\w-]+)"', first=("top", "greedy"))


def rule(
    name: str,
    *,
    follows_edges: bool = False,
    own_order: bool = False,
    share: float | None = None,
    source: str = "",
) -> Callable[[Choose], Choose]:
    """Register ``function(scores, n, by, share) -> indices`` as a rule; its docstring's first line is the claim."""

    def register(choose: Choose) -> Choose:
        claim = (choose.__doc__ or "").strip().partition("\n")[0]
        made = SelectionRule(
            name=name,
            claim=claim,
            choose=choose,
            follows_edges=follows_edges,
            own_order=own_order,
            share=share,
            source=source,
        )
        RULES.add(name, made, home=choose.__module__)
        return choose

    return register


@dataclass(frozen=True)
class AskedRule:
    """A rule with the share that was asked for; as text ``top`` or ``pnr:0.7``.

    Example:
        >>> str(asked("pnr")), str(asked("pnr:0.9")), str(asked("top"))
        ('pnr:0.7', 'pnr:0.9', 'top')
    """

    rule: SelectionRule
    share: float | None

    def __str__(self) -> str:
        return self.rule.name if self.share is None else f"{self.rule.name}:{self.share!r}"

    def check(self, level: Level, positions: bool, by: Ranking = "absolute") -> None:
        """Refuse scores that the rule cannot choose from.

        Raises:
            OptionError: for scores of nodes or of single positions, where the rule follows edges; for an order, where
                the rule has its own.
        """
        expect_word("ranking", by, RANKINGS)
        if self.rule.own_order and by != "absolute":
            raise OptionError(
                f"{self} has an order of its own: first by sign, then by size; {by} order is another",
                hint="leave out --signed (by=...)",
            )
        if self.rule.follows_edges and (level != "edge" or positions):
            raise OptionError(
                f"{self.rule.name} selection follows edges; these are {level} scores"
                + (" per position" if positions else ""),
                hint="use top or threshold",
            )

    def __call__(self, scores: Ranked, n: int, by: Ranking) -> list[Index]:
        self.check(scores.level, bool(scores.positions), by)
        return self.rule.choose(scores, n, by, self.share)


def asked(text: str) -> AskedRule:
    """Return the rule that a word such as ``greedy`` or ``pnr:0.7`` names.

    Raises:
        OptionError: for an unknown rule, a share outside 0 to 1, or a share for a rule that has none.
    """
    match = _ASKED.fullmatch(text.strip())
    if match is None:
        raise OptionError(f"cannot select by {text!r:.60}", hint=f"rules: {', '.join(RULES)}")
    rule = RULES.get(match["name"])
    if match["share"] is None:
        return AskedRule(rule, rule.share)
    try:
        share = float(match["share"])
    except ValueError:
        share = -1.0
    if rule.share is None or not 0 <= share <= 1:
        what = "takes no share" if rule.share is None else "needs a share from 0 to 1"
        raise OptionError(f"{rule.name} {what}; found {text!r:.60}", hint="--select pnr:0.7")
    return AskedRule(rule, share)


def said(rule: str) -> tuple[str, int, Ranking] | None:
    """Read what a circuit says of how it was chosen; None where a threshold or the method itself decided.

    Example:
        >>> said("pnr:0.7 24 by absolute score"), said("absolute score >= 0.1")
        (('pnr:0.7', 24, 'absolute'), None)
    """
    found = _SAID.fullmatch(rule)
    if found is None:
        return None
    return found["how"], int(found["n"]), "signed" if found["by"] == "signed" else "absolute"


def said_least(rule: str) -> tuple[float, Ranking] | None:
    """Read the threshold that decided what is in a circuit, and of which order; None where none did.

    Example:
        >>> said_least("signed score >= 0.1"), said_least("top 24 by absolute score")
        ((0.1, 'signed'), None)
    """
    found = _LEAST.fullmatch(rule)
    if found is None:
        return None
    return float(found["tau"]), "signed" if found["by"] == "signed" else "absolute"


def one_rule(select: str, greedy: bool) -> str:
    """Return the rule of two arguments that name one: ``greedy=True`` is ``select="greedy"``.

    Raises:
        OptionError: if they name two.
    """
    if greedy and select not in ("top", "greedy"):
        raise OptionError(f"greedy=True and select={select!r} are two rules", hint="give one of them")
    return "greedy" if greedy else select
