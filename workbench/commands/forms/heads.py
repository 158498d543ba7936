"""The options of ``heads``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.commands.forms.shared import OnModel, model_named, seeded
from workbench.core.command import OWN, command, option

if TYPE_CHECKING:
    from workbench.core.job import Job


@command(
    "heads",
    run="workbench.commands.heads:heads",
    plan="workbench.commands.plans.heads:heads",
    check="workbench.commands.asked.heads:check_heads",
    offers=("out", "dry_run"),
)
@dataclass(frozen=True, kw_only=True)
class Heads(OnModel):
    """Portray every head: where it looks, what its weights do, how the loss rises without it. Writes one page of all.

    The columns "kind" and "loss" are about random tokens and text, not about a task.

    Example: workbench heads -m zoo:induction --sort induction
    """

    model: str = model_named()
    corpus: tuple[Path, ...] = option(
        "--corpus", help="A text file to look at instead of the built-in text; may be repeated.", default=()
    )
    prompt: tuple[str, ...] = option(
        "--prompt", help="A text; the page shows the patterns on it. May be repeated.", default=()
    )
    sort: str | None = option("--sort", help="Column to sort the table by, such as induction.", default=None)
    limit: int = option(
        "--sequences", help="Sequences of each kind.", default=16, least=2, before=("-n", "--limit")
    )
    length: int | None = option(
        "--length",
        help="Tokens per sequence. Default: 101, or the context if shorter.",
        default=None,
        least=8,
    )
    no_loss: bool = option(
        "--no-loss", help="Leave out the ablation of each head, which takes the longest.", default=False
    )
    structure: bool = option(
        "--structure",
        help="Also measure how heads are made: rank of patterns, bias of keys, keys as a memory, "
        "likeness (CKA), sensitivity.",
        default=False,
    )
    seed: int = seeded(OWN)

    def said(self, result: Any, job: Job) -> Iterator[str]:
        if not job.dry_run:
            yield from (f"note: {said}" for said in result.portrait.notes)
            towers = "".join(f"portrait-{tower.tower}.json, " for tower in result.towers)
            yield f"wrote {result.folder}: portrait.json, {towers}heads.parquet, atlas.html, run.json"
