"""A JSON value as a typed object: every field is checked, and a mistake is named by place, finding and expectation.

The models are ``msgspec.Struct`` classes; from each follows its JSON Schema, so that the two cannot disagree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, inspect

from workbench.core.errors import WorkbenchError, close_names
from workbench.core.strict_json import kind

Model = TypeVar("Model")
Count = Annotated[int, Meta(ge=0, le=2**53)]
Sha256 = Annotated[str, Meta(min_length=64, max_length=64, pattern="^[0-9a-f]{64}$")]
Direction = Literal[1, -1]
Step = str | int  # a key of an object, an index of a list

_PLACE = re.compile(r"(?P<said>.*?)(?: - at (?P<key>`key` in )?`\$(?P<path>[^`]*)`)?", re.DOTALL)
_STEP = re.compile(r"\.(?P<name>[^.\[]+)|\[(?P<index>\d+)\]|\[(?P<any>\.\.\.)\]")
_EXPECTED = re.compile(r"Expected `(?P<type>[^`]*)`(?:, got `[^`]*`)?(?P<more>.*)", re.DOTALL)
_MEMBER = re.compile(r"Object (?P<what>missing required|contains unknown) field `(?P<name>.*)`", re.DOTALL)
_WORDS = {
    **{"str": "text", "int": "a whole number", "float": "a number", "bool": "true or false"},
    **{"array": "a list", "object": "an object"},
}


class Part(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """What every model of (a part of) a file inherits: no unknown key, no position, no change."""


def typed(value: object, model: type[Model], *, where: str, error: type[WorkbenchError]) -> Model:
    """Return ``value``, as JSON gave it, as an object of ``model``.

    Args:
        where: The file, for the message.

    Raises:
        WorkbenchError: of the type ``error``: which field, what it is, what was expected.
    """
    try:
        return msgspec.convert(value, model)
    except msgspec.ValidationError as problem:
        message, hint = _explained(str(problem), value, model, f"{where}: ", where)
        raise error(message, hint=hint) from None
    except UnicodeEncodeError as problem:
        raise error(f"{where} {_half_key(problem)}", hint="write the key as plain text") from None


def as_json(content: Part) -> Any:
    """Return a typed object as the JSON value that it was read from."""
    return msgspec.json.decode(msgspec.json.encode(content))


def check_part(value: object, model: type, place: str) -> None:
    """Check a part of a free object; for the ``__post_init__`` of the model that has the object.

    Raises:
        ValueError: which field it is, what it is, what was expected.
    """
    try:
        msgspec.convert(value, model)
    except msgspec.ValidationError as problem:
        raise ValueError(_explained(str(problem), value, model, f"{place}.", place)[0]) from None
    except UnicodeEncodeError as problem:
        raise ValueError(f"{place} {_half_key(problem)}") from None


def _half_key(problem: UnicodeEncodeError) -> str:
    """What is said of a key with half of a surrogate pair."""
    return f"has the key {problem.object[:80]!r}, which is no text"


def _explained(text: str, value: object, model: type, before: str, where: str) -> tuple[str, str]:
    """Message and hint for what msgspec says of a value; ``before`` stands before a place in it."""
    match = _PLACE.fullmatch(text)
    if match is None:
        return f"{where}: {text}", ""
    said, path = match["said"], tuple(_steps(match["path"] or ""))
    path = _located(value, model, path, text)
    found, place = _at(value, path), _shown(path)
    spot = f"{before}{place}" if place else where
    if member := _MEMBER.fullmatch(said):
        return _about_member(member, _type_at(model, path, value), spot)
    if match["key"]:
        return f"{spot} has a key that cannot be: {said}", ""
    if said.startswith("Invalid enum value") or said.startswith("Invalid value"):
        return f"{spot} is {_short(found)}; expected {_choices(model, path, value)}", ""
    if said == "Number out of range":
        return f"{spot} is too large for a number", ""
    if expected := _EXPECTED.fullmatch(said):
        names = [_WORDS.get(name, name) for name in expected["type"].split(" | ")]
        number = isinstance(found, int | float) and not isinstance(found, bool)
        plainly = not expected["more"] and not (number and "a whole number" in names)
        is_what = kind(found) if plainly else _short(found)
        return f"{spot} is {is_what}; expected {' or '.join(names)}{expected['more']}", ""
    return f"{spot}: {said}", ""  # a model's own sentence, from its __post_init__


def _about_member(member: re.Match[str], model: inspect.Type | None, spot: str) -> tuple[str, str]:
    fields = model.fields if isinstance(model, inspect.StructType) else ()
    name = member["name"]
    if member["what"] == "missing required":
        needed = sorted(f.encode_name for f in fields if f.required)
        return f"{spot} lacks {name!r}", f"needed: {', '.join(needed)}"
    known = sorted(f.encode_name for f in fields)
    close = close_names(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
    return f"{spot} has an unknown key {name[:80]!r}", hint


def _choices(model: type, path: tuple[Step, ...], value: Any) -> str:
    """The values that a field may have, in words."""
    found = _type_at(model, path, value)
    values: Sequence[object] = found.values if isinstance(found, inspect.LiteralType) else ()
    if not values and path:  # the field that says which of several objects this is
        tags = _tags(_bare(_type_at(model, path[:-1], value, chosen=False)))
        values = tags.get(path[-1], ())
    return " or ".join(map(repr, values)) or "another value"


def _short(value: object) -> str:
    """A value on one line: a text in quotes, a number in its digits, anything else by its kind."""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        text = repr(value) if not isinstance(value, int) or value.bit_length() < 200 else "a huge number"
        return text if len(text) <= 80 else f"{text[:77]}..."
    return kind(value)


def _steps(path: str) -> Iterator[Step]:
    for step in _STEP.finditer(path):
        yield int(step["index"]) if step["index"] is not None else step["name"] or "..."


def _shown(path: tuple[Step, ...]) -> str:
    """``("graph", "edges", 3)`` as ``graph.edges[3]``; names that are no words in quotes."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif step.isidentifier():
            text += f".{step}"
        else:
            text += f"[{step[:80]!r}]"
    return text.removeprefix(".")


def _at(value: Any, path: tuple[Step, ...]) -> Any:
    for step in path:
        value = value[step]
    return value


def _located(value: Any, model: type, path: tuple[Step, ...], text: str) -> tuple[Step, ...]:
    """The path with the keys of objects whose keys are free: msgspec says ``[...]`` for them.

    The object is halved until one member is left that gives the same complaint, ``text``.
    """
    while "..." in path:
        at = path.index("...")
        holder = _at(value, path[:at])
        names = list(holder)
        while len(names) > 1:
            half = names[: len(names) // 2]
            some = {name: holder[name] for name in half}
            names = half if _complains(_with(value, path[:at], some), model, text) else names[len(half) :]
        path = (*path[:at], names[0], *path[at + 1 :])
        value = _with(value, path[:at], {names[0]: holder[names[0]]})
    return path


def _complains(value: Any, model: type, text: str) -> bool:
    try:
        msgspec.convert(value, model)
    except msgspec.ValidationError as problem:
        return str(problem) == text  # not of a later row
    return False


def _with(value: Any, path: tuple[Step, ...], new: Any) -> Any:
    """A copy of a JSON value in which the member at a path is another."""
    if not path:
        return new
    copy: Any = list(value) if isinstance(value, list) else dict(value)
    copy[path[0]] = _with(value[path[0]], path[1:], new)
    return copy


@cache
def _type_of(model: type) -> inspect.Type:
    return inspect.type_info(model)


def _type_at(model: type, path: tuple[Step, ...], value: Any, *, chosen: bool = True) -> inspect.Type | None:
    """The type that a model gives to the member of a value at a path; None where it gives none.

    Args:
        chosen: Of a union the member that the value is, not the union.
    """
    found: inspect.Type | None = _type_of(model)
    for step in path:
        found, value = _member(_chosen(found, value), step), value[step]
    return _chosen(found, value) if chosen else found


def _member(found: inspect.Type | None, step: Step) -> inspect.Type | None:
    if isinstance(found, inspect.StructType):
        return next((f.type for f in found.fields if f.encode_name == step), None)
    if isinstance(found, inspect.DictType):
        return found.value_type
    if isinstance(found, inspect.TupleType) and isinstance(step, int):
        return found.item_types[step] if step < len(found.item_types) else None
    return getattr(found, "item_type", None)


def _bare(found: inspect.Type | None) -> inspect.Type | None:
    """A type without what is said about it."""
    while isinstance(found, inspect.Metadata):
        found = found.type
    return found


def _chosen(found: inspect.Type | None, value: Any) -> inspect.Type | None:
    """Of a union the member that a value is: the object with its tag, else the one that is no plain value."""
    found = _bare(found)
    if not isinstance(found, inspect.UnionType):
        return found
    plain = (inspect.NoneType, inspect.StrType, inspect.IntType, inspect.FloatType, inspect.BoolType)
    rich = [t for t in map(_bare, found.types) if not isinstance(t, plain)]
    if isinstance(value, dict):
        tagged = [t for t in rich if isinstance(t, inspect.StructType) and t.tag is not None]
        rich = [t for t in tagged if value.get(t.tag_field) == t.tag] or rich
    return rich[0] if rich else None


def _tags(found: inspect.Type | None) -> dict[Step, list[Any]]:
    """Field -> the tags of a union of objects that it tells apart."""
    tags: dict[Step, list[Any]] = {}
    for one in found.types if isinstance(found, inspect.UnionType) else (found,):
        if isinstance(one, inspect.StructType) and one.tag_field is not None:
            tags.setdefault(one.tag_field, []).append(one.tag)
    return tags


__all__ = ["Count", "Direction", "Part", "Sha256", "as_json", "check_part", "typed"]
