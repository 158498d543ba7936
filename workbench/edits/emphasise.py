"""Scores of chosen keys raised in proportion to their size, prompt by prompt. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from workbench.core.errors import OptionError, ShapeError
from workbench.edits.edit import ModelEdit

if TYPE_CHECKING:
    from jaxtyping import Bool
    from torch import Tensor

LOCAL, SUMMARY = 0.7, 0.3


@dataclass(frozen=True, kw_only=True, eq=False)
class Emphasise(ModelEdit):
    """Add ``alpha * |score|`` to the scores of some keys and ``beta * |score|`` to those of others, before the softmax.

    A negative score is raised too. Rows change from the last token of the prompt on, which is the last of the keys
    that are told, in what the model writes after it too.

    Args:
        layers: Where it happens; the paper leaves out the first two of 32.
        local, summary: Which tokens of each prompt are raised by ``alpha`` and by ``beta``: of these prompts, in this
            order.
        alpha, beta: Factors; 0 changes nothing.
    """

    kind: ClassVar[str] = "emphasise"
    what: ClassVar[str] = "scores of chosen keys raised by a share of their size, prompt by prompt"
    home: ClassVar[str] = "raised_scores"
    layers: tuple[int, ...]
    local: Bool[Tensor, "row key"]
    summary: Bool[Tensor, "row key"]
    alpha: float = LOCAL
    beta: float = SUMMARY

    def __post_init__(self) -> None:
        for name in ("local", "summary"):
            value = getattr(self, name)
            if value.ndim != 2 or not str(value.dtype).endswith("bool") or value.shape != self.local.shape:
                raise ShapeError(
                    f"{name} is {tuple(value.shape)} of {value.dtype}; truth values (row, key) are expected, as many "
                    f"as in local, {tuple(self.local.shape)}",
                    hint=f"{name}=torch.zeros({tuple(self.local.shape)}, dtype=torch.bool), True at "
                    "the keys that are meant",
                )
        if bool((self.local & self.summary).any()):
            raise OptionError("a key is both local and summary", hint="local=local & ~summary")
        if not self.layers:
            raise OptionError("layers is empty", hint="layers=(1, 2)")
        for name in ("alpha", "beta"):
            if not getattr(self, name) >= 0:
                raise OptionError(
                    f"{name} is {getattr(self, name)}; at least 0 is expected", hint=f"{name}=0.5"
                )

    def addresses(self) -> tuple[str, ...]:
        return tuple(f"a{layer}" for layer in self.layers)

    def describe(self) -> str:
        """Return in words what it does."""
        rise = f"{self.alpha:g} |score| for local and {self.beta:g} |score| for summary patches"
        return f"{rise} in {', '.join(self.addresses())} for {len(self.local)} prompts"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"layers": list(self.layers), "alpha": self.alpha, "beta": self.beta}

    def tensors(self) -> dict[str, Tensor]:
        return {"local": self.local, "summary": self.summary}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Return what ``to_dict`` wrote, read back."""
        return cls(
            **{**data, "layers": tuple(data["layers"])}, local=tensors["local"], summary=tensors["summary"]
        )
