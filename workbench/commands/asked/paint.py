"""What ``workbench paint`` is asked: captions that the painter can read, an edit, a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.commands.asked.inputs import check_opening
from workbench.core.bounds import exists
from workbench.core.errors import OptionError
from workbench.tasks.canvas.captions import read_caption

if TYPE_CHECKING:
    from workbench.commands.forms.paint import Paint
    from workbench.core.job import Job


def check_paint(asked: Paint, job: Job) -> None:
    """Do nothing if every caption can be painted, and the edit and the model are there.

    Raises:
        WorkbenchError: for the first that is not, with the words that the painter knows.
    """
    if not asked.captions:
        raise OptionError("there is nothing to paint", hint="workbench paint 'a red disc left'")
    for caption in asked.captions:
        read_caption(caption)
    if asked.steps < 1 or not 0 <= asked.guidance < float("inf"):
        raise OptionError(
            f"steps is {asked.steps} and guidance {asked.guidance:g}; expected at least 1 step and guidance from 0",
            hint="--steps 20 --guidance 2",
        )
    if asked.edit is not None and not exists(asked.edit):
        raise OptionError(f"no file {asked.edit}", hint="workbench edit make word-looks ... -o FILE")
    if asked.edit is not None and asked.guidance == 0:
        raise OptionError(
            "guidance 0 paints the empty caption; an edit of what the caption does would change nothing",
            hint="--guidance 2, or leave --edit out",
        )
    check_opening(model=asked.model, seed=asked.seed, **asked.opening())
