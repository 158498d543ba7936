"""Random circuits of every kind: no larger than asked, connected, different for every seed."""

import numpy as np
import pytest

from tests.circuits import GROUPED, POST_NORM, TWO
from workbench.circuits.graph import Graph
from workbench.evaluate.baselines import random_circuit

PLACES = ("S2", "end", "rest")


@pytest.mark.parametrize("shape", [TWO, GROUPED, POST_NORM])
@pytest.mark.parametrize("positions", [(), PLACES])
def test_random_edges_are_connected_and_no_more_than_asked(shape, positions):
    graph, rng = Graph(shape), np.random.default_rng(0)
    for size in (3, 8, 20):
        found = random_circuit(graph, size, rng, positions=positions)
        assert 0 < found.size <= size
        assert found.prune().edges == found.edges
        if positions:
            ends = {e.split("@")[-1] for e in found.edges if e.split("->")[1].startswith("logits")}
            assert ends == {"end"}


def test_every_edge_at_every_position_when_all_are_asked_for():
    graph = Graph(TWO)
    found = random_circuit(graph, 3 * graph.n_edges, np.random.default_rng(0), positions=PLACES)
    assert found.size == 3 * graph.n_edges


@pytest.mark.parametrize("level", ["node", "neuron"])
def test_random_nodes_and_neurons_have_the_size_asked_for(level):
    found = random_circuit(Graph(TWO), 3, np.random.default_rng(0), level=level, d_mlp=4, positions=PLACES)
    assert found.size == 3 and found.level == level
    assert all("@" in address for address in found.nodes if address not in ("input", "logits"))


def test_seeds_give_different_circuits():
    graph = Graph(TWO)
    drawn = [tuple(random_circuit(graph, 5, np.random.default_rng(seed))) for seed in range(5)]
    assert len(set(drawn)) > 1
    assert drawn[0] == tuple(random_circuit(graph, 5, np.random.default_rng(0)))
