"""Attention of like with like: the pattern of a head made from queries alone, keys alone or values alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, get_args

from jaxtyping import Float
from torch import Tensor

from workbench.core.errors import OptionError
from workbench.model.hooks import hook_name

if TYPE_CHECKING:
    from transformer_lens import HookedRootModule

Of = Literal["qq", "kk", "vv"]
OF: tuple[Of, ...] = get_args(Of)


def correlated(heads: Float[Tensor, "row pos head d_head"]) -> Float[Tensor, "row head query key"]:
    """Let every position look at those that are like it: ``softmax(x x' / sqrt(d_head))`` in each head.

    Returns:
        A pattern; rows sum to 1.

    Source:
        Crane, 2025; the abstract alone was read.
    """
    x = heads.transpose(1, 2)
    return (x @ x.transpose(-1, -2) / x.shape[-1] ** 0.5).softmax(-1)


@contextmanager
def correlation_attention(
    model: HookedRootModule, of: Of, layers: Sequence[int], *, shift: int = 0
) -> Iterator[None]:
    """Inside, all heads of some layers look from like to like; afterwards they look as before.

    What is correlated is what the projections write, before any rotation by position. A causal model would look ahead,
    so this is for towers that see all positions.

    Args:
        model: A tower whose patterns can be edited.
        of: Queries, keys or values.
        shift: Rows get the pattern of the row so many before them, a control: another picture's.

    Raises:
        OptionError: for another word, or a layer that there is not.
    """
    if of not in OF:
        raise OptionError(f"no correlation called {of!r}", hint=f"one of {', '.join(OF)}")
    names = [(hook_name(of[0], layer), hook_name("pattern", layer)) for layer in layers]
    missing = [name for both in names for name in both if name not in model.hook_dict]
    if missing:
        raise OptionError(f"the tower has no {missing[0]}", hint="layers are counted from 0")
    held: dict[str, Tensor] = {}

    def keep(tensor: Tensor, hook) -> None:
        held["x"] = tensor  # the layer's own pattern comes next

    def replace(pattern: Tensor, hook) -> Tensor:
        groups = pattern.shape[1] // held["x"].shape[2]
        made = correlated(held["x"].repeat_interleave(groups, dim=2)).to(pattern.dtype)
        return made.roll(shift, dims=0) if shift else made

    hooks: list[Any] = [hook for x, pattern in names for hook in ((x, keep), (pattern, replace))]
    with model.hooks(fwd_hooks=hooks):
        yield
