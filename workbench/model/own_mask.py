"""Models that were trained under a mask of their own: opened, they run under it, whoever calls them.

``image_sees_question`` in a LLaVA's configuration says that its patches see the question behind them
(`zoo:vlm-mutual`): the words of one question, never what follows it.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from workbench.core.errors import ModelError
from workbench.tasks.scenes.questions import LENGTH

FIELD = "image_sees_question"


def note_of(config: PretrainedConfig | None) -> str:
    """Say under which mask a model of this configuration runs; empty where it is the usual one."""
    if not getattr(config, FIELD, False):
        return ""
    return f"its patches see the {LENGTH} words of the question behind them, as it was trained ({FIELD})"


def run_under_own_mask(model: PreTrainedModel) -> None:
    """Let a model run under the mask that its configuration names, in place; the usual one needs nothing.

    Raises:
        ModelError: for a configuration that names one, of a model that is no LLaVA.
    """
    if not note_of(model.config):
        return
    inner = getattr(model, "model", None)
    if inner is None or model.config.model_type != "llava":
        raise ModelError(
            f"the configuration of a {type(model).__name__} says {FIELD}; a LLaVA is expected",
            hint=f"take {FIELD} out of config.json",
        )
    inner.register_forward_pre_hook(_unlock, with_kwargs=True)


def _unlock(module: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """Give a pass the mask, unless it was given one of its own (not that of padding: none is padded)."""
    ids, given = kwargs.get("input_ids"), kwargs.get("attention_mask")
    if ids is None or (given is not None and (given.dim() == 4 or not bool(given.all()))):
        return args, kwargs
    image = ids == module.config.image_token_id
    if not bool(image.any()):
        return args, kwargs
    dtype = next(module.parameters()).dtype
    return args, {**kwargs, "attention_mask": opened(image).to(dtype)}


def opened(image: Bool[Tensor, "row pos"]) -> Float[Tensor, "row 1 query key"]:
    """Return the causal mask with the question opened to the patches before it.

    Args:
        image: Which tokens are patches.

    Returns:
        0 where a query sees a key, the least float32 elsewhere; to be added to attention scores.

    Example:
        >>> mask = opened(torch.tensor([[False, True, True, *[False] * 8]]))
        >>> (mask[0, 0, 1] == 0).int().tolist()  # a patch sees what is before it and seven words behind the picture
        [1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 0]
    """
    n = image.shape[1]
    places = torch.arange(n, device=image.device)
    end: Int[Tensor, " row"] = torch.where(image, places, -1).amax(1)  # the last patch
    asked = (places > end[:, None]) & (places <= end[:, None] + LENGTH)
    sees = (places[:, None] >= places)[None] | (image[:, :, None] & asked[:, None])
    return torch.zeros(sees.shape, device=image.device).masked_fill(~sees, torch.finfo(torch.float32).min)[
        :, None
    ]
