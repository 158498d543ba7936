"""Pattern-row surgery as an edit: which heads, which rows, which keys, and what becomes of their weight."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from workbench.core.errors import OptionError
from workbench.edits.kinds import Rows
from workbench.edits.place import Change, Place, Seen
from workbench.edits.visible import visible
from workbench.engine.interventions.surgery import add_to_scores, drop_keys, scale_keys, set_rows

USUAL = ("proportional", "conserve")  # freed weight goes to all other keys as they are


def changes_of(edit: Rows, place: Place) -> Sequence[Change]:
    """Return rows of patterns, layer by layer."""
    return [
        Change(
            layer=layer,
            site="pattern",
            heads=heads,
            fn=_surgery(edit, place, layer),
            alone=True,
            leaks=edit.mass == "leak" and edit.operation in ("scale", "drop"),
        )
        for layer, heads in place.heads(edit.heads).items()
    ]


def _surgery(edit: Rows, place: Place, layer: int):
    def operated(pattern: Tensor, seen: Seen) -> Tensor:
        like = pattern[:, 0]  # (row, query, key): rows and positions
        queries = place.rows(edit.queries, edit.when, like)[:, None, :, None]
        sees = visible(place, layer, pattern.shape[-1], pattern.device)
        return torch.where(queries, _new(edit, place, pattern, like, queries, sees), pattern)

    return operated


def _new(edit: Rows, place: Place, pattern: Tensor, like: Tensor, queries: Tensor, sees: Tensor) -> Tensor:
    if edit.operation == "set":
        return set_rows(pattern, _target(edit, place, like, queries, sees))
    keys = place.rows(edit.keys, "all", like)[:, None, None, :]
    if edit.operation == "add":
        return add_to_scores(pattern, keys * float(edit.value or 0))
    if edit.operation == "drop" and edit.recipients is None and (edit.share, edit.mass) == USUAL:
        return drop_keys(pattern, keys)
    theirs = None
    if edit.recipients is not None:
        theirs = place.rows(edit.recipients, "all", like)[:, None, None, :]
    factor = 0.0 if edit.operation == "drop" else float(edit.value or 0)
    return scale_keys(
        pattern, keys, factor, recipients=theirs, share=edit.share, visible=sees, mass=edit.mass
    )


def _target(edit: Rows, place: Place, like: Tensor, queries: Tensor, sees: Tensor) -> Tensor:
    """The distribution over keys, for every row of every prompt.

    Raises:
        OptionError: if a query that changes cannot see a key that it is to look at.
    """
    if edit.keys is None:
        return (sees / sees.sum(-1, keepdim=True))[None, None]
    target = torch.zeros(like.shape[0], like.shape[-1], dtype=torch.float32, device=like.device)
    weights = edit.weights or (1.0,) * len(edit.keys)
    for key, weight in zip(edit.keys, weights, strict=True):
        target[torch.arange(len(target)), place.index(key, like)] += weight / sum(weights)
    if bool((queries & (target[:, None, None, :] > 0) & ~sees).any()):
        raise OptionError(
            f"a query that is to look at {', '.join(map(str, edit.keys))} cannot see all of it",
            hint="name the queries that come later: queries=('end',)",
        )
    return target[:, None, None, :]
