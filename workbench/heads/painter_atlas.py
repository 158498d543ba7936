"""An atlas of a painter's heads over time: how well each head's looks fit the painted objects, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.core.errors import OptionError
from workbench.heads.atlas_over_time import AMONG, ROLES, PainterAtlas
from workbench.heads.word_maps import keeping, map_overlap, placed_objects
from workbench.model.flow_painter.sample import GUIDANCE, STEPS, paint, require_painter
from workbench.model.hooks import hook_name
from workbench.tasks.canvas.flat_shapes import Item
from workbench.tasks.canvas.words import GRID, OBJECTS, SLOTS

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@torch.no_grad()
def painter_atlas(
    model: TransformerBridge,
    captions: Sequence[str | Sequence[Item]],
    *,
    name: str = "",
    seed: int = 0,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
) -> PainterAtlas:
    """Paint captions of two objects, and say for every head and step how well its looks fit the objects.

    Args:
        name: Of the model, for titles.
        seed: Of the noise.

    Returns:
        Fits between 0 and 1, one for each head and step, in the captioned passes.

    Raises:
        ModelError: if the model does not paint.
        OptionError: if no picture shows both asked objects, each once.

    Example:
        >>> import workbench as wb
        >>> from workbench.heads.painter_atlas import painter_atlas
        >>> model = wb.open_model("zoo:painter")
        >>> atlas = painter_atlas(model, ["a yellow square left, a blue disc right"], steps=4)
        >>> atlas.n, atlas.own["colour"].shape, bool(atlas.own["colour"].max() > atlas.other["colour"].max())
        (2, (12, 4), True)
    """
    require_painter(model)
    layers = range(len(model.blocks))
    stacks = [[f"{stack}{hook_name('pattern', layer)}" for layer in layers] for stack in ("", "cross.")]
    kept: list[dict[str, Tensor]] = []

    def looked(step: int) -> AbstractContextManager[None]:
        kept.append({})
        return keeping(model, [*stacks[0], *stacks[1]], kept[-1])

    painted = paint(model, captions, seed=seed, steps=steps, guidance=guidance, under=looked)
    placed = [
        placed_objects(seen, asked) for seen, asked in zip(painted.read(), painted.captions, strict=True)
    ]
    there = [i for i, places in enumerate(placed) if places is not None]
    if not there:
        raise OptionError(
            "no picture shows both objects that were asked for, each once",
            hint="captions of two objects of different colours, more of them, or guidance=2",
        )
    places = np.stack(
        [np.stack([each.reshape(-1) for each in placed[i] or ()]) for i in there]
    )  # (caption, 2, patch)
    own_looks, words = (
        torch.stack(
            [torch.stack([seen[hook][there] for hook in hooks], 1) for seen in kept]
        )  # (step, caption, layer,
        for hooks in stacks  # head, patch, key)
    )
    own, other = {}, {}
    for role in ROLES:
        maps = words[..., [SLOTS.index(f"{each} {role}") for each in OBJECTS]].numpy()
        own[role], other[role] = (_fit(maps, each) for each in (places, places[:, ::-1]))
    own[AMONG], other[AMONG] = (_stays(own_looks, places, each) for each in (places, places[:, ::-1]))
    n_heads = own_looks.shape[3]
    named = [f"a{layer}.h{head}" for layer in layers for head in range(n_heads)]
    return PainterAtlas(
        model=name or type(require_painter(model)).__name__,
        heads=tuple(named),
        cross_heads=tuple(f"cross:{head}" for head in named),
        own=own,
        other=other,
        chance=float(places.mean()),
        n=2 * len(there),
        left_out=len(placed) - len(there),
    )


def _fit(
    maps: Float[np.ndarray, "step caption layer head patch word"],
    places: Bool[np.ndarray, "caption word patch"],
) -> Float[np.ndarray, "all_heads step"]:
    """Overlap of each head's map of each object's word with the object, mean over captions and words."""
    steps, n, layers, heads, _, words = maps.shape
    found = np.zeros((layers * heads, steps))
    flat = maps.reshape(steps, n, layers * heads, GRID, GRID, words)
    regions = places.reshape(n, words, GRID, GRID)
    for step in range(steps):
        for head in range(layers * heads):
            each = [
                map_overlap(flat[step, i, head, :, :, word], regions[i, word])
                for i in range(n)
                for word in range(words)
            ]
            found[head, step] = np.mean(each)
    return found


def _stays(
    looks: Float[Tensor, "step caption layer head patch key"],
    queries: Bool[np.ndarray, "caption object patch"],
    keys: Bool[np.ndarray, "caption object patch"],
) -> Float[np.ndarray, "all_heads step"]:
    """Share of the looks of an object's patches that are at some keys, mean over captions and objects."""
    asked, at = (torch.from_numpy(np.ascontiguousarray(each)).float() for each in (queries, keys))
    at_keys = torch.einsum("sclhqk,cok->sclhoq", looks, at)
    share = torch.einsum("sclhoq,coq->slhco", at_keys, asked / asked.sum(-1, keepdim=True))
    return share.mean((-1, -2)).flatten(1).T.double().numpy()
