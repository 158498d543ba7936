"""Circuits: what they hold, how they are pruned, and that no operation changes the one it starts from."""

import subprocess
import sys

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.circuits import GROUPED, POST_NORM, SMALL, TWO, circuit, scores, small
from workbench.circuits.addresses import INPUT, LOGITS, head, parse_edge, parse_node
from workbench.circuits.circuit import Circuit
from workbench.core.errors import CircuitError, NameFormatError, OptionError


def test_edges_and_nodes_in_residual_order():
    shuffled = dict(reversed(SMALL.items()))
    made = circuit(shuffled)
    assert list(made.edges) == list(SMALL)
    assert list(made.nodes) == ["input", "a0.h0", "a1.h1", "m1", "logits"]
    assert made.heads == ("a0.h0", "a1.h1") and made.n_edges == 6 == made.size == len(made)


def test_order_of_all_edges_is_that_of_the_graph():
    made = scores(GROUPED).fraction(1.0)
    assert list(made.edges) == [str(e) for e in made.graph.edges()]


def test_prune_drops_dead_ends_again_and_again():
    # m0 leads only to a1.h0, which leads nowhere; a1.h1 hears only a0.h1, which hears nothing
    dead = {"input->m0": 1.0, "m0->a1.h0<q>": 1.0, "a0.h1->a1.h1<k>": 9.0}
    assert circuit(SMALL | dead).prune().edges == SMALL


def test_pruning_what_does_not_connect_leaves_nothing():
    assert circuit({"input->m0": 1.0, "m1->logits": 1.0}).prune().n_nodes == 0
    assert circuit({}).prune().size == 0


def test_top_keeps_the_largest_and_prunes():
    # the 4 largest: 3.0, 2.0, -1.5, 0.5; all are connected
    assert set(small().top(4).edges) == {
        "a1.h1->logits", "input->a0.h0<v>", "a0.h0->a1.h1<q>", "input->a0.h0<q>"
    }  # fmt: skip
    assert small().top(2).n_edges == 0  # a1.h1->logits and input->a0.h0<v> do not meet
    # signed: 3.0, 2.0, 0.5, 0.25 ; a1.h1 then hears nothing and m1 says nothing
    assert small().top(4, by="signed").n_edges == 0
    with pytest.raises(OptionError):
        small().top(-1)


def test_the_best_of_a_choice_say_so_where_they_are_not_the_best_of_all_scores():
    whole = scores(seed=3)
    assert not whole.top(40).selection["unconnected"]
    assert whole.top(40).top(30).selection["rule"] == "top 30 by absolute score"
    assert whole.top(40).top(30).edges == whole.top(30).edges
    signed = whole.top(40, by="signed").top(9)
    assert signed.selection["rule"] == "top 9 by absolute score, of those chosen by: top 40 by signed score"


def test_operations_leave_the_circuit_as_it_was():
    made = small()
    before = made.to_dict()
    (
        made.top(3),
        made.without("m1"),
        made.with_roles({"m1": "x"}),
        made.prune(),
        made.with_fields(task="other"),
    )
    assert made.to_dict() == before
    with pytest.raises(nx.NetworkXError):
        made.network.add_node("a0.h1")


def test_without_a_node_takes_its_edges_and_nothing_else():
    left = small().without("m1")
    assert set(SMALL) - set(left.edges) == {"a0.h0->m1", "m1->logits"}
    assert small().without("a0.h0->m1").n_edges == 5
    assert "m1" in small().without("a0.h0->m1").nodes
    with pytest.raises(CircuitError, match=r"a0\.h1"):
        small().without("a0.h1")


def test_membership_is_by_address():
    assert (
        "a0.h0" in small() and "a0.h0->m1" in small() and "a0.h1" not in small() and "m1->m1" not in small()
    )


def test_two_positions_only_through_keys_and_values():
    assert circuit({"a0.h0@S1->a1.h1<k>@end": 1.0, "a0.h0@S1->a1.h1<v>@end": 2.0}).n_edges == 2
    with pytest.raises(CircuitError, match="two positions"):
        circuit({"a0.h0@S1->a1.h1<q>@end": 1.0})
    with pytest.raises(CircuitError, match="both or neither"):
        circuit({"a0.h0->a1.h1<q>@end": 1.0})


def test_pruning_goes_by_position():
    path = {"input@2->a0.h0<v>@4": 1.0, "a0.h0@4->logits@4": 1.0}
    stray = {"a0.h0@3->logits@3": 5.0}  # a0.h0 at 3 hears nothing
    assert circuit(path | stray).prune().edges == path


def test_groups_reach_their_heads_and_count_for_nothing():
    path = {"input->a0.g1<k>": 1.0, "a0.h2->logits": 2.0}
    made = circuit(path, GROUPED)
    assert made.prune().edges == path and made.n_nodes == 3
    assert made.links == (("a0.g1", "a0.h2"),)
    assert made.network.number_of_nodes() == 4 and made.network.has_edge("a0.g1", "a0.h2", key="link")
    # group 0 feeds heads 0 and 1 only
    assert circuit({"input->a0.g0<k>": 1.0, "a0.h2->logits": 2.0}, GROUPED).prune().n_edges == 0


def test_post_norm_heads_pass_their_reading_to_the_layer():
    path = {"input->a0.h1<q>": 1.0, "a0->logits": 2.0}
    made = circuit(path, POST_NORM).prune()
    assert made.edges == path and made.links == (("a0.h1", "a0"),)
    shared = {"input->a0.g0<v>": 1.0, "a0->logits": 2.0}
    made = circuit(shared, POST_NORM).prune()
    assert made.edges == shared
    assert set(made.links) == {("a0.g0", "a0.h0"), ("a0.g0", "a0.h1"), ("a0.h0", "a0"), ("a0.h1", "a0")}
    assert made.top(2).edges == shared


def test_node_level_circuits_have_the_chosen_nodes_only():
    made = scores(POST_NORM, level="node").top(2)
    assert made.level == "node" and made.size == 2 and made.n_nodes == 4 and made.n_edges == 0
    assert {"input", "logits"} < set(made.nodes)


def test_networkx_graph_has_the_attributes():
    net = small().network
    assert isinstance(net, nx.MultiDiGraph) and nx.is_frozen(net) and nx.is_directed_acyclic_graph(net)
    assert net.nodes["a1.h1"] == {
        "kind": "head", "layer": 1, "head": 1, "position": None, "score": None, "role": "name mover"
    }  # fmt: skip
    assert (
        net.edges["input", "a0.h0", "v"]["score"] == 2.0
        and net.edges["m1", "logits", "in"]["score"] == -0.125
    )


@pytest.mark.parametrize(
    ("nodes", "edges"),
    [
        ({head(5, 0): 1.0}, {}),
        ({}, {(head(0, 0), head(0, 1, "q")): 1.0}),
        ({}, {(INPUT, LOGITS): float("nan")}),
        ({head(0, 0): float("inf")}, {}),
        ({head(0, 0).at("a b"): 1.0}, {}),
    ],
)
def test_what_the_architecture_has_not_is_refused(nodes, edges):
    with pytest.raises((CircuitError, NameFormatError)):
        Circuit.build(shape=TWO, nodes=nodes, edges=edges)


def test_unknown_roles_and_fields_are_refused():
    with pytest.raises(CircuitError, match=r"a0.h1"):
        small().with_roles({"a0.h1": "x"})
    with pytest.raises(OptionError, match="tusk"):
        small().with_fields(tusk="ioi")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 60))
def test_prune_agrees_with_paths_of_networkx(seed, n):
    made = scores(GROUPED, seed=seed).top(min(n, 90), prune=False)
    pruned = made.prune()
    net = nx.DiGraph(made.network)
    net.add_nodes_from(("input", "logits"))
    alive = (nx.descendants(net, "input") | {"input"}) & (nx.ancestors(net, "logits") | {"logits"})
    expected = {
        a
        for a in made.edges
        if str(parse_edge(a).source) in alive and str(parse_edge(a).target.host) in alive
    }
    assert set(pruned.edges) == expected
    assert pruned.prune().edges == pruned.edges


def test_repr_is_one_line_with_the_size():
    assert repr(small()) == "<Circuit eap-ig on ioi in zoo:ioi: 5 nodes, 6 edges of 46>"


def test_a_notebook_shows_a_static_picture():
    html = small()._repr_html_()
    assert (
        "<svg" in html
        and "<script" not in html
        and "a1.h1" in html
        and "http://" not in html.replace("http://www.w3.org/2000/svg", "")
    )


def test_looking_at_circuits_never_imports_torch():
    code = (
        "import sys, workbench.circuits.circuit, workbench.circuits.scores, workbench.circuits.files\n"
        "import workbench.circuits.compare, workbench.circuits.summary\n"
        "import workbench.view.heatmap, workbench.circuits.show.circuit_page, workbench.view.terminal\n"
        "heavy = {'torch', 'transformers', 'transformer_lens', 'pandas', 'matplotlib', 'scipy', 'networkx'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_parse_node_is_the_address_of_every_node():
    assert all(str(parse_node(a)) == a for a in scores(POST_NORM).top(40).all_nodes)
