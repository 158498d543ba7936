"""Which activation an address is, and whether a model of a given shape has it. No torch here."""

from __future__ import annotations

from workbench.circuits.addresses import INPUT, Node
from workbench.core.errors import ModelError, NameFormatError


def site_of(node: Node) -> str:
    """Return the site of an address: ``a9.h9`` head-output, ``a9.h9<q>`` q, ``a9`` attn-out, ``m3.n1`` neurons,
    ``r5`` resid.

    Raises:
        NameFormatError: for ``logits``, which is read and never written.
    """
    if node.slot is not None:
        return node.slot
    sites = {"head": "head-output", "attn": "attn-out", "mlp": "mlp-out", "neuron": "neurons"}
    sites |= {"resid": "resid", "input": "resid", "projector": "resid"}
    if node.kind not in sites:
        raise NameFormatError(
            f"{node} cannot be edited", hint="edit what is written: input, a9.h9, a9, m3, r5"
        )
    return sites[node.kind]


def check_layer(node: Node, n_layers: int) -> None:
    """Do nothing if a model of so many layers has the layer of an address.

    Raises:
        ModelError: if not.
    """
    if node != INPUT.at(node.position) and node.layer is not None and node.layer >= n_layers:
        raise ModelError(
            f"{node}: the model has layers 0 to {n_layers - 1}",
            hint="workbench model show NAME says what it has",
        )


def check_index(node: Node, count: int) -> None:
    """Do nothing if a layer with so many heads (groups, neurons) has the one of an address.

    Raises:
        ModelError: if not.
    """
    if node.index is not None and node.index >= count:
        raise ModelError(
            f"{node}: layer {node.layer} has {node.kind}s 0 to {count - 1}",
            hint="workbench model show NAME says what it has",
        )
