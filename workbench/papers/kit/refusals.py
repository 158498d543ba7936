"""What is measured for several names, of which some may be refused: models that others have, numbers of the library."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import numpy as np

from workbench.core.claims import Quantity
from workbench.core.errors import WorkbenchError
from workbench.papers.kit.conditions import Conditions

T = TypeVar("T")


def found_or_refused(
    names: Iterable[str], measure: Callable[[str], T]
) -> tuple[dict[str, T], dict[str, str]]:
    """Measure something for each name; where that is refused, keep the reason.

    Args:
        measure: Called with each name.

    Returns:
        What was found by name, and the messages of what was refused by name.

    Example:
        >>> from workbench.tasks.registry import get_task
        >>> found, refused = found_or_refused(["ioi", "oii"], get_task)
        >>> list(found), refused
        (['ioi'], {'oii': "no task called 'oii'"})
    """
    found, refused = {}, {}
    for name in names:
        try:
            found[name] = measure(name)
        except WorkbenchError as problem:
            refused[name] = problem.message
    return found, refused


def tell_all(c: Conditions, quantities: Mapping[str, Quantity]) -> None:
    """Tell what a library function measured: numbers, conditions and draws; what it could not measure lacks.

    Example:
        >>> c = Conditions()
        >>> lost = Quantity(np.array([]), why="nothing was right before")
        >>> tell_all(c, {"gain": Quantity(0.5, 8, control=0.1), "right": Quantity(np.array([1.0, 0.0])), "lost": lost})
        >>> c.mean("gain"), c.n("gain"), c.mean("right"), c.lacking
        (0.5, 8, 0.5, {'lost': 'nothing was right before'})
    """
    for name, one in quantities.items():
        if one.value is None or (isinstance(one.value, np.ndarray) and not len(one.value)):
            c.lack(name, one.why or c.numbers.get("no random heads", "it was not measured"))
        elif isinstance(one.value, list):
            c.draws.add(name, one.value, unit=one.unit, within=one.within)
        else:
            if isinstance(one.value, np.ndarray):
                c.add(name, one.value, unit=one.unit, within=one.within)
            c.tell(name, one.value, control=one.control, n=one.n, around=one.around, p=one.p)
