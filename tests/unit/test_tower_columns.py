"""Circuits that begin in a tower: its nodes stand in a column of their own, named, on page, picture and terminal."""

from __future__ import annotations

import pytest

from tests.circuits import circuit
from workbench.circuits.addresses import parse_edge
from workbench.circuits.circuit import Circuit
from workbench.circuits.graph import GraphShape
from workbench.circuits.layout import layered, row_labels
from workbench.circuits.rows import prompt_parts
from workbench.circuits.show.circuit_page import circuit_page
from workbench.circuits.show.circuit_svg import circuit_svg
from workbench.circuits.show.terminal import circuit_table
from workbench.view.terminal import console

EDGES = {
    "vision:embed->vision:a0.h1<v>": 1.0,
    "vision:a0.h1->vision:m1": 0.5,
    "vision:m1->projector": 2.0,
    "projector->a0.h0<k>": -1.0,
    "a0.h0->m1": 1.5,
    "m1->logits": 3.0,
}
PROMPT = ("<bos>", *["<image>"] * 36, "what", "is", "it")


@pytest.fixture
def seen() -> Circuit:
    tower = GraphShape(n_layers=2, n_heads=2, n_kv_heads=2)
    shape = GraphShape(n_layers=2, n_heads=2, n_kv_heads=2, tower=tower)
    parsed = {parse_edge(address, towers=True): score for address, score in EDGES.items()}
    edges = {(edge.source, edge.target): score for edge, score in parsed.items()}
    return Circuit.build(shape=shape, nodes={}, edges=edges, prompt=PROMPT)


def test_a_tower_stands_left_of_the_language_model(seen):
    places = layered(seen)
    tower = [x for address, (x, _) in places.items() if address.startswith("vision:")]
    others = [x for address, (x, _) in places.items() if not address.startswith("vision:")]
    assert len(tower) == 3 and max(tower) + 150 < min(others)
    assert places["projector"][1] < places["a0.h0"][1] < places["m1"][1] < places["logits"][1]


def test_columns_and_layers_are_named(seen):
    named = {(one.stack, one.layer): one for one in row_labels(seen)}
    assert named["vision", None].text == "vision tower" and named["", None].text == "language model"
    assert named["vision", None].x < named["", None].x
    assert [key for key in named if key[1] is not None] == [("", 0), ("", 1), ("vision", 0), ("vision", 1)]
    places = layered(seen)
    assert named["", 0].x < places["a0.h0"][0] and named["vision", 0].x < places["vision:a0.h1"][0]
    for text in ("vision tower", "language model", "vision:a0.h1", "projector"):
        assert f">{text}</text>" in circuit_svg(seen)
    assert '"label":"vision tower"' in circuit_page(seen)
    terminal = console(width=120)
    with terminal.capture() as said:
        terminal.print(circuit_table(seen))
    assert "vision tower 3, projector 1, language model 3" in said.get()


def test_many_equal_tokens_are_one(seen):
    assert prompt_parts(seen) == [
        ("<bos>", 0, 0), ("<image> × 36", 1, 36), ("what", 37, 37), ("is", 38, 38), ("it", 39, 39)
    ]  # fmt: skip
    assert "&lt;image&gt; × 36" in circuit_page(seen) and "1 to 36" in circuit_svg(seen)


def test_positions_are_columns_in_order_and_what_has_none_stands_at_the_right():
    made = circuit(
        {
            "input@2->a0.h0<v>@end": 1.0,
            "a0.h0@10->a1.h1<k>@end": 0.5,
            "a1.h1@end->logits@end": -1.0,
            "m1->logits": 1.0,
        },
        prompt=tuple("abcdefghijkl"),
    )
    places = layered(made)
    columns = {
        name: [x for a, (x, _) in places.items() if a.endswith(name)] for name in ("@2", "@10", "@end")
    }
    free = [x for a, (x, _) in places.items() if "@" not in a]
    assert max(columns["@2"]) < min(columns["@10"]) < max(columns["@10"]) + 1 <= min(columns["@end"])
    assert max(columns["@end"]) < min(free)
    names = [one.text for one in row_labels(made) if one.layer is None]
    assert names == ["2 c", "10 k", "end", "all positions"]
