"""Edits from words: what kinds there are, and one made from ``name=value`` texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import MISSING, fields
from typing import Any

from workbench.core.errors import OptionError, RunError, check_numbers, unknown
from workbench.edits.edit import ModelEdit, heads_among
from workbench.edits.files import kinds, read_edit

_FROM_WORDS = ("rows", "calibration", "pine")
_WHAT = {
    "rows": "rows of attention patterns: set, scale, drop, add to the scores",
    "affine": "z <- a * z + b for head outputs; trainable",
    "mask": "who may look at whom: narrower, or wider where attention can be made again",
    "calibration": "ACT: take attention from sinks beyond the first",
    "pine": "PINE: one output for every order of documents (rotary models)",
    "stack": "several edits in a stated order",
}


def edit_rows() -> list[dict[str, Any]]:
    """One line per kind of edit: what it does, what it takes, whether words are enough to make it."""
    rows = []
    for kind, made in kinds().items():
        takes = [f.name if f.default is MISSING else f"[{f.name}]" for f in fields(made)]
        words = "workbench edit make" if kind in _FROM_WORDS else "Python: it holds tensors"
        how = "workbench edit stack" if kind == "stack" else words
        rows.append({"kind": kind, "what": _WHAT.get(kind, ""), "takes": ", ".join(takes), "made with": how})
    return rows


def make_edit(
    kind: str, settings: Sequence[str], *, model: str | None = None, offline: bool | None = None
) -> ModelEdit:
    """An edit from ``name=value`` texts; values are JSON, or plain words; lists may be comma-separated.

    Args:
        model: By name: its configuration says whether it has these heads. Without it they are checked when the edit
            is put on a model.

    Raises:
        OptionError: for a kind that words cannot make, an unknown name or a value that cannot work.
        ModelError: for a head or layer that the model does not have.

    Example:
        >>> make_edit("rows", ["heads=a2.h1", "operation=drop", "keys=0"]).describe()
        'drop keys 0 of a2.h1'
    """
    if kind not in _FROM_WORDS:
        raise unknown("edit that words can make", kind, _FROM_WORDS, error=OptionError)
    made = kinds()[kind]
    own = {f.name: f for f in fields(made)}
    data = {name: f.default for name, f in own.items() if f.default is not MISSING}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals:
            raise OptionError(f"{text!r} is not NAME=VALUE", hint=f"names: {', '.join(own)}")
        if name not in own:
            raise unknown(f"setting of {kind}", name, own, error=OptionError)
        data[name] = _value(value, many="tuple" in str(own[name].type) or "Positions" in str(own[name].type))
    check_numbers(data, f"edit {kind}")
    missing = [name for name in own if name not in data]
    if missing:
        raise OptionError(f"a {kind} edit needs {missing[0]}", hint=f"--set {missing[0]}=...")
    try:
        edit = read_edit({"kind": kind, **data}, {})
    except RunError as problem:
        raise OptionError(problem.message, hint=problem.hint) from problem
    if model is not None:
        from workbench.model.outline import outline

        known = outline(model, offline=offline, sizes=False)
        heads_among(edit.addresses(), known.attention_layers, known.n_heads)
    return edit


def _value(text: str, *, many: bool) -> Any:
    parsed: Any = None
    try:
        parsed = json.loads(text)
    except ValueError:
        parts = [_value(part.strip(), many=False) for part in text.split(",")] if many else []
        parsed = parts if many else text
    return [parsed] if many and not isinstance(parsed, list) and parsed is not None else parsed
