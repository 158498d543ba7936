"""The floor computes the numbers that the workbench computes; otherwise a comparison of times means nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks import models
from benchmarks.floor import sweeps
from workbench.circuits import graph as graphs
from workbench.circuits.circuit import Circuit
from workbench.engine.interventions.ablation import ablations, parts_of
from workbench.engine.interventions.patching import patches, site_nodes
from workbench.engine.sweep import sweep
from workbench.evaluate.faithfulness import faithfulness

MAKERS = {
    "gpt2": lambda: models.gpt2(
        3, 6, n_layer=3, n_head=4, n_embd=32, vocab_size=90, n_positions=16, initializer_range=0.15
    ),
    "llama": lambda: models.llama(
        3,
        6,
        num_hidden_layers=3,
        hidden_size=32,
        intermediate_size=48,
        vocab_size=90,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.15,
    ),
}


@pytest.fixture(scope="module", params=list(MAKERS))
def shape(request):
    return MAKERS[request.param]()


def test_head_ablation(shape):
    ours = sweep(shape.runs, ablations(parts_of(shape.runs.wiring, "heads"), "mean"), kind="ablation")
    floor, gap = sweeps.head_ablation(shape.plain, shape.clean, shape.corrupted, shape.answers)
    assert ours.patched == pytest.approx(floor.numpy(), abs=1e-5)
    assert ours.gap == pytest.approx(gap.numpy(), abs=1e-5)
    assert np.abs(ours.patched - shape.runs.clean).max() > 1e-3
    assert ours.provenance["computed by"]["hooked model"] == 0


def test_head_patching(shape):
    wiring = shape.runs.wiring
    positions = list(range(shape.clean.shape[1]))
    rows = patches(site_nodes(wiring, "head-output"), positions=positions)
    ours = sweep(shape.runs, rows, kind="patching", mode="denoising").patched
    ours = ours.reshape(wiring.n_layers, wiring.n_heads, len(positions), -1).swapaxes(1, 2)
    floor = sweeps.head_patching(shape.plain, shape.clean, shape.corrupted, shape.answers).numpy()
    assert ours == pytest.approx(floor, abs=1e-5)
    assert np.abs(ours - shape.runs.corrupted).max() > 1e-3


@pytest.mark.parametrize("share", [0.03, 0.5])
def test_faithfulness(shape, share):
    graph = graphs.Graph(shape.runs.wiring.shape())
    kept = graph.edge_mask & (np.random.default_rng(0).random(graph.edge_mask.shape) < share)
    edges = {(graph.sources[s], graph.targets[t]): 1.0 for s, t in zip(*np.nonzero(kept), strict=True)}
    circuit = Circuit.build(shape=graph.shape, nodes={}, edges=edges, level="edge")
    ours = faithfulness(circuit, shape.runs)
    floor = sweeps.faithfulness(
        shape.plain, shape.clean, shape.corrupted, shape.answers, torch.as_tensor(kept)
    ).numpy()
    assert np.stack([ours.circuit, ours.empty, ours.full]) == pytest.approx(floor, abs=1e-5)


def test_a_part_that_is_cheaper_is_counted_less(shape):
    """The count by hand for one layer less: what a layer costs, and the last position alone at the end."""
    p = shape.plain
    n, length = shape.clean.shape
    s = sweeps._sizes(p)
    whole = s["kv"] + s["qo"] + s["mlp"]
    one = sweeps.count_head_ablation(p, n, length, heads=1) - n * length * 3 * whole
    one -= n * length * (2 * whole + s["kv"]) + n * (s["qo"] + s["mlp"])  # the corrupted run, its end alone
    by_hand = n * (length * (s["z"] + s["mlp"] + s["kv"] + s["qo"] + s["mlp"] + s["kv"]) + s["qo"] + s["mlp"])
    by_hand += n * (length * (s["z"] + s["mlp"] + s["kv"]) + s["qo"] + s["mlp"])
    by_hand += n * (s["z"] + s["mlp"])
    assert one == by_hand


@pytest.mark.parametrize("words", [["--only", "eap-gi"], ["--only", "eap", "ablatoin"], ["--models", "gpt3"]])
def test_a_job_that_the_bench_does_not_know_is_refused(words, capsys):
    from benchmarks.bench import main

    with pytest.raises(SystemExit) as ended:
        main(words)
    said = capsys.readouterr().err
    assert ended.value.code == 2 and words[-1] in said
    assert ("integrated" if words[0] == "--only" else "llama") in said
