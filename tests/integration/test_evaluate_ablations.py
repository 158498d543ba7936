"""Circuits under every ablation equal a loop of single passes in which the replaced sums are made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.integration.naive import Put, SplitInputs, naive_of
from tests.mini import mini_pairs
from workbench.circuits.addresses import parse_node
from workbench.circuits.circuit import Circuit
from workbench.circuits.graph import Graph
from workbench.core.errors import WorkbenchError
from workbench.engine.interventions.words import ABLATIONS
from workbench.engine.reference import reference_outputs
from workbench.engine.source_outputs import source_outputs
from workbench.evaluate.faithfulness import faithfulness, run_circuits, run_masks
from workbench.methods.by_name import score

TOLERANCE = 2e-5  # as for single edges: two float orders of the same sums, logits of order 1
MEANS = ("mean", "mean-per-position", "mean-per-template")


def pairs_of_three_templates():
    """Five pairs of two lengths; the first two of six words have one template, the third its own."""
    pairs = mini_pairs(5)
    items = list(pairs.items)
    items[3] = replace(items[3], group="other words")
    return replace(pairs, items=tuple(items))


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt-neox", "gemma2"])
@pytest.mark.parametrize("ablation", ["zero", *MEANS])
def test_a_circuit_under_an_ablation_equals_one_pass_at_a_time(family, ablation, runs_of):
    """Pitfalls 'mean ablation that is not the mean' and 'a padded batch sums pad positions too'."""
    runs = runs_of(family, pairs_of_three_templates())
    graph = runs.wiring.graph()
    rng = np.random.default_rng(3)
    chosen = {(e.source, e.target): 1.0 for e in graph.edges() if rng.random() < 0.5}
    circuit = Circuit.build(shape=graph.shape, nodes={}, edges=chosen)
    outside = {(str(e.source), str(e.target)) for e in graph.edges() if (e.source, e.target) not in chosen}
    found = run_circuits(runs, [circuit], ablation=ablation)[0]
    with SplitInputs(naive_of(family, runs), whole_layer=not runs.wiring.head_writes) as split:
        truth = [split.ablated(i, outside, ablation) for i in range(runs.n_pairs)]
    assert found == pytest.approx(truth, abs=TOLERANCE)
    assert np.abs(found - run_circuits(runs, [circuit])[0]).max() > 100 * TOLERANCE  # not resample ablation


@pytest.mark.parametrize("ablation", ["resample", "mean"])
def test_sparse_and_dense_circuits_together_equal_whole_passes(ablation, runs_of, monkeypatch):
    """Sparse ones go by their live parts, in stacks of two; the order of circuits is kept."""
    runs = runs_of("llama", pairs_of_three_templates(), batch_tokens=40)
    graph, rng = runs.wiring.graph(), np.random.default_rng(5)
    shares = (0.9, 0.05, 0.0, 0.15, 0.5, 0.1)
    kept = np.stack([(rng.random(graph.edge_mask.shape) < share) & graph.edge_mask for share in shares])
    found = run_masks(runs, kept, ablation)
    monkeypatch.setattr("workbench.evaluate.faithfulness.SPARSE", 2.0)
    assert found == pytest.approx(run_masks(runs, kept, ablation), abs=TOLERANCE)
    assert np.ptp(found.mean(1)) > 100 * TOLERANCE


def test_the_mean_of_a_source_is_the_mean_of_that_source(runs_of):
    """Values by hand: over pairs and positions, within a length, within a template."""
    runs = runs_of("gpt2", pairs_of_three_templates(), batch_tokens=30)
    graph = runs.wiring.graph()
    own = {}
    for batch in runs.batches:
        for row, i in enumerate(batch.index):
            own[int(i)] = source_outputs(runs, batch, "clean", graph)[row].double()
        runs.release(batch)
    groups = [pair.group for pair in runs.pairs.pairs]
    for batch in runs.batches:
        found = {kind: reference_outputs(runs, batch, graph, kind).double() for kind in ("zero", *MEANS)}
        for row, i in enumerate(map(int, batch.index)):
            same = [own[j] for j in own if len(own[j]) == len(own[i])]
            kin = [own[j] for j in own if len(own[j]) == len(own[i]) and groups[j] == groups[i]]
            expected = {
                "zero": torch.zeros_like(own[i]),
                "mean": torch.cat(list(own.values())).mean(0).expand_as(own[i]),
                "mean-per-position": torch.stack(same).mean(0),
                "mean-per-template": torch.stack(kin).mean(0),
            }
            for kind, value in expected.items():
                assert (found[kind][row] - value).abs().max() < 1e-5, kind
        runs.release(batch)


def test_zero_ablation_removes_the_bias_of_mlps_and_the_position_embedding(runs_of):
    """Pitfall 'which biases belong to a node': nothing kept leaves the norm of what no node writes (b_O)."""
    runs = runs_of("gpt2")
    graph = runs.wiring.graph()
    nothing = Circuit.build(shape=graph.shape, nodes={}, edges={})
    found = run_circuits(runs, [nothing], ablation="zero")[0]
    model = runs.model
    biases = sum(model.blocks[n].attn.b_O for n in range(model.cfg.n_layers))
    with torch.no_grad():
        logits = model.unembed(model.ln_final(biases[None, None]))[0, 0]
    truth = [
        float(logits[c[0]] - logits[w[0]])
        for c, w in zip(runs.pairs.correct, runs.pairs.incorrect, strict=True)
    ]
    assert found == pytest.approx(truth, abs=TOLERANCE)


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("level", ["edge", "node"])
def test_the_whole_is_1_and_nothing_0_under_every_ablation(level, ablation, runs_of):
    runs = runs_of("gpt2", pairs_of_three_templates())
    graph = runs.wiring.graph() if level == "edge" else Graph(runs.wiring.node_shape())
    common = {"shape": graph.shape, "level": level}
    edges = {(e.source, e.target): 0.0 for e in graph.edges()} if level == "edge" else {}
    nodes = {} if level == "edge" else {n: 0.0 for n in graph.nodes()}
    whole = Circuit.build(nodes=nodes, edges=edges, **common)
    nothing = Circuit.build(nodes={}, edges={}, **common)
    everything = faithfulness(whole, runs, ablation=ablation)
    assert everything.faithfulness == pytest.approx(1, abs=1e-3) and everything.ablation == ablation
    assert faithfulness(nothing, runs, ablation=ablation).faithfulness == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("ablation", ["zero", *MEANS])
def test_nodes_under_an_ablation_equal_one_pass_at_a_time(ablation, runs_of):
    runs = runs_of("llama", pairs_of_three_templates())
    graph = Graph(runs.wiring.node_shape())
    out = ("a0.h1", "a2.h0", "m1")
    kept = {n: 0.0 for n in graph.nodes() if str(n) not in out}
    circuit = Circuit.build(shape=graph.shape, nodes=kept, edges={}, level="node")
    naive = naive_of("llama", runs)
    puts = [Put("head-output", 0, 1), Put("head-output", 2, 0), Put("mlp-out", 1)]
    truth = [naive.patched(i, "clean", ablation, puts) for i in range(runs.n_pairs)]
    assert all(parse_node(a) in graph.sources for a in out)
    assert run_circuits(runs, [circuit], ablation=ablation)[0] == pytest.approx(truth, abs=TOLERANCE)


def test_an_unknown_ablation_is_explained(runs_of, unchecked):
    runs = runs_of("gpt2")
    circuit = score(runs, "eap").top(5)
    with pytest.raises(WorkbenchError, match="no ablation called 'means'"):
        run_circuits(runs, [circuit], ablation="means")
