"""Learned masks: seeds, sparsity, models left alone, and the circuits of models whose circuit is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from workbench.core.errors import ModelError, OptionError
from workbench.engine.edges import ablate_edges
from workbench.engine.of_task import paired_runs
from workbench.evaluate.faithfulness import run_circuits, run_masks
from workbench.methods.by_name import score
from workbench.methods.edge_pruning import Lagrangian, sparsity
from workbench.methods.options.masks import EdgePruning
from workbench.methods.soft_masks import draw, rows_of
from workbench.model.known_circuits import edge_labels, load_truth
from workbench.model.open import open_model

SHORT = {"steps": 12, "warmup": 8, "batch": 4}


@pytest.mark.parametrize("method", ["edge-pruning", "subnetwork-probing"])
def test_a_seed_decides_everything(method, runs_of):
    options = {"steps": 8} if method == "subnetwork-probing" else SHORT
    first, again, other = (score(runs_of("native-ln"), method, seed=s, **options).values for s in (3, 3, 4))
    assert np.array_equal(first, again, equal_nan=True)
    assert np.nanmax(abs(first - other)) > 1e-3


def test_restarts_are_stacked_and_compared(runs_of):
    """The first restart has the pairs and the noise of a training by itself; the score is the mean of all."""
    alone = score(runs_of("native-ln"), "edge-pruning", **SHORT)
    both = score(runs_of("native-ln"), "edge-pruning", restarts=2, **SHORT)
    assert alone.options["restarts_jaccard"] is None and 0 <= both.options["restarts_jaccard"] <= 1
    second = 2 * both.values - alone.values
    assert (
        np.nanmin(second) > -1e-4 and np.nanmax(second) < 1 + 1e-4
    )  # a mask again, so the first one was this one
    assert np.nanmax(abs(second - alone.values)) > 1e-3


@pytest.mark.parametrize("method", ["edge-pruning", "subnetwork-probing"])
def test_the_model_is_left_alone(method, runs_of):
    runs = runs_of("gpt2")
    before = {name: p.detach().clone() for name, p in runs.model.named_parameters()}
    hooks = [len(point.fwd_hooks) for point in runs.model.hook_dict.values()]
    metric = runs.clean.copy()
    options = {"steps": 2} if method == "subnetwork-probing" else {**SHORT, "steps": 2, "warmup": 1}
    score(runs, method, **options)
    assert all(torch.equal(p, before[name]) for name, p in runs.model.named_parameters())
    assert not any(p.requires_grad or p.grad is not None for p in runs.model.parameters())
    assert [len(point.fwd_hooks) for point in runs.model.hook_dict.values()] == hooks
    assert not runs.model.training and not any(batch.cache for batch in runs.batches)
    assert runs_of("gpt2").clean == pytest.approx(metric)


def test_the_lagrangian_by_hand():
    """Two masks of m = 0 are open with 0.8318; at half the warm-up the target 0.6 stands at 0.3."""
    rule = Lagrangian(EdgePruning(target=0.6, warmup=10, steps=20), torch.tensor([2.0]), torch.tensor([10.0]))
    m = torch.zeros(1, 2)
    short = 0.3 - (1 - 0.8318)
    assert float(rule(m, 4)[0]) == pytest.approx(2 * short + 10 * short**2, abs=1e-3)
    assert rule.target(9) == rule.target(19) == 0.6
    assert float(sparsity(m)[0]) == pytest.approx(1 - 0.8318, abs=1e-4)


def test_some_pairs_of_a_batch_give_what_they_give_in_it(runs_of):
    runs = runs_of("llama")
    graph, batch = runs.wiring.graph(), runs.batches[0]
    mask = torch.as_tensor(graph.edge_mask & (np.random.default_rng(0).random(graph.edge_mask.shape) < 0.5))
    whole = ablate_edges(runs, batch, graph, mask[None])
    part = rows_of(batch, np.array([1]))
    assert part.index.tolist() == [batch.index[1]] and part.positions == (batch.positions[1],)
    assert ablate_edges(runs, part, graph, mask[None])[0, 0] == pytest.approx(float(whole[0, 1]), abs=2e-5)
    runs.release(batch)


def test_every_pair_is_drawn_equally_often(runs_of):
    """Two pairs of six words and one of eight: a batch of one pair is each of them in a third of the draws."""
    runs, rng = runs_of("native-ln"), np.random.default_rng(0)
    drawn = [int(draw(runs, 1, rng).index[0]) for _ in range(3000)]
    assert np.bincount(drawn) / 3000 == pytest.approx([1 / 3] * 3, abs=0.03)  # standard error 0.009


def test_masks_of_each_position_make_circuits_at_positions(runs_of):
    runs = runs_of("native-ln")
    scores = score(runs, "edge-pruning", per_position=True, target=0.5, **SHORT)
    assert scores.positions == ("S", "V", "end", "rest") and scores.values.shape[0] == 4
    circuit = scores.keep("own", prune=False)
    achieved = scores.options[
        "achieved_sparsity"
    ]  # masks that nothing depends on are tied: not always the target
    assert circuit.size == pytest.approx((1 - achieved) * 4 * 110) and achieved == pytest.approx(0.5, abs=0.1)
    assert np.isfinite(run_circuits(runs, [circuit])).all()
    nodes = score(runs, "subnetwork-probing", per_position=True, steps=4)
    assert nodes.values.shape == (4, 1 + 2 * 5) and np.isfinite(run_circuits(runs, [nodes.top(20)])).all()


def test_what_a_model_lacks_is_said(runs_of):
    runs = runs_of("bert")
    with pytest.raises(ModelError, match="norm follows the sum"):
        score(runs, "edge-pruning", loss="metric")
    with pytest.raises(OptionError, match="no language-model head"):
        score(runs, "subnetwork-probing")
    found = score(runs, "subnetwork-probing", loss="metric", steps=3)
    assert found.unit == "mask" and found.values[0] == 1 and found.own_rule == ">=0.5"


# -- models whose circuit is known ---------------------------------------------------------------------------------


def runs_of_truth(name: str, n: int = 16):
    truth = load_truth(name)
    runs = paired_runs(open_model(name), truth.task, n=n, corruption=truth.corruption, **dict(truth.options))
    return truth, runs


def test_edge_pruning_finds_a_known_circuit():
    """Every edge whose content the answer needs has a larger mask than every other edge."""
    truth, runs = runs_of_truth("zoo:truth-greater")
    graph = runs.wiring.graph()
    positives, counted = edge_labels(truth, graph)
    target = 1 - positives.sum() / graph.n_edges
    scores = score(runs, "edge-pruning", target=target, steps=100, warmup=60, seed=0)
    others = counted & ~positives & graph.edge_mask
    assert scores.values[positives & counted].min() > scores.values[others].max()
    assert scores.options["achieved_sparsity"] == pytest.approx(target, abs=1.01 / graph.n_edges)


def test_subnetwork_probing_finds_the_nodes_of_a_known_circuit():
    truth, runs = runs_of_truth("zoo:truth-greater")
    found = score(runs, "subnetwork-probing", steps=100).keep("own")
    content = {str(e.source) for e in truth.circuit.parsed_edges if str(e) not in truth.supporting}
    assert set(found.nodes) - {"logits"} == content


def test_edges_that_only_matter_alone_can_be_pruned_together():
    """The matching head's query and key: without either nothing works, without both everything does.

    With both from the corrupted prompt it attends where that prompt's head does, which is the same place. So the
    smallest circuit that keeps the metric is smaller than the program, and a learned mask may find that one.
    """
    truth, runs = runs_of_truth("zoo:truth-induction")
    graph = runs.wiring.graph()
    positives, counted = edge_labels(truth, graph)
    whole = positives | ~counted
    gone = {name: whole.copy() for name in ("nothing", "query", "key", "both")}
    query = graph.source_index[graph.sources[0]], [str(t) for t in graph.targets].index("a1.h0<q>")
    key = [str(s) for s in graph.sources].index("a0.h1"), [str(t) for t in graph.targets].index("a1.h0<k>")
    for name, edges in (("query", [query]), ("key", [key]), ("both", [query, key])):
        for edge in edges:
            gone[name][edge] = False
    values = run_masks(runs, np.stack(list(gone.values()))).mean(1)
    nothing, without_query, without_key, both = values / runs.clean.mean()
    assert (nothing, both) == pytest.approx((1, 1), abs=1e-3)
    assert abs(without_query) < 0.1 and abs(without_key) < 0.1
