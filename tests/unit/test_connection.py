"""A selection that connects nothing: the smallest that does, found by search and by counting up."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.circuits.connection import connection_advice, least_connected, percent
from workbench.circuits.graph import Graph, GraphShape
from workbench.circuits.scores import Scores


def scored(seed: int) -> Scores:
    graph = Graph(GraphShape(n_layers=2, n_heads=2, n_kv_heads=2))
    values = np.random.default_rng(seed).normal(0, 1, graph.edge_mask.shape)
    # the direct edge is last, so that a path needs several edges
    values[graph.source_index[graph.sources[0]], graph.target_index[graph.targets[-1]]] = 1e-6
    return Scores(
        graph=graph,
        values=np.where(graph.edge_mask, values, np.nan),
        level="edge",
        method="m",
        unit="logits",
        metric="logit-difference",
        n_pairs=4,
    )


@pytest.mark.parametrize("select", ["top", "greedy"])
@pytest.mark.parametrize("seed", range(4))
def test_the_least_number_is_the_first_that_connects(seed, select):
    scores = scored(seed)
    keep = scores.greedy if select == "greedy" else scores.top
    first = next(n for n in range(scores.n_candidates + 1) if keep(n).size)
    assert first > 1 and least_connected(scores, select=select) == first
    assert least_connected(scores, select=select, above=first - 1) == first


@pytest.mark.parametrize("by", ["absolute", "signed"])
def test_every_way_that_the_advice_names_gives_a_circuit(by):
    for seed in range(6):
        scores = scored(seed)
        empty = scores.keep("2", by=by)
        if empty.size:
            continue
        advice = connection_advice(scores, empty, by=by)
        share = advice.split("--keep ")[1].split(" ")[0]
        tau = advice.split(">=")[1].split("'")[0]
        assert f"among the 2 of {scores.n_candidates} edges" in advice
        assert scores.keep(share, by=by).size and scores.keep(f">={tau}", by=by).size
        n = least_connected(scores, by=by)
        assert scores.count(float(share.rstrip("%")) / 100) >= n and not scores.top(n - 1, by=by).size


def test_a_circuit_with_edges_needs_no_advice():
    scores = scored(0)
    assert connection_advice(scores, scores.top(scores.n_candidates)) == ""


def test_a_percentage_is_never_rounded_below_what_it_stands_for():
    for of in (82, 479, 32491):
        for n in (1, 2, 3, 7, 41, of - 1, of):
            assert int(float(percent(n, of).rstrip("%")) / 100 * of + 1e-9) >= n
