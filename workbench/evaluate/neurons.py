"""Neuron-level circuits: every hidden unit of the MLPs outside is ablated; heads, and all else, stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.circuits.addresses import Node, parse_node
from workbench.circuits.circuit import Circuit
from workbench.core.errors import CircuitError, ModelError
from workbench.core.progress import Progress
from workbench.engine.batch import RunName
from workbench.engine.interventions.ablation import value_of
from workbench.engine.interventions.means import Means
from workbench.engine.interventions.words import Ablation, Value
from workbench.engine.paired_runs import Batch, PairedRuns
from workbench.evaluate.positions import Places
from workbench.model.hooks import hook_name

Masks = Bool[Tensor, "copy place unit"]


def neurons_of(circuit: Circuit) -> list[Node]:
    """Return the hidden units a circuit keeps."""
    nodes = [parse_node(address) for address in circuit.nodes]
    return [node for node in nodes if node.kind == "neuron"]


def kept_neurons(circuit: Circuit, runs: PairedRuns, places: Places) -> Bool[np.ndarray, "place layer unit"]:
    """True at the circuit's hidden units, at the tokens where it has them.

    Raises:
        CircuitError: if the model has no such hidden unit.
    """
    wiring, width = runs.wiring, runs.wiring.d_mlp or 0
    mask = np.zeros((len(places.all), wiring.n_layers, width), dtype=bool)
    for node in neurons_of(circuit):
        layer, unit = node.place
        if layer not in wiring.mlp_layers or unit >= width:
            raise CircuitError(
                f"this model has no neuron {node.at(None)}: its MLPs have {width} hidden units",
                hint="name the model that the circuit was found on: -m",
            )
        mask[places.holding(node.position), layer, unit] = True
    return mask


@torch.no_grad()
def run_neurons(
    runs: PairedRuns,
    circuits: Sequence[Circuit],
    ablation: Ablation = "resample",
    *,
    progress: Progress | None = None,
) -> Float[np.ndarray, "circuit pair"]:
    """Return the metric of neuron-level circuits on the clean prompts; the whole circuit is the clean run.

    Raises:
        ModelError: if the hidden units of this model's MLPs cannot be edited (mixtures of experts).
    """
    if "neurons" not in runs.wiring.live:
        raise ModelError(
            "the hidden units of this model's MLPs cannot be edited", hint="--level node, or --level edge"
        )
    places = Places.of(runs, circuits)
    kept = torch.as_tensor(np.stack([kept_neurons(c, runs, places) for c in circuits]))
    value = value_of(ablation)
    names = {layer: hook_name("neurons", layer) for layer in runs.wiring.mlp_layers}
    means = Means.over(runs, "clean", set(names.values())) if value.startswith("mean") else None
    values = np.full((len(circuits), runs.n_pairs), np.nan)
    for b, batch in enumerate(runs.batches):
        labels, reference = places.tokens(runs, batch), _references(runs, batch, names, value, means)
        size = max(1, runs.batch_tokens // (len(batch) * batch.n_tokens))
        for k in range(0, len(circuits), size):
            ablated = (~kept[k : k + size]).to(runs.device)
            hooks = [(names[n], _mask(ablated[:, :, n], reference[names[n]], labels)) for n in names]
            found = runs.values(batch, batch.prompt("clean").repeat(len(ablated)), hooks).reshape(
                len(ablated), -1
            )
            values[k : k + size, batch.index] = found.double().cpu().numpy()
        runs.release(batch)
        if progress:
            progress(b + 1, len(runs.batches), f"{len(circuits)} circuits, {ablation} ablation")
    return values


def _references(
    runs: PairedRuns, batch: Batch, names: Mapping[int, str], value: Value, means: Means | None
) -> dict[str, Tensor]:
    """What every hidden unit is replaced by, by hook: ``(pair, pos, unit)``."""
    run: RunName = "corrupted" if value == "corrupted" else "clean"
    own = runs.activations(batch, run, list(names.values()))
    if value == "zero":
        return {name: torch.zeros_like(tensor) for name, tensor in own.items()}
    if means is None:
        return own
    return {name: means.of(value, name, batch, tensor.dtype) for name, tensor in own.items()}


def _mask(ablated: Masks, reference: Float[Tensor, "pair pos unit"], labels: Int[Tensor, "pair pos"]):
    """A hook that gives each copy its own ablated units at each token."""

    def edit(tensor: Tensor, hook) -> Tensor:
        gone = ablated[:, labels].flatten(0, 1)  # (copy * pair, pos, unit)
        return torch.where(gone, reference.repeat(len(ablated), 1, 1), tensor)

    return edit
