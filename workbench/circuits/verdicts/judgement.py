"""A judged circuit: the content of its evaluation file, with tables and pictures that need no model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from workbench.circuits.behavior import Behavior
from workbench.circuits.circuit import Circuit
from workbench.circuits.verdicts.criteria import RULES, Criteria, Verdict
from workbench.circuits.verdicts.table import edge_tests, recompute_verdicts
from workbench.core.errors import unknown
from workbench.core.run_record import digest_of, measured_on
from workbench.core.show import Shown
from workbench.core.stats.dependent_pairs import grouped
from workbench.core.text import printable


def circuit_digest(circuit: Circuit) -> str:
    """Return the digest of what is in a circuit: the same parts on the same architecture have the same judgement."""
    return digest_of([circuit.shape.to_dict(), circuit.level, sorted(circuit)])


def as_today(document: Mapping[str, Any]) -> bool:
    """Say whether the rules that a file was judged by decide as those of today do.

    Rules 2 and 3 differ for pairs alone that belong together.
    """
    rules = Criteria.read(document["criteria"]).rules
    return rules == RULES or (rules == 2 and not grouped(document["pairs"].get("clusters")))


def judged_today(document: Mapping[str, Any], notes: tuple[str, ...] = ()) -> Judgement:
    """Return the content of an evaluation file, with the verdicts that its evidence gives by the rules of today.

    What an older file answered is in ``before``, and what changed by the rules is a note.
    """
    then = Criteria.read(document["criteria"])
    if as_today(document):
        return Judgement(document=document, notes=notes)
    verdicts = recompute_verdicts(document, then.today)
    was = {row["name"]: row["verdict"] for row in document["verdicts"]}
    moved = [f"{v.name!r} was {was[v.name]}, is {v.words}" for v in verdicts if was[v.name] != v.words]
    changed = "; ".join(moved) or "no answer changes"
    note = (
        f"judged by rules {then.rules} when it was saved, here by those of today (rules {RULES}): {changed}"
    )
    new = {"criteria": asdict(then.today), "verdicts": [v.to_dict() for v in verdicts]}
    return Judgement(document={**document, **new}, notes=(*notes, note), before=was)


@dataclass(frozen=True, kw_only=True, eq=False)
class Judgement(
    Shown,
    shown_in="workbench.circuits.show.judgement",
    saved_in="workbench.circuits.files.evaluation_file",
):
    """Evidence and verdicts on one circuit.

    Attributes:
        document: The content of ``evaluation.json``; verdicts are computed from it alone.
        notes: What is to be said of the file that it was read from; not written to files.
        before: Question -> answer by older rules, of a file that was judged by them.
    """

    document: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    before: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Every verdict, computed from the evidence."""
        return recompute_verdicts(self.document)

    def __getitem__(self, name: str) -> Verdict:
        """One verdict by name, for example ``judgement["faithful"]``."""
        found = {v.name: v for v in self.verdicts}
        if name not in found:
            raise unknown("verdict", name, found)
        return found[name]

    def edges(self) -> list[dict[str, Any]]:
        """Return the minimality test of every tested edge, least needed first."""
        rows = [
            {
                "edge": t.name.removeprefix("minimality of "),
                "beats random edges": t.value,
                "p": t.p,
                "corrected p": t.corrected,
                "verdict": t.verdict,
            }
            for t in edge_tests(self.document)
        ]
        return sorted(rows, key=lambda row: row["beats random edges"])

    def rows(self) -> list[dict[str, Any]]:
        """Verdict, measured, criterion: one row per question; with the answer by older rules where there is one."""
        rows = []
        for v in self.verdicts:
            then = {"by the rules then": self.before[v.name]} if v.name in self.before else {}
            row = {"question": v.name, "verdict": v.words, **then}
            rows.append(row | {"measured": v.measured, "criterion": v.criterion})
        return rows

    def title(self) -> str:
        c = self.document["circuit"]
        model = measured_on(c["model"] or "?", self.document["provenance"])
        what = f"{c['method'] or 'circuit'} on {c['task'] or '?'} in {model}"
        return (
            f"{what}: {c['size']} of {c['candidates']} {c['level']}s, n={len(self.document['pairs']['ids'])}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return dict(self.document)

    @property
    def lead(self) -> str:
        """What the model itself does on the pairs; empty in files of before that was kept."""
        told = self.document.get("behavior")
        return "" if told is None else Behavior.from_dict(told).sentence("faithfulness and verdicts")

    def to_dataframe(self):
        """One row per verdict."""
        import pandas as pd

        return pd.DataFrame([v.to_dict() for v in self.verdicts])

    def __repr__(self) -> str:
        counts = {w: sum(v.words == w for v in self.verdicts) for w in ("yes", "no", "open")}
        said = ", ".join(f"{n} {w}" for w, n in counts.items())
        return printable(f"<Judgement {self.title()}: {said}>")
