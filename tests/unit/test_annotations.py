"""What is written on a circuit is kept beside it, goes out as supernodes, and hostile files are refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.circuits import small
from workbench.circuits.files.annotations_file import MOST_BYTES, load_annotations
from workbench.circuits.files.circuit_file import save_circuit
from workbench.commands.circuit import ExportCircuit
from workbench.commands.do import do
from workbench.commands.forms.details import Details
from workbench.core.errors import CircuitError
from workbench.core.job import Job

HEAD = {"format": "circuit-workbench/annotations", "version": 1}
CSS = Path(__file__).parents[2] / "workbench" / "view" / "assets" / "page.css"


def written(folder: Path, **content) -> Path:
    file = folder / "theirs.json"
    file.write_text(json.dumps({**HEAD, **content}), encoding="utf-8")
    return file


def test_annotations_lie_beside_the_circuit_and_become_supernodes(tmp_path):
    before = save_circuit(small(), tmp_path / "one").read_bytes()
    nodes = {"m1": {"group": "late", "name": "writer"}, "a1.h1": {"group": "late"}, "a0.h0": {"hidden": True}}
    made = do("circuit annotate", circuit=tmp_path / "one", file=written(tmp_path, nodes=nodes))
    assert made["groups"] == 1 and (tmp_path / "one" / "circuit.json").read_bytes() == before
    page = (tmp_path / "one" / "page.html").read_text(encoding="utf-8")
    assert '"late"' in page and "workbench circuit annotate" in page
    wanted = ExportCircuit(circuit=tmp_path / "one", format="neuronpedia", out=tmp_path / "np.json")
    graph = json.loads(wanted.run(Job()).path.read_text(encoding="utf-8"))
    [group] = graph["qParams"]["supernodes"]
    labels = {node["node_id"]: node["clerp"] for node in graph["nodes"]}
    assert group[0] == "late" and sorted(labels[i].split()[0] for i in group[1:]) == ["a1.h1", "m1"]
    assert any(label.startswith("m1 writer") for label in labels.values())
    assert not (
        tmp_path / "one" / "circuit.html"
    ).exists()  # that is a discovery's, whose record knows its bytes
    with pytest.raises(CircuitError, match="not in a folder of its own"):
        Details(circuit=Path("published:ioi")).check(Job())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"nodes": {"a9.h9": {}}}, "nodes: "),
        ({"nodes": {"<script>": {}}}, "nodes: "),
        ({"nodes": {"a0.h0<q>": {}}}, "is an input of a node"),
        ({"edges": {"m1->a0.h0<q>": {}}}, "edges: "),
        ({"nodes": {"m1": {"name": "x" * 81}}}, "nodes"),
        ({"nodes": {"m1": {"colour": "red;background:url(//x)"}}}, "colour"),
        ({"nodes": {"m1": {"x": 1e300, "y": 0.0}}}, "nodes"),
        ({"nodes": {"m1": {"x": 1.0}}}, "x and y go together"),
        ({"nodes": {"m1": {"onclick": "x"}}}, "onclick"),
        ({"groups": {"": {}}}, "groups"),
        ({"format": "other"}, "format"),
    ],
)
def test_a_hostile_file_is_refused_with_the_place(content, said, tmp_path):
    with pytest.raises(CircuitError, match=said) as refused:
        load_annotations(written(tmp_path, **content), small())
    assert refused.value.hint


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    file = tmp_path / "large.json"
    with file.open("wb") as stream:
        stream.truncate(MOST_BYTES + 1)
    with pytest.raises(CircuitError, match="at most 20,000,000"):
        load_annotations(file, small())


def _light(hex_: str) -> float:
    parts = [int(hex_[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one: str, two: str) -> float:
    """WCAG 2.1's contrast of two colours."""
    low, high = sorted((_light(one), _light(two)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [":root {", ':root[data-theme="dark"] {'])
def test_letters_and_controls_stand_out_in_both_themes(theme):
    block = CSS.read_text(encoding="utf-8").partition(theme)[2].partition("}")[0]
    pairs = (part.split(":") for part in block.replace("\n", "").split(";") if "--" in part)
    colour = {name.strip()[2:]: value.strip() for name, value in pairs}
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    letters = ("ink", "soft", "accent", "positive", "negative", "port-q", "port-k", "port-v")
    low = {
        (name, ground): contrast(colour[name], colour[ground])
        for name in letters
        for ground in ("bg", "panel", "fill")
        if contrast(colour[name], colour[ground]) < 4.5
    }
    lines = {
        (name, ground): contrast(colour[name], colour[ground])
        for name in ("focus", "control", "edge-node")
        for ground in ("bg", "panel")
        if contrast(colour[name], colour[ground]) < 3
    }
    assert low == {} and lines == {}
