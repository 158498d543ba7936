"""Published circuits: the shipped files are what the records say, counts as the papers give them, compared by hand."""

from __future__ import annotations

import json
from math import comb
from pathlib import Path

import pytest

from workbench.circuits.addresses import INPUT, LOGITS, head, parse_edge, parse_node
from workbench.circuits.circuit import Circuit
from workbench.circuits.compare import compare, overlap
from workbench.circuits.files import export, load_circuit, save_circuit
from workbench.circuits.files.folder import check
from workbench.circuits.files.published import write_published
from workbench.circuits.graph import GraphShape
from workbench.circuits.published import Published, PublishedClass, Way, list_published, load_published
from workbench.circuits.published.kinds import KEPT_WHOLE, claimed_nodes
from workbench.core.errors import CircuitError

SHIPPED = Path(__file__).parents[2] / "circuits" / "published"
NAMES = [record.name for record in list_published()]
TINY = GraphShape(n_layers=3, n_heads=4, n_kv_heads=4)


def test_the_shipped_files_are_what_the_module_writes(tmp_path):
    made = {path.parent.name: path.read_bytes() for path in write_published(tmp_path)}
    shipped = {path.parent.name: path.read_bytes() for path in SHIPPED.glob("*/circuit.json")}
    assert made == shipped and set(made) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_file_is_valid_says_its_source_and_has_no_scores(name):
    found = check(SHIPPED / name)
    assert not found.problem
    circuit = found.circuit
    assert circuit.provenance["source"] and circuit.provenance["uncertain"]
    assert all(data["score"] is None for data in circuit.nodes.values())
    assert circuit.to_dict() == load_circuit(f"published:{name}").to_dict()


def test_ioi_has_26_heads_in_seven_classes_at_their_positions():
    circuit = load_published("ioi")
    by_role: dict[str, set[str]] = {}
    for address, data in circuit.nodes.items():
        by_role.setdefault(data["role"], set()).add(address)
    assert len(circuit.heads) == 26 and circuit.shape.n_layers == circuit.shape.n_heads == 12
    assert by_role["name mover"] == {"a9.h9@end", "a9.h6@end", "a10.h0@end"}
    assert by_role["negative name mover"] == {"a10.h7@end", "a11.h10@end"}
    assert by_role["S-inhibition"] == {"a7.h3@end", "a7.h9@end", "a8.h6@end", "a8.h10@end"}
    assert by_role["induction"] == {"a5.h5@S2", "a5.h8@S2", "a5.h9@S2", "a6.h9@S2"}
    assert by_role["duplicate token"] == {"a0.h1@S2", "a0.h10@S2", "a3.h0@S2"}
    assert by_role["previous token"] == {"a2.h2@S1+1", "a4.h11@S1+1"}
    assert len(by_role["backup name mover"]) == 8
    assert by_role[KEPT_WHOLE] == {f"m{layer}" for layer in range(12)}
    assert len(claimed_nodes(circuit)) == 26


def test_colored_objects_and_ioi_in_gpt2_medium_share_what_the_table_says():
    colored, ioi = load_published("colored-objects"), load_published("ioi-gpt2-medium")
    assert {"a15.h14@end", "a16.h15@end", "a17.h4@end", "a18.h5@end", "a19.h15@end"} <= set(colored.heads)
    only_ioi = {a.split("@")[0] for a in ioi.heads} - {a.split("@")[0] for a in colored.heads}
    assert only_ioi == {"a12.h3", "a13.h4", "a13.h13", "a19.h1"}
    assert overlap(colored, ioi)["heads"].shared == 7  # five movers, 9.3 and 6.4
    assert set(colored.heads) - set(ioi.heads) == {"a11.h6@end", "a11.h7@end", "a12.h15@end"}


def test_greater_than_docstring_and_induction_keep_to_the_parts_that_are_sure():
    assert len(load_published("greater-than").heads) == 9
    assert {f"m{n}@end" for n in (8, 9, 10, 11)} <= set(load_published("greater-than").nodes)
    assert set(load_published("docstring").heads) == {"a0.h5", "a1.h4", "a2.h0", "a3.h0@end", "a3.h6@end"}
    assert set(load_published("induction").heads) == {"a0.h0", "a1.h5", "a1.h6"}
    assert load_published("docstring").shape.mlp_layers == ()


@pytest.mark.parametrize("format", ["svg", "html", "dot", "mermaid", "graphml", "cytoscape", "csv"])
@pytest.mark.parametrize("name", ["ioi", "docstring"])
def test_published_circuits_can_be_shown_everywhere(name, format):
    text = export(load_published(name), format, None)
    assert "h6" in text or "nodes" in text or format == "csv"


def test_unknown_names_are_explained():
    with pytest.raises(CircuitError, match="no published circuit called 'io'") as caught:
        load_circuit("published:io")
    assert "ioi" in caught.value.hint


def test_a_record_cannot_list_a_part_twice_or_name_a_class_that_is_not_there():
    base = {"name": "x", "title": "x", "task": "x", "model": "x", "shape": TINY, "source": "x"}
    with pytest.raises(CircuitError, match="twice"):
        Published(
            **base,
            parts=(
                PublishedClass(role="a", parts="0.1"),
                PublishedClass(role="b", parts="0.1", position="end"),
            ),
        )
    with pytest.raises(CircuitError, match="no class called 'b'"):
        Published(**base, parts=(PublishedClass(role="a", parts="0.1"),), ways=(Way(source="a", target="b"),))


# -- comparing --------------------------------------------------------------------------------------------


def paper() -> Circuit:
    """Two movers and a steering head at the end, one head at S2; layer 1's MLP left in place."""
    record = Published(
        name="tiny",
        title="tiny",
        task="t",
        model="m",
        shape=TINY,
        source="by hand",
        kept_whole=(1,),
        parts=(
            PublishedClass(role="mover", parts="2.0 2.1", position="end"),
            PublishedClass(role="steers", parts="1.3", position="end"),
            PublishedClass(role="signal", parts="0.2", position="S2"),
        ),
        ways=(
            Way(source="signal", target="steers", slot="v"),
            Way(source="steers", target="mover", slot="q"),
            Way(source="mover", target="logits"),
            Way(source="input", target="signal"),
        ),
    )
    return record.circuit()


def mine(*nodes: str, level: str = "node", roles: dict[str, str] | None = None) -> Circuit:
    table = {parse_node(a): 1.0 for a in nodes}
    return Circuit.build(
        shape=TINY, nodes={INPUT: None, LOGITS: None, **table}, edges={}, level=level, roles=roles
    )


def tail(shared: int, universe: int, first: int, second: int) -> float:
    """Hypergeometric upper tail in whole numbers."""
    ways = sum(
        comb(first, k) * comb(universe - first, second - k) for k in range(shared, min(first, second) + 1)
    )
    return ways / comb(universe, second)


def test_chance_level_of_heads_and_classes_is_hypergeometric():
    own = mine("a2.h0", "a2.h1", "a1.h0", "a0.h2", "m1", "m2", roles={"a2.h0": "mover"})
    found = compare(paper(), own)
    heads = found.overlap["heads"]
    assert (heads.n_here, heads.n_there, heads.shared, heads.universe) == (4, 4, 3, 12)
    assert heads.expected == pytest.approx(4 * 4 / 12)
    assert heads.p_value == pytest.approx(tail(3, 12, 4, 4))
    rows = {row.role: row for row in found.classes}
    mover = rows["mover"]
    assert (len(mover.here), len(mover.there), mover.same, mover.found) == (2, 1, 1, 2)
    assert mover.expected == pytest.approx(2 * 4 / 12)
    assert mover.p_value == pytest.approx(tail(2, 12, 2, 4))
    assert rows["steers"].found == 0 and rows["steers"].p_value == 1.0


def test_parts_kept_whole_count_neither_way():
    found = compare(paper(), mine("a2.h0", "m1", "m2"))
    nodes = found.overlap["nodes"]
    assert (nodes.n_here, nodes.n_there, nodes.shared, nodes.universe) == (4, 2, 1, 14)  # 12 heads, m0, m2
    assert "m1" not in found.difference.shared_nodes and "1 parts" in found.note


def test_positions_are_left_out_unless_asked_for():
    own = mine("a2.h0@end", "a2.h1@S2")
    assert overlap(paper(), own)["heads"].shared == 2
    placed = overlap(paper(), own, positions=True)["heads"]
    assert (placed.shared, placed.universe) == (1, 24)  # 12 heads at end and S2
    with pytest.raises(CircuitError, match="names no positions"):
        overlap(paper(), mine("a2.h0"), positions=True)
    assert "a2.h0" in compare(paper(), own).difference.shared_nodes
    assert "a2.h1@S2" in compare(paper(), own, positions=True).difference.only_there_nodes


def test_ways_are_looked_up_among_the_edges_of_the_other():
    edges = ["a0.h2->a1.h3<v>", "a1.h3->a2.h0<q>", "a1.h3->a2.h1<k>", "a2.h0->logits", "input->a0.h2<q>"]
    parsed = {(parse_edge(e).source, parse_edge(e).target): 1.0 for e in edges}
    own = Circuit.build(shape=TINY, nodes={}, edges=parsed)
    rows = {row.way: row for row in compare(paper(), own).ways}
    n = own.graph.n_edges
    assert {way: (row.stated, row.found) for way, row in rows.items()} == {
        "signal -> steers<v>": (1, 1),
        "steers -> mover<q>": (2, 1),
        "mover -> logits": (2, 1),
        "input -> signal": (3, 1),
    }
    assert rows["input -> signal"].expected == pytest.approx(3 * 5 / n)
    assert rows["input -> signal"].p_value == pytest.approx(tail(1, n, 3, 5))
    assert compare(own, paper()).ways == compare(paper(), own).ways  # whichever comes first
    assert (
        compare(paper(), own).difference is None
        and "node level against edge level" in compare(paper(), own).note
    )


def test_other_models_are_compared_by_class_size_and_relative_depth():
    other = GraphShape(n_layers=5, n_heads=2, n_kv_heads=2)
    own = Circuit.build(
        shape=other, nodes={head(4, 0): 1.0, head(2, 1): 1.0}, edges={}, level="node",
        roles={"a4.h0": "mover", "a2.h1": "mover"},
    )  # fmt: skip
    found = compare(paper(), own)
    row = next(row for row in found.classes if row.role == "mover")
    assert (row.depth_here, row.depth_there) == (1.0, 0.75)  # layer 2 of 0..2; layers 4 and 2 of 0..4
    assert row.same is None and row.p_value is None and found.difference is None
    assert "different models" in found.note
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_published_circuit_saved_again_is_the_same(tmp_path):
    path = save_circuit(load_published("ioi"), tmp_path)
    assert path.read_bytes() == (SHIPPED / "ioi" / "circuit.json").read_bytes()
