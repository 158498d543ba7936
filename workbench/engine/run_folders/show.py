"""A run record as a card for notebooks."""

from __future__ import annotations

from workbench.core.run_record import RunRecord
from workbench.core.show import card
from workbench.view.html import facts_html

_SHOWN = ("command", "status", "error", "hint", "model", "pairs", "started", "seconds", "outputs")


@card(RunRecord)
def record_card(record: RunRecord) -> str:
    """What was asked, with what, how it ended, what is where."""
    known = record.to_dict()
    return facts_html({name: known[name] for name in _SHOWN})
