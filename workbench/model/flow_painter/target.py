"""A painter that is told by a mask where the first object of its caption is to be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from workbench.core.errors import ShapeError
from workbench.model.flow_painter.model import PainterConfig, PainterModel, to_patches


class TargetPainter(PainterModel):
    """A painter with one more vector, which is added to the patches of a target."""

    def __init__(self, config: PainterConfig | None = None) -> None:
        super().__init__(config or PainterConfig())
        self.target = nn.Parameter(torch.zeros(self.config.hidden_size))
        self._aim: Bool[Tensor, "row patch"] | None = None

    def forward(
        self,
        input_ids: Int[Tensor, "row word"],
        pixel_values: Float[Tensor, "row 3 height width"],
        time: Float[Tensor, " row"],
    ) -> BaseModelOutput:
        """Predict the clean picture, patch by patch, as the painter does."""
        x = self.patch_in(to_patches(pixel_values, self.config.patch_size)) + self.places
        if self._aim is not None:
            if len(self._aim) != len(x):
                raise ShapeError(
                    f"{len(x)} pictures are painted, {len(self._aim)} targets are given",
                    hint="give one mask for each caption",
                )
            x = x + self._aim[..., None] * self.target
        return BaseModelOutput(last_hidden_state=self.through(x, self.words(input_ids), time))

    @contextmanager
    def aimed(self, masks: Bool[Tensor, "row patch"]) -> Iterator[None]:
        """Inside, patches of these masks are those of the target; for ``paint(under=...)``."""
        before, self._aim = self._aim, masks
        try:
            yield
        finally:
            self._aim = before


def target_from(painter: PainterModel) -> TargetPainter:
    """Return a painter with a target's vector of zero, which paints as the one that it begins as."""
    made = TargetPainter(cast(PainterConfig, painter.config))
    made.load_state_dict({**painter.state_dict(), "target": made.target})
    return made
