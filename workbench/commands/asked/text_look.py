"""What ``workbench look`` is asked: the model, the prompt, whether a token starts it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.commands.asked.inputs import bos_of, check_opening
from workbench.core.errors import OptionError

if TYPE_CHECKING:
    from workbench.commands.forms.text_look import LookAtPrompt
    from workbench.core.job import Job


def check_look(asked: LookAtPrompt, job: Job) -> None:
    """Do nothing if there is a prompt, and the words and the model are known; nothing is opened.

    Raises:
        WorkbenchError: for the first that is not, with the closest spellings.
    """
    if not asked.text.strip():
        raise OptionError("the prompt is empty", hint='workbench look -m zoo:ioi "Mary and John went to"')
    bos_of(asked.bos)
    check_opening(model=asked.model, **asked.opening())
