"""The stacks of layers that one graph of edges runs over: the model alone, or its tower and then the language model.

Of a model that compares pictures with captions they are its two towers, which run side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool
from torch import Tensor

from workbench.circuits.graph import Graph
from workbench.core.errors import ModelError
from workbench.model.hooks import Wiring
from workbench.model.inner_towers import stack_of
from workbench.model.prompt import Prompt
from workbench.model.sight import sight_of
from workbench.model.wiring import HandOver

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    from workbench.engine.paired_runs import PairedRuns
    from workbench.model.inner_towers import TowerStack


@dataclass(frozen=True, kw_only=True, eq=False)
class Side:
    """One stack of layers with its part of a graph.

    Attributes:
        model: The stack, whose hooks have the names that a model's own have; calling it runs the whole model.
        rows, columns: Where its sources and targets are in the whole graph; two towers that meet share the last target.
        first: How many layers of the whole graph come before it.
        tower: Its name; None for the language model.
        hand_over: Of a tower: where it is read.
        meets: It runs beside another one, and not before or behind it.
    """

    model: TransformerBridge | TowerStack
    wiring: Wiring
    graph: Graph
    rows: slice
    columns: tuple[int, ...]
    first: int = 0
    tower: str | None = None
    hand_over: HandOver | None = None
    meets: bool = False

    @property
    def places(self) -> slice | list[int]:
        """Its targets as an index, a slice where they stand side by side."""
        first, last = self.columns[0], self.columns[-1]
        return slice(first, last + 1) if last - first == len(self.columns) - 1 else list(self.columns)

    def hook(self, name: str) -> str:
        """Return the model's own name of a hook of this stack; what leaves a tower's last layer is where it is read."""
        if self.hand_over is None:
            return name
        last = self.graph.shape.n_layers - 1
        if name == f"blocks.{last}.hook_out":
            return self.hand_over.hook
        return f"{self.wiring.prefix}.{name.removeprefix('blocks.')}"

    def whole(self, read: Tensor, like: Tensor) -> Tensor:
        """Return a tensor at the place where a tower is read as one of all its positions, zero at those not read."""
        missing = like.shape[1] - read.shape[1]
        if self.hand_over is None or not missing:
            return read
        return torch.cat([read.new_zeros(len(read), missing, *read.shape[2:]), read], dim=1)


def sides_of(runs: PairedRuns, graph: Graph) -> tuple[Side, ...]:
    """Return the stacks of a graph in the order in which a pass runs them."""
    parts, meets = graph.parts, graph.shape.meets
    rows, layers = (
        [0, *accumulate(counts)]
        for counts in ([len(part.sources) for part in parts], [part.shape.n_layers for part in parts])
    )
    found = []
    for n, part in enumerate(parts):
        wiring = runs.wiring.of(part.stack)
        found.append(
            Side(
                model=stack_of(runs.model, part.stack),
                wiring=wiring,
                graph=part,
                rows=slice(rows[n], rows[n + 1]),
                columns=graph.columns[n],
                first=layers[n],
                tower=part.stack,
                hand_over=None if part.stack is None else _read_at(wiring, meets=meets),
                meets=meets,
            )
        )
    return tuple(found)


def _read_at(wiring: Wiring, *, meets: bool) -> HandOver:
    """Where a tower is read: by what is behind it, or, of two that meet, at what leaves its last layer."""
    if meets:
        return HandOver(hook=f"{wiring.prefix}.{wiring.n_layers - 1}.hook_out")
    if isinstance(wiring.hand_over, str):
        raise ModelError(
            f"no edges from its tower to the language model: {wiring.hand_over}",
            hint="leave out --with-tower: edges of the language model alone",
        )
    return wiring.hand_over


def pictures_in(model: TransformerBridge | TowerStack, prompt: Prompt) -> Bool[Tensor, "row pos"]:
    """Return where the rows of a picture are among those of the language model's input."""
    sight = sight_of(model)  # type: ignore[arg-type]
    if sight is None or sight.token is None:
        raise ModelError(
            "the model takes no pictures beside words",
            hint="open a model that reads a picture and words: -m zoo:vlm",
        )
    return prompt.ids == sight.token


def entering_parts(side: Side, resid: Tensor, pictures: Tensor | None) -> Tensor:
    """Return what each source before the first layer writes: ``(row, pos, source, d_model)``, which sum to ``resid``.

    Where a projector is a source beside the input, its rows are those of the picture and the input's all others.
    """
    if len(side.graph.entering) == 1:
        return resid[:, :, None]
    if pictures is None:
        raise ModelError(
            "where the picture's rows are is not known",
            hint="give prompts with pictures: paired_runs(model, 'scene-exist')",
        )
    where = pictures[..., None]
    zero = torch.zeros((), dtype=resid.dtype, device=resid.device)
    return torch.stack([torch.where(where, zero, resid), torch.where(where, resid, zero)], dim=2)
