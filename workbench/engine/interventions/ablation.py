"""Ablation: take a part away and see how much of the metric goes with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, overload

from workbench.circuits import addresses as names
from workbench.circuits.addresses import Node
from workbench.core.errors import OptionError, unknown
from workbench.engine.interventions.intervention import Edit, Intervention, as_node, as_positions, placed_once
from workbench.engine.interventions.words import PARTS, Ablation, Parts, Value, value_named
from workbench.model.outline import Outline
from workbench.model.wiring import Wiring, require_heads, require_mlps, require_parts

if TYPE_CHECKING:
    from torch import Tensor

    from workbench.engine.interventions.replacement import Replacement


@overload
def value_of(ablation: Ablation) -> Value: ...
@overload
def value_of(ablation: Replacement | Tensor | Callable[[Tensor], Tensor]) -> Replacement: ...
@overload
def value_of(
    ablation: Ablation | Replacement | Tensor | Callable[[Tensor], Tensor],
) -> Value | Replacement: ...
def value_of(
    ablation: Ablation | Replacement | Tensor | Callable[[Tensor], Tensor],
) -> Value | Replacement:
    """Return the value an ablation puts in place: resample is the corrupted partner's; a replacement is its own.

    Raises:
        OptionError: for a word that is no ablation, or a value that no edit can put there.
    """
    if isinstance(ablation, str):
        return value_named(ablation)
    from workbench.engine.interventions.replacement import as_replacement  # torch: words need none

    return as_replacement(ablation)


def parts_of(
    wiring: Wiring | Outline, parts: Parts | Sequence[str | Node | Sequence[str | Node]]
) -> list[tuple[Node, ...]]:
    """List all heads, MLPs, attention layers, or layers (attention and MLP together) of a model; or read a list.

    A list holds addresses, each ablated by itself, and groups of addresses, ablated together:
    ``["a1.h0", ("a2.h1", "a2.h3")]``.

    Returns:
        Groups of nodes; those of one group go together.

    Raises:
        OptionError: for a word that is no kind of part, or anything that is no list of addresses.
        ModelError: if the model has no such parts.

    Example:
        >>> import workbench as wb
        >>> runs = wb.paired_runs(wb.open_model("zoo:ioi"), "ioi", n=4)
        >>> len(wb.parts_of(runs.wiring, "heads"))
        16
    """
    if isinstance(parts, Sequence) and not isinstance(parts, str):
        return [_group(part) for part in parts]
    if not isinstance(parts, str):
        found = f"parts is of type {type(parts).__name__}"
        raise OptionError(found, hint=f'give {", ".join(PARTS)}, or addresses: ["a1.h0", "m2"]')
    tower, colon, kind = parts.partition(":")
    if colon:
        found = parts_of(wiring.of(tower), kind)
        return [tuple(replace(node, tower=tower) for node in group) for group in found]
    if parts not in PARTS:
        raise unknown("parts", parts, PARTS)
    if parts == "layers":
        require_parts(wiring)
    else:
        (require_mlps if parts == "mlps" else require_heads)(wiring)
    if parts == "heads":
        return [(names.head(n, h),) for n in wiring.attention_layers for h in range(wiring.n_heads)]
    if parts == "mlps":
        return [(names.mlp(n),) for n in wiring.mlp_layers]
    if parts == "attention":
        return [(names.attn(n),) for n in wiring.attention_layers]
    layers = sorted({*wiring.attention_layers, *wiring.mlp_layers})
    return [
        tuple(
            make(n)
            for make, there in ((names.attn, wiring.attention_layers), (names.mlp, wiring.mlp_layers))
            if n in there
        )
        for n in layers
    ]


def _group(part: str | Node | Sequence[str | Node]) -> tuple[Node, ...]:
    """One part of a list: an address, or several that go together."""
    if isinstance(part, str | Node):
        return (as_node(part),)
    return tuple(as_node(node) for node in part)


def ablations(
    groups: Iterable[Sequence[Node | str]],
    ablation: Ablation | Replacement | Tensor | Callable[[Tensor], Tensor] = "resample",
    *,
    positions: str | int | Sequence[str | int] = (),
) -> list[Intervention]:
    """Make one intervention per group of parts that go together, or one per group and position.

    A group of one part is labelled by its address; several are joined with ``+``. In place of an ablation's name
    there may be what ``Edit`` takes: a tensor, a function, ``Scale(0.5)``, ``Steer(direction, by=2)``.

    Returns:
        Interventions in the order of the groups, and of the positions within each.

    Example:
        >>> import workbench as wb
        >>> [row.label for row in wb.ablations(["a0.h0", ("a1.h0", "m1")], "zero")]
        ['a0.h0', 'a1.h0+m1']
    """
    value, found, places = value_of(ablation), [], as_positions(positions)
    for group in groups:
        nodes = _group(group)
        placed_once(nodes, places)
        for position in places or (None,):
            placed = [n if position is None else n.at(position) for n in nodes]
            label = "+".join(str(n) for n in placed)
            edits = tuple(Edit(node=n, value=value) for n in placed)
            found.append(Intervention(label=label, edits=edits))
    return found
