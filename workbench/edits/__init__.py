"""Standing changes to how a model computes: made, stacked, saved, measured; the model itself is untouched.

>>> import workbench as wb
>>> wb.edits.Rows(heads=("a0.h0",), operation="drop", keys=(0,)).describe()
'drop keys 0 of a0.h0'

Public names are loaded when they are first used: describing a saved edit needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "ModelEdit": "edit",
    "Stack": "stacked",
    "stack": "stacked",
    "Rows": "rows",
    "Affine": "affine",
    "Mask": "masks",
    "WordLooks": "word_looks",
    "ContentMask": "content_masks",
    "Calibration": "act",
    "Pine": "pine",
    "Substitute": "substitute",
    "RouteHeads": "route_heads",
    "turn_off": "off",
    "knock_out": "off",
    "make_edit": "making",
    "edit_rows": "making",
    "save_edit": "file",
    "load_edit": "file",
    "describe_edit": "file",
    "measure_edit": "measure",
    "Measured": "measure",
    "texts_of_corpus": "pattern_worth",
    "texts_of_task": "pattern_worth",
    "mask_attention": "mask_worth",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"workbench.edits has no public name {name!r}; it has {', '.join(__all__)}")
    found = getattr(import_module(f"workbench.edits.{_HOME[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return list(__all__)
