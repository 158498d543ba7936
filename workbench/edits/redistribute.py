"""Attention taken from sinks and given to the picture, in heads that look at it. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, get_args

from workbench.core.errors import OptionError
from workbench.edits.edit import ModelEdit, of_kinds

if TYPE_CHECKING:
    from torch import Tensor

ChooseHeads = Literal["image-centric", "all", "random"]


@dataclass(frozen=True, kw_only=True)
class Redistribute(ModelEdit):
    """Scale down what sinks get and give the rest to the picture's other patches, in heads that look at the picture.

    A sink is a token with a massive activation as it enters the layer, wherever it stands. Heads are chosen anew in
    every layer, prompt and row: those that give the picture enough, and enough of that to patches that are no sinks.
    Rows change from the first token behind the picture on.

    Args:
        layers: Where it happens; the paper leaves out the last.
        image: Positions of the patches.
        dimensions: Of massive activations, as ``heads.visual_sinks.sink_dimensions`` finds them.
        tau: From where on an activation is massive.
        keep: Share of a sink's weight that it keeps; 1 changes nothing. (The paper's ``p`` is what is taken; in its
            code the same letter is what is kept.)
        min_nonsink_ratio: Share of a head's attention to the picture that is not on sinks, at least.
        min_visual_mass: Share of a head's attention that the picture gets, at least.
        choose: ``all`` takes every head, ``random`` as many heads of the layer as look at the picture: the controls.
        seed: Of those draws.

    Example:
        >>> Redistribute(layers=(1, 2), image=tuple(range(1, 37)), dimensions=(3, 9), tau=2.5).describe()
        'sinks of a1, a2 keep 0.4 of their weight, the picture gets the rest, in image-centric heads'
    """

    kind: ClassVar[str] = "redistribute"
    what: ClassVar[str] = "attention taken from sinks and given to the picture, in heads that look at it"
    from_words: ClassVar[bool] = True
    home: ClassVar[str] = "sink_rows"
    layers: tuple[int, ...]
    image: tuple[int, ...]
    dimensions: tuple[int, ...]
    tau: float
    keep: float = 0.4
    min_nonsink_ratio: float = 0.8
    min_visual_mass: float = 0.2
    choose: ChooseHeads = "image-centric"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("layers", "image", "dimensions"):
            if not getattr(self, name):
                raise OptionError(f"{name} is empty", hint=f"{name}=(1, 2)")
        if not self.tau > 0:
            raise OptionError(f"tau is {self.tau}; above 0 is expected", hint="tau=2.5")
        for name in ("keep", "min_nonsink_ratio", "min_visual_mass"):
            if not 0 <= getattr(self, name) <= 1:
                raise OptionError(
                    f"{name} is {getattr(self, name)}; a share from 0 to 1 is expected", hint=f"{name}=0.5"
                )
        if self.choose not in get_args(ChooseHeads):
            raise OptionError(
                f"choose is {self.choose!r}; expected one of {', '.join(get_args(ChooseHeads))}",
                hint=f"choose={get_args(ChooseHeads)[0]}",
            )

    def addresses(self) -> tuple[str, ...]:
        return tuple(f"a{layer}" for layer in self.layers)

    def describe(self) -> str:
        """Return in words what it does."""
        where = f"{', '.join(self.addresses())} keep {self.keep:g} of their weight"
        return f"sinks of {where}, the picture gets the rest, in {self.choose} heads"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in vars(self).items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Return what ``to_dict`` wrote, read back."""
        of_kinds(data, layers=int, image=int, dimensions=int, tau=(int, float), keep=(int, float))
        given: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in data.items()}
        return cls(**given)
