"""What a model is given: token ids, and beside them whatever else it takes, such as pixels.

Ids and extras are indexed, repeated, moved and hashed together, so a row can never meet another row's picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import overload

import torch
from jaxtyping import Int
from torch import Tensor

from workbench.core.errors import ShapeError

Make = Callable[[Tensor], Tensor]
"""Makes the tensor of these rows: ``make(rows)``."""


class Extras(Mapping[str, Tensor]):
    """Further arguments of a model, each a tensor whose first axis is row; made when they are asked for and not kept.

    A stack of a hundred copies of a picture is a hundred pictures long: it exists only while a pass reads it.
    """

    def __init__(self, makers: Mapping[str, Make], rows: Int[Tensor, " row"]) -> None:
        self._makers, self._rows = dict(makers), rows

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Extras:
        """Tensors that are there."""
        n_rows = {name: len(tensor) for name, tensor in tensors.items()}
        if len(set(n_rows.values())) > 1:
            raise ShapeError(
                f"extras are of different numbers of rows: {n_rows}",
                hint="give one row of each for every prompt",
            )
        rows = torch.arange(next(iter(n_rows.values()), 0))

        def maker(tensor: Tensor) -> Make:
            return lambda at: tensor[at.to(tensor.device)]

        return cls({name: maker(tensor) for name, tensor in tensors.items()}, rows)

    def at(self, rows: Tensor | slice) -> Extras:
        """Those of some rows, in this order."""
        return Extras(
            self._makers, self._rows[rows.to(self._rows.device) if isinstance(rows, Tensor) else rows]
        )

    def without(self, names: frozenset[str]) -> Extras:
        """Return all but these."""
        return Extras({name: make for name, make in self._makers.items() if name not in names}, self._rows)

    def beside(self, makers: Mapping[str, Make]) -> Extras:
        """Return these and further ones of the same rows."""
        return Extras({**self._makers, **makers}, self._rows)

    def to(self, device: torch.device | str) -> Extras:
        """Return the same on another device."""
        moved = {name: lambda rows, make=make: make(rows).to(device) for name, make in self._makers.items()}
        return Extras(moved, self._rows)

    def __getitem__(self, name: str) -> Tensor:
        return self._makers[name](self._rows)

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


NOTHING = Extras({}, torch.arange(0))


@dataclass(frozen=True, eq=False)
class Prompt:
    """Rows of token ids of one length, with what else the model reads of each row.

    Attributes:
        ids: Token ids; for a model that reads no words the numbers of its positions.
        extras: Name of the model's own argument (``pixel_values``) -> tensor whose first axis is row.
        entered: What enters the first layer is given by whoever runs it: pictures are not looked at again.
        taken: The prompt that rows of this one were taken from, and which they are; None where they are its own.

    Example:
        >>> prompt = Prompt(torch.tensor([[1, 2], [3, 4]]), Extras.of({"pixel_values": torch.zeros(2, 3, 8, 8)}))
        >>> prompt.repeat(2).shape, prompt.repeat(2).extras["pixel_values"].shape[0]
        (torch.Size([4, 2]), 4)
    """

    ids: Int[Tensor, "row pos"]
    extras: Extras = field(default_factory=lambda: NOTHING)
    entered: bool = False
    taken: tuple[Prompt, Int[Tensor, " row"]] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, given: Prompt | Int[Tensor, "row pos"]) -> Prompt:
        """Return a prompt, or bare token ids as one."""
        return given if isinstance(given, Prompt) else cls(given)

    @property
    def origin(self) -> tuple[Prompt, Int[Tensor, " row"]]:
        """The prompt that the rows are of, and which they are."""
        return self.taken or (self, torch.arange(len(self)))

    @property
    def shape(self) -> torch.Size:
        """Rows and positions."""
        return self.ids.shape

    @property
    def device(self) -> torch.device:
        return self.ids.device

    @property
    def last(self) -> Int[Tensor, " row"]:
        """The last token of each row."""
        return self.ids[:, -1]

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, rows: Tensor) -> Prompt: ...
    @overload
    def __getitem__(self, rows: slice) -> Prompt: ...
    def __getitem__(self, rows: Tensor | slice) -> Prompt:
        if not self.extras:
            return Prompt(self.ids[rows], NOTHING, self.entered)
        origin, own = self.origin
        taken = origin, own[rows.cpu() if isinstance(rows, Tensor) else rows]
        return Prompt(self.ids[rows], self.extras.at(rows), self.entered, taken)

    def repeat(self, times: int) -> Prompt:
        """So many copies, one after another."""
        if not self.extras:
            return Prompt(self.ids.repeat(times, 1), NOTHING, self.entered)
        origin, own = self.origin
        extras = self.extras.at(torch.arange(len(self)).repeat(times))
        return Prompt(self.ids.repeat(times, 1), extras, self.entered, (origin, own.repeat(times)))

    def split(self, size: int) -> Iterator[Prompt]:
        """Return the same in chunks of so many rows."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def to(self, device: torch.device | str) -> Prompt:
        """Return the same on another device."""
        return Prompt(self.ids.to(device), self.extras.to(device) if self.extras else NOTHING, self.entered)

    @cached_property
    def digest(self) -> bytes:
        """Of the ids and all extras: two prompts of one digest are one to the model."""
        found = blake2b(self.ids.cpu().numpy().tobytes(), digest_size=16)
        for name in sorted(self.extras):
            tensor = self.extras[name].detach().cpu().contiguous()
            found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            found.update(tensor.view(torch.uint8).numpy().tobytes())
        return found.digest()
