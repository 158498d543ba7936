"""The options of ``paint``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.commands.forms.shared import MODEL, OnModel, seeded
from workbench.core.command import ABOUT, OWN, argument, command, option

if TYPE_CHECKING:
    from workbench.core.job import Job


@command(
    "paint",
    run="workbench.commands.paint:paint",
    check="workbench.commands.asked.paint:check_paint",
    offers=("out", "resume", "dry_run"),
    resumes=True,
)
@dataclass(frozen=True, kw_only=True)
class Paint(OnModel):
    """Paint pictures from captions, read them, and show where every head looked at each word meanwhile.

    With an edit the same noise is painted without it too; the edit is in the captioned half of guidance alone.

    Example: workbench paint "a yellow disc left, a purple square right" --seed 3
    """

    captions: tuple[str, ...] = argument("Captions, such as 'a yellow disc left, a purple square right'.")
    model: str = option(
        "-m", "--model", help=MODEL, default="zoo:painter", env="WORKBENCH_MODEL", place=ABOUT
    )
    edit: Path | None = option("--edit", help="A saved edit for the captioned passes.", default=None)
    steps: int = option("--steps", help="Euler steps from noise to picture.", default=20, least=1)
    guidance: float = option(
        "--guidance",
        help="How far each step goes from the empty caption to this one and beyond; 1 is no guidance.",
        default=2.0,
        least=0,
    )
    seed: int = seeded(OWN)

    def said(self, result: Any, job: Job) -> Iterator[str]:
        if not job.dry_run:
            yield f"wrote {result.folder}: painting.json, page.html, run.json"
