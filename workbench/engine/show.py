"""Runs of pairs on a model as a card for notebooks."""

from __future__ import annotations

from typing import Any

from workbench.core.run_record import measured_on
from workbench.core.show import card, terminal
from workbench.engine.paired_runs import PairedRuns
from workbench.engine.saved_effects import Saved
from workbench.tasks.show import first_answers
from workbench.view.html import facts_html, table_html


@card(Saved)
def saved_card(saved: Saved) -> str | None:
    """The table that was saved."""
    return saved.effects._repr_html_()


@terminal(Saved)
def saved_table(saved: Saved) -> list[Any]:
    """The same on a terminal."""
    return saved.effects.to_terminal()


@card(PairedRuns)
def runs_card(runs: PairedRuns, *, most: int = 5) -> str:
    """What is run on what, the metric of both runs, what was dropped, and the first pairs."""
    aligned, known = runs.pairs, runs.provenance()
    facts = {
        "task": f"{aligned.pairs.task}, split {aligned.pairs.split}",
        "model": measured_on(known["model"], known),
        "pairs": f"{runs.n_pairs}, dropped: {len(aligned.dropped)}",
        "positions": ", ".join(runs.position_names),
        "behavior": runs.behavior.sentence("effects"),
    }
    rows = [
        {
            "clean": pair.clean,
            "corrupted": pair.corrupted,
            "correct": first_answers(pair.correct),
            "incorrect": first_answers(pair.incorrect),
        }
        for pair in aligned.pairs[:most]
    ]
    return facts_html(facts) + table_html(rows, caption=f"the first {len(rows)} of {runs.n_pairs} pairs")
