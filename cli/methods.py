"""`workbench methods`: the methods that score nodes or edges."""

from __future__ import annotations

from cli.options import Json
from cli.printing import emit


def methods(as_json: Json = False) -> None:
    """List the methods that score nodes or edges.

    Example: workbench methods
    """
    from workbench.methods.registry import METHODS

    rows = []
    for name, found in METHODS.items():
        rows.append(
            {
                "method": name,
                "levels": ", ".join(found.levels),
                "options": ", ".join(
                    f"{o}={_short(getattr(found.options(), o))}" for o in found.option_names()
                )
                or "-",
                "claim": found.claim,
                "source": found.source,
            }
        )
    emit(rows, as_json=as_json)


def _short(value: object) -> str:
    """An option's default as one would type it; 2.1972245773362196 is 2.2."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
