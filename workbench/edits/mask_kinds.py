"""Edits by a mask: heads look only where it allows, whatever the prompt or by what it says. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, ClassVar, Self

from workbench.core.errors import OptionError
from workbench.edits.edit import ModelEdit, check_heads, of_kinds
from workbench.masks.mask_words import NamedMask, named_mask
from workbench.masks.registry import MASKS

if TYPE_CHECKING:
    from jaxtyping import Bool
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Mask(ModelEdit):
    """Let heads look only where a mask allows; open it where it allows more than the model does.

    Weights that are left keep their proportions: the softmax over the allowed keys.

    Args:
        heads: ``a5.h3``, or ``a5`` for all heads of a layer.
        allowed: For prompts of up to as many tokens; shorter ones use its upper left corner.

    Example:
        >>> import torch
        >>> import workbench as wb
        >>> from workbench.masks.sequences import window
        >>> model, words = wb.open_model("zoo:induction"), torch.arange(3, 23)[None]
        >>> with Mask(heads=("a0",), allowed=window(20, 4)).on(model):
        ...     narrow = model(words)
        >>> bool((narrow - model(words)).abs().max() > 0.1)  # outside of the block the model is as it was
        True
    """

    kind: ClassVar[str] = "mask"
    what: ClassVar[str] = "who may look at whom: narrower, or wider where attention can be made again"
    from_words: ClassVar[bool] = True
    home: ClassVar[str] = "masks"
    heads: tuple[str, ...]
    allowed: Bool[Tensor, "query key"]

    def __post_init__(self) -> None:
        given = self.allowed
        check_heads(self.heads)
        if given.ndim != 2 or given.shape[0] != given.shape[1] or not str(given.dtype).endswith("bool"):
            raise OptionError(
                f"a mask of shape {tuple(given.shape)} and {given.dtype}; expected square and boolean",
                hint="allowed=torch.ones(n, n, dtype=torch.bool).tril()",
            )

    @classmethod
    def takes(cls, given: Mapping[str, str]) -> dict[str, Parameter]:
        """Heads, a mask by name, for how many tokens, and what a mask of that name takes."""
        own = list(signature(MASKS.get(given["mask"])).parameters.values())[1:] if "mask" in given else []
        words = {"heads": "tuple[str, ...]", "mask": "str", "tokens": "int"}
        named = [Parameter(name, Parameter.KEYWORD_ONLY, annotation=kind) for name, kind in words.items()]
        return {parameter.name: parameter for parameter in (*named, *own)}

    @classmethod
    def made_of(cls, settings: Mapping[str, Any]) -> Mask:
        """Return the mask of that name over so many tokens, on these heads."""
        options = {name: v for name, v in settings.items() if name not in ("heads", "mask", "tokens")}
        allowed = MASKS.get(settings["mask"])(settings["tokens"], **options)
        return cls(heads=tuple(settings["heads"]), allowed=allowed)

    def describe(self) -> str:
        """Return in words what it does."""
        share = int(self.allowed.sum()) / max(1, len(self.allowed) ** 2)
        return f"mask of {len(self.allowed)} tokens ({share:.0%} allowed) on {', '.join(self.heads)}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"heads": list(self.heads)}

    def tensors(self) -> dict[str, Tensor]:
        return {"allowed": self.allowed}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Return what ``to_dict`` wrote, read back."""
        return cls(heads=tuple(data["heads"]), allowed=tensors["allowed"])


@dataclass(frozen=True, kw_only=True)
class ContentMask(ModelEdit):
    """Let heads look only at keys that are chosen by what stands there, for every prompt anew.

    Weights that are left keep their proportions: the softmax over the chosen keys.

    Args:
        heads: ``a5.h3``, or ``a5`` for all heads of a layer.
        mask: A mask by content, in words: ``dynamic:16``, ``routed:block=4,keep=2``.
        random: A seed: as many keys of each query as the mask chooses are drawn in place of them, a control.

    Example:
        >>> ContentMask(heads=("a1",), mask="routed:4").describe()
        'mask routed:block=4 on a1'
    """

    kind: ClassVar[str] = "content-mask"
    what: ClassVar[str] = "who may look at whom, chosen by queries, keys and values"
    from_words: ClassVar[bool] = True
    home: ClassVar[str] = "content_masks"
    heads: tuple[str, ...]
    mask: str
    random: int | None = None

    def __post_init__(self) -> None:
        check_heads(self.heads)
        if not self.named.by_content:
            raise OptionError(
                f"mask {self.mask} does not depend on content",
                hint="make an edit of kind mask: workbench edit make mask",
            )

    @property
    def named(self) -> NamedMask:
        """The mask that its words name."""
        return named_mask(self.mask)

    def describe(self) -> str:
        """Return in words what it does."""
        drawn = "as many random keys as " if self.random is not None else ""
        return f"{drawn}mask {self.named.describe()} on {', '.join(self.heads)}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"heads": list(self.heads), "mask": self.mask, "random": self.random}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Return what ``to_dict`` wrote, read back."""
        of_kinds(data, heads=str, mask=str, random=int)
        if not isinstance(data.get("heads"), list | tuple):
            raise OptionError(
                f"heads is {data.get('heads')!r:.40}; expected a list of names",
                hint='heads=["a0.h1", "a1.h0"]',
            )
        return cls(heads=tuple(data["heads"]), mask=data["mask"], random=data.get("random"))
