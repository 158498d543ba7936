"""Edits from words: what kinds there are, and one made from ``name=value`` texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from inspect import Parameter
from typing import Any

from workbench.core.errors import OptionError, RunError, check_numbers, expect_once, unknown
from workbench.edits.edit import EDITS, ModelEdit, heads_among
from workbench.edits.stacked import Stack
from workbench.model.outline import outline


def edit_rows() -> list[dict[str, Any]]:
    """Return one line per kind of edit: what it does, what it takes, whether words are enough to make it."""
    rows = []
    for kind, made in EDITS.items():
        takes = [n if p.default is p.empty else f"[{n}]" for n, p in made.takes({}).items()]
        words = "workbench edit make" if made.from_words else "Python: it holds tensors"
        how = "workbench edit stack" if made is Stack else words
        rows.append({"kind": kind, "what": made.what, "takes": ", ".join(takes), "made with": how})
    return rows


def make_edit(
    kind: str, settings: Sequence[str], *, model: str | None = None, offline: bool | None = None
) -> ModelEdit:
    """Return an edit from ``name=value`` texts; values are JSON, or plain words; lists may be comma-separated.

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
    if kind not in EDITS or not (made := EDITS.get(kind)).from_words:
        able = [name for name, known in EDITS.items() if known.from_words]
        raise unknown("edit that words can make", kind, able, error=OptionError)
    given: dict[str, str] = {}
    for name, text in map(_name_and_value, settings):
        expect_once(name, given)
        given[name] = text
    own = made.takes(given)
    for name in given:
        if name not in own:
            raise unknown(f"setting of {kind}", name, own, error=OptionError)
    data = {name: p.default for name, p in own.items() if p.default is not p.empty}
    data |= {name: _value(text, many=_is_many(own[name])) for name, text in given.items()}
    check_numbers(data, f"edit {kind}")
    missing = [name for name in own if name not in data]
    if missing:
        raise OptionError(f"a {kind} edit needs {missing[0]}", hint=f"--set {missing[0]}=...")
    edit = _made(made, data)
    if model is not None:
        known = outline(model, offline=offline, sizes=False)
        heads_among(edit.addresses(), known.attention_layers, known.n_heads)
    return edit


def _name_and_value(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise OptionError(
            f"{text!r} is not NAME=VALUE", hint="workbench edit list shows what each kind takes"
        )
    return name, value


def _is_many(parameter: Parameter) -> bool:
    return any(word in str(parameter.annotation) for word in ("tuple", "Positions", "Sequence"))


def _made(kind: type[ModelEdit], data: dict[str, Any]) -> ModelEdit:
    try:
        return kind.made_of(data)
    except RunError as problem:
        raise OptionError(problem.message, hint=problem.hint) from problem
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise OptionError(
            f"this is no {kind.kind} edit: {problem}", hint="workbench edit list shows what each kind takes"
        ) from problem


def _value(text: str, *, many: bool) -> Any:
    parsed: Any = None
    try:
        parsed = json.loads(text)
    except ValueError:
        parts = [_value(part.strip(), many=False) for part in text.split(",")] if many else []
        parsed = parts if many else text
    return [parsed] if many and not isinstance(parsed, list) and parsed is not None else parsed
