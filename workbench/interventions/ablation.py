"""Ablation: take a part away and see how much of the metric goes with it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, get_args

from workbench import names
from workbench.errors import unknown
from workbench.interventions.edits import Edit, Intervention, Value
from workbench.model.hooks import Wiring
from workbench.names import Node, parse_node

Ablation = Literal["resample", "mean", "mean-per-position", "mean-per-name", "mean-per-template", "zero"]
ABLATIONS: tuple[str, ...] = get_args(Ablation)
Parts = Literal["heads", "mlps", "attention", "layers"]
PARTS: tuple[str, ...] = ("heads", "mlps", "attention", "layers")


def value_of(ablation: Ablation) -> Value:
    """The value an ablation puts in place: resample is the corrupted partner's."""
    if ablation not in ABLATIONS:
        raise unknown("ablation", ablation, ABLATIONS)
    return "corrupted" if ablation == "resample" else ablation


def parts_of(wiring: Wiring, parts: Parts) -> list[tuple[Node, ...]]:
    """All heads, all MLPs, all attention layers, or all layers (attention and MLP together) of a model."""
    if parts not in PARTS:
        raise unknown("parts", parts, PARTS)
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


def ablations(
    groups: Iterable[Sequence[Node | str]],
    ablation: Ablation = "resample",
    *,
    positions: Sequence[str | int] = (),
) -> list[Intervention]:
    """One intervention per group of parts that go together, or one per group and position.

    A group of one part is labelled by its address; several are joined with ``+``.
    """
    value, found = value_of(ablation), []
    for group in groups:
        nodes = [parse_node(n) if isinstance(n, str) else n for n in group]
        for position in positions or (None,):
            placed = [n if position is None else n.at(position) for n in nodes]
            label = "+".join(str(n) for n in placed)
            edits = tuple(Edit(node=n, value=value) for n in placed)
            found.append(Intervention(label=label, edits=edits))
    return found
