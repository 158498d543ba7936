"""Attention drawn to a reference: scores grow with the similarity of a key and the reference. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from workbench.core.errors import OptionError, ShapeError
from workbench.edits.edit import ModelEdit, Positions, check_heads

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class BiasTowards(ModelEdit):
    """Add ``beta * cos(x_k, r)`` to the scores of every key, before the softmax.

    ``x_k`` is the residual stream that enters the layer at the key, ``r`` the reference there.

    Args:
        heads: ``a5.h3``, or ``a5`` for all heads of a layer.
        reference: One for all prompts, or one for each prompt in this order; of every layer of the model, the first
            layer first.
        beta: In units of scores; 0 changes nothing.
        queries: Which rows of the pattern change; by default all.

    Source:
        PerSAM, 2023; the abstract alone was read.
    """

    kind: ClassVar[str] = "bias-towards"
    what: ClassVar[str] = "scores of keys raised by their similarity with a reference"
    home: ClassVar[str] = "biased_scores"
    heads: tuple[str, ...]
    reference: Float[Tensor, "reference layer d_model"]
    beta: float = 5.0
    queries: Positions | None = None

    def __post_init__(self) -> None:
        check_heads(self.heads)
        if self.reference.ndim != 3 or not len(self.reference):
            raise ShapeError(
                f"reference is {tuple(self.reference.shape)}; (reference, layer, d_model) is expected",
                hint="reference=span_reference(model, prompt, span)[None].mean(1)",
            )
        if not abs(self.beta) < float("inf"):
            raise OptionError(f"beta is {self.beta}; a finite number is expected", hint="beta=5.0")

    def describe(self) -> str:
        """Return in words what it does."""
        many = "one reference" if len(self.reference) == 1 else f"{len(self.reference)} references"
        return f"scores raised by {self.beta:g} times the similarity with {many} in {', '.join(self.heads)}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        queries = None if self.queries is None else list(self.queries)
        return {"heads": list(self.heads), "beta": self.beta, "queries": queries}

    def tensors(self) -> dict[str, Tensor]:
        return {"reference": self.reference}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Return what ``to_dict`` wrote, read back."""
        queries = None if data["queries"] is None else tuple(data["queries"])
        given = {"heads": tuple(data["heads"]), "beta": data["beta"], "queries": queries}
        return cls(**given, reference=tensors["reference"])
