"""Heads as experts: for every token some heads of a layer stay, chosen by a router. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, get_args

from workbench.core.errors import OptionError
from workbench.edits.edit import ModelEdit, head_of, of_kinds

if TYPE_CHECKING:
    from torch import Tensor

Router = Literal["query-norm", "lowest-norm", "random", "first", "learned"]
PARTS = ("routed", "shared", "stages")  # matrices of a learned router, of each layer


@dataclass(frozen=True, kw_only=True, eq=False)
class RouteHeads(ModelEdit):
    """Keep ``active`` of the named heads of each layer for every token; heads of the layer that are not named stay.

    Args:
        heads: Those that are routed: ``a5.h3``, or ``a5`` for all heads of a layer.
        active: How many of them stay in each layer, for every token.
        by: Which stay: ``query-norm``, those whose query is longest, as in the paper's tuning of a trained model;
            ``lowest-norm``, the shortest; ``random``, drawn anew for every token and position; ``first``, the first
            in the order of ``heads``, always the same; ``learned``, by ``routers``, with weights in two stages.
        seed: Of ``random``.
        routers: Of ``learned``: for each layer, ``a0.routed`` ``(d_model, routed)``, ``a0.shared``
            ``(d_model, shared)`` and ``a0.stages`` ``(d_model, 2)``.

    Source:
        Jin et al. 2024, MoH: Multi-Head Attention as Mixture-of-Head Attention.

    Example:
        >>> RouteHeads(heads=("a1.h1", "a1.h2"), active=1).describe()
        'for every token 1 of a1.h1, a1.h2 stays, by query-norm'
    """

    kind: ClassVar[str] = "route-heads"
    what: ClassVar[str] = "heads as experts: for every token a router keeps some of them"
    from_words: ClassVar[bool] = True
    home: ClassVar[str] = "head_routing"
    heads: tuple[str, ...]
    active: int
    by: Router = "query-norm"
    seed: int = 0
    routers: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.heads:
            raise OptionError("no heads are routed", hint="heads=('a0.h1', 'a0.h2')")
        for text in self.heads:
            head_of(text)
        if self.active < 1:
            raise OptionError(f"active is {self.active}; at least 1 head stays", hint="active=1")
        if self.by not in get_args(Router):
            raise OptionError(f"by is {self.by!r}", hint=f"one of {', '.join(get_args(Router))}")
        if (self.by == "learned") != bool(self.routers):
            wanted = "needs routers" if self.by == "learned" else "takes no routers"
            raise OptionError(f"by {self.by} {wanted}", hint="training.routed_heads learns them")

    @classmethod
    def takes(cls, given: Mapping[str, str]) -> dict[str, Any]:
        """Say what words can give: all but a router that was learned."""
        return {name: one for name, one in super().takes(given).items() if name != "routers"}

    def describe(self) -> str:
        """Return in words what it does."""
        stays = "stays" if self.active == 1 else "stay"
        return f"for every token {self.active} of {', '.join(self.heads)} {stays}, by {self.by}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"heads": list(self.heads), "active": self.active, "by": self.by, "seed": self.seed}

    def tensors(self) -> dict[str, Tensor]:
        return dict(self.routers)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Return what ``to_dict`` wrote, read back."""
        of_kinds(data, heads=str, active=int, by=str, seed=int)
        if not isinstance(data.get("heads"), list | tuple):
            raise OptionError(
                f"heads is {data.get('heads')!r:.40}; expected a list of names",
                hint='heads=["a5.h1", "a5.h2"]',
            )
        return cls(**{**data, "heads": tuple(data["heads"])}, routers=dict(tensors))
