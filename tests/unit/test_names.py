"""Addresses: every one is read to what it names and written back the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.circuits.addresses import (
    INPUT,
    LOGITS,
    Edge,
    Node,
    group,
    head,
    mlp,
    order,
    parse_edge,
    parse_node,
)
from workbench.core.errors import NameFormatError

GOOD = {
    "input": Node("input"),
    "logits": Node("logits"),
    "a9.h9": Node("head", 9, 9),
    "a10.h0<q>": Node("head", 10, 0, "q"),
    "a2.g1<k>": Node("group", 2, 1, "k"),
    "a4": Node("attn", 4),
    "m3": Node("mlp", 3),
    "r5": Node("resid", 5),
    "a9.h8<pattern>@S2": Node("head", 9, 8, "pattern", "S2"),
    "m3@14": Node("mlp", 3, None, None, 14),
    "input@0": Node("input", None, None, None, 0),
    "m0@007": Node("mlp", 0, None, None, "007"),  # not how a number is written: a name
}


@pytest.mark.parametrize("text", GOOD)
def test_an_address_is_read_and_written_back(text):
    assert parse_node(text) == GOOD[text]
    assert str(parse_node(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "x3", "m", "a", "a1.h", "m1.h0", "r1.h2", "a1.h2<z>", "m1<q>", "logits<q>", "a01.h2", "a1.h02", "a1.h2@",
     "a1.h2@a b", "a1.h2 ", "A1.h2", "a-1.h0", "a1.h2<q", "a٣.h1", "m1@x\x00y", "m1@a@b", "a1.g0.h1", "a9999999.h1"],
)  # fmt: skip
def test_what_is_no_address_is_refused(text):
    with pytest.raises(NameFormatError):
        parse_node(text)


def test_an_edge_needs_an_arrow():
    assert parse_edge("a5.h5 -> a9.h9<q>") == Edge(head(5, 5), head(9, 9, "q"))
    for wrong in ("a5.h5", "a5.h5-a9.h9", "->", "a5.h5->", "a->b->c"):
        with pytest.raises(NameFormatError):
            parse_edge(wrong)


def test_writer_host_and_at():
    node = parse_node("a9.h9<q>@S2")
    assert str(node.writer) == "a9.h9" and str(node.host) == "a9.h9@S2"
    assert str(node.at(None)) == "a9.h9<q>" and str(node.at(3)) == "a9.h9<q>@3"
    assert node.at("S2") is node


def test_nodes_sort_from_input_to_logits():
    nodes = [LOGITS, mlp(0), head(1, 0), group(1, 0, "k").host, head(0, 10), head(0, 2), INPUT]
    ordered = [str(n) for n in sorted(nodes, key=lambda n: order(n, 2))]
    assert ordered == ["input", "a0.h2", "a0.h10", "m0", "a1.g0", "a1.h0", "logits"]


def test_positions_sort_as_numbers_then_names():
    nodes = [parse_node(f"m0@{p}") for p in ("S2", 10, 9, "IO")] + [mlp(0)]
    assert [str(n) for n in sorted(nodes, key=lambda n: order(n, 1))] == [
        "m0",
        "m0@9",
        "m0@10",
        "m0@IO",
        "m0@S2",
    ]


@given(st.text(max_size=12))
def test_any_text_is_an_address_or_a_clear_refusal(text):
    try:
        assert str(parse_node(text)) == text
    except NameFormatError as problem:
        assert problem.hint
