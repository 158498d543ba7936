"""Mixture of heads as a gate of the lab: for every token a few heads stay, with weights in two stages."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from workbench.core.errors import OptionError
from workbench.edits.head_routing import Routing, load_balance, two_stage_weights
from workbench.training.mixers.plugs import Content, Values, Width


class MixtureOfHeads(nn.Module):
    """A gate: the first ``shared`` heads stay, and ``active`` of the others for each token.

    Source:
        Jin et al. 2024, MoH: Multi-Head Attention as Mixture-of-Head Attention.
    """

    def __init__(self, width: Width, *, shared: int, active: int) -> None:
        super().__init__()
        if not 0 <= shared < width.n_heads or not 1 <= active <= width.n_heads - shared:
            raise OptionError(
                f"{shared} shared and {active} active heads of {width.n_heads}",
                hint="shared=1, active=1 or more of the others",
            )
        self.shared, self.active = shared, active
        self.routing: Routing | None = None
        routed = width.n_heads - shared
        self.read = nn.ModuleList(nn.Linear(width.d_model, n, bias=False) for n in (routed, shared, 2))

    def forward(self, content: Content, z: Values) -> Float[Tensor, "batch pos head 1"]:
        """Return what each head's output is multiplied by."""
        routed, shared, stages = (read(content.x) for read in self.read)
        own, others, self.routing = two_stage_weights(routed, shared, stages, self.active)
        return torch.cat([others, own], dim=-1)[..., None]

    def balance(self) -> Float[Tensor, ""]:
        """Return the load balance of the last pass, for a penalty."""
        if self.routing is None:
            raise OptionError("the gate has not been called yet", hint="run the model first")
        return load_balance(self.routing.probabilities, self.routing.chosen)
