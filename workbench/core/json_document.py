"""A result as the one JSON document that ``--json`` prints."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from workbench.core.errors import WorkbenchError


def document_of(result: Any) -> Any:
    """Return a result as values that JSON can hold: its ``to_dict()``, or what it is.

    Raises:
        WorkbenchError: naming the place of a number that JSON has not.

    Example:
        >>> document_of({"n": (1, 2)})
        {'n': [1, 2]}
    """
    return _finite(result.to_dict() if hasattr(result, "to_dict") else result)


def _finite(value: Any, where: str = "the result") -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise WorkbenchError(f"{where} is {value}, which JSON has not", hint="without --json it is shown")
    if isinstance(value, Mapping):
        return {key: _finite(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item, f"{where}[{i}]") for i, item in enumerate(value)]
    return value
