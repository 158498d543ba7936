"""Whether a budget of memory holds what is known before a model is open."""

from __future__ import annotations

import math
import sys

import psutil

from workbench.core.errors import ModelError
from workbench.core.job import Note
from workbench.model.outline import Outline
from workbench.model.settings import SET_ASIDE, parse_size, size_said

_BYTES = {"float64": 8, "bfloat16": 2, "float16": 2}


def check_budget(
    max_memory: int | str, model: Outline, *, device: str | None, dtype: str, note: Note
) -> None:
    """Say how much of a budget is taken before any pass; what passes take besides is known once the model is open.

    Raises:
        ModelError: if not even this fits.
    """
    budget = parse_size(max_memory)
    taken = psutil.Process().memory_info().rss if _is_cpu(device) else 0
    weights = (model.n_parameters or 0) * _BYTES.get(dtype, 4)
    least = taken + weights + SET_ASIDE
    process = f"this process takes {size_said(taken)}, " if taken else ""
    found = (
        f"{process}the weights of {model.name} take {size_said(weights)}, and {size_said(SET_ASIDE)} are set aside for "
        "modules that are loaded on the way and Python's own objects"
    )
    if least > budget:
        raise ModelError(
            f"max_memory is {size_said(budget)}; {found}",
            hint=f"at least --max-memory {math.ceil(least / 1e8) / 10:.1f}GB; passes come on top",
        )
    note(f"of {size_said(budget)} at least {size_said(least)} are taken before any pass: {found}")


def _is_cpu(device: str | None) -> bool:
    """Whether memory is the process's own; without torch it is not known which device is taken by default."""
    torch = sys.modules.get("torch")
    return device == "cpu" or (device is None and torch is not None and not torch.cuda.is_available())
