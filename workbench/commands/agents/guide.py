"""What programs are told first: two texts that come with the package and stand in the repository."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

AGENTS, LLMS, SCHEMAS = "AGENTS.md", "llms.txt", "json-schemas.json"
INSTRUCTIONS = (
    "Find which parts of a transformer do a task. Every tool answers with the JSON document of its command; an error "
    "has a hint that says what to do. Begin with model_list and task_list; ask dry_run for the cost; start what takes "
    "minutes. Never report parts of a model that does not do the task (behavior.finding), never report faithfulness "
    "without the random circuits beside it, and give n and unit with every number."
)


def text_of(name: str) -> str:
    """Return one of the texts: ``AGENTS.md`` or ``llms.txt``.

    Example:
        >>> text_of("llms.txt").splitlines()[0]
        '# Circuit Workbench'
    """
    return (files("workbench.commands.agents") / name).read_text(encoding="utf-8")


def schemas() -> dict[str, Any]:
    """Return the JSON schema of what every command prints with ``--json``, by its name.

    Example:
        >>> "rows" in schemas()["ablate"]["required"]
        True
    """
    return dict(json.loads(text_of(SCHEMAS)))
