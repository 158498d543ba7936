"""The command ``paint-atlas`` as a function: open the model, paint, and look at every head."""

from __future__ import annotations

from workbench.commands.forms.paint_atlas import PaintAtlas
from workbench.core.atomic import write_output
from workbench.core.job import Job
from workbench.heads.atlas_over_time import PainterAtlas
from workbench.heads.painter_atlas import painter_atlas
from workbench.model.open import open_model
from workbench.tasks.canvas.flat_shapes import draw_many


def paint_atlas(asked: PaintAtlas, job: Job) -> PainterAtlas:
    """Say how well every head's looks fit the objects, step by step.

    Raises:
        ModelError: if the model does not paint.
    """
    model = open_model(asked.model, **asked.opening())
    captions = asked.captions or [d.caption for d in draw_many(asked.seed, range(asked.pictures), objects=2)]
    found = painter_atlas(
        model, captions, name=asked.model, seed=asked.seed, steps=asked.steps, guidance=asked.guidance
    )
    if asked.out is not None:
        write_output(asked.out, found.page())
    return found
