"""Neuron-level circuits on real models: equal to edits of single hidden units, whole and empty as they must be."""

import numpy as np
import pytest

from tests.families import family_dir
from tests.mini import mini_pairs
from workbench.circuits.addresses import Node, mlp, neuron, parse_node
from workbench.circuits.circuit import Circuit
from workbench.core.errors import CircuitError, ModelError
from workbench.engine.interventions.intervention import Edit, Intervention
from workbench.engine.paired_runs import PairedRuns
from workbench.engine.sweep import sweep
from workbench.evaluate.faithfulness import run_circuits
from workbench.model.open import open_model

TOLERANCE = 1e-5  # logits; float32 sums in another order


@pytest.fixture(scope="module", params=["gpt2", "llama", "bert"])
def runs(request) -> PairedRuns:
    from tests.mini import hidden_metric

    metric = hidden_metric() if request.param == "bert" else "logit-difference"
    return PairedRuns(open_model(family_dir(request.param)), mini_pairs(), metric=metric)


def every(runs: PairedRuns) -> list[Node]:
    return [neuron(n, u) for n in runs.wiring.mlp_layers for u in range(runs.wiring.d_mlp)]


def circuit(runs: PairedRuns, kept: list[Node]) -> Circuit:
    shape = runs.wiring.node_shape()
    return Circuit.build(shape=shape, nodes=dict.fromkeys(kept, 1.0), edges={}, level="neuron")


def edited(runs: PairedRuns, nodes: list[Node], value: str) -> np.ndarray:
    edits = tuple(Edit(node=node, value=value) for node in nodes)
    return sweep(runs, [Intervention(label="x", edits=edits)], kind="x").patched[0]


def test_all_neurons_are_the_model(runs):
    assert run_circuits(runs, [circuit(runs, every(runs))])[0] == pytest.approx(runs.clean, abs=TOLERANCE)


def test_no_neurons_is_every_mlp_corrupted(runs):
    """What an MLP writes is a function of its hidden units alone."""
    mlps = [mlp(n) for n in runs.wiring.mlp_layers]
    found = run_circuits(runs, [circuit(runs, [])])[0]
    assert found == pytest.approx(edited(runs, mlps, "corrupted"), abs=TOLERANCE)
    assert abs(found - runs.clean).max() > 100 * TOLERANCE


@pytest.mark.parametrize(
    ("ablation", "value"), [("resample", "corrupted"), ("zero", "zero"), ("mean", "mean")]
)
def test_a_missing_neuron_is_an_edited_one(runs, ablation, value):
    gone = [parse_node("m0.n3"), parse_node("m1.n7")]
    found = run_circuits(runs, [circuit(runs, [n for n in every(runs) if n not in gone])], ablation=ablation)
    assert found[0] == pytest.approx(edited(runs, gone, value), abs=TOLERANCE)


def test_positions_are_kept_where_they_are_named(runs):
    """Ablated at S alone; an address that is kept at no position is ablated at all."""
    one = parse_node("m0.n3")
    others = [n for n in every(runs) if n != one]
    kept = circuit(runs, [*others, *(one.at(label) for label in runs.position_labels if label != "S")])
    assert run_circuits(runs, [kept])[0] == pytest.approx(
        edited(runs, [one.at("S")], "corrupted"), abs=TOLERANCE
    )
    assert abs(run_circuits(runs, [kept])[0] - runs.clean).max() > 0


def test_a_neuron_that_is_not_there_is_refused(runs):
    with pytest.raises(CircuitError, match=r"no neuron m0\.n9999"):
        run_circuits(runs, [circuit(runs, [parse_node("m0.n9999")])])


def test_mixtures_of_experts_are_refused():
    runs = PairedRuns(open_model(family_dir("mixtral")), mini_pairs())
    with pytest.raises(ModelError, match="hidden units of this model's MLPs"):
        run_circuits(runs, [circuit(runs, [])])
