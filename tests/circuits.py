"""Small circuits for the tests of circuits, files and views, made by hand or from seeded scores."""

from __future__ import annotations

import numpy as np

from workbench.circuits.addresses import parse_edge, parse_node
from workbench.circuits.circuit import Circuit
from workbench.circuits.details import (
    DetailsContent,
    EdgeDetail,
    EdgeReason,
    HeadDetail,
    ShownPrompt,
    Term,
    Terms,
    WrittenTokens,
    pattern_text,
)
from workbench.circuits.graph import Graph, GraphShape
from workbench.circuits.scores import Scores
from workbench.circuits.verdicts.judgement import circuit_digest

TWO = GraphShape(n_layers=2, n_heads=2, n_kv_heads=2)
GROUPED = GraphShape(n_layers=2, n_heads=4, n_kv_heads=2)
POST_NORM = GraphShape(n_layers=2, n_heads=4, n_kv_heads=2, head_writes=False)
HOSTILE = (
    "<script>alert(1)</script>",
    "</script><!--",
    "say \"hi\" & 'bye'",
    "\x1b[31mred\x07\x00",
    "\u202eevil\u2066",
    "[bold]markup[/bold]",
    "=cmd|' /C calc'!A0",
    "a\nb\r\n\u2028\u2029\x85c",
    '\\"; DROP',
    "]]>",
    "\ud800",
    "\ufffe\uffff",
)


def circuit(edges: dict[str, float], shape: GraphShape = TWO, **fields) -> Circuit:
    """A circuit from edge addresses, not pruned."""
    parsed = {address: parse_edge(address) for address in edges}
    wires = {(edge.source, edge.target): edges[a] for a, edge in parsed.items()}
    nodes = {parse_node(a): s for a, s in fields.pop("nodes", {}).items()}
    return Circuit.build(shape=shape, nodes=nodes, edges=wires, **fields)


# input feeds a0.h0, which the query of a1.h1 and the MLP of layer 1 read; both write to the logits
SMALL = {
    "input->a0.h0<q>": 0.5,
    "input->a0.h0<v>": 2.0,
    "a0.h0->a1.h1<q>": -1.5,
    "a0.h0->m1": 0.25,
    "a1.h1->logits": 3.0,
    "m1->logits": -0.125,
}


def small(**fields) -> Circuit:
    """Six edges, five nodes and both ends, two heads with roles."""
    known = {
        "task": "ioi",
        "model": "zoo:ioi",
        "method": "eap-ig",
        "metric": "logit-difference",
        "unit": "logits",
        "prompt": ("When", " Mary", " and"),
        "selection": {"rule": "top 6", "nominal": 6, "candidates": 33},
        "evaluation": {"faithfulness": 0.75, "n_pairs": 100},
        "provenance": {"seed": 0},
        "roles": {"a1.h1": "name mover", "a0.h0": "duplicate token"},
    }
    return circuit(SMALL, **(known | fields))


def scores(shape: GraphShape = TWO, *, seed: int = 0, level: str = "edge") -> Scores:
    """Scores drawn from a seed, for a graph of that shape."""
    graph, rng = Graph(shape), np.random.default_rng(seed)
    size = graph.edge_mask.shape if level == "edge" else (len(graph.sources),)
    values = rng.normal(size=size)
    if level == "edge":
        values = np.where(graph.edge_mask, values, np.nan)
    return Scores(
        graph=graph,
        values=values,
        level=level,
        method="eap",
        unit="logits",
        metric="logit-difference",
        n_pairs=8,
    )


def hostile() -> Circuit:
    """A circuit in which every text is hostile."""
    text = " ".join(HOSTILE)
    return small(
        task=text, model=text, method=text, metric=text, unit=text, prompt=HOSTILE,
        roles={"a1.h1": text, "a0.h0": HOSTILE[6]}, selection={"rule": text}, evaluation={text: text},
    )  # fmt: skip


def details(circuit: Circuit, *, tokens=("When", " Mary"), word: str = "x") -> DetailsContent:
    """Details made by hand for the first head and the first two edges of a circuit; ``word`` stands in every text."""
    head = circuit.heads[0]
    pattern = pattern_text(np.array([[255, 0], [51, 204]], dtype=np.uint8), causal=True)
    terms = Terms(
        title=f"who writes the query {word}", sums_to="the score", unit="attention score", total=2.0, of=9,
        terms=[Term(term="m0", mean=1.5, share=0.75), Term(term="-3", mean=0.5, share=0.25)],
    )  # fmt: skip
    reason = EdgeReason(read="q", n_pairs=8, places=[{"query": word, "pairs": 8}], rankings=[terms],
                        facts={"attention to the key": 0.5, word: word})  # fmt: skip
    first, second, *_ = circuit.edges
    return DetailsContent(
        circuit=circuit_digest(circuit), model="zoo:ioi", task="ioi", metric="logit-difference", unit="logits",
        ablation="resample", n_pairs=8, notes=[word], provenance={},
        prompts=[
            ShownPrompt(title=f"pair {i} {word}", tokens=list(tokens), read_at=1, causal=True, patterns={head: pattern},
                        writes={head: WrittenTokens(raised=[(word, 2.5)], lowered=[(" John", -1.0)])})
            for i in range(2)
        ],
        heads={head: HeadDetail(effect=1.25, low=1.0, high=1.5, direct=0.5, direct_stderr=0.1, looks={word: 0.9},
                                carries=word)},
        edges={first: EdgeDetail(exact=0.75, reason=reason), second: EdgeDetail(exact=None, why_not=word)},
    )  # fmt: skip
