"""Clusters of neurons by co-occurrence: planted groups are found, dealt ones are not; values by hand."""

from dataclasses import replace

import numpy as np
import pytest

from workbench.circuits.graph import Graph, GraphShape
from workbench.circuits.scores import Scores
from workbench.core.errors import OptionError
from workbench.core.stats.linkage import average_linkage
from workbench.evaluate.neuron_clusters import neuron_clusters


def scores_of(per_pair, **more):
    told = {
        "level": "neuron",
        "method": "relp",
        "unit": "logits",
        "metric": "logit-difference",
        "source": "none",
    }
    told |= {"options": {}, "passes": 0, "n_pairs": len(per_pair), "values": per_pair.mean(0), **more}
    return Scores(graph=Graph(GraphShape(n_layers=2, n_heads=1, n_kv_heads=1)), per_pair=per_pair, **told)


def planted():
    """24 pairs, 2 x 10 neurons: 0 to 2 of layer 0 on even pairs, 3 to 5 of layer 1 on odd ones, 9 always."""
    rng = np.random.default_rng(0)
    each = 0.01 * rng.normal(size=(24, 2, 10))
    each[::2, 0, :3] += 2.0
    each[1::2, 1, 3:6] -= 3.0
    each[:, 0, 9] += 5.0
    return each


def test_planted_groups_are_found_with_their_pairs_and_signs():
    found = neuron_clusters(scores_of(planted()), top=4)
    assert [set(c.neurons) for c in found.clusters] == [
        {"m0.n0", "m0.n1", "m0.n2"},
        {"m1.n3", "m1.n4", "m1.n5"},
    ]
    assert found.always == ("m0.n9",) and found.compared == 6
    first, second = found.clusters
    assert first.pairs == tuple(range(0, 24, 2)) and second.pairs == tuple(range(1, 24, 2))
    assert first.alike == second.alike == 1.0 and 0 < found.chance < 1
    assert first.score == pytest.approx(3.0, abs=0.05) and second.score == pytest.approx(-4.5, abs=0.05)


def test_neurons_of_dealt_prompts_make_no_large_cluster():
    rng = np.random.default_rng(1)
    found = neuron_clusters(scores_of(rng.normal(size=(40, 2, 30))), top=10)
    assert found.compared > 40 and max((len(c.neurons) for c in found.clusters), default=0) <= 2


def test_the_order_of_pairs_does_not_matter():
    each = planted()
    found, turned = (neuron_clusters(scores_of(x), top=4) for x in (each, each[::-1]))
    assert [c.neurons for c in found.clusters] == [c.neurons for c in turned.clusters]


def test_average_linkage_by_hand():
    alike = np.array([[1.0, 0.8, 0.4, 0.0], [0.8, 1.0, 0.6, 0.0], [0.4, 0.6, 1.0, 0.2], [0.0, 0.0, 0.2, 1.0]])
    assert average_linkage(alike, 0.7) == [[0, 1], [2], [3]]
    assert average_linkage(alike, 0.5) == [[0, 1, 2], [3]]  # 2 to the pair: (0.4 + 0.6) / 2
    assert average_linkage(alike, 0.51) == [[0, 1], [2], [3]]


def test_what_cannot_be_clustered_is_refused():
    with pytest.raises(OptionError, match="say nothing of clusters"):
        neuron_clusters(scores_of(planted()[:3]))
    with pytest.raises(OptionError, match="keeps no scores of single pairs"):
        neuron_clusters(replace(scores_of(planted()), per_pair=None))
