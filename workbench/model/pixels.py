"""Pictures as tensors beside the token ids of their prompts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from workbench.core.errors import ModelError
from workbench.model.captions import is_captioned, probe_captions, with_captions
from workbench.model.prompt import Extras, Make, Prompt
from workbench.model.sight import sight_of
from workbench.tasks.pictures.image import Picture
from workbench.tasks.pictures.sight import PaintReading, Sight
from workbench.tasks.pictures.sizes import one_size

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


def with_pictures(
    sight: Sight, ids: Int[Tensor, "row pos"], pictures: Sequence[Picture], *, dtype: torch.dtype
) -> Prompt:
    """Token ids with a picture for each row; pixels are made when a pass reads them, and not kept.

    Raises:
        ModelError: for pictures of several sizes, where the model takes several.
    """
    sight = _alike(sight, pictures)

    def pixels(rows: Int[Tensor, " row"]) -> Tensor:
        which, back = rows.unique(return_inverse=True)  # copies of a picture are scaled once
        made = np.stack([sight.numbers(pictures[int(i)]) for i in which])
        return _shaped(sight, torch.as_tensor(made).to(ids.device, dtype))[back.to(ids.device)]

    return Prompt(ids, _extras(sight, ids, pixels))


def with_noise(sight: Sight, words: Int[Tensor, "row pos"], *, dtype: torch.dtype, seed: int = 0) -> Prompt:
    """Return words around a picture of noise, the same on every machine; a model that reads no words gets the noise
    alone.
    """
    rows, generator = len(words), torch.Generator().manual_seed(seed)
    noise = torch.randn(rows, 3, *sight.size, generator=generator)
    if sight.sizes is not None:
        noise = torch.as_tensor(np.stack([sight.sizes.cut(each.numpy()) for each in noise]))
    if sight.token is None:
        ids = torch.arange(sight.n_tokens, device=words.device).expand(rows, -1)
    else:
        words = torch.where(words == sight.token, (words + 1) % max(2, sight.token), words)
        places = torch.full((rows, sight.n_tokens), sight.token, device=words.device)
        ids = torch.cat([words[:, :1], places, words[:, 1:]], 1)
    return Prompt(ids, _extras(sight, ids, lambda at: _shaped(sight, noise[at].to(words.device, dtype))))


def probe(bridge: TransformerBridge, words: Int[Tensor, "row pos"]) -> Prompt:
    """Return these words, with a picture of noise where the model takes pictures."""
    sight = sight_of(bridge)
    if sight is None:
        return Prompt(words)
    made = with_noise(sight, words, dtype=next(iter(bridge.parameters())).dtype)
    if sight.captions is None or not is_captioned(bridge):
        return made
    return with_captions(made, probe_captions(sight.captions, len(made)), own=sight.captions.own)


def _extras(sight: Sight, ids: Tensor, pixels) -> Extras:
    makers = {"pixel_values": pixels}
    if sight.paints is not None:
        makers |= _caption_and_time(sight.paints, len(ids), ids.device, pixels)
    if sight.marks:
        makers[sight.marks] = lambda rows: ids[rows.to(ids.device)].eq(sight.token or 0).long()
    told = {} if sight.sizes is None else sight.sizes.told(sight.size)
    for name, values in told.items():
        makers[name] = partial(_same_for_all, torch.tensor(values, device=ids.device))
    return Extras(makers, torch.arange(len(ids)))


def _caption_and_time(
    reading: PaintReading, rows: int, device: torch.device, pixels: Make
) -> dict[str, Make]:
    """Random words and times for each row, the same on every machine."""
    generator = torch.Generator().manual_seed(1)
    words = torch.randint(0, reading.d_vocab, (rows, reading.n_words), generator=generator).to(device)
    times = torch.rand(rows, generator=generator).to(device)
    return {
        "input_ids": lambda at: words[at.to(device)],
        "time": lambda at: times[at.to(device)].to(pixels(at[:1]).dtype),
    }


def _same_for_all(values: Tensor, rows: Tensor) -> Tensor:
    return values.expand(len(rows), -1)


def _alike(sight: Sight, pictures: Sequence[Picture]) -> Sight:
    """How pictures of one size are taken in."""
    if sight.sizes is None or not pictures:
        return sight
    size = one_size([picture.size for picture in pictures])
    if size is None:
        raise ModelError(
            "pictures of several sizes are in one batch; each batch has pictures of one size",
            hint="split the prompts by the size of their pictures",
        )
    return sight.of_size(size)


def _shaped(sight: Sight, pixels: Tensor) -> Tensor:
    return pixels[:, None] if sight.nested else pixels
