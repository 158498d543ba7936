"""Painted pictures as conditions: what the reader says of each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workbench.papers.kit.conditions import Conditions
from workbench.tasks.canvas.picture_reader import PictureVerdict


def add_verdicts(c: Conditions, name: str, verdicts: Sequence[PictureVerdict], judged: Sequence[str]) -> None:
    """Set what is right in each picture, as 0 or 1: ``binding, NAME`` and so on.

    Args:
        judged: Fields of a verdict.

    Example:
        >>> from workbench.tasks.canvas.flat_shapes import draw
        >>> from workbench.tasks.canvas.picture_reader import judge, read_picture
        >>> c, drawing = Conditions(), draw(7, 1)
        >>> add_verdicts(c, "drawn", [judge(read_picture(drawing.pixels), drawing.items)], ["binding"])
        >>> c["binding, drawn"].tolist()
        [1.0]
    """
    for field in judged:
        c[f"{field}, {name}"] = np.array([float(getattr(verdict, field)) for verdict in verdicts])
