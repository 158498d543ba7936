"""A paper as it stands in one file: what is measured, and what is claimed of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import cleandoc
from typing import Any

from workbench.core.claims import JudgedClaim
from workbench.papers.kinds import Findings, Setting
from workbench.papers.kit.claims import Claim, Need, judge_all
from workbench.papers.kit.conditions import Conditions
from workbench.papers.options import options_from
from workbench.papers.sixty import sixty


@dataclass(frozen=True, kw_only=True)
class Paper:
    """A paper whose claims can be measured again.

    Attributes:
        name: What is typed.
        title: Of the paper; by default that in the list of sixty.
        source: Stands before each place in the paper, as in "Wang et al. 2024, section 3".
        model: The built-in model on which its claims can be tested.
        authors: Before each place in the paper, where it is not the source.
        about: What the paper found and how it is measured here; by default what the docstring of its module says.
        options: A frozen dataclass with defaults: sizes and thresholds, all part of the plan.
        controls: The conditions a claim is compared with; by default the items, each with a hyphen, that stand in
            the docstring after a line ``Controls:``.
        measure: Measures; gives equal conditions for an equal setting.
        needs: What every claim needs to be tested at all.
        claims: By short names, in the order in which they are shown.
    """

    name: str
    title: str = ""
    source: str = ""
    model: str = ""
    authors: str = ""
    about: str = ""
    options: type
    controls: tuple[str, ...] = ()
    measure: Callable[[Setting], Conditions]
    needs: Sequence[Need] = ()
    claims: Mapping[str, Claim] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.title:
            listed = (str(one["title"]) for one in sixty() if one["name"] == self.name)
            object.__setattr__(self, "title", next(listed, ""))
        told, _, items = cleandoc(sys.modules[self.module].__doc__ or "").partition("\n\nControls:\n- ")
        if not self.about:
            about = "\n\n".join(" ".join(part.split()) for part in told.split("\n\n"))
            object.__setattr__(self, "about", about)
        if items and not self.controls:
            controls = tuple(" ".join(item.split()) for item in items.split("\n- "))
            object.__setattr__(self, "controls", controls)

    @property
    def module(self) -> str:
        """The module that it stands in."""
        return self.measure.__module__

    def make_options(self, texts: Iterable[str] = ()) -> Any:
        """Options from ``name=value`` texts.

        Raises:
            OptionError: for an unknown name, or a value of another type.
        """
        return options_from(texts, self.options, self.name)

    def judge(self, c: Conditions) -> tuple[JudgedClaim, ...]:
        """Every claim with its verdict."""
        return judge_all(self.claims, c, authors=self.authors or self.source, common=self.needs)

    def run(self, setting: Setting) -> Findings:
        """Measure, and judge every claim."""
        c = self.measure(setting)
        means = {name: c.mean(name) for name in c.values}
        given = {"Conditions": c.table() if c.values else [], "Numbers": c.told()}
        return Findings(
            claims=self.judge(c),
            tables={**{name: rows for name, rows in given.items() if rows}, **c.tables},
            pictures={**c.bars(), **c.pictures},
            numbers={**({"means": means} if means else {}), **c.numbers},
        )
