"""A bias towards a reference (PerSAM): the reference of a part of a prompt, and what it adds to scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import cosine_similarity

from workbench.core.errors import ShapeError
from workbench.edits.place import Change, Place, Seen
from workbench.edits.reference_bias import BiasTowards
from workbench.engine.interventions.surgery import add_to_scores
from workbench.model.hooks import hook_name
from workbench.model.probe import record, wiring
from workbench.model.prompt import Prompt

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


def similarity(
    resid: Float[Tensor, "row pos d_model"], reference: Float[Tensor, "reference d_model"]
) -> Float[Tensor, "row pos"]:
    """Return the cosine of every position with the reference of its prompt, from -1 to 1.

    Example:
        >>> similarity(torch.tensor([[[2.0, 0.0], [0.0, 1.0]]]), torch.tensor([[1.0, 0.0]])).tolist()
        [[1.0, 0.0]]
    """
    return cosine_similarity(resid, reference[:, None], dim=-1)


@torch.no_grad()
def entering_layers(
    model: TransformerBridge, prompt: Prompt, *, rows: int = 128
) -> Float[Tensor, "row layer pos d_model"]:
    """Return the residual stream that enters every layer."""
    names = [hook_name("resid", layer) for layer in wiring(model).attention_layers]
    found = [record(model, part, names)[1] for part in prompt.split(rows)]
    return torch.cat([torch.stack([held[name] for name in names], 1) for held in found])


def span_reference(
    model: TransformerBridge, prompt: Prompt, span: Bool[Tensor, "row pos"]
) -> Float[Tensor, "row layer d_model"]:
    """Average the residual stream that enters every layer over a part of each prompt: its reference.

    Raises:
        ShapeError: if a prompt has no position in its part.
    """
    if not bool(span.any(1).all()):
        raise ShapeError("a prompt has no position in its part", hint="name one position or more of each")
    weight = span.to(torch.float32) / span.sum(1, keepdim=True)
    entering = entering_layers(model, prompt)
    return torch.einsum("rlpd,rp->rld", entering, weight.to(entering))


def changes_of(edit: BiasTowards, place: Place) -> Sequence[Change]:
    """Patterns of the heads: what their scores would give after they are raised."""
    of_layer = list(place.wiring.attention_layers)
    if edit.reference.shape[1] != len(of_layer):
        raise ShapeError(
            f"the reference is of {edit.reference.shape[1]} layers; the model has {len(of_layer)}",
            hint="make it on this model: span_reference(model, prompt, span)",
        )
    return [
        Change(
            layer=layer,
            site="pattern",
            heads=heads,
            fn=_biased(edit, edit.reference[:, of_layer.index(layer)], place),
            reads=("resid",),
        )
        for layer, heads in place.heads(edit.heads).items()
    ]


def _biased(
    edit: BiasTowards, reference: Float[Tensor, "reference d_model"], place: Place
) -> Callable[[Tensor, Seen], Tensor]:
    def biased(pattern: Tensor, seen: Seen) -> Tensor:
        if len(reference) not in (1, len(pattern)):
            raise ShapeError(
                f"the edit has {len(reference)} references; {len(pattern)} prompts are run",
                hint="give one reference for all prompts, or one for each",
            )
        if edit.beta == 0:
            return pattern
        resid = seen["resid"]
        rise = edit.beta * similarity(resid, reference.to(resid))
        rows = place.rows(edit.queries, "all", resid)[:, None, :, None]
        return torch.where(rows, add_to_scores(pattern, rise[:, None, None].to(pattern)), pattern)

    return biased
