"""TransformerLens, imported when it is first asked for: its import takes longer than torch's.

``lens.TransformerBridge`` is TransformerLens' own class. A module that only names it in annotations needs neither.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from workbench.core.errors import OptionError
from workbench.core.loading import loading

if TYPE_CHECKING:
    from transformer_lens.hook_points import HookPoint as HookPoint
    from transformer_lens.model_bridge import TransformerBridge as TransformerBridge
    from transformer_lens.model_bridge.generalized_components.normalization import (
        NormalizationBridge as NormalizationBridge,
    )

_HOME = {
    "HookPoint": "transformer_lens.hook_points",
    "TransformerBridge": "transformer_lens.model_bridge",
    "NormalizationBridge": "transformer_lens.model_bridge.generalized_components.normalization",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with loading():
        found = globals()[name] = getattr(import_module(_HOME[name]), name)
    return found


def is_bridge(thing: object) -> bool:
    """Say whether something is a bridge of TransformerLens; nothing can be one before TransformerLens is loaded."""
    loaded = sys.modules.get(_HOME["TransformerBridge"])
    return loaded is not None and isinstance(thing, loaded.TransformerBridge)


def is_tower(thing: object) -> bool:
    """Say whether something is a stack of a model that the bridge does not open."""
    loaded = sys.modules.get("workbench.model.towers.tower")
    return loaded is not None and isinstance(thing, loaded.Tower)


def check_opened(model: object) -> None:
    """Refuse a value that is not an opened model, and name its type.

    Raises:
        OptionError: saying how to open one.
    """
    if is_bridge(model) or is_tower(model):
        return
    if isinstance(model, str):
        found = f"model is the text {model!r:.60}; an opened model is expected"
        raise OptionError(found, hint=f"wb.open_model({model!r:.60})")
    raise OptionError(
        f"model is of type {type(model).__name__}; an opened model is expected",
        hint='model = wb.open_model("gpt2"), or wb.open_model(a_hugging_face_model)',
    )
