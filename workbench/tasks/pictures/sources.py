"""Kinds of pictures that are made and not read: ``scene:SEED/INDEX``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from workbench.core.errors import TaskError
from workbench.core.registry import Registry

SOURCES: Registry[Callable[[str], np.ndarray]] = Registry("kind of picture", error=TaskError)
"""Kind -> function from what stands after the colon to pixels."""

SOURCES.lazy("scene", "workbench.tasks.scenes:pixels_of")
