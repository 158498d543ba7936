"""Where the tower of any model that sees looks: patterns of all its layers on some pictures.

The tower is that of a CLIP (run by itself, without words), of a model that reads pictures and words, or the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.core.errors import ModelError
from workbench.model.hooks import forward, hook_name
from workbench.model.pixels import with_pictures
from workbench.model.probe import wiring
from workbench.model.sight import sight_of
from workbench.tasks.pictures.image import Picture

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@torch.no_grad()
def tower_patterns(
    model: TransformerBridge, pixels: Sequence[np.ndarray], *, rows: int = 128
) -> Float[Tensor, "picture layer head query key"]:
    """Show pictures to a model's tower, and read the pattern of every head.

    Args:
        pixels: ``(height, width, 3)`` each, from 0 to 255.

    Returns:
        Shares of attention from 0 to 1; positions are the class token, where there is one, then patches row by row.

    Raises:
        ModelError: if the model has no tower that reads pictures, or its patterns cannot be seen.

    Example:
        >>> import workbench as wb
        >>> from workbench.tasks.scenes import draw
        >>> tower_patterns(wb.open_model("zoo:vlm"), [draw(7, 12).pixels]).shape
        torch.Size([1, 3, 4, 37, 37])
    """
    names, run = _tower(model)
    found = []
    for start in range(0, len(pixels), rows):
        held: dict[str, Tensor] = {}

        with model.hooks(fwd_hooks=[(name, _keep(held, name)) for name in names]):
            run(pixels[start : start + rows])
        if missing := [name for name in names if name not in held]:
            raise ModelError(f"{missing[0]} shows nothing", hint="open the model with eager attention")
        found.append(torch.stack([held[name] for name in names], 1))
    return torch.cat(found)


def _keep(held: dict[str, Tensor], name: str) -> Any:
    def keep(pattern: Tensor, hook: Any) -> None:
        held[name] = pattern

    return keep


def _tower(model: TransformerBridge) -> tuple[list[str], Any]:
    """The hooks of a tower's patterns, and what shows pictures to it."""
    original: Any = model.original_model
    first = next(iter(model.parameters()))
    if hasattr(original, "vision_model") and hasattr(original, "visual_projection"):
        layers = range(original.config.vision_config.num_hidden_layers)

        def see(pixels: Sequence[np.ndarray]) -> None:
            part = torch.from_numpy(np.stack(pixels).transpose(0, 3, 1, 2).astype(np.float32))
            original.vision_model(pixel_values=(part / 127.5 - 1).to(first))

        return [hook_name("pattern", layer) for layer in layers], see
    sight, found = sight_of(model), wiring(model)
    if sight is None or (sight.token is not None and "vision" not in found.towers):
        raise ModelError("the model has no tower that reads pictures", hint="-m zoo:clip")
    tower = found.of("vision" if sight.token is not None else None)

    def show(pixels: Sequence[np.ndarray]) -> None:
        pictures = [Picture.of(each) for each in pixels]
        places = sight.of(pictures[0]).n_tokens if sight.token is not None else 1
        ids = torch.full((1, places), sight.token or 0, device=first.device)
        prompt = with_pictures(sight, ids.repeat(len(pictures), 1), pictures, dtype=first.dtype)
        forward(model, prompt, last_only=True)

    return [hook_name("pattern", layer, tower.prefix) for layer in tower.attention_layers], show
