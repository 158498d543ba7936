"""``plan.json``: everything that decides the numbers of a run that keeps finished parts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from workbench.core.digest import DIGEST
from workbench.core.errors import RunError
from workbench.core.file_kind import FileKind, Origin
from workbench.core.strict_json import kind, parse, read_text
from workbench.core.typed import Part

NAME = "plan.json"


class PlanContent(Part, frozen=True):
    """What is measured: parts of one plan never mix with those of another."""

    plan: Annotated[dict[str, Any], Meta(description="what decides the numbers, as the run itself says it")]


PLAN_FILE = FileKind(
    format="circuit-workbench/plan",
    content=PlanContent,
    what="a plan of a run",
    again="choose another --out, or remove FOLDER",
)


def save_plan(plan: Mapping[str, Any], folder: str | os.PathLike[str]) -> Path:
    """Write ``plan.json`` into a folder, whole or not at all."""
    return PLAN_FILE.save({"plan": plan}, Path(folder) / NAME)


def load_plan(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the plan of the run in a folder.

    Raises:
        RunError: if it is missing, cannot be read, or was changed since it was written.
    """
    plan, origin = read_plan(folder)
    PLAN_FILE.say(origin)
    return plan


def read_plan(folder: str | os.PathLike[str]) -> tuple[dict[str, Any], Origin]:
    """Return the plan of the run in a folder, and whether it is as it was written; in version 1 the file was the
    plan.

    Raises:
        RunError: if it is missing or cannot be read.
    """
    file = Path(folder) / NAME
    document = parse(read_text(file, error=RunError), where=str(file), error=RunError)
    if not isinstance(document, dict):
        raise RunError(f"{file} is {kind(document)}; expected an object", hint=PLAN_FILE.advice(str(file)))
    if document.get("format") != PLAN_FILE.format and DIGEST not in document:
        return document, Origin(where=str(file), version=1)
    content, origin = PLAN_FILE.check(document, where=str(file))
    return content.plan, origin


__all__ = ["NAME", "PLAN_FILE", "load_plan", "read_plan", "save_plan"]
