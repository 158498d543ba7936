"""Affine edits of head outputs: ``z <- a * z + b``, trainable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from workbench.circuits.addresses import parse_node
from workbench.core.errors import ShapeError
from workbench.edits.edit import Positions, When
from workbench.edits.kinds import Affine
from workbench.edits.place import Change, Place, Seen
from workbench.model.probe import wiring

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


def affine_of(
    model: TransformerBridge,
    heads: Sequence[str],
    *,
    a: float | Tensor,
    b: float | Tensor,
    train: Sequence[str],
    positions: Positions | None,
    when: When,
) -> Affine:
    """Return ``Affine.of``."""
    place = Place(model=model, wiring=wiring(model))
    named = tuple(f"a{layer}.h{h}" for text in heads for layer, hs in place.heads([text]).items() for h in hs)
    like = next(iter(model.parameters()))
    shape = (len(named), place.wiring.d_head)

    def made(name: str, value: float | Tensor) -> Tensor:
        tensor = torch.as_tensor(value, dtype=like.dtype, device=like.device).detach()
        return tensor.expand(shape).clone().requires_grad_(name in train)

    return Affine(heads=named, a=made("a", a), b=made("b", b), positions=positions, when=when)


def changes_of(edit: Affine, place: Place) -> Sequence[Change]:
    """Head outputs, layer by layer."""
    places = [parse_node(h) for h in edit.heads]
    found = []
    for layer, heads in place.heads(edit.heads).items():
        order = {node.index: i for i, node in enumerate(places) if node.layer == layer}
        fn = _shift(edit, place, heads, [order[h] for h in heads])
        found.append(Change(layer=layer, site="head-output", heads=heads, fn=fn))
    return found


def _shift(edit: Affine, place: Place, heads: Sequence[int], rows: Sequence[int]):
    def shifted(z: Tensor, seen: Seen) -> Tensor:
        a, b = edit.a[list(rows)].to(z), edit.b[list(rows)].to(z)
        if a.shape[-1] not in (1, z.shape[-1]) or b.shape[-1] not in (1, z.shape[-1]):
            raise ShapeError(
                f"the edit is for heads of {a.shape[-1]} dimensions; these have {z.shape[-1]}",
                hint="make it for this model: Affine.of(model, heads, a=0.0)",
            )
        index = torch.tensor(list(heads), device=z.device)
        new = z.index_copy(2, index, z[:, :, index] * a + b)
        where = place.rows(edit.positions, edit.when, z)
        return torch.where(where[:, :, None, None], new, z)

    return shifted
