"""The options of ``circuit why``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from workbench.commands.forms.shared import MODEL, TASK, OnPairs
from workbench.core.command import ABOUT, argument, command, option

OF_CIRCUIT = "Default: the circuit's own."


@command(
    "circuit why",
    run="workbench.commands.why:why",
    check="workbench.commands.asked.why:check_why",
    offers=(),
)
@dataclass(frozen=True, kw_only=True)
class Why(OnPairs):
    """Say why an edge is there: who makes the attention score, whose values are carried where, which units are moved.

    Edges into a query or key (an exact sum, norms frozen), into a value, into an MLP, and of a head to the logits.

    Example: workbench circuit why "a0.h1->a1.h0<k>" -m zoo:truth-induction -t induction
    """

    edge: str = argument("An edge, in quotation marks: the shell reads > and < as files.")
    circuit: Path | None = argument(
        "A circuit file or folder, or zoo:NAME, that says model and task.", default=None
    )
    model: str | None = option("-m", "--model", help=f"{MODEL} {OF_CIRCUIT}", default=None, place=ABOUT)
    task: str | None = option("-t", "--task", help=f"{TASK} {OF_CIRCUIT}", default=None, place=ABOUT)
    at: str | None = option(
        "--at",
        help="Position at which the edge acts, a name or a number. Default: where its score is largest, per pair.",
        default=None,
    )
