"""How models that see are put together: a survey, without claims of its own.

The survey sorts models by their parts: a tower that reads the picture, a connector, a language model, and where the
picture's tokens stand among the words. Here these parts are read from the model that is asked for and from the
built-in models that see. ``workbench model show`` says the same of any model, and ``docs/multimodal.md`` has the table
of all families that open.
"""

from __future__ import annotations

from dataclasses import dataclass

from workbench.core.errors import ModelError
from workbench.core.loading import lazily
from workbench.papers.kinds import Setting
from workbench.papers.kit import Conditions, Paper
from workbench.papers.options import Sizes
from workbench.papers.registry import add_paper

with lazily():
    from workbench.model import multimodal_layout

SEEING = ("zoo:vlm", "zoo:vlm-mutual", "zoo:clip", "zoo:marked", "zoo:painter")
TABLE = "Where a picture goes"


@dataclass(frozen=True, kw_only=True)
class SurveySizes(Sizes):
    """Nothing can be chosen."""


def measure(setting: Setting) -> Conditions:
    """Say where a picture goes in the model and in the built-in ones that see.

    Raises:
        ModelError: for a model that takes no picture.
    """
    own = multimodal_layout.multimodal_layout(setting.model)
    if own is None:
        raise ModelError(
            f"{setting.name} takes no picture; the survey is about models that see",
            hint="-m zoo:vlm, or another model that reads pictures (docs/multimodal.md)",
        )
    rows = [{"model": setting.name, **own.row()}]
    for name in setting.each([name for name in SEEING if name != setting.name], "models"):
        layout = multimodal_layout.multimodal_layout(setting.open(name))
        rows += [{"model": name, **layout.row()}] if layout is not None else []
    return Conditions(tables={TABLE: rows}, numbers={"layout": own.to_dict()}, seed=setting.seed)


REPLICATION = add_paper(
    Paper(
        name="instruction-tuning-survey",
        source="2023",
        model="zoo:vlm",
        options=SurveySizes,
        measure=measure,
    )
)
