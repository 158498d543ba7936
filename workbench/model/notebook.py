"""How an opened model shows itself in a notebook: as the picture of its architecture."""

from __future__ import annotations

import sys

from workbench.model import lens
from workbench.model.architecture import describe


def show_in_notebooks() -> None:
    """Tell IPython, where it runs, to show models by their picture; elsewhere do nothing.

    The class belongs to TransformerLens, so the notebook is told and the class is left as it is.
    """
    interactive = sys.modules.get("IPython")
    shell = interactive.get_ipython() if interactive is not None else None
    if shell is not None:
        shell.display_formatter.formatters["text/html"].for_type(lens.TransformerBridge, _picture)


def _picture(model: lens.TransformerBridge) -> str:
    return describe(model)._repr_html_() or ""
