"""What an intervention may put in place of an activation besides means and other runs.

A tensor, a scale, a direction that is added (steering), or a function of what is there. Scale, direction and function
act on what is there in the run that is edited, so later edits of one intervention see the earlier ones.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.core.errors import OptionError, ShapeError
from workbench.core.run_record import digest_of
from workbench.core.source_digest import function_digest

There = Float[Tensor, "pair *place"]
"""What is at an address: ``(pair, pos, d)``, or ``(pair, d)`` at one position; patterns ``(pair, query, key)``."""


class Replacement(ABC):
    """A value for ``Edit`` that is made from what is there. Subclasses say how, and what a record keeps of it.

    Attributes:
        reads: Whether the new value depends on what is there.

    Example:
        >>> import workbench as wb
        >>> isinstance(wb.Scale(0.5), wb.Replacement)
        True
    """

    reads: ClassVar[bool] = True

    @abstractmethod
    def of(self, there: There, pairs: np.ndarray) -> Tensor:
        """Make the new value, in the shape of ``there``; ``pairs`` says which pairs of the runs its rows are."""

    @abstractmethod
    def to_dict(self) -> dict[str, object]:
        """Tell what decides the numbers, as JSON values."""


@dataclass(frozen=True)
class Scale(Replacement):
    """Multiply what is there: 0 is zero ablation, 1 changes nothing, 2 doubles it.

    Example:
        >>> Scale(0.5).of(torch.tensor([[2.0, 4.0]]), np.array([0])).tolist()
        [[1.0, 2.0]]
    """

    factor: float

    def __post_init__(self) -> None:
        _check_number("factor", self.factor)

    def of(self, there: There, pairs: np.ndarray) -> Tensor:
        return there * self.factor

    def to_dict(self) -> dict[str, object]:
        """Return it as JSON values."""
        return {"scale": float(self.factor)}

    def __str__(self) -> str:
        return f"scaled by {self.factor:g}"


@dataclass(frozen=True, eq=False)
class Steer(Replacement):
    """Add ``by`` times a direction to what is there; the direction is taken as given, not made a unit vector.

    Example:
        >>> Steer(torch.tensor([1.0, 0.0]), by=3).of(torch.tensor([[2.0, 4.0]]), np.array([0])).tolist()
        [[5.0, 4.0]]
    """

    direction: Tensor
    by: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "direction", _tensor(self.direction, "a direction"))
        _check_number("by", self.by)

    def of(self, there: There, pairs: np.ndarray) -> Tensor:
        return there + self.by * _fitted(self.direction, there, pairs, "the direction")

    def to_dict(self) -> dict[str, object]:
        """Return it as JSON values."""
        return {"steer": tensor_digest(self.direction), "by": float(self.by)}

    def __str__(self) -> str:
        return f"steered by {self.by:g} times a direction of norm {float(self.direction.norm()):.3g}"


@dataclass(frozen=True, eq=False)
class Given(Replacement):
    """Put this tensor there: ``(d,)`` for all, ``(pos, d)`` by position, ``(pair, pos, d)`` by pair and position.

    Example:
        >>> Given(torch.tensor([7.0, 8.0])).of(torch.zeros(2, 2), np.array([0, 1])).tolist()
        [[7.0, 8.0], [7.0, 8.0]]
    """

    reads: ClassVar[bool] = False
    tensor: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "tensor", _tensor(self.tensor, "a replacement"))

    def of(self, there: There, pairs: np.ndarray) -> Tensor:
        return _fitted(self.tensor, there, pairs, "the replacement")

    def to_dict(self) -> dict[str, object]:
        """Return it as JSON values."""
        return {"tensor": tensor_digest(self.tensor), "shape": list(self.tensor.shape)}

    def __str__(self) -> str:
        return f"replaced by a tensor {tuple(self.tensor.shape)}"


@dataclass(frozen=True, eq=False)
class Computed(Replacement):
    """Put what a function of the present value returns: ``function(there) -> tensor`` of the same shape."""

    function: Callable[[Tensor], Tensor]

    def of(self, there: There, pairs: np.ndarray) -> Tensor:
        found = self.function(there.clone())
        if not isinstance(found, Tensor) or found.shape != there.shape:
            what = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ShapeError(
                f"{self.name} returned {what} for an activation of shape {tuple(there.shape)}",
                hint="return a tensor of the same shape: (pair, pos, d), or (pair, d) at one position",
            )
        return found.to(there.dtype)

    @property
    def name(self) -> str:
        """The function's name, for titles and errors."""
        return getattr(self.function, "__name__", type(self.function).__name__)

    def to_dict(self) -> dict[str, object]:
        """Return it as JSON values."""
        return {"function": self.name, "source": function_digest(self.function)}

    def __str__(self) -> str:
        return f"replaced by {self.name}"


def as_replacement(value: object) -> Replacement:
    """Return a tensor, an array, a function or a ``Replacement`` as a ``Replacement``.

    Raises:
        OptionError: for anything else, by the name of its type.
    """
    if isinstance(value, Replacement):
        return value
    if isinstance(value, Tensor | np.ndarray):
        return Given(torch.as_tensor(value))
    if callable(value):
        return Computed(value)
    raise OptionError(
        f"an edit puts {value!r:.60} there, which is {_named(value)}",
        hint='give "zero", "mean" ..., a tensor, a function, wb.Scale(0.5) or wb.Steer(direction, by=2)',
    )


def tensor_digest(tensor: Tensor) -> str:
    """Return first 16 hex digits of the SHA-256 of a tensor's dtype, shape and values."""
    return digest_of([str(tensor.dtype), list(tensor.shape), tensor.detach().double().flatten().tolist()])


def _fitted(tensor: Tensor, there: There, pairs: np.ndarray, what: str) -> Tensor:
    """The tensor for these pairs, in the shape of what is there."""
    tensor = tensor.to(there)
    if tensor.dim() == there.dim() and len(tensor) != 1:
        most = int(pairs.max()) + 1
        if len(tensor) < most:
            raise ShapeError(
                f"{what} has {len(tensor)} rows, the runs have at least {most} pairs",
                hint="give one row for each pair, or one row for all",
            )
        tensor = tensor[torch.as_tensor(pairs, device=tensor.device)]
    try:
        return tensor.expand_as(there)
    except RuntimeError as problem:
        raise ShapeError(
            f"{what} has shape {tuple(tensor.shape)}; what is there has {tuple(there.shape)}",
            hint=f"give {tuple(there.shape[-1:])} for all, or one row for each pair",
        ) from problem


def _tensor(value: object, what: str) -> Tensor:
    if not isinstance(value, Tensor | np.ndarray):
        raise OptionError(
            f"{what} is {_named(value)}; a tensor is expected", hint="torch.tensor([...]), or a NumPy array"
        )
    tensor = torch.as_tensor(value).detach().clone()
    if not tensor.is_floating_point():
        tensor = tensor.float()
    if not bool(torch.isfinite(tensor).all()):
        raise OptionError(
            f"{what} holds numbers that are not finite", hint="replace them first: torch.nan_to_num(tensor)"
        )
    return tensor


def _check_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise OptionError(f"{name} is {value!r:.60}; a finite number is expected", hint=f"{name}=0.5")


def _named(value: object) -> str:
    return f"of type {type(value).__name__}"
