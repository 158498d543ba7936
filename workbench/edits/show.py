"""An edit as a card for notebooks and on the terminal: what it changes where, and the shapes of its tensors."""

from __future__ import annotations

from typing import Any

from workbench.core.show import card, terminal
from workbench.edits.edit import ModelEdit
from workbench.view.html import facts_html
from workbench.view.text import shorten


@card(ModelEdit)
def edit_card(edit: ModelEdit) -> str:
    """Every setting, in a line each."""
    return facts_html(_facts(edit))


@terminal(ModelEdit)
def edit_table(edit: ModelEdit) -> list[Any]:
    """The same in two columns."""
    return [_facts(edit)]


def _facts(edit: ModelEdit, most: int = 400) -> dict[str, Any]:
    settings = {
        name: shorten(str(value), most) for name, value in edit.to_dict().items() if value is not None
    }
    sizes = {name: " x ".join(map(str, tensor.shape)) for name, tensor in edit.tensors().items()}
    return {"kind": edit.kind, "edit": edit.describe(), **settings, **({"tensors": sizes} if sizes else {})}
