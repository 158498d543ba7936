"""What ``workbench attention`` is asked: patterns or masks, places, the model, the task or the text."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from workbench.commands.asked.inputs import check_opening
from workbench.core.bounds import exists
from workbench.core.errors import OptionError, unknown
from workbench.edits.substitute import PATTERNS, WINDOW, Each, numbers_of, places_among
from workbench.masks.mask_words import named_mask
from workbench.masks.registry import MASKS
from workbench.model import builtin as zoo
from workbench.model.outline import outline
from workbench.model.wiring import require_heads

if TYPE_CHECKING:
    from workbench.commands.forms.attention import MaskAttention, ReplaceAttention
    from workbench.core.job import Job


def check_replacing(asked: ReplaceAttention, job: Job) -> None:
    """Do nothing if there are such patterns, layers and heads, and the task or the text and the model are there.

    Raises:
        WorkbenchError: for the first that is not, with the closest spellings.
    """
    for name in asked.patterns or PATTERNS:
        numbers_of(name, keys=asked.keys, block=asked.block, order=asked.order)
    _check_texts(asked)


def check_masking(asked: MaskAttention, job: Job) -> None:
    """Do nothing if there are such masks with such options, layers and heads, and the task or the text and the model.

    Raises:
        WorkbenchError: for the first that is not, with the closest spellings.
    """
    if not asked.masks:
        raise OptionError("no mask is named", hint=f"--mask window:16; there are {', '.join(MASKS)} and more")
    for text in asked.masks:
        named_mask(text)
    _check_texts(asked)


def _check_texts(asked: ReplaceAttention | MaskAttention) -> None:
    """What is read, and where it is changed."""
    if asked.task is not None and (asked.text is not None or asked.window != WINDOW):
        raise OptionError(
            "a task has its own prompts; --text and --window are for texts", hint="leave out -t"
        )
    if asked.text is not None and not exists(asked.text):
        raise OptionError(f"no file {asked.text}", hint="--text takes a UTF-8 text file")
    if asked.task is None and asked.task_options:
        raise OptionError("--task-option is of a task, and none is given", hint="-t TASK")
    opening = {**asked.opening(), "task_options": asked.task_options}
    check_opening(
        model=asked.model, task=asked.task, split=asked.split, limit=asked.limit, seed=asked.seed, **opening
    )
    if asked.each not in get_args(Each):
        raise unknown("way of going through heads", asked.each, get_args(Each), error=OptionError)
    if zoo.locate(asked.model).directory is not None:  # of the Hub it is known when the model is opened
        known = outline(asked.model, sizes=False)
        require_heads(known)
        places_among(asked.layers, asked.heads, asked.each, known.attention_layers, known.n_heads)
