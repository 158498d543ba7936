"""The computation graph of an architecture, counted by hand and by an independent formula."""

from dataclasses import replace

import pytest

from workbench.circuits.addresses import parse_edge
from workbench.circuits.graph import Graph, GraphShape
from workbench.core.errors import CircuitError


def by_loop(shape: GraphShape) -> int:
    """Edges counted one layer at a time: readers times what was written before them."""
    written, edges = 1, 0
    for layer in range(shape.n_layers):
        heads = (shape.n_heads if shape.head_writes else 1) if shape.has_attention(layer) else 0
        if shape.has_attention(layer):
            edges += (shape.n_heads + 2 * shape.n_kv_heads) * written
        if shape.has_mlp(layer):
            edges += written + (0 if shape.parallel else heads)
        written += heads + shape.has_mlp(layer)
    return edges + written


SHAPES = {
    "gpt2": GraphShape(n_layers=12, n_heads=12, n_kv_heads=12),
    "parallel": GraphShape(n_layers=3, n_heads=4, n_kv_heads=4, parallel=True),
    "grouped": GraphShape(n_layers=4, n_heads=8, n_kv_heads=2),
    "post-norm": GraphShape(n_layers=3, n_heads=4, n_kv_heads=2, head_writes=False),
    "attention only": GraphShape(n_layers=2, n_heads=3, n_kv_heads=3, mlp_layers=()),
    "some without attention": GraphShape(n_layers=4, n_heads=2, n_kv_heads=2, attention_layers=(1, 3)),
    "no attention": GraphShape(n_layers=2, n_heads=0, n_kv_heads=0),
}


@pytest.mark.parametrize("name", SHAPES)
def test_edges_are_counted_as_by_a_plain_loop(name):
    graph = Graph(SHAPES[name])
    assert graph.n_edges == by_loop(SHAPES[name]) == len(list(graph.edges())) == graph.edge_mask.sum()


def test_gpt2_has_the_published_number_of_edges():
    assert Graph(SHAPES["gpt2"]).n_edges == 32491  # ACDC, arXiv:2304.14997


def test_one_layer_by_hand():
    graph = Graph(GraphShape(n_layers=1, n_heads=1, n_kv_heads=1))
    assert [str(e) for e in graph.edges()] == [
        "input->a0.h0<q>", "input->a0.h0<k>", "input->a0.h0<v>", "input->m0", "input->logits",
        "a0.h0->m0", "a0.h0->logits", "m0->logits",
    ]  # fmt: skip


def test_parallel_mlp_does_not_read_its_own_heads():
    graph = Graph(SHAPES["parallel"])
    with pytest.raises(CircuitError, match="no cycles"):
        graph.index(parse_edge("a1.h0->m1"))
    assert graph.index(parse_edge("a0.h0->m1"))


@pytest.mark.parametrize("edge", ["m1->a1.h0<q>", "a1.h0->a1.h1<k>", "m0->m0", "a1.h0->a0.h0<v>"])
def test_no_edge_points_backwards(edge):
    with pytest.raises(CircuitError, match="no cycles"):
        Graph(GraphShape(n_layers=2, n_heads=2, n_kv_heads=2)).index(parse_edge(edge))


def test_unknown_ends_are_named_with_the_closest():
    graph = Graph(GraphShape(n_layers=2, n_heads=2, n_kv_heads=2))
    with pytest.raises(CircuitError, match=r"no source called 'a1.h7'") as caught:
        graph.index(parse_edge("a1.h7->logits"))
    assert "a1.h" in caught.value.hint
    with pytest.raises(CircuitError, match="no target"):
        graph.index(parse_edge("input->a1.h0"))  # a head reads through q, k or v


def test_groups_are_linked_to_their_heads():
    links = {(str(a), str(b)) for a, b in Graph(GraphShape(n_layers=1, n_heads=4, n_kv_heads=2)).links}
    assert links == {("a0.g0", "a0.h0"), ("a0.g0", "a0.h1"), ("a0.g1", "a0.h2"), ("a0.g1", "a0.h3")}


def test_post_norm_heads_are_linked_to_their_layer():
    shape = GraphShape(n_layers=1, n_heads=2, n_kv_heads=2, head_writes=False)
    assert {(str(a), str(b)) for a, b in Graph(shape).links} == {("a0.h0", "a0"), ("a0.h1", "a0")}
    assert [str(s) for s in Graph(shape).sources] == ["input", "a0", "m0"]


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_is_written_and_read_back(name):
    assert GraphShape.from_dict(SHAPES[name].to_dict()) == SHAPES[name]


@pytest.mark.parametrize(
    "wrong",
    [{"n_layers": 0}, {"n_layers": True}, {"n_layers": 2.0}, {"n_heads": -1}, {"n_kv_heads": 3}, {"n_kv_heads": 0},
     {"parallel": 1}, {"mlp_layers": (1, 0)}, {"mlp_layers": (2,)}, {"attention_layers": (True,)},
     {"n_layers": 10**9}, {"n_heads": 10**6, "n_kv_heads": 10**6}],
)  # fmt: skip
def test_impossible_shapes_are_refused(wrong):
    with pytest.raises(CircuitError):
        GraphShape(**({"n_layers": 2, "n_heads": 4, "n_kv_heads": 2} | wrong))


def test_shape_keys_are_strict():
    good = GraphShape(n_layers=1, n_heads=1, n_kv_heads=1).to_dict()
    with pytest.raises(CircuitError, match="unknown key 'n_headz'"):
        GraphShape.from_dict(good | {"n_headz": 3})
    del good["n_heads"]
    with pytest.raises(CircuitError, match="lacks 'n_heads'"):
        GraphShape.from_dict(good)


def test_two_towers_that_meet_share_logits_and_no_other_reader():
    """By hand: one layer of two heads with an MLP beside two such layers; 13 and 46 edges, as each alone."""
    two, one = (GraphShape(n_layers=n, n_heads=2, n_kv_heads=2) for n in (2, 1))
    graph = Graph(replace(one, tower=two, meets=True))
    assert graph.n_edges == 46 + 13 == len(list(graph.edges()))
    assert [str(root) for root in graph.roots] == ["vision:embed", "text:embed"]
    assert graph.steps == (
        *((layer, tuple(range(7 * layer, 7 * layer + 7))) for layer in range(3)),
        (2, (21,)),
    )
    for edge in graph.edges():
        assert edge.target.kind == "logits" or edge.source.tower == edge.target.tower
    assert GraphShape.from_dict(graph.shape.to_dict()) == graph.shape
    with pytest.raises(CircuitError, match="no tower that it could meet"):
        replace(one, meets=True)
