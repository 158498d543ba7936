"""Selecting a circuit from scores, by hand on six edges of a two-layer model."""

import numpy as np
import pytest

from tests.circuits import GROUPED, POST_NORM, SMALL, TWO, scores
from workbench.circuits.addresses import parse_edge, parse_node
from workbench.circuits.circuit import Circuit
from workbench.circuits.graph import Graph, GraphShape
from workbench.circuits.scores import Scores
from workbench.core.errors import OptionError, ShapeError


def given(edges: dict[str, float]) -> Scores:
    """Scores that are 0 but for these edges."""
    graph = Graph(TWO)
    values = np.where(graph.edge_mask, 0.0, np.nan)
    for address, score in edges.items():
        values[graph.index(parse_edge(address))] = score
    return Scores(
        graph=graph, values=values, level="edge", method="m", unit="logits", metric="x", n_pairs=1
    )  # fmt: skip


def test_top_by_absolute_score_prunes():
    assert given(SMALL).top(6).edges == SMALL
    assert set(given(SMALL).top(4).edges) == {
        "input->a0.h0<q>", "input->a0.h0<v>", "a0.h0->a1.h1<q>", "a1.h1->logits"
    }  # fmt: skip
    assert given(SMALL).top(1, prune=False).edges == {"a1.h1->logits": 3.0}


def test_a_selection_says_how_many_of_the_chosen_were_on_no_path():
    loose = given(SMALL | {"input->m0": 9.0})  # nothing that is chosen reads m0
    found = loose.top(7)
    assert found.edges == SMALL and found.selection["unconnected"] == 1
    assert found.how_chosen == "top 7 by absolute score (1 of them on no path from input to logits, removed)"
    again = found.top(2)  # a1.h1->logits and input->a0.h0<v> do not meet
    assert again.how_chosen.startswith("top 2 by absolute score (2 of them on no path")
    assert loose.top(7, prune=False).how_chosen == "top 7 by absolute score"
    assert given(SMALL).top(6).how_chosen == "top 6 by absolute score"


def test_signed_ranking_leaves_the_negative_out():
    assert set(given(SMALL).top(4, by="signed", prune=False).edges) == {
        "a1.h1->logits", "input->a0.h0<v>", "input->a0.h0<q>", "a0.h0->m1"
    }  # fmt: skip


def test_threshold_keeps_ties():
    assert set(given(SMALL).threshold(0.5, prune=False).edges) == set(SMALL) - {"a0.h0->m1", "m1->logits"}
    assert "a0.h0->a1.h1<q>" not in given(SMALL).threshold(0.5, by="signed", prune=False).edges


def test_fraction_counts_like_mib():
    # 46 edges: 10 % is int(4.6) = 4
    assert given(SMALL).fraction(0.10, prune=False).n_edges == 4
    hundred = given(SMALL)
    assert hundred.fraction(0.0).n_edges == 0 and hundred.fraction(1.0, prune=False).n_edges == 46


def test_greedy_grows_from_the_logits():
    # from logits only m1 and a1.h1 write with a score; 3.0 first opens a1.h1, whose q hears a0.h0 (-1.5), ...
    assert list(given(SMALL).greedy(3).edges.values()) == [2.0, -1.5, 3.0]
    assert set(given(SMALL).greedy(4).edges) == set(SMALL) - {"a0.h0->m1", "m1->logits"}


def test_greedy_passes_through_groups_and_post_norm_layers():
    for shape in (GROUPED, POST_NORM):
        made = scores(shape)
        grown = made.greedy(12)
        assert 0 < grown.n_edges <= 12 and grown.prune().edges == grown.edges


def test_greedy_stays_quick_on_large_grouped_models():
    made = scores(GraphShape(n_layers=24, n_heads=16, n_kv_heads=4))
    assert made.greedy(20, by="signed").n_edges <= 20


def test_greedy_of_everything_is_everything():
    made = scores(GROUPED)
    assert made.greedy(made.n_candidates).edges == made.fraction(1.0).edges


def test_keep_reads_counts_shares_and_thresholds():
    made = given(SMALL)
    assert made.keep("6").edges == made.top(6).edges
    assert made.keep("10%", prune=False).n_edges == 4
    assert made.keep(">=0.5").edges == made.threshold(0.5).edges
    assert made.keep(" >= 5e-1 ").edges == made.threshold(0.5).edges
    for wrong in ("", "six", "-3", "5.5", "101%", "%", ">=", "nan", ">=inf"):
        with pytest.raises(OptionError):
            made.keep(wrong)


def test_the_ranking_is_stable_and_complete():
    made = given({})
    assert made.ranked() == [made.graph.index(e) for e in made.graph.edges()]  # all tie: residual order


@pytest.mark.parametrize("n", [-1, 47])
def test_impossible_counts_are_refused(n):
    with pytest.raises(OptionError, match="cannot keep"):
        given(SMALL).top(n)


def test_scores_must_fit_and_be_finite():
    good = given(SMALL)
    with pytest.raises(ShapeError, match="shape"):
        Scores(
            graph=good.graph, values=np.zeros((2, 2)), level="edge", method="m", unit="", metric="", n_pairs=1
        )
    values = good.values.copy()
    values[0, 0] = np.nan
    with pytest.raises(ShapeError, match="1 edge scores"):
        Scores(graph=good.graph, values=values, level="edge", method="m", unit="", metric="", n_pairs=1)


def test_heads_by_layer_sum_what_they_send():
    table = given(SMALL).by_layer_and_head()
    assert table.tolist() == [[-1.25, 0.0], [0.0, 3.0]]  # a0.h0: -1.5 + 0.25


def test_node_scores_select_nodes_and_never_count_the_input():
    made = scores(TWO, level="node")
    assert made.n_candidates == 6
    whole = made.fraction(1.0)
    assert whole.size == 6 and whole.n_nodes == 8 and whole.level == "node"


def test_dataframe_is_sorted_by_strength():
    frame = given(SMALL).to_dataframe()
    assert frame.edge[0] == "a1.h1->logits" and frame.score[2] == -1.5 and len(frame) == 46


def test_positions_have_scores_of_their_own():
    graph = Graph(GraphShape(n_layers=1, n_heads=1, n_kv_heads=1))
    values = np.zeros((2, *graph.edge_mask.shape))
    values[:, ~graph.edge_mask] = np.nan
    head, value = graph.source_index[parse_node("a0.h0")], graph.target_index[parse_node("a0.h0<v>")]
    logits = graph.target_index[parse_node("logits")]
    values[0, 0, value], values[1, head, logits], values[1, head, graph.target_index[parse_node("m0")]] = (
        3,
        -2,
        1,
    )
    scores = Scores(
        graph=graph, values=values, level="edge", method="x", unit="logits", metric="m", n_pairs=1,
        positions=("S2", "end"),
    )  # fmt: skip
    assert scores.n_candidates == 2 * graph.n_edges
    # the value read at S2 is written at end: connected across positions; m0@end leads nowhere
    assert scores.top(3).edges == {"input@S2->a0.h0<v>@S2": 3.0, "a0.h0@end->logits@end": -2.0}
    assert scores.by_layer_and_head()[0, 0] == -1.0  # -2 + 1
    assert scores.to_dataframe()["edge"][0] == "input@S2->a0.h0<v>@S2"
    with pytest.raises(OptionError, match="per position"):
        scores.greedy(2)


def test_a_query_at_one_position_is_not_written_at_another():
    graph = Graph(GraphShape(n_layers=1, n_heads=1, n_kv_heads=1))
    edges = {"input@S2->a0.h0<q>@S2": 1.0, "a0.h0@end->logits@end": 1.0}
    parsed = {(parse_edge(e).source, parse_edge(e).target): s for e, s in edges.items()}
    assert Circuit.build(shape=graph.shape, nodes={}, edges=parsed).prune().n_edges == 0


def test_neurons_are_chosen_where_there_are_mlps():
    graph = Graph(GraphShape(n_layers=2, n_heads=1, n_kv_heads=1, mlp_layers=(1,)))
    values = np.full((2, 3), np.nan)
    values[1] = 1.0, -3.0, 2.0
    scores = Scores(
        graph=graph, values=values, level="neuron", method="x", unit="logits", metric="m", n_pairs=1
    )
    assert scores.n_candidates == 3
    assert list(scores.top(2).nodes) == ["input", "m1.n1", "m1.n2", "logits"]
    assert scores.top(2, by="signed").size == 2 and "m1.n1" not in scores.top(2, by="signed")


def test_a_method_may_decide_itself():
    graph = Graph(GraphShape(n_layers=1, n_heads=1, n_kv_heads=1))
    fields = {"graph": graph, "level": "node", "method": "x", "unit": "mask", "metric": "m", "n_pairs": 1}
    scores = Scores(values=np.array([0.0, 0.7, -0.9]), own_rule=">=0.5", **fields)
    assert scores.keep("own").nodes.keys() == {"input", "a0.h0", "logits"}
    with pytest.raises(OptionError, match="ranks and does not decide"):
        Scores(values=np.zeros(3), **fields).keep("own")
