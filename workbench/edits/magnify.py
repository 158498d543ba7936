"""A part of what a model reads, magnified (LSceneLLM): patches in finer resolution, or chunks of a text once more.

Which part is chosen by the last token's own attention. In a picture the chosen region is read again, enlarged, by the
same tower, and its patches become a mixture of coarse and fine. In a text the chosen chunk is repeated before the
question.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.core.errors import ModelError, OptionError, ShapeError
from workbench.heads.crops import Window, enlarged
from workbench.heads.grid_maps import Size
from workbench.model.hooks import hook_name
from workbench.model.probe import record, wiring
from workbench.model.prompt import Prompt
from workbench.model.sight import sight_of
from workbench.tasks.pictures.image import Picture

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Windows = Sequence[Sequence[Window]]
"""The windows of every picture; one without windows stays as it is."""


@torch.no_grad()
def fine_patches(
    model: TransformerBridge, pixels: Sequence[np.ndarray], windows: Windows, grid: Size, *, rows: int = 128
) -> tuple[Float[Tensor, "picture patch d_model"], Float[Tensor, "picture patch"]]:
    """Read windows of pictures again, enlarged to the size of a whole picture, by the model's own tower.

    A patch of the grid becomes the mean of the fine patches that lie in it.

    Returns:
        What the language model would read at each patch, 0 where no window lies; and how many windows lie there.

    Raises:
        ModelError: for a model without a tower and a projector.
        ShapeError: for windows of another number of pictures, or of a size that does not divide the grid.
    """
    original: Any = model.original_model
    sight = sight_of(model)
    if not hasattr(original, "get_image_features") or sight is None:
        raise ModelError("a tower with a projector is expected", hint="-m zoo:vlm")
    if len(windows) != len(pixels):
        raise ShapeError(
            f"windows are given for {len(windows)} pictures of {len(pixels)}", hint="windows=[[], ...]"
        )
    first, scaled = next(iter(model.parameters())), sight.of(Picture.of(pixels[0]))
    shown = [(i, window) for i, own in enumerate(windows) for window in own]
    found = first.new_zeros(len(pixels), *grid, model.cfg.d_model)
    many = first.new_zeros(len(pixels), *grid)
    for start in range(0, len(shown), rows):
        part = shown[start : start + rows]
        numbers = np.stack([scaled.numbers(Picture.of(enlarged(pixels[i], w, grid))) for i, w in part])
        seen = original.get_image_features(pixel_values=torch.from_numpy(numbers).to(first)).pooler_output
        for (i, w), fine in zip(part, seen, strict=True):
            high, wide = grid[0] // w.rows, grid[1] // w.columns
            blocks = fine.reshape(w.rows, high, w.columns, wide, -1).mean((1, 3))
            at = (i, slice(w.row, w.row + w.rows), slice(w.column, w.column + w.columns))
            found[at] += blocks
            many[at] += 1
    shares = found / many.clamp(min=1)[..., None]
    return shares.flatten(1, 2), many.flatten(1)


@contextmanager
def magnified(
    model: TransformerBridge,
    fine: Float[Tensor, "picture patch d_model"],
    many: Float[Tensor, "picture patch"],
    places: Sequence[int],
    *,
    mix: float = 1.0,
) -> Iterator[None]:
    """Inside, the language model reads the patches of windows as a mixture of coarse and fine.

    ``(1 - mix) * coarse + mix * fine`` where a window lies; everything else stays as it is.

    Args:
        fine, many: Of the prompts that are run, in their order, as ``fine_patches`` gives them.
        places: Positions of the patches in every prompt.
        mix: From 0 (nothing is changed) to 1.

    Raises:
        OptionError: for a mixture outside 0 to 1.
        ShapeError: inside, for another number of prompts.

    Source:
        LSceneLLM, 2024; the abstract alone was read.
    """
    if not 0 <= mix <= 1:
        raise OptionError(f"mix is {mix}; 0 to 1 is expected", hint="mix=0.5")
    there = (many > 0)[..., None]

    def add(resid: Tensor, hook: Any) -> Tensor:
        if len(resid) != len(fine):
            raise ShapeError(
                f"{len(fine)} pictures are magnified and {len(resid)} prompts are run",
                hint="run the prompts together: rows=len(prompt)",
            )
        resid = resid.clone()
        coarse = resid[:, list(places)]
        resid[:, list(places)] = torch.where(there, (1 - mix) * coarse + mix * fine.to(resid), coarse)
        return resid

    with model.hooks(fwd_hooks=[(hook_name("resid", 0), add)]):
        yield


@torch.no_grad()
def attended_chunks(
    model: TransformerBridge, prompt: Prompt, *, chunk: int, end: int, rows: int = 64
) -> Float[np.ndarray, "row chunk"]:
    """Say how much the last token looks at every chunk of a text, mean over all heads; chunks overlap.

    Args:
        chunk: Tokens of a chunk.
        end: Where the text ends and the question begins.

    Returns:
        Shares of attention; chunk ``i`` begins at token ``i``.

    Raises:
        OptionError: for chunks that do not fit the text.
    """
    if not 1 <= chunk <= end <= prompt.shape[1]:
        raise OptionError(f"chunks of {chunk} tokens do not fit a text of {end}", hint="chunk=2")
    names = [hook_name("pattern", layer) for layer in wiring(model).attention_layers]
    found = []
    for part in prompt.split(rows):
        _, seen = record(model, part, names)
        found.append(torch.stack([seen[name][:, :, -1, :end] for name in names]).mean((0, 2)))
    given = torch.cat(found).double().cpu().numpy()
    return np.lib.stride_tricks.sliding_window_view(given, chunk, axis=1).sum(-1)


def with_chunks_again(
    ids: Int[Tensor, "row pos"], starts: Int[np.ndarray, " row"], *, chunk: int, end: int
) -> Int[Tensor, "row longer"]:
    """Repeat one chunk of every text before its question; with chunks of no tokens nothing is changed.

    Args:
        starts: First token of the chunk of every row.
        end: Where the text ends and the question begins.

    Example:
        >>> with_chunks_again(torch.tensor([[5, 6, 7, 9]]), np.array([1]), chunk=2, end=3).tolist()
        [[5, 6, 7, 6, 7, 9]]
    """
    again = [row[start : start + chunk] for row, start in zip(ids, starts.tolist(), strict=True)]
    return torch.cat([ids[:, :end], torch.stack(again), ids[:, end:]], 1)
