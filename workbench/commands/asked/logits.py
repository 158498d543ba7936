"""What ``workbench logits`` is asked: the model, the task, the words."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from workbench.circuits.logit_parts import By
from workbench.commands.asked.inputs import check_opening
from workbench.core.errors import OptionError, unknown
from workbench.engine.interventions.words import value_named

if TYPE_CHECKING:
    from workbench.commands.forms.logits import Logits
    from workbench.core.job import Job


def check_logits(asked: Logits, job: Job) -> None:
    """Do nothing if the words are known and the model and the task are there; nothing is opened.

    Raises:
        WorkbenchError: for the first that is not, with the closest spellings.
    """
    if asked.by not in get_args(By):
        raise unknown("way to take logits apart", asked.by, get_args(By), error=OptionError)
    value_named(asked.ablation)
    if asked.no_effects and asked.ablation != "resample":
        raise OptionError(
            f"--ablation {asked.ablation} is of the effects that --no-effects leaves out",
            hint="leave out one of the two",
        )
    check_opening(**asked.opening())
