"""What ``workbench paint-atlas`` is asked: captions of two objects, and a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.commands.asked.inputs import check_opening
from workbench.core.errors import OptionError
from workbench.tasks.canvas.captions import read_caption

if TYPE_CHECKING:
    from workbench.commands.forms.paint_atlas import PaintAtlas
    from workbench.core.job import Job


def check_paint_atlas(asked: PaintAtlas, job: Job) -> None:
    """Do nothing if every caption can be painted and has two objects, and the model is there.

    Raises:
        WorkbenchError: for the first that is not.
    """
    for caption in asked.captions:
        if len(read_caption(caption)) != 2:
            raise OptionError(
                f"caption {caption!r:.80} has one object; an atlas compares the two objects of a picture",
                hint="workbench paint-atlas 'a red disc left, a blue square right'",
            )
    check_opening(model=asked.model, seed=asked.seed, **asked.opening())
