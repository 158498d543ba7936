"""Exports: each foreign format read back by its own reader, with hostile text in every field."""

import csv
import io
import json
import re
import xml.etree.ElementTree as ET
from importlib.resources import files

import jsonschema
import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.circuits import GROUPED, HOSTILE, POST_NORM, SMALL, TWO, circuit, hostile, scores, small
from workbench.circuits.files import FORMATS, export, from_eap_ig, load_circuit, scores_from_eap_ig
from workbench.circuits.files.csv_text import inert
from workbench.circuits.files.dot import quoted
from workbench.circuits.files.eap_ig import to_eap_ig
from workbench.circuits.files.importers import import_circuit
from workbench.circuits.files.mermaid import escaped
from workbench.circuits.graph import GraphShape
from workbench.core.errors import CircuitError, OptionError

NEURONPEDIA = json.loads(
    (files("workbench.circuits.files") / "schema" / "neuronpedia.schema.json").read_text()
)
READABLE = [name for name in FORMATS if name not in ("svg", "html")]


def read_graphml(text):
    return nx.read_graphml(io.BytesIO(text.encode()), force_multigraph=True)


def test_graphml_is_read_by_networkx():
    net = read_graphml(export(small(), "graphml"))
    assert set(net) == set(small().nodes) and net.is_directed()
    assert net.nodes["a1.h1"] == {"kind": "head", "layer": 1, "head": 1, "role": "name mover"}
    assert {key: data["score"] for *_, key, data in net.edges(keys=True, data=True)} == SMALL
    assert net.graph["task"] == "ioi" and net.nodes["logits"]["layer"] == 2


def test_gexf_is_read_by_networkx():
    net = nx.read_gexf(io.BytesIO(export(small(), "gexf").encode()))
    assert set(net) == set(small().nodes)
    found = {(s, t, d["input"]): (d["score"], d["weight"]) for s, t, d in net.edges(data=True)}
    assert found["a0.h0", "a1.h1", "q"] == (-1.5, 1.5) and len(found) == 6


def test_cytoscape_json_is_read_by_networkx():
    data = json.loads(export(small(), "cytoscape"))
    net = nx.cytoscape_graph(data)
    assert set(net) == set(small().nodes) and net.number_of_edges() == 6
    assert all({"x", "y"} == set(node["position"]) for node in data["elements"]["nodes"])


def test_csv_has_a_line_per_edge():
    rows = list(csv.DictReader(io.StringIO(export(small(), "csv"))))
    assert len(rows) == 6
    assert rows[2] == {
        "source": "a0.h0", "target": "a1.h1", "input": "q", "score": "-1.5", "unit": "logits",
        "source_role": "duplicate token", "target_role": "name mover",
    }  # fmt: skip
    nodes = list(csv.DictReader(io.StringIO(export(scores(level="node").top(2), "csv"))))
    assert len(nodes) == 4 and all(row["target"] == "" for row in nodes)


def test_dot_tells_sign_by_dashes_and_ranks_by_layer():
    text = export(small(), "dot")
    assert text.count(" -> ") == 6 and text.count("style=dashed") == 2  # two negative edges
    assert '"a0.h0" -> "a1.h1" [style=dashed, color="#cd631a"' in text
    assert text.count("rank=same") == 5  # input, layer 0, layer 1, its MLP, logits


def test_mermaid_tells_sign_by_dots():
    lines = export(small(), "mermaid").splitlines()
    assert lines[1] == "flowchart BT"
    assert sum("-.->" in line for line in lines) == 2 and sum("-->" in line for line in lines) == 4
    many = scores(GraphShape(n_layers=4, n_heads=8, n_kv_heads=8)).fraction(1.0)
    assert "maxEdges" in export(many, "mermaid").splitlines()[1]


@pytest.mark.parametrize("name", READABLE)
def test_every_format_holds_hostile_text(name):
    text = export(hostile(), name)
    text.encode("utf-8")
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x85\u2028\u202e\ufffe]", text)
    if name in ("graphml", "gexf"):
        root = ET.fromstring(text)
        shown = [e.text or e.get("value") for e in root.iter()]
        assert any("<script>alert(1)</script>" in (t or "") and "\\x1b" in (t or "") for t in shown)
    if name in ("cytoscape", "neuronpedia", "eap-ig", "json"):
        json.loads(text)


def test_csv_roles_run_no_formula():
    rows = list(csv.DictReader(io.StringIO(export(hostile(), "csv"))))
    assert {row["source_role"] for row in rows} >= {"'" + HOSTILE[6]}
    assert (
        inert("-1+1") == "'-1+1"
        and inert("-1") == "-1"
        and inert("@x") == "'@x"
        and inert("mover") == "mover"
    )


@settings(deadline=None)
@given(st.text())
def test_dot_strings_end_where_they_should(text):
    """The text between the quotes, with escapes undone, is the text."""
    shown = quoted(text)
    inner = re.fullmatch(r'"((?:[^"\\]|\\.)*)"', shown, re.DOTALL)
    assert inner
    undone = re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m[1], m[1]), inner[1], flags=re.DOTALL)
    assert undone == text


@settings(deadline=None)
@given(st.text())
def test_mermaid_labels_are_plain(text):
    shown = escaped(text)
    assert not set(shown) & set('"<>[](){}|&`\n\\%')
    assert re.sub(r"#(\d+);", lambda m: chr(int(m[1])), shown) == text


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40))
def test_any_role_survives_xml_or_is_made_visible(text):
    made = small(roles={"a1.h1": text})
    role = read_graphml(export(made, "graphml")).nodes["a1.h1"].get("role", "")
    if text.isprintable() and text.isascii():
        assert role.split() == text.split()
    assert nx.read_gexf(io.BytesIO(export(made, "gexf").encode())).number_of_nodes() == 5


def test_eap_ig_has_every_node_and_edge_of_their_graph():
    data = json.loads(export(small(provenance={"architecture": {"d_model": 16}}), "eap-ig"))
    assert data["cfg"] == {"n_layers": 2, "n_heads": 2, "parallel_attn_mlp": False, "d_model": 16}
    assert len(data["edges"]) == 46 and len(data["nodes"]) == 8
    inside = {name: row["score"] for name, row in data["edges"].items() if row["in_graph"]}
    assert inside == SMALL
    assert {n for n, row in data["nodes"].items() if row["in_graph"]} == set(small().nodes)


def test_eap_ig_is_read_back():
    again = from_eap_ig(export(small(), "eap-ig"), task="ioi", unit="logits")
    assert again.edges == SMALL and again.task == "ioi" and again.shape == TWO and again.method == "imported"
    nodes = scores(level="node").top(3)
    again = from_eap_ig(export(nodes, "eap-ig"))
    assert again.level == "node" and set(again.nodes) == set(nodes.nodes)
    assert {a: d["score"] for a, d in again.nodes.items() if d["kind"] in ("head", "mlp")} == {
        a: d["score"] for a, d in nodes.nodes.items() if d["kind"] in ("head", "mlp")
    }


def test_eap_ig_by_hand_with_old_nodes_and_nan():
    text = """{"cfg": {"n_layers": 1, "n_heads": 1, "parallel_attn_mlp": false, "d_model": 4, "seed": 3},
      "nodes": {"input": true, "a0.h0": {"in_graph": true, "score": NaN}, "m0": false, "logits": true},
      "edges": {"input->a0.h0<q>": {"score": 0.5, "in_graph": true},
                "input->m0": {"score": NaN, "in_graph": false},
                "a0.h0->logits": {"score": -2, "in_graph": true}}}"""
    assert from_eap_ig(text).edges == {"input->a0.h0<q>": 0.5, "a0.h0->logits": -2.0}


def test_scores_of_eap_ig_are_read_and_selected(tmp_path):
    made = scores()
    path = tmp_path / "importances.json"
    path.write_text(to_eap_ig(made.top(0), scores=made))
    with pytest.raises(CircuitError, match="nothing is in_graph") as caught:
        import_circuit(path)
    assert "--keep" in caught.value.hint
    assert import_circuit(path, keep="20", task="ioi").edges == made.top(20).edges
    assert scores_from_eap_ig(path.read_text()).values[0, 0] == made.values[0, 0]


@pytest.mark.parametrize(
    ("made", "says"),
    [(lambda: scores(GROUPED).top(20), "share"), (lambda: scores(POST_NORM).top(20), "share"),
     (lambda: circuit({"input@1->logits@1": 1.0}), "positions")],
)  # fmt: skip
def test_what_eap_ig_cannot_say_is_refused(made, says):
    with pytest.raises(CircuitError, match=says):
        export(made(), "eap-ig")


@pytest.mark.parametrize(
    "text",
    ["{}", "[]", '{"cfg": 1, "nodes": {}, "edges": {}}', '{"cfg": {"n_layers": 1}, "nodes": {}, "edges": {}}',
     '{"cfg": {"n_layers": 1, "n_heads": 1}, "nodes": [], "edges": {}}',
     '{"cfg": {"n_layers": 1, "n_heads": 1}, "nodes": {"x": true}, "edges": {}}',
     '{"cfg": {"n_layers": 1, "n_heads": 1}, "nodes": {"m7": true}, "edges": {}}',
     '{"cfg": {"n_layers": 1, "n_heads": 1}, "nodes": {}, "edges": {"m0->a0.h0<q>": {"score": 1, "in_graph": true}}}',
     '{"cfg": {"n_layers": 1, "n_heads": 1}, "nodes": {}, "edges": {"input->m0": {"score": NaN, "in_graph": true}}}',
     '{"cfg": {"n_layers": 1, "n_heads": 1}, "nodes": {}, "edges": {"input->m0": {"score": "1", "in_graph": true}}}',
     '{"cfg": {"n_layers": 1, "n_heads": 1}, "nodes": {}, "edges": {"input->m0": {"score": 1, "in_graph": 1}}}'],
)  # fmt: skip
def test_broken_graphs_of_eap_ig_are_refused(text):
    with pytest.raises(CircuitError):
        from_eap_ig(text)


CASES = {
    "small": small,
    "hostile": hostile,
    "grouped": lambda: scores(GROUPED).top(60),
    "post-norm": lambda: scores(POST_NORM).top(30),
    "one layer": lambda: circuit(
        {"input->a0.h0<q>": 1.0, "a0.h0->logits": 1.0}, GraphShape(n_layers=1, n_heads=2, n_kv_heads=2)
    ),
    "positions": lambda: circuit({"input@2->a0.h0<v>@4": 1.0, "a0.h0@4->logits@4": -1.0}),
    "named positions": lambda: circuit({"input@S1->a0.h0<v>@end": 1.0, "a0.h0@end->logits@end": -1.0}),
    "nodes": lambda: scores(level="node").top(3),
}


@pytest.mark.parametrize("name", CASES)
def test_neuronpedia_graphs_fit_the_schema_and_avoid_the_traps(name):
    data = json.loads(export(CASES[name](), "neuronpedia"))
    jsonschema.validate(data, NEURONPEDIA)
    nodes = {node["node_id"]: node for node in data["nodes"]}
    assert len(nodes) == len(data["nodes"])
    places = [(n["layer"], n["ctx_idx"], n["feature"]) for n in data["nodes"]]
    assert len(set(places)) == len(places)
    inner = [int(n["layer"]) for n in data["nodes"] if n["feature_type"] not in ("logit", "embedding")]
    assert min(inner, default=1) >= 1
    for node in data["nodes"]:
        assert node["ctx_idx"] < len(data["metadata"]["prompt_tokens"])
        assert 0 <= node["influence"] <= 1
        assert ("(p=" in node["clerp"]) == (node["feature_type"] == "logit")
    assert all(link["source"] in nodes and link["target"] in nodes for link in data["links"])


def test_neuronpedia_sums_the_inputs_of_one_pair_and_ranks_influence():
    data = json.loads(export(small(), "neuronpedia"))
    weights = {(link["source"], link["target"]): link["weight"] for link in data["links"]}
    assert len(weights) == 5 and weights["E_0_2", "1_0_2"] == 2.5  # 0.5 + 2.0 into a0.h0
    inputs = {(link["source"], link["target"]): link["inputs"] for link in data["links"]}
    assert sorted(inputs["E_0_2", "1_0_2"].values()) == [0.5, 2.0]  # each of its edges by its input
    assert all(sum(own.values()) == weights[ends] for ends, own in inputs.items())
    influence = {node["node_id"]: node["influence"] for node in data["nodes"]}
    # outgoing strength: a1.h1 3.0, a0.h0 1.75, m1 0.125, in all 4.875
    assert influence["2_1_2"] == pytest.approx(3.0 / 4.875) and influence["1_0_2"] == pytest.approx(
        4.75 / 4.875
    )
    assert data["qParams"]["supernodes"] == [["duplicate token", "1_0_2"], ["name mover", "2_1_2"]]


def test_format_by_name_or_ending(tmp_path):
    assert export(small(), None, tmp_path / "x.graphml") == (tmp_path / "x.graphml").read_text()
    assert export(small(), None, tmp_path / "x.json") == export(small(), "json")
    assert load_circuit(tmp_path / "x.json").n_edges == 6
    with pytest.raises(OptionError, match="graphm") as caught:
        export(small(), "graphm")
    assert "graphml" in caught.value.hint
    with pytest.raises(OptionError, match="ends in"):
        export(small(), None, tmp_path / "x.docx")


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_the_same_each_time(name):
    assert export(small(), name) == export(small(), name)
    assert FORMATS.get(name).describe and FORMATS.get(name).suffix.startswith(".")


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_takes_empty_and_odd_circuits(name):
    for made in (circuit({}), scores(level="node").top(2), circuit({"input@2->a0.h0<v>@end": 0.0})):
        try:
            assert export(made, name)
        except CircuitError as problem:
            assert name == "eap-ig" and "positions" in problem.message
