"""Whether something is an opened model."""

from __future__ import annotations

from workbench.core.errors import OptionError
from workbench.model.lens import is_bridge


def check_opened(model: object) -> None:
    """Refuse what is no opened model, by the name of its type.

    Raises:
        OptionError: saying how to open one.
    """
    if is_bridge(model):
        return
    if isinstance(model, str):
        found = f"model is the text {model!r:.60}; an opened model is expected"
        raise OptionError(found, hint=f"wb.open_model({model!r:.60})")
    raise OptionError(
        f"model is of type {type(model).__name__}; an opened model is expected",
        hint='model = wb.open_model("gpt2"), or wb.open_model(a_hugging_face_model)',
    )
