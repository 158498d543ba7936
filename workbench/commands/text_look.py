"""The command ``look`` as a function: open the model and look at one prompt."""

from __future__ import annotations

from workbench.commands.asked.inputs import bos_of
from workbench.commands.forms.text_look import LookAtPrompt
from workbench.core.atomic import write_output
from workbench.core.job import Job
from workbench.heads.prompt_look import PromptLook
from workbench.heads.text_look import look
from workbench.model.open import open_model


def look_at_prompt(asked: LookAtPrompt, job: Job) -> PromptLook:
    """Say what comes next, from which layer on, and which heads make it so."""
    model = open_model(asked.model, **asked.opening())
    found: PromptLook = look(
        model, asked.text, answers=asked.answers, top=asked.top, bos=bos_of(asked.bos), chat=asked.chat
    )
    if asked.out is not None:
        write_output(asked.out, found.page())
    return found
