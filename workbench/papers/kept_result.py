"""A replication kept in a folder: what decides its numbers, what is written, and what an equal run left there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.circuits.behavior import short_of
from workbench.core.atomic import write_atomic
from workbench.core.bounds import exists
from workbench.core.claims import plain
from workbench.core.errors import RunError
from workbench.core.run_file import digest_of_file
from workbench.core.run_record import code_versions, digest_of
from workbench.core.source_digest import source_digest
from workbench.core.strict_json import dump
from workbench.model.builtin import list_models
from workbench.model.identity import identity
from workbench.model.native import WEIGHTS_NAME
from workbench.papers.file import REPLICATION, RESULT
from workbench.papers.kinds import Findings, Replicable, Setting
from workbench.papers.registry import find_paper, modules_of
from workbench.papers.result import Result

if TYPE_CHECKING:
    pass


PAGE = "report.html"


def with_behaviors(findings: Findings, setting: Setting) -> Findings:
    """Return the findings, with what the model itself does on the pairs as the first table."""
    if not setting.behaviors:
        return findings
    rows = [
        {"pairs": name, "does the task": short_of([told["finding"]]), "what it does": told["sentence"]}
        for name, told in setting.behaviors.items()
    ]
    return replace(findings, tables={"What the model itself does": rows, **findings.tables})


def plan_of(replication: Replicable, setting: Setting) -> dict[str, Any]:
    """Return everything that decides the numbers, as JSON values."""
    known = identity(setting.model)
    return {
        "replication": replication.name,
        "model": known.name,
        "weights": known.digest,
        "config": known.config_digest,
        "dtype": known.dtype,
        "device": known.device,
        "options": plain(asdict(setting.options)),
        "other models": _weights_named(asdict(setting.options)),
        "seed": setting.seed,
        "code": {**code_versions(), "sources": source_digest(*modules_of(find_paper(replication.name)))},
    }


def _weights_named(options: Mapping[str, Any]) -> dict[str, str]:
    """Digests of the weights of built-in models that options name, whole or before a slash; a name alone says less."""
    words = [w for v in options.values() for w in (v if isinstance(v, tuple) else (v,)) if isinstance(w, str)]
    known = {card.name: card.directory for card in list_models()}
    names = {w.removeprefix("zoo:").split("/")[0] for w in words if w.startswith("zoo:")}
    return {
        name: str(digest_of_file(known[name] / WEIGHTS_NAME)["sha256"]) for name in sorted(names & set(known))
    }


def load_result(folder: Path, question: str) -> Result | None:
    """Return the finished result of an equal earlier run; None if there is none yet.

    Raises:
        RunError: if the folder holds the result of another question, or one that cannot be read or was changed.
    """
    path = Path(folder) / RESULT
    if not exists(path):
        return None
    opened = REPLICATION.load(path)
    found = Result.of_file(opened.content, opened.origin, Path(folder))
    if digest_of(found.plan) != question:
        raise RunError(
            f"{folder} holds another run of {found.name}, on {found.model}", hint="choose another --out"
        )
    return found


def save_result(found: Result, folder: Path) -> dict[str, str]:
    """Write tables, pictures, page and last the result itself, each whole or not at all; return what is where."""
    for file, text in found.tables().items():
        write_atomic(folder / "tables" / file, text)
    for i, picture in enumerate(found.findings.pictures.values(), start=1):
        write_atomic(folder / "pictures" / f"picture-{i:02d}.svg", picture.svg())
    write_atomic(folder / PAGE, found.page())
    write_atomic(folder / RESULT, dump(found.to_dict(), where=RESULT, indent=1))
    drawn = {"pictures": "pictures"} if found.findings.pictures else {}
    return {"result": RESULT, "report": PAGE, "tables": "tables", **drawn}
