"""The options of ``circuit details``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from workbench.commands.forms.shared import ABLATION, MODEL, TASK, OnPairs
from workbench.commands.forms.why import OF_CIRCUIT
from workbench.core.command import ABOUT, argument, command, option
from workbench.engine.interventions.words import Ablation


@command(
    "circuit details",
    run="workbench.commands.details:details",
    check="workbench.commands.asked.details:check_details",
    offers=(),
)
@dataclass(frozen=True, kw_only=True)
class Details(OnPairs):
    """Measure what the page shows of a head or an edge that is clicked, keep it beside the circuit, write the page.

    Of heads: patterns on prompts, ablation effect, what is written to the logits. Of edges: exact effect and reason.
    With another --ablation, the effects alone are measured once more, and shown beside the first.

    Example: workbench circuit details circuits/ioi/gpt2/eap-ig-1f3a
    """

    circuit: Path = argument("A circuit file, or the folder that has circuit.json.")
    model: str | None = option("-m", "--model", help=f"{MODEL} {OF_CIRCUIT}", default=None, place=ABOUT)
    task: str | None = option("-t", "--task", help=f"{TASK} {OF_CIRCUIT}", default=None, place=ABOUT)
    reasons: int = option(
        "--reasons",
        help="Reasons and exact effects of at most so many edges, the strongest first.",
        default=60,
        least=0,
    )
    ablation: Ablation = option("--ablation", help=ABLATION, default="resample")
