"""Whether two values that were read say the same, and where they first do not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from os import PathLike, fspath
from typing import Any

import numpy as np


def difference(one: Any, two: Any, where: str = "") -> str:
    """The first place where two values differ, in words; empty if nowhere.

    Numbers are equal by value (NaN is NaN), truth values are no numbers, arrays are equal in type, shape and bits.
    """
    if hasattr(one, "detach") and hasattr(two, "detach"):
        one, two = one.detach().cpu().numpy(), two.detach().cpu().numpy()
    if is_dataclass(one) and not isinstance(one, type):
        if type(one) is not type(two):
            return f"{where}: {type(one).__name__} and {type(two).__name__}"
        names = [f.name for f in fields(one) if not f.name.startswith("_")]
        return _first((getattr(one, n), getattr(two, n), f"{where}.{n}") for n in names)
    if isinstance(one, np.ndarray) or isinstance(two, np.ndarray):
        return _arrays(one, two, where)
    if isinstance(one, Mapping) and isinstance(two, Mapping):
        if list(map(str, one)) != list(map(str, two)) and set(map(str, one)) != set(map(str, two)):
            return f"{where}: keys {_short(sorted(map(str, set(one) ^ set(two))))}"
        return _first((one[k], two[k], f"{where}.{k}") for k in one if k in two)
    if _is_list(one) and _is_list(two):
        if len(one) != len(two):
            return f"{where}: {len(one)} and {len(two)} entries"
        return _first((a, b, f"{where}[{i}]") for i, (a, b) in enumerate(zip(one, two, strict=True)))
    return "" if _plainly_equal(one, two) else f"{where}: {_short(one)} and {_short(two)}"


def _first(pairs: Any) -> str:
    return next((found for one, two, where in pairs if (found := difference(one, two, where))), "")


def _arrays(one: Any, two: Any, where: str) -> str:
    if not isinstance(one, np.ndarray) or not isinstance(two, np.ndarray):
        return f"{where}: {type(one).__name__} and {type(two).__name__}"
    if one.dtype != two.dtype or one.shape != two.shape:
        return f"{where}: {one.dtype}{one.shape} and {two.dtype}{two.shape}"
    return "" if one.tobytes() == two.tobytes() else f"{where}: other numbers"


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _plainly_equal(one: Any, two: Any) -> bool:
    if isinstance(one, bool) or isinstance(two, bool):
        return one is two
    if isinstance(one, PathLike) and isinstance(two, PathLike):
        return fspath(one) == fspath(two)
    if isinstance(one, float) and isinstance(two, float) and math.isnan(one) and math.isnan(two):
        return True
    if isinstance(one, int | float) and isinstance(two, int | float):
        return one == two
    return type(one) is type(two) and (one == two or repr(one) == repr(two))


def _short(value: Any) -> str:
    return f"{value!r:.70}"
