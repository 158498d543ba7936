"""Activation patching: put an activation of one run into the other and see what it brings or breaks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from workbench.circuits import addresses as names
from workbench.circuits.addresses import Node
from workbench.core.errors import expect_word, unknown
from workbench.engine.interventions.intervention import (
    Edit,
    Intervention,
    KnockOut,
    as_node,
    as_positions,
    placed_once,
)
from workbench.engine.interventions.words import MODES, Value
from workbench.model.outline import Outline
from workbench.model.wiring import SITES, Wiring, require_heads, require_mlps


def site_nodes(wiring: Wiring | Outline, site: str) -> list[Node]:
    """List every address of a site: ``resid`` and ``attn-out`` per layer, ``q`` per head, ``k`` per KV group ...

    Returns:
        Nodes, layer by layer.

    Raises:
        WorkbenchError: for a site that does not exist, with the closest spellings.
        ModelError: if the model has no such parts.

    Example:
        >>> import workbench as wb
        >>> runs = wb.paired_runs(wb.open_model("zoo:ioi"), "ioi", n=4)
        >>> [str(node) for node in wb.site_nodes(runs.wiring, "mlp-out")]
        ['m0', 'm1', 'm2', 'm3']
    """
    if site not in SITES:
        raise unknown("site", site, SITES)
    if site == "resid":
        return [names.resid(n) for n in range(wiring.n_layers)]
    (require_mlps if site == "mlp-out" else require_heads)(wiring)
    if site == "mlp-out":
        return [names.mlp(n) for n in wiring.mlp_layers]
    if site == "attn-out":
        return [names.attn(n) for n in wiring.attention_layers]
    if site in ("k", "v") and wiring.n_kv_heads != wiring.n_heads:
        return [names.group(n, g, site) for n in wiring.attention_layers for g in range(wiring.n_kv_heads)]
    slot = None if site == "head-output" else site
    return [names.head(n, h, slot) for n in wiring.attention_layers for h in range(wiring.n_heads)]


def patches(
    nodes: Sequence[Node | str],
    *,
    mode: Literal["noising", "denoising"] = "denoising",
    positions: str | int | Sequence[str | int] = (),
) -> list[Intervention]:
    """Make one patch per address, or one per address and position.

    Denoising puts clean values into the corrupted run (what is sufficient), noising corrupted values into the
    clean run (what is necessary).

    Returns:
        Interventions in the order of the addresses, and of the positions within each.

    Example:
        >>> import workbench as wb
        >>> [row.label for row in wb.patches(["r0", "r1"], positions=["end"])]
        ['r0@end', 'r1@end']
    """
    expect_word("mode", mode, MODES)
    value: Value = "clean" if mode == "denoising" else "corrupted"
    found, places = [], as_positions(positions)
    for node in map(as_node, nodes):
        placed_once([node], places)
        for position in places or (node.position,):
            placed = node.at(position)
            found.append(Intervention(label=str(placed), edits=(Edit(node=placed, value=value),)))
    return found


def knock_outs(
    nodes: Sequence[Node | str], query: str | int, key: str | int, *, together: bool = False
) -> list[Intervention]:
    """Make attention knock-outs from ``query`` to ``key``: one per address, or all addresses in one intervention.

    Returns:
        Interventions in the order of the addresses.

    Example:
        >>> import workbench as wb
        >>> [row.label for row in wb.knock_outs(["a0.h0"], "end", "S2")]
        ['a0.h0<pattern>@end']
    """
    edits = [KnockOut(node=n, query=query, key=key) for n in nodes]
    if together:
        named = "+".join(str(edit.part) for edit in edits) if len(edits) <= 4 else f"{len(edits)} together"
        return [Intervention(label=f"{named}@{query}-x->{key}", edits=tuple(edits))]
    return [
        Intervention(label=f"{replace(edit.part, slot=None)}<pattern>@{query}", edits=(edit,))
        for edit in edits
    ]
