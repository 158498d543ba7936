"""Heads that change most when the picture is gone, made louder prompt by prompt. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, get_args

from workbench.core.errors import OptionError, ShapeError
from workbench.edits.edit import ModelEdit

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

    from workbench.model.prompt import Prompt

Choose = Literal["divergent", "random"]
ALPHA = 2.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Reinforce(ModelEdit):
    """Multiply the outputs of heads whose divergence is above the median of their layer, at the last position.

    The heads are chosen for every prompt, layer by layer: what earlier layers made louder counts in later ones.

    Args:
        layers: Those in which heads are chosen.
        without: What the heads put out at the last position without the picture: of these prompts, in this order.
        alpha: The factor; 1 changes nothing.
        choose: ``random`` draws as many heads of the layer for every prompt: the control.
        seed: Of those draws.
    """

    kind: ClassVar[str] = "reinforce"
    what: ClassVar[str] = "heads that change most when the picture is gone, made louder prompt by prompt"
    home: ClassVar[str] = "divergent_heads"
    layers: tuple[int, ...]
    without: Float[Tensor, "row layer head d_head"]
    alpha: float = ALPHA
    choose: Choose = "divergent"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.without.ndim != 4 or self.without.shape[1] != len(self.layers):
            raise ShapeError(
                f"without is {tuple(self.without.shape)}; expected (row, {len(self.layers)} layers, head, d_head)",
                hint="record it with the same layers: Reinforce.of(...)",
            )
        if self.choose not in get_args(Choose):
            raise OptionError(
                f"choose is {self.choose!r}; expected one of {', '.join(get_args(Choose))}",
                hint=f"choose={get_args(Choose)[0]}",
            )
        if not self.alpha >= 0:
            raise OptionError(f"alpha is {self.alpha}; at least 0 is expected", hint=f"alpha={ALPHA:g}")

    @classmethod
    def of(cls, model: TransformerBridge, prompt: Prompt, **options: Any) -> Self:
        """Return the edit for these prompts: they are run once without the picture (or another part of them).

        Args:
            options: ``without`` and ``how`` as ``heads.divergence`` has them; ``alpha``, ``choose`` and ``seed``.
        """
        return import_module(cls.module()).reinforce_of(model, prompt, **options)

    def addresses(self) -> tuple[str, ...]:
        return tuple(f"a{layer}" for layer in self.layers)

    def describe(self) -> str:
        """Return in words what it does."""
        which = "divergent heads" if self.choose == "divergent" else "random heads"
        return (
            f"{self.alpha:g} * z of {which} of {', '.join(self.addresses())} for {len(self.without)} prompts"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "layers": list(self.layers),
            "alpha": self.alpha,
            "choose": self.choose,
            "seed": self.seed,
        }

    def tensors(self) -> dict[str, Tensor]:
        return {"without": self.without}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Return what ``to_dict`` wrote, read back."""
        return cls(**{**data, "layers": tuple(data["layers"])}, without=tensors["without"])
