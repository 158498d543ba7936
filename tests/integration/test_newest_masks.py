"""Masks of a fixed number, masks within masks, and the regression that only watches: identities and values by hand."""

import numpy as np
import pytest
import torch

from tests.mini import mini_pairs
from workbench.core.errors import OptionError
from workbench.engine.metrics import metric_from_file
from workbench.engine.of_task import paired_runs
from workbench.engine.paired_runs import PairedRuns
from workbench.methods.by_name import score
from workbench.methods.circuit_lasso import group_lasso, largest_penalty, told
from workbench.methods.node_pruning import Grains, gated_output
from workbench.methods.reference import WRITES, per_head_hooks
from workbench.methods.top_k_masks import gates, hard_gates
from workbench.model.known_circuits import edge_labels, load_truth, node_labels
from workbench.model.open import open_model

# -- top-k ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tau", [0.05, 1.0])
def test_gates_sum_to_what_was_asked_and_the_sum_has_no_gradient(tau):
    theta = torch.randn(3, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    theta.requires_grad_(True)
    found = gates(theta, 7.0, tau)
    assert found.sum(-1).tolist() == pytest.approx([7.0] * 3, abs=1e-9)
    (grad,) = torch.autograd.grad(found.sum(), theta)
    assert float(grad.abs().max()) < 1e-9
    # raising one closes the others: by finite differences
    (grad,) = torch.autograd.grad(gates(theta, 7.0, tau)[0, 4], theta)
    moved = theta.detach().clone()
    moved[0, 3] += 1e-6
    slope = (gates(moved, 7.0, tau) - gates(theta.detach(), 7.0, tau))[0, 4] / 1e-6
    assert float(grad[0, 3]) == pytest.approx(float(slope), abs=1e-6) and slope <= 0


def test_hard_gates_are_the_best_with_the_gradient_of_the_soft_ones():
    theta = torch.tensor([[0.3, 2.0, -1.0, 0.5]], dtype=torch.float64, requires_grad=True)
    weight = torch.tensor([[1.0, -2.0, 0.5, 3.0]], dtype=torch.float64)
    hard, soft = hard_gates(theta, 2, 0.7), gates(theta, 2.0, 0.7)
    assert hard.detach().round(decimals=12).tolist() == [[0, 1, 0, 1]]
    one, two = (torch.autograd.grad((g * weight).sum(), theta)[0] for g in (hard, soft))
    assert torch.equal(one, two)


@pytest.fixture(scope="module")
def induction():
    truth = load_truth("zoo:truth-induction")
    return truth, paired_runs(open_model(truth.model), truth.pairs(6, seed=0))


def test_top_k_finds_the_edges_of_a_written_circuit():
    truth = load_truth("zoo:truth-majority")
    runs = PairedRuns(open_model(truth.model), truth.pairs(6, seed=0), metric=metric_from_file(truth.metric))
    positive, counted = edge_labels(truth, runs.wiring.graph())
    n = int((positive & counted).sum())
    found = score(runs, "top-k-masks", size=n / runs.wiring.graph().n_edges, steps=40)
    true, others = found.values[positive & counted], found.values[~positive & counted & found.exists]
    assert true.min() > others.max() and found.options["k"] == n
    assert found.values[found.exists].sum() == pytest.approx(n, abs=1e-4)
    assert found.keep("own", prune=False).n_edges == n


def test_a_share_of_less_than_one_part_is_refused(induction):
    with pytest.raises(OptionError, match="less than one"):
        score(induction[1], "top-k-masks", size=1e-4)
    with pytest.raises(OptionError, match="below 1"):
        score(induction[1], "top-k-masks", size=1.0)


# -- parts within parts -----------------------------------------------------------------------------------------


@pytest.fixture
def small(runs_of):
    runs = runs_of("gpt2", pairs=mini_pairs(2))
    return runs, runs.batches[0], Grains.of(runs)


def test_open_masks_are_the_model_bit_for_bit_and_closed_ones_are_not(small):
    runs, batch, grains = small
    ones = torch.ones(1, sum(grains.sizes))
    assert torch.equal(gated_output(runs, batch, ones, grains), runs.output(batch, batch.prompt("clean"), []))
    closed = gated_output(runs, batch, ones * 0, grains)
    only_layers = ones.clone()
    only_layers[:, : grains.sizes[0]] = 0
    # 1e-5: what is in a closed layer does not matter; float32
    assert torch.allclose(closed, gated_output(runs, batch, only_layers, grains), atol=1e-5)
    assert not torch.allclose(closed, gated_output(runs, batch, ones, grains), atol=1e-2)


def test_what_is_in_a_closed_part_has_no_gradient(small):
    runs, batch, grains = small
    masks = torch.full((1, sum(grains.sizes)), 0.7)
    first_mlp = grains.sizes[0] + grains.mlp_at[0]
    masks[0, first_mlp] = 0.0
    masks.requires_grad_(True)
    with torch.enable_grad():
        total = gated_output(runs, batch, masks, grains).square().sum()
    (grad,) = torch.autograd.grad(total, masks)
    _, nodes, neurons = grains.split(grad)
    assert (
        torch.equal(neurons[0, 0], torch.zeros_like(neurons[0, 0])) and float(neurons[0, 1].abs().max()) > 0
    )
    assert float(nodes[0, grains.mlp_at[0]].abs()) > 0


def test_masks_of_a_part_and_of_what_holds_it_multiply(small):
    runs, batch, grains = small
    generator = torch.Generator().manual_seed(1)
    apart = torch.rand(2, sum(grains.sizes), generator=generator)
    layers, nodes, neurons = grains.split(apart)
    kept = nodes * layers[:, list(grains.layer_of)]
    units = (neurons * kept[:, list(grains.mlp_at), None]).flatten(1)
    folded = kept.clone()
    folded[:, list(grains.mlp_at)] = 1.0  # all of it is in the masks of the neurons
    together = torch.cat([torch.ones_like(layers), folded, units], -1)
    both = (gated_output(runs, batch, masks, grains) for masks in (apart, together))
    assert torch.allclose(*both, atol=2e-5)  # float32, sums in another order


def test_node_pruning_keeps_the_heads_of_a_written_circuit(induction):
    truth, runs = induction
    found = score(runs, "node-pruning", steps=60, lam_node=3.0)
    positive, counted = node_labels(truth, found.graph)
    values = found.values
    assert values[positive & counted].min() > values[~positive & counted].max()
    again = score(runs, "node-pruning", steps=60, lam_node=3.0)
    assert np.array_equal(found.values, again.values)  # a seed decides everything


def test_neurons_and_nodes_are_of_one_training(runs_of):
    runs = runs_of("gpt2", pairs=mini_pairs(2))
    nodes, neurons = (score(runs, "node-pruning", steps=3, level=level) for level in ("node", "neuron"))
    mlps = [i for i, node in enumerate(nodes.graph.sources) if node.kind == "mlp"]
    for layer, i in enumerate(mlps):
        assert neurons.values[layer].max() <= nodes.values[i] + 1e-12


# -- the regression ---------------------------------------------------------------------------------------------


def test_orthonormal_predecessors_are_shrunk_by_half_of_the_price():
    rng = np.random.default_rng(0)
    x, _ = np.linalg.qr(rng.normal(size=(30, 6)))
    y = x @ np.array([[2.0], [-1.0], [0.4], [0.0], [-0.2], [3.0]])
    found = group_lasso(x, y, [slice(i, i + 1) for i in range(6)], 1.0)[:, 0]
    b = x.T @ y[:, 0]
    assert found == pytest.approx(np.sign(b) * np.maximum(np.abs(b) - 0.5, 0), abs=1e-8)


def test_the_largest_penalty_is_where_the_last_group_goes():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(40, 6)), rng.normal(size=(40, 2))
    groups = [slice(0, 3), slice(3, 6)]
    edge = largest_penalty(x, y, groups)
    assert not group_lasso(x, y, groups, edge * 1.001).any() and group_lasso(x, y, groups, edge * 0.99).any()


def test_a_group_is_optimal_where_its_gradient_meets_the_price():
    """Conditions of the minimum, written out: 2 x'(y - xB) is penalty * B / |B| for a group that is there."""
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(60, 6)), rng.normal(size=(60, 3))
    groups = [slice(0, 2), slice(2, 4), slice(4, 6)]
    penalty = 0.5 * largest_penalty(x, y, groups)
    found = group_lasso(x, y, groups, penalty, steps=5000)
    pull = 2 * x.T @ (y - x @ found)
    for group in groups:
        size = np.linalg.norm(found[group])
        if size:
            assert pull[group] == pytest.approx(penalty * found[group] / size, abs=1e-4 * penalty)
        else:
            assert np.linalg.norm(pull[group]) <= penalty * 1.0001


def test_rows_are_told_in_units_of_their_spread():
    rows = np.array([[3.0, 0.0], [-3.0, 0.0], [3.0, 0.1], [-3.0, -0.1]])
    found = told(rows, 1)
    assert found.shape == (4, 1) and (found**2).mean() == pytest.approx(1.0)
    assert not told(np.ones((4, 3)), 2).any()  # nothing changes


def told_by_hand(rows):
    """The largest principal component of some rows from the matrix of their products, in units of its spread."""
    centred = rows - rows.mean(0)
    axis = np.linalg.eigh(centred @ centred.T)[1][:, -1:]
    return axis * np.sqrt(len(rows))


def one_by_one(x, y, price):
    """Sizes of coefficients, one feature after the other moved to its best place, until nothing moves."""
    price, found, rest = price * max(2 * abs(x.T @ y)), np.zeros(x.shape[1]), y.copy()
    for _ in range(2000):
        before = found.copy()
        for j, one in enumerate(x.T):
            pull = one @ rest + found[j] * (one @ one)
            moved = np.sign(pull) * max(0.0, abs(pull) - price / 2) / (one @ one)
            rest, found[j] = rest + one * (found[j] - moved), moved
        if abs(found - before).max() < 1e-10:
            break
    return abs(found)


def test_the_regression_is_of_what_transformer_lens_records(runs_of):
    """Outputs by its own hooks, components by another decomposition, coefficients by another descent."""
    runs = runs_of("gpt2", pairs=mini_pairs(2))
    (batch,), names, rows = runs.batches, runs.position_names, []
    writes = ["blocks.0.hook_resid_pre"]
    writes += [f"blocks.{n}.{name}" for n in range(runs.wiring.n_layers) for name in WRITES]
    for ids in (batch.clean, batch.corrupted):
        with per_head_hooks(runs.model), torch.no_grad():
            cache = runs.model.run_with_cache(ids)[1]
        parts = [x if x.dim() == 4 else x[:, :, None] for x in (cache[name].double() for name in writes)]
        for wrote, at in zip(torch.cat(parts, 2), batch.positions, strict=True):  # (pos, source, d_model)
            rest = [t for t in range(len(wrote)) if t not in {at[name] for name in names}]
            rows.append(torch.stack([*(wrote[at[name]] for name in names), wrote[rest].mean(0)], 1))
    features = np.concatenate(
        [told_by_hand(part.flatten(1).numpy()) for part in torch.stack(rows).unbind(1)], 1
    )
    found = score(runs, "circuit-lasso", penalty=0.2, parts=1, steps=1500)
    metric = np.concatenate([runs.clean, runs.corrupted])
    for target, y in (("logits", (metric - metric.mean()) / metric.std()), ("m1", None)):
        column = next(i for i, one in enumerate(found.graph.targets) if str(one) == target)
        seen = np.flatnonzero(found.graph.edge_mask[:, column])
        own = features[:, len(seen)] if y is None else y  # the first part that it cannot read is itself
        expected = one_by_one(features[:, seen], own, 0.2)
        assert found.values[seen, column] == pytest.approx(expected, abs=1e-4) and expected.max() > 0.1


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "gpt-neox"])
def test_the_regression_scores_every_edge_whatever_the_order_of_pairs(family, runs_of):
    runs = runs_of(family)
    found = score(runs, "circuit-lasso")
    other = score(runs.subset([2, 0, 1]), "circuit-lasso")
    assert np.allclose(found.values, other.values, atol=1e-5, equal_nan=True)
    assert np.isfinite(found.values[found.exists]).all() and (found.values[found.exists] >= 0).all()
    assert found.passes == 2 and not any(batch.cache for batch in runs.batches)
    q, k = (found.values[:, next(i for i, t in enumerate(found.graph.targets) if t.slot == s)] for s in "qk")
    if family == "gpt2":
        assert np.array_equal(q, k, equal_nan=True)  # it does not tell what a head reads by


def test_one_prompt_predicts_nothing(runs_of):
    with pytest.raises(OptionError, match="at least 4"):
        score(runs_of("gpt2", pairs=mini_pairs(1)), "circuit-lasso")
