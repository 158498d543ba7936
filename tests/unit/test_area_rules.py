"""ACDC's area and its reference circuits: values by hand."""

import pytest

from workbench.bench.acdc_areas import greater_than_reference, ioi_reference, reference_of, stair_area
from workbench.circuits.graph import Graph, GraphShape
from workbench.core.errors import OptionError

GPT2 = Graph(GraphShape(n_layers=12, n_heads=12, n_kv_heads=12))


@pytest.mark.parametrize(
    ("points", "area"),
    [
        ([], 0.0),
        ([(0.5, 0.5)], 0.25),
        ([(0.25, 0.25)], 0.1875),
        ([(0.25, 0.25), (0.5, 0.5)], 5 / 16),
        ([(0.25, 0.25), (0.75, 0.5)], 4 / 16),
        ([(0.0, 1.0)], 1.0),
        ([(0.1, 0.8), (0.2, 0.6)], 0.72),  # the second is beaten by the first
    ],
)
def test_stairs_are_as_low_as_they_can_be(points, area):
    assert stair_area(points) == pytest.approx(area)
    assert stair_area(points[::-1]) == pytest.approx(area)


def edges(graph, mask):
    return {str(edge) for edge in graph.edges() if mask[graph.index(edge)]}


def test_the_reference_of_ioi_on_three_layers_by_hand():
    graph = Graph(GraphShape(n_layers=3, n_heads=2, n_kv_heads=2))
    roles = {"a0.h1": "duplicate token", "a1.h0": "S-inhibition", "a2.h0": "name mover"}
    found = edges(graph, ioi_reference(graph, roles))
    heads = {f"input->a0.h1<{slot}>" for slot in "qkv"} | {"input->a1.h0<q>"}
    heads |= {"input->a2.h0<k>", "input->a2.h0<v>", "a1.h0->a2.h0<q>"}
    heads |= {"a0.h1->a1.h0<k>", "a0.h1->a1.h0<v>"}
    heads |= {f"m0->a{n}.h0<{slot}>" for n in (1, 2) for slot in "qkv"}
    heads |= {f"m1->a2.h0<{slot}>" for slot in "qkv"}
    into = {"input->m0", "input->m1", "input->m2", "m0->m1", "m0->m2", "m1->m2"}
    into |= {"a0.h1->m0", "a0.h1->m1", "a0.h1->m2", "a1.h0->m1", "a1.h0->m2", "a2.h0->m2"}
    out = {f"{node}->logits" for node in ("input", "m0", "m1", "m2", "a2.h0")}
    assert found == heads | into | out


def test_the_reference_of_greater_than_on_three_layers_by_hand():
    graph = Graph(GraphShape(n_layers=3, n_heads=2, n_kv_heads=2))
    groups = {
        "0.1": ["a0.h1"],
        "0.3 0.5": ["a0.h0"],
        "early MLP": ["m0"],
        "year mover": ["a1.h0"],
        "late MLP": ["m2"],
    }
    found = edges(graph, greater_than_reference(graph, groups))
    wanted = {f"input->a0.h{head}<{slot}>" for head in (0, 1) for slot in "qkv"} | {"input->m0", "a0.h1->m0"}
    wanted |= {f"{source}->a1.h0<{slot}>" for source in ("a0.h0", "a0.h1", "m0") for slot in "qkv"}
    assert found == wanted | {"a1.h0->m2", "a1.h0->logits", "m2->logits"}


def test_references_of_gpt2_are_of_its_published_parts():
    ioi, greater = (reference_of("gpt2", task, GPT2) for task in ("ioi", "greater-than"))
    assert ioi.shape == GPT2.edge_mask.shape and not (ioi & ~GPT2.edge_mask).any()
    assert "a9.h9->logits" in edges(GPT2, ioi) and "a9.h8->logits" not in edges(GPT2, ioi)
    # 13 movers of names (3, 8 and 2), 12 MLPs and the input
    assert sum(edge.endswith("->logits") for edge in edges(GPT2, ioi)) == 13 + 13
    # 3 + 1 inputs of 0.1, 0.3, 0.5 and four MLPs; then by hand of the groups
    found = edges(GPT2, greater)
    assert sum(edge.startswith("input->") for edge in found) == 9 + 4
    assert sum(edge.endswith("->logits") for edge in found) == 6 + 4
    assert "a8.h11->m8" in found and "a9.h1->m8" not in found and "m4->m5" not in found


def test_a_model_of_unknown_circuit_is_refused():
    with pytest.raises(OptionError, match="is not known"):
        reference_of("zoo:ioi", "ioi", Graph(GraphShape(n_layers=4, n_heads=4, n_kv_heads=4)))
