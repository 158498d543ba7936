"""Affine edits of head outputs: ``z <- a * z + b``, trainable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from workbench.edits.edit import Change, ModelEdit, Place, Positions, Seen, When
from workbench.errors import OptionError, ShapeError
from workbench.model.probe import wiring
from workbench.names import parse_node


@dataclass(frozen=True, kw_only=True, eq=False)
class Affine(ModelEdit):
    """``z <- a * z + b`` for the outputs of some heads, before ``W_O``.

    Tensors that require gradients are trained through the frozen model: run it inside ``with edit.on(model):``, take
    the loss, and step an optimiser of ``edit.parameters()``.

    Args:
        heads: One address per row of ``a`` and ``b``: ``a5.h3``.
        a: Factor per head, or per head and dimension; ones change nothing.
        b: Offset in units of z, likewise; zeros change nothing.
        positions: Numbered (negative from the end: ``(-1,)`` is the last) or named; ``None`` is all.
        when: ``decode`` leaves alone the positions before ``decode_from``.
    """

    kind: ClassVar[str] = "affine"
    heads: tuple[str, ...]
    a: Float[Tensor, "head d_head|1"]
    b: Float[Tensor, "head d_head|1"]
    positions: Positions | None = None
    when: When = "all"

    def __post_init__(self) -> None:
        if not self.heads or len(set(self.heads)) != len(self.heads):
            raise OptionError(f"{len(self.heads)} heads, {len(set(self.heads))} of them different")
        if any(parse_node(h).kind != "head" for h in self.heads):
            raise OptionError(
                "an affine edit names single heads", hint="Affine.of(model, ['a5']) takes layers"
            )
        for name, value in (("a", self.a), ("b", self.b)):
            if value.ndim != 2 or len(value) != len(self.heads) or not value.is_floating_point():
                raise ShapeError(
                    f"{name} has shape {tuple(value.shape)}; one row for each of {len(self.heads)} heads is expected"
                )
        if self.when not in get_args(When):
            raise OptionError(f"when is {self.when!r}; one of {', '.join(get_args(When))}")

    @classmethod
    def of(
        cls,
        model: TransformerBridge,
        heads: Sequence[str],
        *,
        a: float | Tensor = 1.0,
        b: float | Tensor = 0.0,
        train: Sequence[str] = (),
        positions: Positions | None = None,
        when: When = "all",
    ) -> Self:
        """An edit of heads or layers of this model, from numbers or tensors that broadcast to (head, d_head).

        Args:
            train: Which of ``a`` and ``b`` require gradients.
        """
        place = Place(model=model, wiring=wiring(model))
        named = tuple(
            f"a{layer}.h{h}" for text in heads for layer, hs in place.heads([text]).items() for h in hs
        )
        like = next(iter(model.parameters()))
        shape = (len(named), place.wiring.d_head)

        def made(name: str, value: float | Tensor) -> Tensor:
            tensor = torch.as_tensor(value, dtype=like.dtype, device=like.device).detach()
            return tensor.expand(shape).clone().requires_grad_(name in train)

        return cls(heads=named, a=made("a", a), b=made("b", b), positions=positions, when=when)

    def parameters(self) -> list[Tensor]:
        """The tensors that require gradients."""
        return [t for t in (self.a, self.b) if t.requires_grad]

    @property
    def n_parameters(self) -> int:
        """How many numbers are trained."""
        return sum(t.numel() for t in self.parameters())

    def changes(self, place: Place) -> Sequence[Change]:
        places = [parse_node(h) for h in self.heads]
        found = []
        for layer, heads in place.heads(self.heads).items():
            order = {node.index: i for i, node in enumerate(places) if node.layer == layer}
            fn = self._shift(place, heads, [order[h] for h in heads])
            found.append(Change(layer=layer, site="head-output", heads=heads, fn=fn))
        return found

    def _shift(self, place: Place, heads: Sequence[int], rows: Sequence[int]):
        def edit(z: Tensor, seen: Seen) -> Tensor:
            a, b = self.a[list(rows)].to(z), self.b[list(rows)].to(z)
            if a.shape[-1] not in (1, z.shape[-1]) or b.shape[-1] not in (1, z.shape[-1]):
                raise ShapeError(
                    f"the edit is for heads of {a.shape[-1]} dimensions; these have {z.shape[-1]}"
                )
            index = torch.tensor(list(heads), device=z.device)
            new = z.index_copy(2, index, z[:, :, index] * a + b)
            where = place.rows(self.positions, self.when, z)
            return torch.where(where[:, :, None, None], new, z)

        return edit

    def describe(self) -> str:
        rows = "" if self.positions is None else f" at {', '.join(map(str, self.positions))}"
        return f"a * z + b of {', '.join(self.heads)}{rows}{', decoding' * (self.when == 'decode')}"

    def to_dict(self) -> dict[str, Any]:
        positions = None if self.positions is None else list(self.positions)
        return {"heads": list(self.heads), "positions": positions, "when": self.when}

    def tensors(self) -> dict[str, Tensor]:
        return {"a": self.a, "b": self.b}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        positions = None if data["positions"] is None else tuple(data["positions"])
        heads = tuple(data["heads"])
        return cls(heads=heads, positions=positions, when=data["when"], a=tensors["a"], b=tensors["b"])
