"""The options of ``paint-atlas``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.commands.forms.shared import MODEL, OUT, OnModel, seeded
from workbench.core.command import ABOUT, JOB, OWN, argument, command, option

if TYPE_CHECKING:
    from workbench.core.job import Job


@command(
    "paint-atlas",
    run="workbench.commands.paint_atlas:paint_atlas",
    check="workbench.commands.asked.paint_atlas:check_paint_atlas",
    offers=(),
)
@dataclass(frozen=True, kw_only=True)
class PaintAtlas(OnModel):
    """Say for every head of a painter, step by step, how well its looks fit the objects that form.

    Example: workbench paint-atlas -o atlas.html
    """

    captions: tuple[str, ...] = argument("Captions of two objects. Default: so many drawn ones.", default=())
    model: str = option(
        "-m", "--model", help=MODEL, default="zoo:painter", env="WORKBENCH_MODEL", place=ABOUT
    )
    pictures: int = option("--pictures", help="How many captions are drawn.", default=16, least=1)
    steps: int = option("--steps", help="Euler steps from noise to picture.", default=20, least=1)
    guidance: float = option(
        "--guidance",
        help="How far each step goes from the empty caption to this one and beyond; 1 is no guidance.",
        default=2.0,
        least=0,
    )
    seed: int = seeded(OWN)
    out: Path | None = option(
        "-o", "--out", help=f"{OUT} A page. Default: none.", default=None, place=JOB, recorded=False
    )

    def said(self, result: Any, job: Job) -> Iterator[str]:
        if self.out is not None:
            yield f"wrote {self.out}"
