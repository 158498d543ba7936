"""Reads the text that names a drawn picture: ``SEED/INDEX``, then what differs from the usual world."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

from workbench.core.errors import TaskError, WorkbenchError
from workbench.tasks.scenes.layout import World
from workbench.tasks.scenes.truth import USUAL, Scene

_NUMBERS = re.compile(r"(\d{1,12})/(\d{1,12})(?:\?(.*))?", re.DOTALL)
_CHANGE = re.compile(r"([0-8])\.(\w+)")


def scene_of(text: str) -> Scene:
    """Return the picture that a text names.

    Raises:
        TaskError: if it is none of ours, with what was expected.

    Example:
        >>> scene_of("7/12?noise=0.12&0.colour=red").changes
        (SceneChange(slot=0, field='colour', value='red'),)
    """
    found = _NUMBERS.fullmatch(text)
    if found is None:
        raise _wrong(text, "expected SEED/INDEX, two whole numbers")
    world: dict[str, Any] = {}
    changes: list[tuple[str, str]] = []
    for part in filter(None, (found[3] or "").split("&")):
        name, equals, value = part.partition("=")
        if not equals:
            raise _wrong(text, f"{part!r:.60} is not NAME=VALUE")
        if name in world:  # a change may come again: pictures that a task changes twice are written so
            raise _wrong(text, f"{name:.60} is given twice")
        if name in {field.name for field in fields(World)}:
            world[name] = _read(text, name, value)
        else:
            changes.append((name, value))
    try:
        scene = Scene(int(found[1]), int(found[2]), World(**world))
        for name, value in changes:
            scene = _change(text, scene, name, value)
    except WorkbenchError as error:
        if isinstance(error, TaskError):
            raise
        raise _wrong(text, error.message) from None
    return scene


def _change(text: str, scene: Scene, name: str, value: str) -> Scene:
    if (name, value) == ("blank", "1"):
        return scene.blank()
    found = _CHANGE.fullmatch(name)
    if found is None:
        raise _wrong(text, f"{name!r:.60} is no property of a world and no SLOT.FIELD")
    return scene.changed(int(found[1]), **{found[2]: value})


def _read(text: str, name: str, value: str) -> object:
    usual = getattr(USUAL, name)
    try:
        if isinstance(usual, tuple):
            return tuple(float(number) for number in value.split(","))
        return {"0": False, "1": True}[value] if isinstance(usual, bool) else float(value)
    except (ValueError, KeyError):
        raise _wrong(text, f"{name} is {value!r:.60}") from None


def _wrong(text: str, why: str) -> TaskError:
    return TaskError(
        f"picture 'scene:{text[:120]}' is no drawn scene: {why}",
        hint="scene:7/12 or scene:7/12?noise=0.12&0.colour=red",
    )
