"""Finding models: the built-in ones by name, and what kind of thing a model name is. No torch here."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from workbench.core.bounds import expanded, shown
from workbench.core.errors import ModelError, unknown
from workbench.model.card import CARD, FILE_NAME, CardContent
from workbench.model.directory import check_directory

ZOO = Path(__file__).resolve().parent / "zoo"
PREFIX = "zoo:"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")

Kind = Literal["zoo", "native", "hugging-face", "hub"]


@dataclass(frozen=True, kw_only=True)
class Card:
    """What is known about a built-in model; `fields` is the whole card, `problem` why it cannot be read."""

    name: str
    title: str
    what: str
    parameters: int | None
    size: int | None  # bytes on disk
    fields: Mapping[str, object]
    problem: str = ""

    @property
    def directory(self) -> Path:
        """Where its weights are."""
        return ZOO / self.name


@dataclass(frozen=True, kw_only=True)
class Located:
    """A model name and what it points at; `directory` is None for a Hub id."""

    name: str
    kind: Kind
    directory: Path | None


def list_models() -> list[Card]:
    """Return the cards of all built-in models, by name; one that cannot be read says so in its `problem`."""
    return [_card_or_problem(name) for name in names()]


def _card_or_problem(name: str) -> Card:
    try:
        return read_card(name)
    except ModelError as error:
        return Card(
            name=name, title="", what="", parameters=None, size=None, fields={}, problem=error.message
        )


def read_card(name: str) -> Card:
    """Return the card of a built-in model.

    Raises:
        ModelError: if there is no such model, or its card cannot be read or was changed since it was written.
    """
    name = name.removeprefix(PREFIX)
    if name not in (known := names()):
        raise unknown("model", PREFIX + name, [PREFIX + n for n in known], error=ModelError)
    opened = CARD.load(ZOO / name / FILE_NAME)
    card = opened.content
    return Card(
        name=name,
        title=card.title or name,
        what=card.what,
        parameters=card.parameters,
        size=card.bytes,
        fields={key: opened.payload[key] for key in CardContent.__struct_fields__ if key in opened.payload},
    )


def names() -> list[str]:
    """Return names of the built-in models, without the `zoo:` prefix."""
    return sorted(path.parent.name for path in ZOO.glob("*/card.json"))


def locate(name: str) -> Located:
    """Decide what a model name points at, without loading anything.

    `zoo:NAME` is built in; anything that exists as a directory is local; what is written like a path but does
    not exist is an error; the rest is a Hub id.

    Raises:
        ModelError: for an unknown zoo name and for a path that does not exist, with the closest names.
    """
    if name.startswith(PREFIX):
        directory = read_card(name).directory
        return Located(name=name, kind="zoo", directory=directory)
    path = expanded(name, error=ModelError)
    if os.path.isdir(path):
        check_directory(path)
        native = (path / "tl_native.json").is_file()
        return Located(name=name, kind="native" if native else "hugging-face", directory=path)
    if os.path.isfile(path):
        raise ModelError(
            f"{name} is a file; a model is a directory",
            hint=f"a HookedTransformer checkpoint is turned into one by: workbench model import {name}",
        )
    if _looks_like_path(name) or not _HUB_ID.fullmatch(name):
        raise ModelError(f"there is no directory {shown(name)}", hint=_suggest(name))
    return Located(name=name, kind="hub", directory=None)


def suggest(name: str) -> str:
    """Say what a name that is not on the Hub may have meant; empty if nothing is close."""
    local = [path.name for path in Path().iterdir() if path.is_dir()] if Path().is_dir() else []
    close = [f"{PREFIX}{n}" for n in get_close_matches(name, names(), n=2, cutoff=0.6)]
    close += [f"./{n}" for n in get_close_matches(name, local, n=2, cutoff=0.6)]
    return f"did you mean {', '.join(close)}?" if close else ""


def _suggest(name: str) -> str:
    path = expanded(name, error=ModelError)
    parent = path.parent if os.path.isdir(path.parent) else Path()
    nearby = [entry.name for entry in parent.iterdir() if entry.is_dir()] if parent.is_dir() else []
    close = [str(parent / n) for n in get_close_matches(path.name, nearby, n=2, cutoff=0.6)]
    close += [f"{PREFIX}{n}" for n in get_close_matches(path.name, names(), n=2, cutoff=0.6)]
    if close:
        return f"did you mean {', '.join(close)}?"
    return "workbench model list shows the built-in ones; or give the path of a directory"


def _looks_like_path(name: str) -> bool:
    return (
        name.startswith((".", "/", "~")) or name.endswith(("/", "\\")) or "\\" in name or name.count("/") > 1
    )
