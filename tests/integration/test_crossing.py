"""Edges cross from a tower to the language model behind it: every number from a loop in plain torch."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

import workbench as wb
from tests.integration.plain_crossing import PlainCrossing
from tests.integration.test_acdc import compare, plain_acdc
from tests.integration.test_pixels import Pictures
from tests.mini import mini_pairs
from tests.seeing import picture_pairs, seeing_dir
from workbench.circuits.addresses import PROJECTOR, parse_edge
from workbench.circuits.files import load_circuit, save_circuit
from workbench.core.errors import CircuitError, ModelError, OptionError
from workbench.engine.edges import ablate_edges
from workbench.methods.by_name import score
from workbench.model.identity import identity

# 2e-6: largest difference seen between the model written out and transformers' own, logits of order 1.
TOLERANCE = 2e-5
N = 2  # pairs: the second differs in its picture alone


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return wb.load_pairs(picture_pairs(tmp_path_factory.mktemp("pictures"), N))


def runs_on(name: str, pairs):
    return wb.paired_runs(wb.open_model(seeing_dir(name), device="cpu"), pairs, with_tower=True)


@pytest.fixture(scope="module")
def runs(pairs):
    return runs_on("llava", pairs)


@pytest.fixture(scope="module")
def plain(runs):
    """The model written out, and what enters it for each pair, clean and corrupted."""
    written, found = PlainCrossing(), []
    for i in range(runs.n_pairs):
        prompts = [runs.prompt_of(run, np.array([i])) for run in ("clean", "corrupted")]
        found.append([written.entering(p.ids[0], p.extras["pixel_values"][0]) for p in prompts])
    return written, found


def gap(logits: torch.Tensor, runs, i: int) -> torch.Tensor:
    return logits[runs.pairs.correct[i][0]] - logits[runs.pairs.incorrect[i][0]]


def cut(runs, plain, i: int, edges) -> float:
    """The metric of a pair with these edges carrying what their sources write on the corrupted prompt."""
    written, entering = plain
    with torch.no_grad():
        instead = written.see(entering[i][1])[1]
        return float(gap(written.see(entering[i][0], ablated=edges, instead=instead)[0], runs, i))


def names_of(graph, edges=None) -> list[tuple[str, str]]:
    return [(str(e.source), str(e.target)) for e in edges or graph.edges()]


def test_the_model_written_out_is_transformers(runs, plain):
    written, entering = plain
    for i in range(runs.n_pairs):
        for side, values in enumerate((runs.clean, runs.corrupted)):
            logits = written.see(entering[i][side])[0]
            assert values[i] == pytest.approx(float(gap(logits, runs, i).detach()), abs=TOLERANCE)


def test_the_graph_has_every_edge_of_both_and_those_of_the_projector(runs):
    """By hand: two layers of four heads in the tower and in the language model, each with an MLP."""
    graph = runs.wiring.graph()
    tower = 12 * 1 + 5 + 12 * 6 + 10 + 11  # readers times what they see; the last is the projector
    words = 12 * 2 + 6 + 12 * 7 + 11 + 12  # two enter: the words and the picture
    assert graph.n_edges == tower + words == len(list(graph.edges()))
    pairs = set(names_of(graph))
    assert {("vision:embed", "projector"), ("vision:m1", "projector"), ("projector", "a0.h0<q>")} <= pairs
    assert not any(
        s.startswith("vision") and not (t.startswith("vision") or t == "projector") for s, t in pairs
    )


def test_exact_edges_equal_a_loop(runs, plain):
    graph, found = runs.wiring.graph(), score(runs, "exact")
    for edge in names_of(graph)[::3]:
        drops = [runs.clean[i] - cut(runs, plain, i, {edge}) for i in range(runs.n_pairs)]
        index = graph.index(parse_edge(f"{edge[0]}->{edge[1]}", towers=True))
        assert found.per_pair[(slice(None), *index)] == pytest.approx(drops, abs=TOLERANCE), edge
    crossing = [graph.source_index[s] for s in graph.sources if s.tower or s.kind == "projector"]
    assert (np.nanmax(abs(found.values[crossing]), axis=1) > 1e-3).all()


def test_eap_ig_equals_a_loop_and_is_complete(runs, plain):
    """Midpoints of the line between what enters tower and language model on both prompts."""
    written, entering = plain
    graph, steps = runs.wiring.graph(), 3
    expected = np.zeros(graph.edge_mask.shape)
    for i in range(runs.n_pairs):
        clean, corrupted = (written.see(entering[i][side])[1] for side in (0, 1))
        for k in range(steps):
            copies: dict[str, torch.Tensor] = {}
            start = tuple(b + (k + 0.5) / steps * (a - b) for a, b in zip(*entering[i], strict=True))
            out = gap(written.see(start, copies=copies)[0], runs, i)
            grads = dict(zip(copies, torch.autograd.grad(out, copies.values()), strict=True))
            for edge in graph.edges():
                source = str(edge.source)
                product = (clean[source] - corrupted[source]) * grads[str(edge.target)]
                expected[graph.index(edge)] += float(product.sum()) / steps / runs.n_pairs
    found, mask = score(runs, "eap-ig", steps=steps).values, graph.edge_mask
    assert found[mask] == pytest.approx(expected[mask], abs=TOLERANCE) and abs(expected).max() > 1e-2
    roots = [graph.source_index[node] for node in graph.roots]
    assert np.nansum(score(runs, "eap-ig", steps=64).values[roots]) == pytest.approx(
        float((runs.clean - runs.corrupted).mean()),
        abs=1e-3,  # the midpoint rule with 64 points
    )


def test_acdc_makes_the_decisions_of_a_loop(runs, plain):
    graph, tau = runs.wiring.graph(), 0.02
    one = runs.subset([1])  # the pair whose prompts differ in pixels alone
    damage, removed = plain_acdc(graph, lambda edges: cut(runs, plain, 1, edges), tau)
    compare(graph, score(one, "acdc", tau=tau), damage, removed, tau)


def test_a_circuit_runs_as_in_a_loop_where_all_other_edges_are_corrupted(runs, plain):
    graph, circuit = runs.wiring.graph(), score(runs, "eap").top(140)
    assert any("vision:" in edge for edge in circuit.edges) and any("projector->" in e for e in circuit.edges)
    kept = {(str(e.source), str(e.target)) for e in circuit.parsed_edges}
    values = [cut(runs, plain, i, set(names_of(graph)) - kept) for i in range(runs.n_pairs)]
    assert wb.faithfulness(circuit, runs).circuit == pytest.approx(values, abs=TOLERANCE)


@pytest.mark.parametrize("name", ["llava", "llava-siglip", "llava-before", "gemma3", "idefics3"])
def test_no_edge_is_the_clean_run_and_every_edge_the_corrupted_one(name, pairs):
    runs = runs_on(name, pairs)
    graph, before = runs.wiring.graph(), identity(runs.model)
    masks = np.stack([np.zeros_like(graph.edge_mask), graph.edge_mask])
    for batch in runs.batches:
        none, every = ablate_edges(runs, batch, graph, torch.as_tensor(masks))
        assert none.numpy() == pytest.approx(runs.clean[batch.index], abs=TOLERANCE)
        assert every.numpy() == pytest.approx(runs.corrupted[batch.index], abs=TOLERANCE)
    scores = score(runs, "eap")
    exact = score(runs, "exact")
    across = [j for j, t in enumerate(graph.targets) if t.kind == "projector"]
    sides = {"tower": slice(0, len(graph.parts[0].sources)), "projector": graph.sources.index(PROJECTOR)}
    for rows in sides.values():
        assert np.nanmax(abs(exact.values[rows])) > 1e-4 and np.nanmax(abs(scores.values[rows])) > 1e-4
    assert np.isfinite(exact.values[:, across]).any()
    assert identity(runs.model) == before and not [h for h in runs.model.hook_dict.values() if h.fwd_hooks]
    assert not any(p.grad is not None for p in runs.model.parameters())


def test_steps_start_where_an_edge_can_first_change_something(runs):
    graph = runs.wiring.graph()
    starts = [start for start, _ in graph.steps]
    assert starts == [0, 1, 1, 2, 3, 3] and all(a <= b for a, b in pairwise(starts))
    assert sorted(j for _, columns in graph.steps for j in columns) == list(range(len(graph.targets)))


def test_edges_of_the_language_model_do_not_run_the_tower(runs):
    graph = runs.wiring.graph()
    batch, behind = runs.batches[0], graph.parts[0].shape.n_layers
    mask = torch.zeros(1, *graph.edge_mask.shape, dtype=torch.bool)
    mask[0, graph.source_index[PROJECTOR], -1] = True
    for start, pictures in ((behind, 0), (0, len(batch))):
        ablate_edges(runs, batch, graph, mask, start=start)  # what both runs write is recorded
        with Pictures() as count:
            ablate_edges(runs, batch, graph, mask, start=start)
        assert count.seen == pictures


def test_a_saved_circuit_keeps_its_tower(runs, tmp_path):
    circuit = score(runs, "eap").top(120)
    back = load_circuit(save_circuit(circuit, tmp_path / "c.json"))
    assert back.edges == circuit.edges and back.shape == circuit.shape and back.shape.tower is not None
    assert "vision:embed" in back.nodes and back.prune().edges == back.edges
    assert [row["layer"] for row in back.summary().per_layer] == ["vision 0", "vision 1", 0, 1]


def test_runs_and_circuits_of_another_graph_are_refused(runs, pairs):
    circuit, alone = score(runs, "eap").top(120), wb.paired_runs(runs.model, pairs)
    with pytest.raises(CircuitError, match="has edges of a tower, which these runs lack"):
        wb.faithfulness(circuit, alone)
    with pytest.raises(CircuitError, match="lacks edges of a tower, which these runs have"):
        wb.faithfulness(score(alone, "eap").top(50), runs)
    for method, asked in (("relp", {}), ("eap-ig", {"level": "node"}), ("eap", {"per_position": True})):
        with pytest.raises(OptionError, match="tower"):
            score(runs, method, **asked)
    with pytest.raises(OptionError, match="backward rule relp is not defined through a projector"):
        score(runs, "eap", backward="relp")
    with pytest.raises(OptionError, match="mean ablation is not defined"):
        wb.faithfulness(circuit, runs, ablation="mean")


def test_models_without_a_tower_are_refused(bridge_of):
    with pytest.raises(ModelError, match="has no tower for pictures whose layers are seen"):
        wb.paired_runs(bridge_of("llama"), mini_pairs(1), with_tower=True)


def test_a_tower_of_which_several_layers_are_read_is_refused(pairs):
    with pytest.raises(ModelError, match="reads several of its layers, or something pooled from them"):
        runs_on("llava-several", pairs)


def test_what_enters_a_tower_can_be_that_of_another_picture(runs, pairs):
    other = [replace(p, image=(p.image[1], p.image[0])) for p in pairs]
    swapped = wb.paired_runs(runs.model, replace(pairs, items=tuple(other)))
    found = wb.ablate(wb.paired_runs(runs.model, pairs), ["vision:embed"])
    assert found.patched[0] == pytest.approx(swapped.clean, abs=TOLERANCE)
    assert (abs(found.patched[0] - runs.clean) > 1e-2).any()


def test_an_exact_sample_is_of_edges_of_both_stacks(runs, plain):
    found = wb.compare_with_exact(runs, score(runs, "eap"), 8)
    kinds = {edge.edge.startswith("vision:") for edge in found.edges}
    assert kinds == {True, False} and found.of == runs.wiring.graph().n_edges
    for edge in found.edges:
        drops = [runs.clean[i] - cut(runs, plain, i, [tuple(edge.edge.split("->"))]) for i in range(N)]
        assert edge.exact == pytest.approx(np.mean(drops), abs=TOLERANCE)
