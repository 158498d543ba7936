"""The options of ``look``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.commands.forms.shared import OUT, OnModel, bos_asked, in_chat, model_named
from workbench.core.command import JOB, argument, command, option

if TYPE_CHECKING:
    from workbench.core.job import Job


@command(
    "look",
    run="workbench.commands.text_look:look_at_prompt",
    check="workbench.commands.asked.text_look:check_look",
    offers=(),
)
@dataclass(frozen=True, kw_only=True)
class LookAtPrompt(OnModel):
    """Look at one prompt: what comes next, from which layer on, which heads make it so, and where they look.

    Example: workbench look -m zoo:ioi "When Mary and John went to the store, John gave a drink to"
    """

    text: str = argument("The prompt, in quotation marks.")
    model: str = model_named()
    answers: tuple[str, ...] = option(
        "--answer",
        help="An answer to ask about, leading space included; may be repeated. Heads are told of the first over the "
        "second. Default: the two most probable tokens.",
        default=(),
    )
    top: int = option("--top", help="How many next tokens to show.", default=8, least=1)
    bos: str | None = bos_asked()
    chat: bool = in_chat()
    out: Path | None = option(
        "-o", "--out", help=f"{OUT} A page. Default: none.", default=None, place=JOB, recorded=False
    )

    def said(self, result: Any, job: Job) -> Iterator[str]:
        if self.out is not None:
            yield f"wrote {self.out}"
        yield (
            "what this shows is no cause: give the prompt a partner (clean and corrupted, docs/pairs-format.md), then "
            f"workbench ablate -m {self.model} -t pairs.jsonl"
        )
