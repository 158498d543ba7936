"""Soft prompts for a frozen tower of pictures: learned tokens in front of every layer, and who may see which of them.

Prompts are fresh in each layer, and what a layer writes into them is dropped: they are read and nothing else. Shared
prompts are seen by every token. Coordinated prompts have roles: some are for the class token alone, and of the others
each patch sees the few that match it.

Source:
    Token Coordinated Prompt Attention is Needed for Visual Prompting, 2025 (a summary was read).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.core.errors import ModelError, OptionError, unknown
from workbench.masks.derived import visible_to

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Tokens = Float[Tensor, "picture pos d_model"]
Seen = Bool[Tensor, "picture pos prompt"]
Who = Literal["all", "roles", "matched", "dealt"]


@dataclass(frozen=True, kw_only=True)
class PromptPlan:
    """How many prompts a layer has, and who sees them.

    Attributes:
        who: ``all``: every token sees all prompts. ``roles``: the class token sees its own, patches see all others.
            ``matched``: of those each patch sees the ``each`` that match it best. ``dealt``: as many, dealt at random
            once for each patch.
        of_class: Prompts for the class token.
        of_patches: Prompts for patches.
        each: That one patch sees, where they are matched or dealt.
    """

    who: Who
    of_class: int = 2
    of_patches: int = 6
    each: int = 2

    def __post_init__(self) -> None:
        if self.who not in get_args(Who):
            raise unknown("way to see prompts", self.who, get_args(Who), error=OptionError)
        if min(self.of_class, self.of_patches, self.each) < 1 or self.each > self.of_patches:
            raise OptionError(
                f"{self.of_class} prompts for the class token, {self.of_patches} for patches, {self.each} for each",
                hint="of_class=2, of_patches=6, each=2",
            )

    @property
    def prompts(self) -> int:
        """Prompts of a layer, of both roles."""
        return self.of_class + self.of_patches

    @property
    def roles(self) -> tuple[str, ...]:
        """Of the prompts of a layer, in order."""
        return ("class prompt",) * self.of_class + ("patch prompt",) * self.of_patches


class SoftPrompts(nn.Module):
    """The prompts of one layer, and what matches patches with them."""

    def __init__(self, plan: PromptPlan, width: int, patches: int, *, seed: int) -> None:
        super().__init__()
        drawn = torch.Generator().manual_seed(seed)
        self.plan = plan
        self.prompts = nn.Parameter(0.5 * torch.randn(plan.prompts, width, generator=drawn))
        self.signs = nn.Parameter(torch.randn(plan.of_patches, width, generator=drawn))
        order = torch.rand(patches, plan.of_patches, generator=drawn).argsort(-1)
        self.dealt: Int[Tensor, "patch each"] = order[:, : plan.each]

    def seen(self, patches: Float[Tensor, "picture patch d_model"]) -> Seen:
        """Say which prompts the class token and each patch see.

        Returns:
            True where a token sees a prompt; the class token comes first.
        """
        plan, n = self.plan, patches.shape[1]
        if plan.who == "all":
            return torch.ones(len(patches), 1 + n, plan.prompts, dtype=torch.bool, device=patches.device)
        tokens = ("class", *("patch",) * n)
        sees = {"class": ["class prompt"], "patch": ["patch prompt"]}
        by_role = visible_to([*tokens, *plan.roles], sees)[: 1 + n, 1 + n :].to(patches.device)
        seen = by_role.expand(len(patches), -1, -1)
        if plan.who == "roles":
            return seen
        chosen = self.matches(patches).topk(plan.each, dim=-1).indices
        if plan.who == "dealt":
            chosen = self.dealt.to(patches.device).expand(len(patches), -1, -1)
        few = torch.zeros(len(patches), n, plan.of_patches, dtype=torch.bool, device=patches.device)
        seen = seen.clone()
        seen[:, 1:, plan.of_class :] &= few.scatter(-1, chosen, True)
        return seen

    def matches(self, patches: Float[Tensor, "picture patch d_model"]) -> Float[Tensor, "picture patch sign"]:
        """Return the cosine of each patch with the sign of each prompt for patches."""
        return F.normalize(patches, dim=-1) @ F.normalize(self.signs, dim=-1).T

    def apart(self, patches: Float[Tensor, "picture patch d_model"]) -> Float[Tensor, ""]:
        """Return how far patches are from the signs that they are matched with, 1 minus the cosine: a loss.

        The patches themselves are held fixed.
        """
        best = self.matches(patches.detach()).topk(self.plan.each, dim=-1).values
        return 1 - best.mean()


class PromptedTower(nn.Module):
    """A frozen tower with soft prompts in front of the tokens of its layers, and a linear head that is learned.

    Args:
        model: A tower with a class token in front of its patches, such as ``zoo:marked``; it is left as it is.
        plan: None for no prompts: the head alone is learned.
        classes: Answers of the head.
        seed: Of prompts and head; two plans of one seed start with the same prompts.

    Raises:
        ModelError: for a model whose embeddings, layers and last norm are not where a ViT of transformers has them.

    Example:
        >>> import workbench as wb
        >>> tower = PromptedTower(wb.open_model("zoo:marked"), PromptPlan(who="matched"), classes=2, seed=0)
        >>> tower(torch.zeros(1, 3, 48, 48)).shape
        torch.Size([1, 2])
    """

    def __init__(
        self, model: TransformerBridge, plan: PromptPlan | None, *, classes: int, seed: int = 0
    ) -> None:
        super().__init__()
        self.parts = parts_of(model)  # a tuple, so no part of ours: nothing of it is learned, moved or saved
        layers = self.parts[1]
        width, patches = model.cfg.d_model, model.cfg.n_ctx - 1
        self.plan = plan
        made = (
            []
            if plan is None
            else [SoftPrompts(plan, width, patches, seed=1000 * seed + i) for i in range(len(layers))]
        )
        self.soft = nn.ModuleList(made)
        self.head = nn.Linear(width, classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, pixels: Float[Tensor, "picture 3 height width"]) -> Float[Tensor, "picture answer"]:
        """Return scores of the answers."""
        return self.head(self.run(pixels)[0][:, 0])

    def run(
        self, pixels: Float[Tensor, "picture 3 height width"]
    ) -> tuple[Tokens, Float[Tensor, ""], list[Seen]]:
        """Run the tower.

        Returns:
            The tokens behind the last norm, the mean loss of matching (0 where nothing is matched), and who saw which
            prompts in each layer.
        """
        embed, layers, norm = self.parts
        with frozen([embed, *layers, norm]):
            x, apart, seen = embed(pixels), pixels.new_zeros(()), []
            for i, layer in enumerate(layers):
                if self.plan is None:
                    x = layer(x)
                    continue
                soft: Any = self.soft[i]
                seen.append(soft.seen(x[:, 1:]))
                if self.plan.who == "matched":
                    apart = apart + soft.apart(x[:, 1:]) / len(layers)
                x = with_prompts(layer, x, soft.prompts, seen[-1])
            return norm(x), apart, seen


def with_prompts(layer: nn.Module, x: Tokens, prompts: Float[Tensor, "prompt d_model"], seen: Seen) -> Tokens:
    """Run a layer with prompts in front of its tokens, and drop what it writes into them.

    Args:
        seen: Which prompts each token sees; tokens see all tokens.

    Returns:
        The tokens behind the layer, without the prompts.
    """
    n, m = x.shape[1], len(prompts)
    allowed = torch.ones(len(x), m + n, m + n, dtype=torch.bool, device=x.device)
    allowed[:, m:, :m] = seen
    mask = torch.zeros(allowed.shape, dtype=x.dtype, device=x.device).masked_fill(~allowed, -torch.inf)
    given = torch.cat([prompts.expand(len(x), -1, -1), x], dim=1)
    return layer(given, mask[:, None])[:, m:]


def parts_of(model: TransformerBridge) -> tuple[nn.Module, Sequence[nn.Module], nn.Module]:
    """Return embeddings, layers and last norm of a ViT of transformers.

    Raises:
        ModelError: if they are not there.
    """
    inner = getattr(model, "original_model", None)
    tower = getattr(inner, "vit", inner)
    found: list[Any] = [getattr(tower, name, None) for name in ("embeddings", "layers", "layernorm")]
    if any(part is None for part in found):
        raise ModelError(
            f"{type(inner).__name__} has no embeddings, layers and layernorm: soft prompts need a ViT",
            hint="-m zoo:marked",
        )
    embed, layers, norm = found
    return embed, list(layers), norm


@contextmanager
def frozen(parts: Sequence[nn.Module]) -> Iterator[None]:
    """Keep gradients from the weights of these parts inside the block; flags are given back."""
    weights = [(w, w.requires_grad) for part in parts for w in part.parameters()]
    try:
        for weight, _ in weights:
            weight.requires_grad_(False)
        yield
    finally:
        for weight, flag in weights:
            weight.requires_grad_(flag)


def patch_likeness(tokens: Tokens) -> Float[Tensor, " picture"]:
    """Return how alike the patches of each picture are: the mean cosine of all pairs of different patches.

    Args:
        tokens: The class token first, which is left out.

    Example:
        >>> patch_likeness(torch.tensor([[[9.0, 9.0], [1.0, 0.0], [0.0, 1.0]], [[9.0, 9.0], [1.0, 0.0], [2.0, 0.0]]]))
        tensor([0., 1.])
    """
    unit = F.normalize(tokens[:, 1:], dim=-1)
    n = unit.shape[1]
    return (unit.sum(1).square().sum(-1) - n) / (n * (n - 1))


def reached_by(
    arm: PromptedTower, pixels: Float[Tensor, "picture 3 height width"], layer: int = 0
) -> Bool[Tensor, "pos prompt"]:
    """Say which tokens of the first picture each prompt of a layer changes: the gradient is not 0. A leak check.

    Returns:
        True where the token behind that layer depends on the prompt; to be equal to what the token sees there.

    Raises:
        OptionError: for an arm without prompts.
    """
    if arm.plan is None:
        raise OptionError(
            "an arm without prompts has nothing that could leak", hint="PromptPlan(who='roles')"
        )
    embed, layers, _ = arm.parts
    with torch.enable_grad(), frozen([embed, *layers]):
        x = embed(pixels[:1])
        for i in range(layer):
            soft: Any = arm.soft[i]
            x = with_prompts(layers[i], x, soft.prompts, soft.seen(x[:, 1:]))
        soft = arm.soft[layer]
        prompts = soft.prompts.detach().requires_grad_()
        out = with_prompts(layers[layer], x.detach(), prompts, soft.seen(x[:, 1:]))[0]
        rows = [torch.autograd.grad(token.sum(), prompts, retain_graph=True)[0] for token in out]
    return torch.stack(rows).abs().amax(-1) > 0


def seen_as_planned(
    arm: PromptedTower, pixels: Float[Tensor, "picture 3 height width"]
) -> Bool[np.ndarray, " token"]:
    """Say of every token, in every layer and picture, whether it sees as many prompts as its plan says.

    The class token is to see its own prompts, and each patch ``each``.

    Raises:
        OptionError: for an arm without prompts, or one whose plan has no number for a patch.
    """
    if arm.plan is None or arm.plan.who not in ("matched", "dealt"):
        raise OptionError(
            "the plan does not say how many prompts a patch sees", hint="PromptPlan(who='matched')"
        )
    seen = torch.cat(arm.run(pixels)[2]).sum(-1)  # (layer * picture, pos)
    planned = torch.full_like(seen, arm.plan.each)
    planned[:, 0] = arm.plan.of_class
    return (seen == planned).flatten().numpy()


def count_leaks(arm: PromptedTower, pixels: Float[Tensor, "picture 3 height width"]) -> int:
    """Count how often a prompt changes a token that does not see it (`reached_by`): first picture, all layers."""
    seen = arm.run(pixels[:1])[2]
    return sum(int((reached_by(arm, pixels, layer) & ~one[0]).sum()) for layer, one in enumerate(seen))
