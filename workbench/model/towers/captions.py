"""What CLIP and SigLIP answer to a picture beside captions, with both of their towers in one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize
from transformer_lens.hook_points import HookPoint

from workbench.model.captions import BLOCKS, CAPTIONS, READ, ROWS, SEEN


def alike(towers: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> Float[Tensor, "row 1 caption"]:
    """Say how alike the picture and each caption of a row are, in logits.

    A tower without hooks runs once for all copies of a row; not at all where its vectors are given.
    """
    model: Any = towers["vision"].original_model
    seen, read = (
        inputs[name] if name in inputs else vectors(towers, stack, inputs)
        for name, stack in ((SEEN, "vision"), (READ, "text"))
    )
    logits = (read * seen[:, None]).sum(-1) * model.logit_scale.exp()
    bias = getattr(model, "logit_bias", None)
    return (logits if bias is None else logits + bias)[:, None]


def vectors(towers: Mapping[str, Any], stack: str, inputs: Mapping[str, Tensor]) -> Tensor:
    """Return what one of the towers makes of its part of the rows: directions of length 1."""
    model, own = towers[stack].original_model, inputs["pixel_values" if stack == "vision" else CAPTIONS]
    rows = inputs.get(ROWS, torch.arange(len(own), device=own.device))
    if stack == "vision":
        return _once(towers[stack], rows, lambda at: picture_vectors(model, own[at]))
    return _once(towers[stack], rows, lambda at: caption_vectors(model, own[at], inputs[BLOCKS][at]))


def _once(tower: Any, rows: Int[Tensor, " row"], run: Callable[[Tensor], Tensor]) -> Tensor:
    """What a tower gives for these rows; where nobody listens in it, each row of the batch is run once."""
    every = torch.arange(len(rows), device=rows.device)
    if len(rows) < 2 or not _is_idle(tower):
        return run(every)
    which, back = rows.unique(return_inverse=True)
    if len(which) == len(rows):
        return run(every)
    first = torch.empty(len(which), dtype=torch.long, device=rows.device).scatter_(0, back, every)
    return run(first)[back]


def _is_idle(tower: Any) -> bool:
    points = (vars(p) for p in tower.blocks.modules() if isinstance(p, HookPoint))
    return not any(own["_forward_hooks"] or own["_backward_hooks"] for own in points)


def picture_vectors(model: Any, pixels: Float[Tensor, "picture 3 height width"]) -> Float[Tensor, "row d"]:
    """Return directions of length 1 of pictures in the space that pictures and captions share."""
    found = model.get_image_features(pixel_values=pixels)
    return normalize(found if isinstance(found, Tensor) else found.pooler_output, dim=-1)


def caption_vectors(
    model: Any, ids: Int[Tensor, "row token"], blocks: Int[Tensor, "row token"]
) -> Float[Tensor, "row caption d"]:
    """Return directions of length 1 of the captions in each row.

    Args:
        blocks: Which caption each token is of; the same in all rows.
    """
    text, causal = model.text_model, "CLIP" in type(model).__name__
    lengths = torch.bincount(blocks[0]).tolist()
    places = torch.cat([torch.arange(n, device=ids.device) for n in lengths])
    seen = blocks[0][:, None] == blocks[0][None]
    seen = seen & (places[:, None] >= places[None]) if causal else seen
    mask = torch.zeros(seen.shape, dtype=model.dtype, device=ids.device)
    mask = mask.masked_fill(~seen, torch.finfo(mask.dtype).min).expand(len(ids), 1, *seen.shape)
    words = text.embeddings.token_embedding(ids) + text.embeddings.position_embedding(places)
    hidden = text.encoder(inputs_embeds=words, attention_mask=mask).last_hidden_state
    hidden = text.final_layer_norm(hidden)
    end = text.config.eos_token_id if causal else None
    read, start = [], 0
    for n in lengths:
        at = start + _read_at(ids[:, start : start + n], end)
        read.append(hidden[torch.arange(len(ids), device=ids.device), at])
        start += n
    project = model.text_projection if causal else text.head
    return normalize(project(torch.stack(read, 1)), dim=-1)


def _read_at(ids: Int[Tensor, "row token"], end: int | None) -> Int[Tensor, " row"]:
    """The token of a caption that its answer is read at, as transformers chooses it."""
    if end is None:
        return torch.full((len(ids),), ids.shape[1] - 1, device=ids.device)
    if end == 2:  # files before 2023 say 2 and mean the largest id
        return ids.argmax(1)
    return ids.eq(end).int().argmax(1)
