"""Heads turned off, in each of the ways that papers do it, and single looks knocked out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.circuits.addresses import parse_node
from workbench.core.errors import OptionError
from workbench.edits.affine import Affine
from workbench.edits.edit import ModelEdit, Positions, When
from workbench.edits.place import Place
from workbench.edits.rows import Rows
from workbench.model.hooks import hook_name
from workbench.model.probe import record, wiring

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Mode = Literal["uniform", "zero", "mean"]
Prompts = Iterable[Int[Tensor, "row pos"]]


def turn_off(
    model: TransformerBridge,
    heads: Sequence[str],
    *,
    mode: Mode = "uniform",
    when: When = "all",
    positions: Positions | None = None,
    reference: Prompts | None = None,
) -> ModelEdit:
    """Return heads that no longer choose (``uniform``) or no longer say anything of this prompt (``zero``,
    ``mean``).

    Args:
        mode: ``uniform``: they look at all visible keys alike (what setting the scores to 0 after the mask does);
            ``zero``: their output is 0; ``mean``: it is the mean over all tokens of the reference prompts.
        when: ``decode`` leaves the prompt's own pass alone, all but its last token.
        reference: Token ids for ``mean``, in batches of one length each.

    Raises:
        OptionError: for an unknown mode, or ``mean`` without reference prompts.
        ModelError: for a head or layer that this model does not have.
    """
    if mode not in get_args(Mode):
        raise OptionError(f"no mode called {mode!r}", hint=f"one of {', '.join(get_args(Mode))}")
    if mode == "uniform":
        Place(model=model, wiring=wiring(model)).heads(heads)
        return Rows(heads=tuple(heads), operation="set", queries=positions, when=when)
    edit = Affine.of(model, heads, a=0.0, positions=positions, when=when)
    if mode == "zero":
        return edit
    if reference is None:
        raise OptionError("the mean of what?", hint="reference=[tokens, ...]")
    means = mean_outputs(model, reference, edit.heads)
    return Affine(heads=edit.heads, a=edit.a, b=means.to(edit.a), positions=positions, when=when)


def knock_out(heads: Sequence[str], query: str | int, key: str | int) -> Rows:
    """Return heads that do not look from ``query`` at ``key``; the weight goes to the other keys in proportion."""
    return Rows(heads=tuple(heads), operation="drop", queries=(query,), keys=(key,))


@torch.no_grad()
def mean_outputs(
    model: TransformerBridge, prompts: Prompts, heads: Sequence[str]
) -> Float[Tensor, "head d_head"]:
    """Mean output of each head over all tokens of all prompts, in float64.

    Raises:
        OptionError: if there are no prompts.
    """
    nodes = [parse_node(text) for text in heads]
    names = sorted({hook_name("head-output", int(node.layer or 0)) for node in nodes})
    sums: dict[str, Tensor] = {}
    count = 0
    for ids in prompts:
        for name, z in record(model, ids, names)[1].items():
            sums[name] = sums.get(name, 0) + z.double().sum((0, 1))
        count += ids.numel()
    if not count:
        raise OptionError("there are no prompts to take the mean over", hint="give at least one prompt")
    return torch.stack([sums[hook_name("head-output", int(n.layer or 0))][n.index] for n in nodes]) / count
