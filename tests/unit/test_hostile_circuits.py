"""Circuit files that are broken or hostile: always a clear error, never a wrong circuit."""

import copy
import json
import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.circuits import small
from workbench.circuits.files import load_circuit, save_circuit
from workbench.circuits.files.circuit_file import from_document
from workbench.core.errors import CircuitError
from workbench.core.strict_json import parse

GOOD = small().to_dict()


def changed(change) -> dict:
    document = copy.deepcopy(GOOD)
    change(document)
    return document


def test_a_file_cut_anywhere_is_refused(tmp_path):
    path = save_circuit(small(prompt=("é", " x")), tmp_path)
    whole = path.read_bytes()
    assert len(whole) > 1500
    for n in range(0, len(whole.rstrip()), 10):
        path.write_bytes(whole[:n])
        with pytest.raises(CircuitError) as caught:
            load_circuit(path)
        assert str(path) in caught.value.message


def edge(document):
    return document["graph"]["edges"][0]


def node(document):
    return document["graph"]["nodes"][1]


def dangling(d):
    edge(d)["source"] = "a0.h1"


def backwards(d):
    d["graph"]["edges"].append({"source": "m1", "target": "a0.h0", "key": "q", "score": 1.0})


BROKEN = {
    "other format": (lambda d: d.update(format="x"), "format is 'x'"),
    "no format": (
        lambda d: d.pop("format"),
        "has no 'format'; expected 'circuit-workbench/circuit'",
    ),
    "newer version": (lambda d: d.update(version=3), "version 3"),
    "no digest in version 2": (lambda d: d.pop("digest"), "lacks 'digest'"),
    "a digest in version 1": (
        lambda d: d.update(version=1),
        "has a digest, which no file of that version has",
    ),
    "digest is no digest": (lambda d: d.update(digest="1f3a"), "digest is '1f3a'"),
    "version as text": (lambda d: d.update(version="1"), "version '1'"),
    "version true": (lambda d: d.update(version=True), "version True"),
    "missing key": (lambda d: d.pop("unit"), "lacks 'unit'"),
    "unknown key": (lambda d: d.update(extra=1), "unknown key 'extra'"),
    "misspelt key": (lambda d: (d.pop("task"), d.update(tusk="")), "unknown key 'tusk'"),
    "text is a number": (lambda d: d.update(task=3), "task is a number"),
    "object is a list": (lambda d: d.update(selection=[]), "selection is a list"),
    "prompt is text": (lambda d: d.update(prompt="abc"), "prompt"),
    "prompt of numbers": (lambda d: d.update(prompt=[1]), "prompt"),
    "level": (lambda d: d.update(level="atom"), "level is 'atom'"),
    "shape": (lambda d: d.update(shape=3), "shape is a number"),
    "shape key": (lambda d: d["shape"].pop("n_heads"), "lacks 'n_heads'"),
    "shape value": (lambda d: d["shape"].update(n_layers=1.5), "n_layers is 1.5"),
    "huge shape": (lambda d: d["shape"].update(n_layers=10**12), "n_layers"),
    "graph is a list": (lambda d: d.update(graph=[]), "graph is a list"),
    "undirected": (lambda d: d["graph"].update(directed=False), "directed"),
    "nodes is an object": (lambda d: d["graph"].update(nodes={}), "graph.nodes is an object"),
    "node twice": (lambda d: d["graph"]["nodes"].append(d["graph"]["nodes"][0]), "there twice"),
    "node not there": (lambda d: node(d).update(id="a7.h0"), "no node a7.h0"),
    "node with a slot": (lambda d: node(d).update(id="a0.h0<q>"), "input of a node"),
    "bad address": (lambda d: node(d).update(id="x"), "not the address"),
    "id is a number": (lambda d: node(d).update(id=3), "id is a number"),
    "layer differs": (lambda d: node(d).update(layer=1), "layer is 1"),
    "head is true": (lambda d: node(d).update(head=False), "head is false"),
    "kind differs": (lambda d: node(d).update(kind="mlp"), "kind is 'mlp'"),
    "role is null": (lambda d: node(d).update(role=None), "role is null"),
    "score is text": (lambda d: node(d).update(score="1"), "score is text"),
    "edge twice": (lambda d: d["graph"]["edges"].append(edge(d)), "there twice"),
    "edge to nowhere": (dangling, "there is no node a0.h1"),
    "edge without score": (lambda d: edge(d).pop("score"), "lacks 'score'"),
    "edge score true": (lambda d: edge(d).update(score=True), "score is true"),
    "edge score null": (lambda d: edge(d).update(score=None), "score is null"),
    "edge key": (lambda d: edge(d).update(key="z"), "key is 'z'"),
    "edge key not of its target": (lambda d: edge(d).update(key="in"), "no target"),
    "edge is a list": (lambda d: d["graph"]["edges"].append([]), "a list"),
    "cycle": (backwards, "no cycles"),
    "self loop": (
        lambda d: d["graph"]["edges"].append({"source": "m1", "target": "m1", "key": "in", "score": 1}),
        "no cycles",
    ),
    "link of another architecture": (
        lambda d: d["graph"]["edges"].append(
            {"source": "m1", "target": "logits", "key": "link", "link": True}
        ),
        "not linked",
    ),
    "edges at node level": (lambda d: d.update(level="node"), "node-level"),
    "huge integer": (lambda d: edge(d).update(score=10**400), "too large"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_each_mistake_is_named_with_its_place(name):
    change, says = BROKEN[name]
    with pytest.raises(CircuitError) as caught:
        from_document(changed(change), where="x.json")
    assert says in caught.value.message and "x.json" in caught.value.message


def test_the_unbroken_document_is_read():
    assert from_document(copy.deepcopy(GOOD)).to_dict() == GOOD


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_numbers_that_are_none_are_refused(text, tmp_path):
    path = tmp_path / "circuit.json"
    path.write_text(json.dumps(GOOD).replace('"score": 0.5', f'"score": {text}'))
    with pytest.raises(CircuitError, match=text[-3:]):
        load_circuit(path)


@pytest.mark.parametrize("value", [[], 3, "x", None, True])
def test_a_file_that_is_no_object_is_refused(value):
    with pytest.raises(CircuitError, match="expected an object"):
        from_document(value)


def test_a_key_twice_is_refused(tmp_path):
    with pytest.raises(CircuitError, match="'task' twice"):
        parse(json.dumps(GOOD).replace('"task"', '"task": "a", "task"'), where="x")


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_absurd_nesting_is_refused_quickly_and_without_memory(opening, tmp_path):
    path = tmp_path / "circuit.json"
    for size, says in ((100_000_000, "64 MB"), (10_000_000, "levels deep")):
        path.write_text(opening * (size // len(opening)))
        tracemalloc.start()
        start = time.process_time()
        with pytest.raises(CircuitError, match=says):
            load_circuit(path)
        took, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert took < 5 and peak < 300e6


def test_brackets_in_strings_are_no_nesting():
    assert parse(json.dumps(["[" * 5000, '\\"[[[' * 500]), where="x")[0] == "[" * 5000


def test_quotes_without_end_cost_linear_time():
    start = time.process_time()
    with pytest.raises(CircuitError):
        parse('"' + '\\"' * 2_000_000, where="x")
    assert time.process_time() - start < 5


def test_thousands_of_digits_are_refused():
    with pytest.raises(CircuitError):
        parse("1" * 10_000, where="x")


def test_a_key_that_is_no_text_is_refused():
    with pytest.raises(CircuitError, match=r"the key '\\udc00x', which is no text"):
        from_document({**GOOD, "\udc00x": 1})


def test_files_that_are_not_text_are_refused(tmp_path):
    path = tmp_path / "circuit.json"
    for data, says in (
        (b"\xff\xfe{\x00}\x00", "not UTF-8"), ("é".encode("latin-1"), "not UTF-8"), (b"", "JSON"),
        (b"\xef\xbb\xbf{}", "JSON"), (b"\x00" * 100, "JSON"),
    ):  # fmt: skip
        path.write_bytes(data)
        with pytest.raises(CircuitError, match=says):
            load_circuit(path)


def test_a_missing_file_suggests_its_neighbours(tmp_path):
    save_circuit(small(), tmp_path / "eap-ig-1f3a")
    with pytest.raises(CircuitError, match="no file") as caught:
        load_circuit(tmp_path / "eap-ig-1f3b")
    assert "eap-ig-1f3a" in caught.value.hint
    with pytest.raises(CircuitError) as caught:
        load_circuit(tmp_path / "eap-ig-1f3a" / "circiut.json")
    assert "circuit.json" in caught.value.hint
    (tmp_path / "empty").mkdir()
    with pytest.raises(CircuitError, match="no file"):
        load_circuit(tmp_path / "empty")


def test_a_device_or_pipe_is_no_circuit():
    with pytest.raises(CircuitError, match="is a device; a regular file is expected"):
        load_circuit("/dev/zero")


def test_a_graph_of_eap_ig_says_how_to_import_it():
    with pytest.raises(CircuitError) as caught:
        from_document({"cfg": {}, "nodes": {}, "edges": {}})
    assert "circuit import" in caught.value.hint


@pytest.mark.filterwarnings("ignore::workbench.core.errors.ChangedFileWarning")
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_replaced_value_is_the_same_circuit_or_an_error(data):
    """One value somewhere in the file becomes another: the reader answers with CircuitError or a valid circuit."""
    document = copy.deepcopy(GOOD)
    places = []

    def walk(value):
        for key in value if isinstance(value, dict) else range(len(value)):
            places.append((value, key))
            if isinstance(value[key], dict | list):
                walk(value[key])

    walk(document)
    holder, key = data.draw(st.sampled_from(places))
    values = st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8),
        st.just([]), st.just({}), st.sampled_from(["a0.h0", "input", "logits", "m1", "a1.h1"]),
    )  # fmt: skip
    holder[key] = data.draw(values)
    try:
        made = from_document(document)
    except CircuitError:
        return
    assert from_document(json.loads(json.dumps(made.to_dict()))).to_dict() == made.to_dict()
