"""Rules of selection: worked examples, and integer programming against every circuit that there is."""

from itertools import combinations

import numpy as np
import pytest

from tests.circuits import GROUPED, POST_NORM, TWO, scores
from workbench.circuits.addresses import parse_edge
from workbench.circuits.graph import Graph, GraphShape
from workbench.circuits.scores import Scores, check_rule
from workbench.circuits.selection.rules import RULES, asked, rule, said
from workbench.core.errors import OptionError
from workbench.methods.registry import get_method

MLPS = GraphShape(n_layers=2, n_heads=0, n_kv_heads=0)


def given(shape: GraphShape, edges: dict[str, float]) -> Scores:
    """Scores that are 0 but for these edges."""
    graph = Graph(shape)
    values = np.where(graph.edge_mask, 0.0, np.nan)
    for address, score in edges.items():
        values[graph.index(parse_edge(address))] = score
    return Scores(
        graph=graph, values=values, level="edge", method="m", unit="logits", metric="x", n_pairs=1
    )  # fmt: skip


@pytest.mark.parametrize(("share", "order"), [(0.5, "acbd"), (0.75, "aceb"), (1, "acef")])
def test_the_positive_negative_ratio_as_worked_by_hand(share, order):
    names = dict(zip("abcdef", ["m0->m1", "input->m0", "input->m1", "m0->logits", "m1->logits", "input->logits"],
                     strict=True))  # fmt: skip
    values = dict(zip("abcdef", [5, -4, 3, -2, 1, -0.5], strict=True))
    made = given(MLPS, {names[x]: values[x] for x in "abcdef"})
    kept = asked(f"pnr:{share}")(made, 4, "absolute")
    assert [made.address(i) for i in kept] == [names[x] for x in order]


def test_the_integer_program_looks_past_the_best_edge():
    made = given(MLPS, {"input->m0": 1, "m0->logits": 1, "input->m1": 10, "m1->logits": 0.5})
    best, grown = made.choose(2, select="ilp"), made.choose(2, select="greedy")
    assert set(best.edges) == {"input->m1", "m1->logits"} and sum(best.edges.values()) == 10.5
    assert set(grown.edges) == {"input->m0", "m0->logits"}
    assert best.selection["rule"] == "ilp 2 by absolute score" and not best.selection.get("unconnected")


def connected_sets(made: Scores, n: int):
    """Every set of at most n edges in which each is on a path from input to logits."""
    every = [made.graph.index(e) for e in made.graph.edges()]
    for k in range(1, n + 1):
        for chosen in combinations(every, k):
            circuit = made._circuit(list(chosen), "by hand", nominal=k, prune=True)
            if circuit.size == k:
                yield chosen


@pytest.mark.parametrize("by", ["absolute", "signed"])
@pytest.mark.parametrize("seed", range(3))
def test_no_connected_circuit_sums_to_more(seed, by):
    graph = Graph(GraphShape(n_layers=1, n_heads=2, n_kv_heads=1))
    drawn = np.random.default_rng(seed).normal(size=graph.edge_mask.shape)
    made = Scores(graph=graph, values=np.where(graph.edge_mask, drawn, np.nan), level="edge", method="m",
                  unit="logits", metric="x", n_pairs=1)  # fmt: skip

    def gain(chosen):
        found = [made.values[i] for i in chosen]
        return sum(map(abs, found)) if by == "absolute" else sum(found)

    most = max(map(gain, connected_sets(made, 4)))
    kept = made.choose(4, by=by, select="ilp")
    assert kept.size == kept.selection["nominal"] <= 4
    assert sum(map(abs, kept.edges.values()) if by == "absolute" else kept.edges.values()) == pytest.approx(
        most
    )


@pytest.mark.parametrize("shape", [TWO, GROUPED, POST_NORM])
@pytest.mark.parametrize("n", [3, 9])
def test_an_integer_program_leaves_nothing_to_prune_and_beats_greedy(shape, n):
    made = scores(shape)
    best, grown = made.choose(n, select="ilp"), made.choose(n, select="greedy")
    assert best.size == best.selection["nominal"]
    assert sum(map(abs, best.edges.values())) >= sum(map(abs, grown.edges.values())) - 1e-9


def test_what_cannot_be_chosen_is_refused_with_what_can():
    made = scores(TWO)
    for wrong, says in (
        ("pmr", "pnr"),
        ("pnr:1.5", "0 to 1"),
        ("top:0.5", "no share"),
        ("pnr:", "rules:"),
        ("", "rules:"),
    ):
        with pytest.raises(OptionError) as caught:
            made.choose(3, select=wrong)
        assert says in f"{caught.value} {caught.value.hint}"
    with pytest.raises(OptionError, match="number or a share"):
        check_rule(">=0.1", select="ilp")
    with pytest.raises(OptionError, match="follows edges"):
        check_rule("5%", select="ilp", level="node")
    assert made.choose(0, select="ilp").size == 0
    assert made.choose(1, select="ilp", by="signed").size <= 1


def test_what_a_rule_would_ignore_is_refused():
    made = scores(TWO)
    with pytest.raises(OptionError, match="order of its own"):
        made.choose(9, select="pnr", by="signed")
    with pytest.raises(OptionError, match="order of its own"):
        get_method("eap").choice("20", signed=True, greedy=None, select="pnr")
    assert get_method("acdc").choice("20", signed=None, greedy=None, select="pnr:0.6").by == "absolute"
    with pytest.raises(OptionError, match="two rules"):
        made.keep(9, greedy=True, select="ilp")


@pytest.mark.parametrize("share", [0.0, 1e-05, 0.123456789, 0.7, 1])
def test_a_share_is_written_as_it_is_read(share):
    circuit = scores(TWO).choose(9, select=f"pnr:{share!r}")
    how, n, by = said(circuit.selection["rule"])
    assert asked(how).share == share and scores(TWO).choose(n, select=how, by=by).edges == circuit.edges


def test_a_rule_of_somebody_else_is_chosen_by_its_name():
    @rule("my_rule2")
    def last(scores, n, by, share):
        """The worst parts."""
        return scores.ranked(by)[::-1][:n]

    try:
        made = scores(TWO)
        assert made.choose(3, select="my_rule2", prune=False).edges.keys() <= {
            made.address(i) for i in made.ranked()[-3:]
        }
        assert said("my_rule2 3 by absolute score") == ("my_rule2", 3, "absolute")
    finally:
        RULES.remove("my_rule2")


def test_every_rule_says_how_it_chose_and_is_read_back():
    made = scores(TWO)
    for name in RULES:
        circuit = made.choose(9, select=name)
        assert said(circuit.selection["rule"]) == (str(asked(name)), 9, "absolute")
        assert circuit.edges == made.keep("9", select=name).edges
