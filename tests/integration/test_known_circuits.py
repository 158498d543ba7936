"""The hand-built models do their task by exactly the circuit that circuit.json states.

Recomputed from the stored weights in float64 and without TransformerLens (`tests/integration/known.py`); the
package's own exact patching is compared with that.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.integration.known import Plain
from workbench.circuits.addresses import parse_edge
from workbench.circuits.graph import Graph
from workbench.core.errors import CircuitError
from workbench.engine.metrics import metric_from_file
from workbench.engine.paired_runs import PairedRuns
from workbench.methods.by_name import score
from workbench.model.builtin import ZOO
from workbench.model.known_circuits import edge_labels, list_truths, load_truth, node_labels
from workbench.model.open import open_model
from workbench.training import get_recipe
from workbench.training.interchange import Exchangeable, NetworkSizes

NAMES = tuple(name for name in list_truths() if not load_truth(name).trained)
TRAINED = tuple(name for name in list_truths() if load_truth(name).trained)
N = 12
# Largest change, as a share of clean minus corrupted, that anything outside the circuit makes. A norm divides
# everything by one length, to which every part adds a little; elsewhere only float32 rounding is left.
OUTSIDE = {"none": 1e-5, "LayerNorm": 1e-3, "RMSNorm": 1e-3}


def kind(plain: Plain) -> str:
    return plain.truth.norm.split(",")[0]


@pytest.fixture(scope="module", params=NAMES)
def plain(request) -> Plain:
    return Plain(request.param)


@pytest.fixture(scope="module")
def pairs(plain):
    return plain.truth.pairs(N, seed=3)


@pytest.fixture(scope="module")
def runs(plain, pairs):
    """Per pair: clean logits, corrupted logits, corrupted outputs, clean minus corrupted difference."""
    everything, found = plain.edges(), []
    for pair in pairs:
        clean, _ = plain.run(pair.clean, keep=everything)
        corrupted, out = plain.run(pair.corrupted, keep=everything)
        found.append((clean, corrupted, out))
    return found


@pytest.fixture(scope="module")
def gap(plain, pairs, runs) -> float:
    return float(
        np.mean(
            [
                plain.difference(clean, p) - plain.difference(bad, p)
                for p, (clean, bad, _) in zip(pairs, runs, strict=True)
            ]
        )
    )


def test_there_are_at_least_eight_of_different_norms_and_depths():
    configs = [Plain(name).config for name in NAMES]
    assert len(NAMES) >= 8
    assert {c["normalization_type"] for c in configs} == {None, "LN", "RMS"}
    assert len({c["n_layers"] for c in configs}) >= 4 and len({c["d_model"] for c in configs}) >= 8
    assert len({load_truth(name).algorithm for name in NAMES}) == len(NAMES)


def test_the_shipped_model_is_what_is_recomputed_here(plain, pairs, runs):
    bridge = open_model(plain.name)
    found = bridge(plain.ids(pairs[0].clean)[None])[0, -1].double()
    assert torch.allclose(found, runs[0][0], atol=1e-3)  # logits up to 30, float32 attention scores up to 80


def test_the_true_edges_exist_and_every_node_is_in_the_circuit_or_idle(plain):
    truth, graph = plain.truth, plain.truth.circuit.graph
    assert {str(edge) for edge in graph.edges()} == plain.edges()
    assert {*truth.circuit.nodes, *truth.idle} == {*plain.nodes(), "logits"}
    assert not set(truth.circuit.nodes) & set(truth.idle)
    assert truth.circuit.prune().edges == truth.circuit.edges  # all on a way from the input to the logits


def test_the_labels_are_the_circuit(plain):
    truth, graph = plain.truth, plain.truth.circuit.graph
    positive, counted = edge_labels(truth, graph)
    by_address = {str(e): (positive[graph.index(e)], counted[graph.index(e)]) for e in graph.edges()}
    for edge, (inside, counts) in by_address.items():
        assert inside == (edge in truth.content) and counts == (edge not in truth.supporting)
    assert not positive[~graph.edge_mask].any() and not counted[~graph.edge_mask].any()
    inside, counts = node_labels(truth, graph)
    for i, node in enumerate(graph.sources):
        assert inside[i] == any(edge.startswith(f"{node}->") for edge in truth.content)
        assert counts[i] or str(node) in truth.circuit.nodes


def test_labels_of_another_architecture_are_refused():
    first, second = (load_truth(name) for name in ("truth-induction", "truth-greater"))
    with pytest.raises(CircuitError, match="the known circuit of zoo:truth-induction is of"):
        edge_labels(first, second.circuit.graph)
    with pytest.raises(CircuitError, match="did you mean zoo:truth-greater"):
        load_truth("truth-grater")


def test_the_task_is_done(plain, pairs, runs):
    assert all(plain.right(clean, pair) for pair, (clean, _, _) in zip(pairs, runs, strict=True))


def test_the_true_circuit_alone_does_the_task(plain, pairs, runs, gap):
    """Everything else carries the corrupted prompt's content, or (without a norm) nothing."""
    edges = set(plain.truth.circuit.edges)
    for pair, (clean, _, out) in zip(pairs, runs, strict=True):
        for other in (out, None) if kind(plain) == "none" else (out,):
            alone, _ = plain.run(pair.clean, keep=edges, other=other)
            assert plain.right(alone, pair)
            off = abs(plain.difference(alone, pair) - plain.difference(clean, pair))
            assert off <= max(OUTSIDE[kind(plain)] * gap, 1e-3), pair.id  # 1e-3: a turned basis, in float32


def test_only_the_edges_that_vary_answer_to_a_corruption(plain):
    everything = plain.edges()
    for corruption, varying in plain.truth.varies.items():
        pairs = (
            plain.truth.pairs(4, seed=5)
            if corruption == plain.truth.corruption
            else _other(plain, corruption)
        )
        for pair in pairs:
            clean, _ = plain.run(pair.clean, keep=everything)
            corrupted, out = plain.run(pair.corrupted, keep=everything)
            size = abs(plain.difference(clean, pair) - plain.difference(corrupted, pair))
            bound = max(OUTSIDE[kind(plain)] * size, 1e-3)
            restored, _ = plain.run(pair.clean, keep=set(varying), other=out)
            noised, _ = plain.run(pair.clean, keep=everything - set(varying), other=out)
            assert abs(plain.difference(restored, pair) - plain.difference(clean, pair)) < bound
            assert abs(plain.difference(noised, pair) - plain.difference(corrupted, pair)) < bound


def _other(plain: Plain, corruption: str):
    from workbench.tasks.registry import make_pairs

    return make_pairs(plain.truth.task, n=4, seed=5, corruption=corruption, **plain.truth.options)


def test_exact_patching_finds_the_true_edges_and_no_others(plain, gap):
    """Labels are what exact patching sees, except where parts back each other up: there it is blind, as stated."""
    truth = plain.truth
    measured = PairedRuns(open_model(plain.name), truth.pairs(N, seed=3), metric=truth.metric)
    graph = measured.wiring.graph()
    positive = edge_labels(truth, graph)[0]
    effect = np.nan_to_num(score(measured, "exact", level="edge").values) / gap
    assert (
        abs(effect[~positive & graph.edge_mask]).max() < OUTSIDE[kind(plain)]
    )  # the supporting edges among them
    hidden = [edge for edge in truth.content if abs(effect[graph.index(_edge(edge))]) < 0.1]
    assert set(hidden) == set(BACKED_UP.get(plain.name, ()))


def _edge(address: str):
    from workbench.circuits.addresses import parse_edge

    return parse_edge(address)


# True edges whose single exchange the answer hides: a twin does the same, or what they change cancels downstream.
BACKED_UP = {
    "zoo:truth-redundant": ("input->a0.h0<v>", "input->a0.h2<v>", "a0.h0->m0", "a0.h2->m0"),
    "zoo:truth-cancelling": ("input->a0.h3<v>",),
}


def test_cutting_any_true_edge_changes_the_answers(plain, pairs, runs, gap):
    """The edge carries nothing: the logit difference moves by a twentieth of the whole and more, pair by pair."""
    everything = plain.edges()
    for edge in plain.truth.content:
        if edge not in BACKED_UP.get(plain.name, ()):
            moved = [
                plain.difference(plain.run(pair.clean, keep=everything - {edge})[0], pair)
                - plain.difference(clean, pair)
                for pair, (clean, _, _) in zip(pairs, runs, strict=True)
            ]
            assert np.abs(moved).mean() > 0.05 * gap, edge


@pytest.mark.parametrize("name", ["truth-greater", "truth-induction", "truth-induction-rotated"])
def test_cutting_any_edge_of_a_saturated_circuit_destroys_the_task(name):
    plain = Plain(name)
    everything, pairs = plain.edges(), plain.truth.pairs(N, seed=3)
    for edge in plain.truth.content:
        cut = [plain.run(pair.clean, keep=everything - {edge})[0] for pair in pairs]
        assert sum(plain.right(logits, pair) for logits, pair in zip(cut, pairs, strict=True)) < 0.3 * N, edge


def test_idle_parts_change_nothing(plain, pairs, runs, gap):
    everything, idle = plain.edges(), set(plain.truth.idle)
    busy = {edge for edge in everything if edge.split("->")[0] not in idle}
    for pair, (clean, _, out) in zip(pairs, runs, strict=True):
        logits, _ = plain.run(pair.clean, keep=busy, other=out)
        off = (logits - clean).abs().max().item()
        assert off <= max(OUTSIDE[kind(plain)] * gap, 1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_the_recipe_gives_the_shipped_weights_and_circuit_again(name):
    recipe = get_recipe(name.removeprefix("zoo:"))
    made, shipped = recipe.train(recipe.seed, None), load_file(ZOO / recipe.name / "model.safetensors")
    weights = made.native[1]
    assert set(weights) == set(shipped) and made.circuit.to_dict() == load_truth(name).circuit.to_dict()
    # 1e-4: `codes` pushes vectors apart for 200 steps, and sums differ between processors.
    assert all(torch.allclose(weights[key], shipped[key], atol=1e-4) for key in shipped)


def test_twins_back_each_other_up_and_both_together_matter():
    plain = Plain("zoo:truth-redundant")
    everything, pairs = plain.edges(), plain.truth.pairs(N, seed=3)
    for cut, right in (({"a0.h0"}, N), ({"a0.h2"}, N), ({"a0.h0", "a0.h2"}, 0)):
        kept = {edge for edge in everything if edge.split("->")[0] not in cut}
        assert sum(plain.right(plain.run(p.clean, keep=kept)[0], p) for p in pairs) == right, cut


def test_heads_that_cancel_matter_alone_and_not_together():
    plain = Plain("zoo:truth-cancelling")
    everything, pair = plain.edges(), plain.truth.pairs(1, seed=3)[0]
    clean, _ = plain.run(pair.clean, keep=everything)
    _, out = plain.run(pair.corrupted, keep=everything)

    def change(cut):
        kept = {edge for edge in everything if edge.split("->")[0] not in cut}
        return plain.difference(plain.run(pair.clean, keep=kept, other=out)[0], pair) - plain.difference(
            clean, pair
        )

    plus, minus = change({"a1.h1"}), change({"a1.h2"})
    assert plus < -5 and minus > 5 and plus == pytest.approx(-minus)
    assert abs(change({"a1.h1", "a1.h2"})) < 1e-4 and abs(change({"a0.h3"})) < 1e-4  # float32 weights


def test_rotation_leaves_no_dimension_a_meaning():
    straight, turned = Plain("truth-induction"), Plain("truth-induction-rotated")
    zeros = [(p.weights["embed.weight"] == 0).double().mean().item() for p in (straight, turned)]
    assert zeros[0] > 0.7 and zeros[1] < 0.05  # four of five blocks are empty; a turned row is dense
    text = straight.truth.pairs(1)[0].clean
    logits = [p.run(text, keep=p.edges())[0] for p in (straight, turned)]
    assert torch.allclose(*logits, atol=1e-3)


def test_every_graph_of_the_models_is_known_to_the_circuit():
    assert all(Graph(load_truth(name).circuit.shape).n_edges > 15 for name in NAMES)


@pytest.mark.parametrize("name", TRAINED)
def test_a_trained_circuit_alone_does_the_task_and_its_edges_carry_the_algorithm(name):
    """In float64: all other edges exchanged change no answer, and a true edge exchanged too changes it."""
    plain = Plain(name)
    truth, everything = plain.truth, plain.edges()
    assert {str(edge) for edge in truth.circuit.graph.edges()} == everything
    for pair in truth.pairs(N, seed=3):
        clean, _ = plain.run(pair.clean, keep=everything)
        corrupted, out = plain.run(pair.corrupted, keep=everything)
        alone, _ = plain.run(pair.clean, keep=set(truth.content), other=out)
        assert plain.right(clean, pair) and plain.right(alone, pair)
        gap = plain.difference(clean, pair) - plain.difference(corrupted, pair)
        assert abs(plain.difference(alone, pair) - plain.difference(clean, pair)) < 0.02 * gap
        for edge in truth.content:
            swapped, _ = plain.run(pair.clean, keep=set(truth.content) - {edge}, other=out)
            assert not plain.right(swapped, pair), edge


@pytest.mark.parametrize("name", TRAINED)
def test_what_trains_is_the_native_model_with_and_without_exchanges(name):
    """The training code's forward pass, on the shipped weights, beside the one written out here."""
    plain = Plain(name)
    sizes = {field: plain.config[field] for field in NetworkSizes.__dataclass_fields__}
    model = Exchangeable(NetworkSizes(**sizes), seed=0)
    for weight, value in load_file(ZOO / plain.name.removeprefix("zoo:") / "model.safetensors").items():
        model.weight(weight).data.copy_(value)
    everything, draw, (pair,) = plain.edges(), np.random.default_rng(0), plain.truth.pairs(1, seed=3)
    kept = {str(edge) for edge in model.graph.edges() if draw.random() < 0.6}
    mask = torch.tensor([[f"{s}->{t}" not in kept for t in model.graph.targets] for s in model.graph.sources])
    clean, corrupted = (plain.ids(text)[None] for text in (pair.clean, pair.corrupted))
    with torch.no_grad():
        logits, _ = model(clean)
        changed, _ = model(clean, mask.float()[None], model(corrupted)[1])
    _, out = plain.run(pair.corrupted, keep=everything)
    expected = (plain.run(pair.clean, keep=everything)[0], plain.run(pair.clean, keep=kept, other=out)[0])
    assert (expected[0] - expected[1]).abs().max() > 0.01
    for found, own in zip((logits, changed), expected, strict=True):
        assert torch.allclose(found[0].double(), own, atol=1e-3)


def test_a_saturated_norm_hides_edges_from_the_gradient_that_passes_it():
    """Each edge carries the whole gap; at the clean input the gradient of three is next to nothing."""
    truth = load_truth("zoo:trained-majority")
    runs = PairedRuns(open_model(truth.model), truth.pairs(8, seed=0), metric=metric_from_file(truth.metric))
    gap = float((runs.clean - runs.corrupted).mean())
    places = [runs.wiring.graph().index(parse_edge(edge)) for edge in truth.content]

    def shares(method, **options):
        values = score(runs, method, **options).values
        return np.array([values[at] for at in places]) / gap

    assert shares("exact").min() > 0.99
    assert abs(shares("eap")[:3]).max() < 0.05
    assert shares("eap-ig", steps=1, rule="right", backward="norms-frozen").min() > 0.6
    assert shares("eap-ig", steps=30).min() > 0.2  # the path passes where the norm still answers
