"""A run record as a card for notebooks."""

from __future__ import annotations

from workbench.core.run_record import RunRecord
from workbench.core.show import card
from workbench.view.html import facts_html

_SHOWN = ("command", "status", "error", "hint", "model", "pairs", "started", "seconds", "outputs")


@card(RunRecord)
def record_card(record: RunRecord) -> str:
    """Show a record: the command, the model and prompts, how it ended, where the files are."""
    known = record.to_dict()
    return facts_html({name: known[name] for name in _SHOWN})
