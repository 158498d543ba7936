"""Comparing and summarising circuits, by hand and against brute force."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.circuits import GROUPED, SMALL, circuit, scores, small
from workbench.circuits.addresses import parse_edge
from workbench.circuits.compare import compare, diff, hypergeometric_tail, overlap
from workbench.circuits.graph import GraphShape
from workbench.circuits.summary import strongest_paths, summarise
from workbench.core.errors import CircuitError

OTHER = {**SMALL, "a1.h1->logits": 2.0, "input->logits": 0.1}
del OTHER["a0.h0->m1"], OTHER["m1->logits"]


def test_difference_by_hand():
    found = diff(small(), circuit(OTHER))
    assert dict(found.only_here_edges) == {"a0.h0->m1": 0.25, "m1->logits": -0.125}
    assert dict(found.only_there_edges) == {"input->logits": 0.1}
    assert found.only_here_nodes == ("m1",) and found.only_there_nodes == ()
    assert found.changed() == [("a1.h1->logits", 3.0, 2.0)] and not found.same
    assert diff(small(), small()).same
    assert not diff(small(), small(unit="nats")).comparable


def test_difference_needs_one_architecture():
    with pytest.raises(CircuitError, match="different architectures") as caught:
        diff(small(), scores(GROUPED).top(5))
    assert "overlap" in caught.value.hint


def test_overlap_by_hand():
    found = overlap(small(), circuit(OTHER))
    assert found.matching == "same architecture"
    edges = found["edges"]
    assert (edges.n_here, edges.n_there, edges.shared, edges.universe) == (6, 5, 4, 46)
    assert edges.jaccard == 4 / 7 and edges.coefficient == 4 / 5 and edges.expected == pytest.approx(30 / 46)
    heads = found["heads"]
    assert (heads.n_here, heads.n_there, heads.shared, heads.universe) == (2, 2, 2, 4)
    assert heads.p_value == pytest.approx(1 / 6)  # one of the 6 pairs of 4 heads
    assert found["nodes"].shared == 2
    with pytest.raises(CircuitError):
        found["neurons"]


def test_overlap_of_other_models_goes_by_layer_and_head():
    bigger = GraphShape(n_layers=3, n_heads=4, n_kv_heads=4)
    there = circuit(SMALL | {"a2.h3->logits": 1.0}, bigger)
    found = compare(small(), there)
    assert found.overlap.matching == "layer and head numbers" and found.difference is None
    heads = found.overlap["heads"]
    assert (heads.n_here, heads.n_there, heads.shared, heads.universe) == (2, 2, 2, 4)  # a2.h3 has no partner
    assert found.to_dict()["difference"] is None


def test_nothing_has_no_jaccard():
    found = overlap(circuit({}), circuit({}))["edges"]
    assert found.jaccard is None and found.coefficient is None and found.p_value == 1.0


@settings(deadline=None)
@given(st.integers(1, 9), st.data())
def test_chance_agrees_with_counting(universe, data):
    first, second = data.draw(st.integers(0, universe)), data.draw(st.integers(0, universe))
    shared = data.draw(st.integers(0, universe))
    fixed = set(range(first))
    draws = list(itertools.combinations(range(universe), second))
    share = sum(len(fixed & set(draw)) >= shared for draw in draws) / len(draws)
    assert hypergeometric_tail(shared, universe, first, second) == pytest.approx(share, abs=1e-12)


def test_chance_of_large_circuits_is_finite():
    assert 0 <= hypergeometric_tail(900, 32491, 1000, 1000) < 1e-300
    assert hypergeometric_tail(31, 32491, 1000, 1000) == pytest.approx(0.51, abs=0.1)  # 30.8 expected


def test_summary_by_hand():
    found = summarise(small())
    assert (found.n_nodes, found.n_edges, found.n_heads, found.n_mlps) == (5, 6, 2, 1)
    assert (found.n_positive, found.n_negative) == (4, 2)
    assert found.edge_share == 6 / 46 and found.node_share == 5 / 8
    assert [dict(row) for row in found.per_layer] == [
        {"layer": 0, "heads": 1, "mlps": 0, "edges_in": 2},
        {"layer": 1, "heads": 1, "mlps": 1, "edges_in": 2},
    ]
    assert dict(found.roles) == {"duplicate token": ("a0.h0",), "name mover": ("a1.h1",)}
    assert found.nodes == (("a1.h1", 3.0), ("a0.h0", 1.75), ("m1", 0.125))
    assert found.edges[0] == ("a1.h1->logits", 3.0)


def test_strongest_paths_by_hand():
    found = strongest_paths(small())
    assert [(p.strength, p.sign) for p in found] == [(1.5, -1), (0.5, -1), (0.125, -1), (0.125, -1)]
    assert str(found[0]) == "input → a0.h0<v> → a1.h1<q> → logits"


def brute(made) -> list[float]:
    """Bottleneck of every path, by walking them all."""
    following: dict[str, list] = {}
    for address, score in made.edges.items():
        edge = parse_edge(address)
        following.setdefault(str(edge.source), []).append((str(edge.target.host), abs(score)))
    for before, after in made.links:
        following.setdefault(before, []).append((after, math.inf))
    found, stack = [], [("input", math.inf)]
    while stack:
        at, width = stack.pop()
        if at == "logits":
            found.append(width)
        stack += [(to, min(width, w)) for to, w in following.get(at, ())]
    return sorted(found, reverse=True)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_strongest_paths_agree_with_all_paths(seed):
    made = scores(GROUPED, seed=seed).top(30)
    assert [p.strength for p in strongest_paths(made, most=8)] == brute(made)[:8]


def test_strongest_paths_stay_quick_in_a_full_graph():
    made = scores(GraphShape(n_layers=6, n_heads=8, n_kv_heads=8)).fraction(1.0)  # about 10^10 paths
    found = strongest_paths(made, most=20)
    assert len(found) == 20 and all(a.strength >= b.strength for a, b in itertools.pairwise(found))


def test_node_level_summary_uses_node_scores():
    made = scores(level="node").top(3)
    found = summarise(made)
    assert found.node_score == "node score" and len(found.nodes) == 3 and found.paths == ()
