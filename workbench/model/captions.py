"""A CLIP or SigLIP as a model that compares pictures with captions: another view of the same modules.

The captions of a prompt stand in one row, each a block that sees itself alone and counts its positions from 0. A part
of the text tower is therefore edited in all captions of a prompt at once.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor

from workbench.core.errors import ModelError
from workbench.model.prompt import Prompt
from workbench.model.sight import give_sight, sight_of
from workbench.tasks.pictures.names import COMPARES
from workbench.tasks.pictures.sight import CaptionReading

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

CAPTIONS, BLOCKS, ROWS = "captions", "caption_of", "row_of"
"""Extras: ids of all captions in one row, which caption each is of, and which row of the whole batch a row is."""
SEEN, READ = "picture_vectors", "caption_vectors"
"""Extras: what a tower has made of pictures and of captions, where it is known: that tower is not run."""
_VIEWS = "_workbench_captioned"
Stack = Literal["vision", "text"]


def captioned(model: TransformerBridge, stack: Stack = "vision") -> TransformerBridge:
    """Return a CLIP or SigLIP as a model that compares a picture with captions; nothing is copied.

    Args:
        stack: The tower whose parts have plain addresses, and whose edges can be measured; parts of both towers are
            also ``vision:a2.h1`` and ``text:a1.h0``.

    Returns:
        A model whose output j at its one answer position is how alike the picture and its caption j are, in logits.

    Raises:
        ModelError: if the model does not compare pictures with captions.

    Example:
        >>> import workbench as wb
        >>> model = wb.captioned(wb.open_model("zoo:clip"), "text")
        >>> model.cfg.n_layers
        3
    """
    towers = getattr(model, "towers", {})
    kind = type(getattr(model, "original_model", None)).__name__
    if kind not in COMPARES:
        raise ModelError(
            f"a {kind} does not compare pictures with captions; {' and '.join(COMPARES)} do",
            hint="-m zoo:clip",
        )
    if stack not in towers:
        raise ModelError(f"the model has no stack called {stack!r}", hint="vision or text")
    own = towers[stack]
    views = own.__dict__.setdefault(_VIEWS, {})
    if stack not in views:
        views[stack] = _view(own, towers)
    return cast("TransformerBridge", views[stack])


def is_captioned(model: object) -> bool:
    """Say whether a model is one that `captioned` returned, or a tower of one."""
    whole = getattr(model, "bridge", model)  # of a tower
    return any(view is whole for view in getattr(whole, "__dict__", {}).get(_VIEWS, {}).values())


def _view(own: Any, towers: Mapping[str, Any]) -> Any:
    """The same modules under another object, which knows that both towers run in one pass."""
    made = copy.copy(own)
    made.inner = dict(towers)
    named = {f"{own.name}.{hook}": p for hook, p in own.hook_dict.items() if hook.startswith("blocks.")}
    made.hook_dict = own.hook_dict | named  # its parts are there under its name too
    sight = sight_of(cast("TransformerBridge", towers["vision"]))
    if sight is None or sight.captions is None:
        raise ModelError("how this model takes pictures and captions is not known", hint="docs/families.md")
    reading = replace(sight.captions, own=cast("Stack", own.name))
    first = sight.first if own.name == "vision" else None
    give_sight(cast("TransformerBridge", made), replace(sight, captions=reading, tower_first=first))
    return made


def with_captions(
    prompt: Prompt, captions: Sequence[Sequence[Sequence[int]]], *, own: Stack = "vision"
) -> Prompt:
    """Return a prompt of pictures with captions beside them: for each row a list of captions of equal lengths."""
    device = prompt.device
    ids = torch.tensor([[i for one in row for i in one] for row in captions], device=device)
    numbers = torch.tensor([[j for j, one in enumerate(row) for _ in one] for row in captions], device=device)
    makers: dict[str, Callable[[Tensor], Tensor]] = {
        CAPTIONS: lambda rows: ids[rows.to(device)],
        BLOCKS: lambda rows: numbers[rows.to(device)],
        ROWS: lambda rows: rows.to(device),
    }
    return Prompt(ids if own == "text" else prompt.ids, prompt.extras.beside(makers))


def beside_other_tower(
    model: TransformerBridge,
    prompt: Prompt,
    names: Sequence[str],
    kept: MutableMapping[tuple[str, str], Tensor],
    run: str,
) -> Prompt:
    """Return pictures with captions, and what the tower makes of its part in which nothing is recorded.

    Args:
        names: Hooks that are recorded.
        kept: Where that is kept for the run; the tower runs once.
    """
    towers: Any = model.towers
    inside = {next((t for t in towers if n.startswith(f"{t}.")), str(model.name)) for n in names}
    if len(inside) != 1:
        return prompt
    other, kind = ("text", READ) if inside == {"vision"} else ("vision", SEEN)
    if (run, kind) not in kept:
        kept[run, kind] = towers[other].vectors(prompt.extras)
    known = kept[run, kind]
    return Prompt(prompt.ids, prompt.extras.beside({kind: lambda rows: known[rows.to(known.device)]}))


def probe_captions(reading: CaptionReading, rows: int) -> list[list[list[int]]]:
    """Return two captions of random words for each row, the same on every machine, as many tokens as fit."""
    generator = torch.Generator().manual_seed(0)
    length = min(6, reading.n_ctx)
    ids = torch.randint(0, reading.d_vocab, (rows, 2, length), generator=generator)
    if reading.end is not None:
        ids[ids == reading.end] = (reading.end + 1) % reading.d_vocab
        ids[..., -1] = reading.end
    found: list[list[list[int]]] = ids.tolist()
    return found
