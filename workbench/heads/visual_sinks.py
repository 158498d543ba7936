"""Tokens that draw attention by a massive activation: which dimensions show it, and which tokens have it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.core.claims import Rows
from workbench.core.errors import OptionError
from workbench.heads.span_attention import positions_of, span_attention
from workbench.model.hooks import hook_name
from workbench.model.probe import record, wiring
from workbench.model.prompt import Prompt

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

TAU, WIDTH = 20.0, 4096
"""The paper's threshold, and the width of the model it is for."""
MUCH = 5.0


@dataclass(frozen=True, kw_only=True, eq=False)
class SeenSinks:
    """What enters some layers, and what the tokens behind a picture give to every position there.

    Attributes:
        given: Mean over those tokens and heads, shares of a row of the pattern.
        image: Positions of the patches.
    """

    resid: Float[Tensor, "row layer pos d_model"]
    given: Float[np.ndarray, "row layer pos"]
    image: tuple[int, ...]

    @property
    def attended(self) -> Bool[np.ndarray, "row layer patch"]:
        """The patches that get more than five times what a patch of their picture gets on average."""
        patches = self.given[:, :, list(self.image)]
        return patches > MUCH * patches.mean(-1, keepdims=True)

    def tokens(self, dimensions: Sequence[int]) -> Bool[np.ndarray, "row layer pos"]:
        """Return the tokens with a massive activation in one of the dimensions."""
        return sink_tokens(self.resid, dimensions).cpu().numpy()

    def massive(self, dimensions: Sequence[int]) -> Bool[np.ndarray, "row layer patch"]:
        """Return the patches with a massive activation in one of the dimensions."""
        return self.tokens(dimensions)[:, :, list(self.image)]

    def weight(self, dimensions: Sequence[int]) -> Float[np.ndarray, "row layer"]:
        """Return the share of a row that goes to tokens with a massive activation, wherever they stand."""
        return (self.given * self.tokens(dimensions)).sum(-1)

    def by_layer(self, dimensions: Sequence[int], layers: Sequence[int]) -> Rows:
        """Return one row per layer: patches of a picture that draw much, that are massive, that are both.

        Args:
            layers: Their names, in the order in which they were seen.
        """
        attended, massive = self.attended, self.massive(dimensions)
        tokens, weight = self.tokens(dimensions), self.weight(dimensions)
        return [
            {
                "layer": layer,
                "attended patches a picture": attended[:, i].sum(-1).mean(),
                "massive patches a picture": massive[:, i].sum(-1).mean(),
                "both": (attended & massive)[:, i].sum(-1).mean(),
                "first token is massive": tokens[:, i, 0].mean(),
                "weight on sinks of any kind": weight[:, i].mean(),
            }
            for i, layer in enumerate(layers)
        ]


def see_sinks(model: TransformerBridge, prompt: Prompt, *, layers: Sequence[int]) -> SeenSinks:
    """Return what enters some layers, and where words behind the picture look there.

    Raises:
        OptionError: for a model without a picture among its words.
    """
    image, n = positions_of(model, prompt), prompt.shape[1]
    words = list(range(max(image) + 1, n))
    at = [wiring(model).attention_layers.index(layer) for layer in layers]
    return SeenSinks(
        resid=entering(model, prompt, layers),
        given=span_attention(model, prompt, range(n), queries=words).mean(2)[:, at],
        image=tuple(image),
    )


def share_among(
    part: Bool[np.ndarray, "row *layer patch"], whole: Bool[np.ndarray, "row *layer patch"]
) -> Float[np.ndarray, " row"]:
    """Say what share of some patches of each picture is also among others, layers together.

    Returns:
        From 0 to 1, where the part is within the whole; 0 for a picture without such patches.

    Example:
        >>> whole = np.array([[True, True, False], [False, False, False]])
        >>> share_among(whole & [True, False, True], whole).tolist()
        [0.5, 0.0]
    """
    axes = tuple(range(1, whole.ndim))
    return part.sum(axes) / np.maximum(whole.sum(axes), 1)


def share_beside(
    attended: Bool[np.ndarray, "row layer patch"], massive: Bool[np.ndarray, "row layer patch"]
) -> Float[np.ndarray, " row"]:
    """Say what share of the patches beside an attended one is massive: the control of what attended ones have.

    Beside it are the patches of its picture and layer that are not attended.

    Returns:
        From 0 to 1, mean over the attended patches of each picture; 0 for a picture without one.

    Example:
        >>> attended = np.array([[[True, False, False]]])
        >>> share_beside(attended, np.array([[[True, True, False]]])).tolist()
        [0.5]
    """
    many, others = attended.sum(2), ~attended
    share = (massive & others).sum(2) / np.maximum(others.sum(2), 1)
    return (share * many).sum(1) / np.maximum(many.sum(1), 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class MassiveShares:
    """How many patches that draw much attention are massive, picture by picture, among those that have one.

    Attributes:
        rows: The pictures that have a patch that draws much.
        sinks: The patches that are both, of all pictures.
        attended: Share of such patches that are massive.
        beside: That of the other patches of the same pictures and layers.
        random: That of such patches in as many random dimensions, mean over the draws.
    """

    rows: Bool[np.ndarray, " row"]
    sinks: Bool[np.ndarray, "row layer patch"]
    attended: Float[np.ndarray, " some"]
    beside: Float[np.ndarray, " some"]
    random: Float[np.ndarray, " some"]


def massive_shares(
    seen: SeenSinks, dimensions: Sequence[int], *, draws: int, rng: np.random.Generator
) -> MassiveShares:
    """Find the patches that draw much attention and are massive, beside other patches and random dimensions.

    Args:
        draws: Of random dimensions; none are drawn where no patch draws much.
    """
    width, attended, massive = seen.resid.shape[-1], seen.attended, seen.massive(dimensions)
    rows = np.asarray(attended.any((1, 2)))
    drawn = [rng.choice(width, len(dimensions), replace=False).tolist() for _ in range(draws * rows.any())]
    by_chance = [share_among(attended & seen.massive(each), attended)[rows] for each in drawn]
    return MassiveShares(
        rows=rows,
        sinks=attended & massive,
        attended=share_among(attended & massive, attended)[rows],
        beside=share_beside(attended, massive)[rows],
        random=np.mean(by_chance, axis=0) if drawn else np.zeros(0),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class FoundSinks:
    """Patches that draw much attention and are massive, in every layer with attention from the second on.

    Attributes:
        dimensions: In which the first token's activation is largest, on other pictures.
        layers: By name, in the order in which they were seen.
        seen: What enters them, and where the words behind the picture look there.
        shares: How many patches are massive, beside others and random dimensions.
    """

    dimensions: tuple[int, ...]
    layers: Sequence[int]
    seen: SeenSinks
    shares: MassiveShares

    @property
    def tau(self) -> float:
        """The paper's threshold at the width of the model."""
        return usual_tau(self.seen.resid.shape[-1])

    @property
    def weight(self) -> float:
        """Share of a row that goes to sinks of any kind, mean over all layers but the last."""
        return float(self.seen.weight(self.dimensions)[:, :-1].mean())

    @property
    def patches(self) -> Bool[np.ndarray, "row patch"]:
        """The patches that are sinks in one layer, at least."""
        return np.asarray(self.shares.sinks.any(1))

    def by_layer(self) -> Rows:
        """Return one row per layer (`SeenSinks.by_layer`)."""
        return self.seen.by_layer(self.dimensions, self.layers)


def find_sinks(
    model: TransformerBridge,
    choosing: Prompt,
    prompt: Prompt,
    *,
    n: int,
    draws: int,
    rng: np.random.Generator,
) -> FoundSinks:
    """Find dimensions of massive activations on some pictures, and sink patches in others.

    Args:
        choosing: Pictures with words on which dimensions are chosen.
        prompt: Others in which sinks are looked for.
        n: How many dimensions are chosen.
        draws: Of as many random dimensions.

    Returns:
        The sinks of the second pictures, with counts beside them.

    Raises:
        OptionError: for a model without a picture among its words.

    Source:
        Kang et al. 2025, See What You Are Told: Visual Attention Sink in Large Multimodal Models.

    Example:
        >>> import workbench as wb
        >>> from workbench.heads.asked_pictures import ask_pictures
        >>> from workbench.tasks.scenes import World
        >>> model = wb.open_model("zoo:vlm")
        >>> asked = ask_pictures(model, World(), kinds=["colour"], n=4, seed=7)
        >>> rng = np.random.default_rng(0)
        >>> found = find_sinks(model, asked.prompt[:2], asked.prompt[2:], n=2, draws=2, rng=rng)
        >>> len(found.dimensions), found.patches.shape
        (2, (2, 36))
    """
    later = wiring(model).attention_layers[1:]
    own = sink_dimensions(model, choosing, n=n, layers=later)
    seen = see_sinks(model, prompt, layers=later)
    shares = massive_shares(seen, own, draws=draws, rng=rng)
    return FoundSinks(dimensions=own, layers=later, seen=seen, shares=shares)


def usual_tau(d_model: int) -> float:
    """Return the paper's threshold at another width: as much of ``sqrt(d_model)``, which nothing can exceed.

    Example:
        >>> usual_tau(4096), usual_tau(64)
        (20.0, 2.5)
    """
    return TAU * (d_model / WIDTH) ** 0.5


def massiveness(resid: Float[Tensor, "*batch d_model"], dimensions: Sequence[int]) -> Float[Tensor, "*batch"]:
    """Divide the largest of some coordinates by the root mean square of all, sign left out (the paper's phi).

    Returns:
        From 0 to ``sqrt(d_model)``, which a vector with one coordinate alone has.

    Raises:
        OptionError: if there is no such coordinate.

    Source:
        Kang et al. 2025, See What You Are Told.

    Example:
        >>> x = torch.ones(64)
        >>> x[5] = 8.0
        >>> round(float(massiveness(x, [5])), 3)  # 8 / sqrt((64 + 63) / 64)
        5.679
    """
    width = resid.shape[-1]
    if not len(dimensions) or min(dimensions) < 0 or max(dimensions) >= width:
        raise OptionError(f"dimensions {list(dimensions)} are not among {width}", hint="dimensions=[3]")
    size = (resid.float().square().mean(-1, keepdim=True) + 1e-6).sqrt()
    return (resid.float()[..., list(dimensions)].abs() / size).amax(-1)


def sink_tokens(
    resid: Float[Tensor, "*batch d_model"], dimensions: Sequence[int], *, tau: float | None = None
) -> Bool[Tensor, "*batch"]:
    """Say which tokens have a massive activation in one of the dimensions.

    Args:
        resid: The residual stream that enters a layer.
        tau: From where on; by default ``usual_tau`` of the width.

    Raises:
        OptionError: for a threshold that nothing can reach at this width.
    """
    width = resid.shape[-1]
    tau = usual_tau(width) if tau is None else tau
    if not 0 < tau < width**0.5:
        raise OptionError(
            f"tau is {tau:g}; at width {width} the largest possible is {width**0.5:.3g}",
            hint=f"tau={usual_tau(width):.3g} is the paper's threshold at this width",
        )
    return massiveness(resid, dimensions) >= tau


def sink_dimensions(
    model: TransformerBridge, prompt: Prompt, *, n: int = 2, layers: Sequence[int]
) -> tuple[int, ...]:
    """Find the dimensions in which the first token's activation is largest, as it enters some layers.

    They belong to one model: no other model has the same.

    Returns:
        ``n`` dimensions, the largest first.

    Raises:
        OptionError: if ``n`` is not from 1 to the width.

    Source:
        Kang et al. 2025, See What You Are Told.
    """
    first = entering(model, prompt, layers)[:, :, 0].float()
    width = first.shape[-1]
    if not 1 <= n <= width:
        raise OptionError(f"n is {n}; the residual stream has {width} dimensions", hint="n=2")
    sizes = first.abs() / (first.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    return tuple(sizes.mean((0, 1)).topk(n).indices.tolist())


@torch.no_grad()
def entering(
    model: TransformerBridge, prompt: Prompt, layers: Sequence[int], *, rows: int = 128
) -> Float[Tensor, "row layer pos d_model"]:
    """Record the residual stream that enters some layers.

    Returns:
        One vector per prompt, layer (as they are named) and position, in units of the residual stream.
    """
    names, found = [hook_name("resid", layer) for layer in layers], []
    for part in prompt.split(rows):
        _, seen = record(model, part, names, last_only=True)
        found.append(torch.stack([seen[name] for name in names], 1))
    return torch.cat(found)
