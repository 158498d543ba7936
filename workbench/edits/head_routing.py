"""Mixture of heads: which heads stay for a token, with what weights, and how evenly they are used.

Source:
    Jin et al. 2024, MoH: Multi-Head Attention as Mixture-of-Head Attention.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.circuits.addresses import parse_node
from workbench.core.errors import OptionError, ShapeError
from workbench.edits.place import Change, Place, Seen
from workbench.edits.route_heads import RouteHeads

__all__ = ["RouteHeads", "changes_of"]
Heads = Float[Tensor, "row pos head"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Routing:
    """What a router did with one layer in one pass.

    Attributes:
        probabilities: Of the routed heads, summing to 1 over them.
        chosen: Which of them stayed.
    """

    layer: int
    probabilities: Float[Tensor, "row pos routed"]
    chosen: Bool[Tensor, "row pos routed"]


_WATCHED: list[list[Routing]] = []


@contextmanager
def watched() -> Iterator[list[Routing]]:
    """Inside, what routers do is appended to the list that is given, layer by layer and pass by pass."""
    found: list[Routing] = []
    _WATCHED.append(found)
    try:
        yield found
    finally:
        _WATCHED.pop()


def keep_most(scores: Heads, active: int) -> Bool[Tensor, "row pos head"]:
    """Say which ``active`` heads have the largest scores; of equal ones the first.

    Raises:
        OptionError: unless there are as many.

    Example:
        >>> keep_most(torch.tensor([[[0.1, 0.5, 0.4]]]), 2).tolist()
        [[[False, True, True]]]
    """
    if not 1 <= active <= scores.shape[-1]:
        raise OptionError(
            f"{active} of {scores.shape[-1]} heads stay", hint=f"active=1 to {scores.shape[-1]}"
        )
    order = scores.argsort(dim=-1, descending=True, stable=True)[..., :active]
    return torch.zeros_like(scores, dtype=torch.bool).scatter(-1, order, True)


def load_balance(probabilities: Heads, chosen: Bool[Tensor, "row pos head"]) -> Float[Tensor, ""]:
    """Measure how evenly heads are used: ``E^2 mean_e(mean probability_e * mean chosen_e)`` over tokens.

    Returns:
        K where K of E heads are used alike; E where all tokens go to the same K heads with probability 1 / K each.

    Example:
        >>> even = torch.full((1, 4, 4), 0.25)
        >>> float(load_balance(even, torch.eye(4).bool()[None]))
        1.0
    """
    p, used = probabilities.flatten(0, -2).mean(0), chosen.to(probabilities).flatten(0, -2).mean(0)
    return p.shape[0] ** 2 * (p * used).mean()


def use_of_heads(routings: Sequence[Routing]) -> list[dict[str, float]]:
    """Return a row for each layer: load balance, what it is where use is even, shares of the least and most used head.

    Args:
        routings: What `watched` gave, of one pass or several.
    """
    rows = []
    for layer in sorted({one.layer for one in routings}):
        own = [one for one in routings if one.layer == layer]
        chosen = torch.cat([one.chosen.flatten(0, 1) for one in own])[None]
        p = torch.cat([one.probabilities.flatten(0, 1) for one in own])[None]
        shares = chosen[0].double().mean(0)
        row = {"layer": layer, "load balance": float(load_balance(p, chosen)), "even": float(shares.sum())}
        rows.append({**row, "least used": float(shares.min()), "most used": float(shares.max())})
    return rows


def two_stage_weights(
    routed: Heads, shared: Float[Tensor, "row pos shared"], stages: Float[Tensor, "row pos 2"], active: int
) -> tuple[Heads, Float[Tensor, "row pos shared"], Routing]:
    """Return weights of routed and of shared heads from a router's logits, and what it chose.

    ``p = softmax(routed)``; the ``active`` largest share ``K p / sum p``, the others get 0. Shared heads get
    ``S softmax(shared)``. Both are multiplied by ``2 softmax(stages)``, shared heads by the first.

    Returns:
        Weights whose mean over what stays is 1 where all logits are equal: nothing changes then but what is dropped.
    """
    p = routed.softmax(-1)
    chosen = keep_most(p.detach(), active)
    kept = p * chosen
    first, second = (2 * stages.softmax(-1)).unbind(-1)
    own = second[..., None] * active * kept / kept.sum(-1, keepdim=True)
    others = first[..., None] * shared.shape[-1] * shared.softmax(-1)
    return own, others, Routing(layer=-1, probabilities=p, chosen=chosen)


def straight_through(scores: Heads, active: int) -> tuple[Heads, Routing]:
    """Return 0 or 1 for each head by its score; gradients go through ``E * softmax`` in place of the step.

    Scores are divided by their standard deviation over the heads first, as the paper's code does with norms of queries.
    """
    p = (scores / scores.std(-1, keepdim=True, unbiased=False).clamp_min(1e-6)).softmax(-1)
    chosen = keep_most(scores.detach(), active)
    soft = p.shape[-1] * p
    return chosen.to(p) + (soft - soft.detach()), Routing(layer=-1, probabilities=p, chosen=chosen)


def drawn_scores(ids: Int[Tensor, "row pos"], heads: int, seed: int) -> Heads:
    """Return random scores by token and position: the same for a prompt in every batch, others for other seeds."""
    table = torch.rand(4093, heads, generator=torch.Generator().manual_seed(seed))
    place = ids.cpu() * 7919 + torch.arange(ids.shape[1]) * 104_729
    return table[place % 4093].to(ids.device)


def changes_of(edit: RouteHeads, place: Place) -> Sequence[Change]:
    """Return head outputs times their weights, layer by layer."""
    own = place.heads(edit.heads)
    reads = {"learned": ("resid",), "random": ("ids",), "first": ()}.get(edit.by, ("q",))
    every = tuple(range(place.wiring.n_heads))
    for layer, heads in own.items():
        if edit.active > len(heads):
            raise OptionError(
                f"{edit.active} heads stay of {len(heads)} that are routed in layer {layer}",
                hint=f"active={len(heads)} keeps all",
            )
    return [
        Change(
            layer=n,
            site="head-output",
            heads=every,
            fn=_weighted(edit, n, named(edit, n, heads)),
            reads=reads,
        )
        for n, heads in own.items()
    ]


def named(edit: RouteHeads, layer: int, heads: Sequence[int]) -> list[int]:
    """Return the routed heads of a layer in the order in which the edit names them."""
    order = [
        node.index for node in map(parse_node, edit.heads) if node.layer == layer and node.index is not None
    ]
    return list(dict.fromkeys(order)) if set(order) == set(heads) else list(heads)


def _weighted(edit: RouteHeads, layer: int, heads: list[int]) -> Callable[[Tensor, Seen], Tensor]:
    def weighted(z: Tensor, seen: Seen) -> Tensor:
        weights = torch.ones(z.shape[:3], dtype=z.dtype, device=z.device)
        index = torch.tensor(heads, device=z.device)
        others = torch.tensor(
            [h for h in range(z.shape[2]) if h not in heads], device=z.device, dtype=torch.long
        )
        if edit.by == "learned":
            routed, rest, stages = _logits(edit, layer, seen["resid"], heads, z)
            own, shared, routing = two_stage_weights(routed, rest, stages, edit.active)
            weights = weights.index_copy(2, others, shared.to(z)) if len(others) else weights
        else:
            own, routing = straight_through(_scores(edit, layer, seen, z, heads), edit.active)
        for found in _WATCHED[-1:]:
            found.append(Routing(layer=layer, probabilities=routing.probabilities, chosen=routing.chosen))
        return z * weights.index_copy(2, index, own.to(z))[..., None]

    return weighted


def _scores(edit: RouteHeads, layer: int, seen: Seen, z: Tensor, heads: list[int]) -> Heads:
    if edit.by == "first":
        return -torch.arange(len(heads), dtype=z.dtype, device=z.device).expand(*z.shape[:2], -1)
    if edit.by == "random":
        return drawn_scores(seen["ids"], len(heads), edit.seed * 1009 + layer).to(z)
    q = seen["q"] if seen["q"].ndim == 4 else seen["q"].unflatten(-1, (z.shape[2], -1))
    norms = q[:, :, heads].norm(dim=-1)
    return norms if edit.by == "query-norm" else -norms


def _logits(edit: RouteHeads, layer: int, resid: Tensor, heads: list[int], z: Tensor) -> list[Tensor]:
    """Logits of a learned router, which reads what enters the layer at length ``sqrt(d_model)``."""
    x = resid / resid.square().mean(-1, keepdim=True).add(1e-6).sqrt()
    sizes = {"routed": len(heads), "shared": z.shape[2] - len(heads), "stages": 2}
    found = []
    for part, size in sizes.items():
        weights = edit.routers.get(f"a{layer}.{part}")
        if weights is None or tuple(weights.shape) != (x.shape[-1], size):
            was = "none" if weights is None else tuple(weights.shape)
            raise ShapeError(
                f"layer {layer}: the router's {part} is {was}; ({x.shape[-1]}, {size}) is expected",
                hint="use the router with the heads and the model that it was learned with",
            )
        found.append(x @ weights.to(x))
    return found
