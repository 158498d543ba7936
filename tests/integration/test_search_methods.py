"""Exact effects of parts, information flow, iterative path patching and the baselines, against values by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.integration.by_hand import MODELS
from tests.integration.naive import Put, naive_of
from tests.mini import mini_pairs
from workbench.core.errors import OptionError
from workbench.engine.paired_runs import PairedRuns
from workbench.engine.source_outputs import source_outputs
from workbench.methods.by_name import score
from workbench.methods.information_flow import proximity
from workbench.methods.registry import get_method
from workbench.model.known_circuits import edge_labels, load_truth
from workbench.model.open import open_model

TOLERANCE = 2e-5  # float32, logits of order 1; as in test_edges


# -- exact: nodes at positions, neurons, edges at positions ---------------------------------------------------


def node_drop(naive, node, at, i: int, kind: str = "corrupted") -> float:
    """Drop of one pair when a node is replaced at one token, one hook in one whole pass."""
    site = {"input": "resid", "head": "head-output", "mlp": "mlp-out"}[node.kind]
    put = Put(site, node.layer or 0, node.index, at)
    return naive.metric(i, "clean") - naive.patched(i, "clean", kind, [put])


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_exact_nodes_at_positions_equal_single_hooks(family, runs_of):
    runs, naive = runs_of(family), naive_of(family, runs_of(family))
    scores = score(runs, "exact", level="node", per_position=True)
    named = runs.position_names
    assert scores.positions == (*named, "rest")
    for s in (0, 2, 7, len(scores.graph.sources) - 1):
        node = scores.graph.sources[s]
        for label, name in enumerate(named):
            tokens = [runs.pairs.positions[i][name] for i in range(runs.n_pairs)]
            shared = [[runs.pairs.positions[i][o] for o in named[:label]] for i in range(runs.n_pairs)]
            if any(t in first for t, first in zip(tokens, shared, strict=True)):
                continue  # a name of higher rank holds this token
            truth = np.mean([node_drop(naive, node, t, i) for i, t in enumerate(tokens)])
            assert scores.values[label, s] == pytest.approx(truth, abs=TOLERANCE), (str(node), name)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("ablation", ["resample", "zero"])
def test_exact_neurons_equal_single_hooks(family, ablation, runs_of):
    runs = runs_of(family, pairs=mini_pairs(2))
    naive = naive_of(family, runs)
    scores = score(runs, "exact", level="neuron", ablation=ablation)
    assert scores.values.shape == (runs.wiring.n_layers, runs.wiring.d_mlp)

    def drop(i: int, layer: int, unit: int) -> float:
        name = f"blocks.{layer}.mlp.out.hook_in"
        other: dict[str, torch.Tensor] = {}
        with torch.no_grad():
            keep = [(name, lambda t, hook: other.update(it=t.clone()))]
            runs.model.run_with_hooks(naive.ids(i, "corrupted"), fwd_hooks=keep)

        def put(tensor, hook):
            tensor = tensor.clone()
            tensor[..., unit] = other["it"][..., unit] if ablation == "resample" else 0
            return tensor

        return naive.metric(i, "clean") - naive.metric(i, "clean", [(name, put)])

    for layer in range(runs.wiring.n_layers):
        for unit in (0, 5, runs.wiring.d_mlp - 1):
            truth = np.mean([drop(i, layer, unit) for i in range(runs.n_pairs)])
            assert scores.values[layer, unit] == pytest.approx(truth, abs=TOLERANCE)
    assert abs(scores.values).max() > 100 * TOLERANCE


def test_exact_edges_at_positions_by_hand(runs_of):
    """The source's corrupted output is read at the tokens of one label only; the model written out by hand."""
    runs, model = runs_of("native-ln", pairs=mini_pairs(1)), MODELS["native-ln"]()
    naive = naive_of("native-ln", runs)
    scores = score(runs, "exact", level="edge", per_position=True)
    graph = runs.wiring.graph()
    clean, corrupted = (torch.tensor(x[0]) for x in (runs.pairs.clean, runs.pairs.corrupted))
    own, other = model.run(clean)[1], model.run(corrupted)[1]
    where = runs.labels_of(runs.batches[0])[0]
    assert sorted(set(where.tolist())) == list(range(len(scores.positions)))
    for label in range(len(scores.positions)):
        here = (where == label)[:, None]
        instead = {name: torch.where(here, other[name], own[name]) for name in own}
        for i, j in np.argwhere(graph.edge_mask)[::5]:
            edge = {(str(graph.sources[i]), str(graph.targets[j]))}
            out = model.run(clean, ablated=edge, instead=instead)[0]
            truth = runs.clean[0] - naive.value(out[None], 0)
            assert scores.values[label, i, j] == pytest.approx(truth, abs=TOLERANCE), edge


@pytest.mark.parametrize("ablation", ["zero", "mean"])
def test_exact_edges_under_other_ablations_by_hand(ablation, runs_of):
    runs, model = runs_of("native-ln", pairs=mini_pairs(2)), MODELS["native-ln"]()
    naive = naive_of("native-ln", runs)
    scores = score(runs, "exact", ablation=ablation)
    graph = runs.wiring.graph()
    own = [model.run(torch.tensor(ids))[1] for ids in runs.pairs.clean]
    if ablation == "zero":
        instead = [{name: torch.zeros_like(t) for name, t in outs.items()} for outs in own]
    else:  # over all tokens of all clean prompts
        mean = {name: torch.cat([outs[name] for outs in own]).mean(0) for name in own[0]}
        instead = [{name: mean[name].expand_as(t) for name, t in outs.items()} for outs in own]
    for i, j in np.argwhere(graph.edge_mask)[::4]:
        edge = {(str(graph.sources[i]), str(graph.targets[j]))}
        outs = [
            model.run(torch.tensor(ids), ablated=edge, instead=instead[p])[0]
            for p, ids in enumerate(runs.pairs.clean)
        ]
        truth = runs.clean.mean() - np.mean([naive.value(out[None], p) for p, out in enumerate(outs)])
        assert scores.values[i, j] == pytest.approx(truth, abs=TOLERANCE), edge


def test_what_both_prompts_share_scores_exactly_0(runs_of):
    """Tokens before the first difference cannot carry any of it in a causal model."""
    runs = runs_of("gpt2", pairs=mini_pairs(1))
    first = int(np.flatnonzero(runs.pairs.clean[0] != runs.pairs.corrupted[0])[0])
    where = runs.labels_of(runs.batches[0])[0].tolist()
    early = [
        n for n in range(len(runs.position_labels)) if all(t < first for t, w in enumerate(where) if w == n)
    ]
    late = [n for n in range(len(runs.position_labels)) if n not in early]
    for level in ("node", "neuron"):
        values = score(runs, "exact", level=level, per_position=True).values
        assert not values[early].any() and np.abs(values[late]).max() > 1e-3


def test_a_dry_run_warns_of_neurons(runs_of):
    found = get_method("exact")
    graph = runs_of("gpt2").wiring.graph()
    assert "hidden units" in found.cost(found.make_options(), graph, "neuron").note
    assert found.cost(found.make_options(), graph, "edge").forward == 2 + graph.n_edges


@pytest.mark.parametrize("level", ["edge", "node", "neuron"])
def test_per_pair_effects_average_to_the_scores(level, runs_of):
    runs = runs_of("native-ln")
    scores = score(runs, "exact", level=level)
    assert scores.per_pair.shape == (runs.n_pairs, *scores.values.shape)
    one = score(runs.subset([2]), "exact", level=level)
    assert np.nan_to_num(scores.per_pair[2]) == pytest.approx(np.nan_to_num(one.values), abs=TOLERANCE)


# -- information flow ----------------------------------------------------------------------------------------


def test_shares_of_two_terms_by_hand():
    """total (3, 1): |total| = 4. Without (2, 0): |(1, 1)| = 2, importance 2. Without (1, 1): |(2, 0)| = 2, so 2."""
    terms = torch.tensor([[2.0, 0.0], [1.0, 1.0]])
    assert proximity(terms, terms.sum(0)).tolist() == [0.5, 0.5]
    # (4, 0) and (-1, 2): total (3, 2), 5. Without the first |(-1, 2)| = 3 -> 2; without the second |(4, 0)| = 4 -> 1.
    terms = torch.tensor([[4.0, 0.0], [-1.0, 2.0]])
    assert proximity(terms, terms.sum(0)).tolist() == pytest.approx([2 / 3, 1 / 3])
    # (2, 0) and (-1, 0): total 1; without the first |-1| = 1 -> 0; without the second 2 -> max(1 - 2, 0) = 0.
    terms = torch.tensor([[2.0, 0.0], [-1.0, 0.0]])
    assert proximity(terms, terms.sum(0)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt-neox", "gemma2", "native"])
@pytest.mark.parametrize("per_position", [False, True])
def test_shares_of_a_target_sum_to_one(family, per_position, runs_of):
    scores = score(runs_of(family), "information-flow", per_position=per_position)
    assert np.nansum(scores.values, axis=-2) == pytest.approx(
        np.ones_like(scores.values[..., 0, :]), abs=1e-5
    )
    assert np.nanmin(scores.values) >= 0 and scores.unit == "share of the 1-norm"


def test_information_flow_equals_sums_by_hand(runs_of):
    """Every target of the model written by hand, in plain numpy; the middle of the block reads the heads' sum too."""
    runs, model = runs_of("native-ln"), MODELS["native-ln"]()
    graph = runs.wiring.graph()
    truth = np.zeros(graph.edge_mask.shape)
    for ids in runs.pairs.clean:
        wrote = {name: t.numpy().astype(np.float64) for name, t in model.run(torch.tensor(ids))[1].items()}
        bias = [model.weights[f"{n}.o.bias"].numpy() for n in range(2)]
        for j, target in enumerate(graph.targets):
            terms = np.stack([wrote[str(s)] for s in graph.sources[: graph.n_visible[j]]])
            layers = 2 if target.layer is None else target.layer + (target.kind == "mlp")
            total = terms.sum(0) + sum(bias[:layers])
            left = np.abs(total[None] - terms).sum(-1)
            importance = np.maximum(np.abs(total).sum(-1)[None] - left, 0)  # (source, pos)
            truth[: len(terms), j] += (importance / importance.sum(0)).mean(1) / runs.n_pairs
    found = score(runs, "information-flow").values
    assert np.nan_to_num(found) == pytest.approx(truth * graph.edge_mask, abs=1e-5)


def test_information_flow_does_not_ask_the_corrupted_prompts(runs_of):
    """Not contrastive: other corrupted prompts and another metric give the same shares."""
    runs = runs_of("gpt2")
    before = score(runs, "information-flow").values
    other = runs_of("gpt2", metric="nll")
    for batch in other.batches:
        batch.corrupted.copy_(batch.clean)
    assert np.array_equal(np.nan_to_num(score(other, "information-flow").values), np.nan_to_num(before))
    assert get_method("information-flow").selection == "greedy"


# -- iterative path patching ---------------------------------------------------------------------------------


def test_iterative_path_patching_finds_the_induction_circuit():
    name = "zoo:truth-induction"
    truth = load_truth(name)
    runs = PairedRuns(open_model(name), truth.pairs(6), metric=truth.metric)
    scores = score(runs, "iterative-path-patching")
    positive, counted = edge_labels(truth, runs.wiring.graph())
    least = 0.02 * float((runs.clean - runs.corrupted).mean())
    assert scores.own_rule == f">={least!r}"
    assert ((np.nan_to_num(scores.values) >= least) == positive)[counted].all()
    rounds = scores.options["rounds"]
    assert rounds[0]["receivers"] == ["logits"] and len(rounds) >= 3
    assert scores.options["tested"] == sum(r["tested"] for r in rounds) < scores.n_candidates
    found = {row["path"] for r in rounds for row in r["kept"]}
    assert {scores.address(i) for i in map(tuple, np.argwhere(positive & counted))} <= found


@pytest.mark.parametrize("family", [pytest.param("gpt2", marks=pytest.mark.slow), "gemma2"])
def test_paths_with_frozen_mlps_are_edges(family, runs_of):
    """Post-norm models included, where a layer's heads are sent together."""
    runs = runs_of(family, pairs=mini_pairs(1))
    paths, edges = score(runs, "iterative-path-patching", threshold=0.05, depth=3), score(runs, "exact")
    tested = np.nan_to_num(paths.values) != 0
    assert tested.sum() > 20
    assert paths.values[tested] == pytest.approx(edges.values[tested], abs=TOLERANCE)
    receivers = {r for part in paths.options["rounds"] for r in part["receivers"]}
    for j, target in enumerate(paths.graph.targets):
        if str(target) not in receivers:
            assert not np.nan_to_num(paths.values[:, j]).any()


def test_depth_limits_the_rounds(runs_of):
    runs = runs_of("gpt2", pairs=mini_pairs(2))
    one = score(runs, "iterative-path-patching", depth=1)
    assert one.options["tested"] == len(one.graph.sources)  # into the logits only
    assert not np.nan_to_num(one.values[:, :-1]).any()


def test_paths_through_mlps_are_another_question(runs_of):
    runs = runs_of("gpt2", pairs=mini_pairs(2))
    frozen, through = (
        score(runs, "iterative-path-patching", depth=1, mlps=mlps).values[:, -1]
        for mlps in ("frozen", "recomputed")
    )
    assert abs(frozen - through).max() > 1e-3
    assert through[0] != frozen[0] and through[-1] == pytest.approx(
        frozen[-1], abs=TOLERANCE
    )  # no MLP after the last


def test_no_gap_no_path(runs_of):
    runs = runs_of("gpt2")
    for batch in runs.batches:
        batch.corrupted.copy_(batch.clean)
    with pytest.raises(OptionError, match="no share to follow"):
        score(runs, "iterative-path-patching")


@pytest.mark.parametrize("wrong", [{"threshold": 0}, {"threshold": 2}, {"depth": 0}, {"mlps": "melted"}])
def test_wrong_options_are_refused(wrong, runs_of):
    with pytest.raises(OptionError):
        score(runs_of("gpt2"), "iterative-path-patching", **wrong)


# -- baselines -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["edge", "node", "neuron"])
@pytest.mark.parametrize("per_position", [False, True])
def test_random_is_the_same_for_a_seed_and_another_for_another(level, per_position, runs_of):
    runs = runs_of("llama")
    first, again, other = (
        score(runs, "random", level=level, per_position=per_position, seed=seed) for seed in (3, 3, 4)
    )
    there = first.exists
    assert np.array_equal(first.values[there], again.values[there])
    assert (first.values[there] != other.values[there]).all()
    assert 0.3 < first.values[there].mean() < 0.7 and first.passes == 0


def test_magnitude_by_hand(runs_of):
    """Sum over tokens of the 2-norm of what differs, mean over pairs; the same for every reader."""
    runs, model = runs_of("native-ln"), MODELS["native-ln"]()
    scores = score(runs, "magnitude")
    truth: dict[str, float] = {}
    for clean, corrupted in zip(runs.pairs.clean, runs.pairs.corrupted, strict=True):
        a, b = (model.run(torch.tensor(ids))[1] for ids in (clean, corrupted))
        for name in a:
            size = float((a[name] - b[name]).pow(2).sum(1).sqrt().sum())
            truth[name] = truth.get(name, 0.0) + size / runs.n_pairs
    nodes = score(runs, "magnitude", level="node").values
    for i, source in enumerate(scores.graph.sources):
        assert nodes[i] == pytest.approx(truth[str(source)], rel=1e-5)
        row = scores.values[i][scores.graph.edge_mask[i]]
        assert row == pytest.approx(np.full(len(row), truth[str(source)]), rel=1e-5)


@pytest.mark.parametrize("level", ["edge", "node", "neuron"])
def test_magnitudes_of_positions_sum_to_the_whole(level, runs_of):
    runs = runs_of("gpt2")
    whole, parts = (score(runs, "magnitude", level=level, per_position=p) for p in (False, True))
    assert np.nan_to_num(parts.values.sum(0)) == pytest.approx(np.nan_to_num(whole.values), rel=1e-5)
    assert whole.unit == "activation norm" and np.nanmin(whole.values) >= 0


def test_magnitude_of_neurons_is_the_change_of_their_activation(runs_of):
    runs = runs_of("llama", pairs=mini_pairs(1))
    values = score(runs, "magnitude", level="neuron").values
    batch, name = runs.batches[0], "blocks.1.mlp.out.hook_in"
    a, b = (runs.activations(batch, run, [name])[name] for run in ("clean", "corrupted"))
    assert values[1] == pytest.approx((a - b).abs().sum((0, 1)).numpy(), rel=1e-4)


# -- what must hold of all -----------------------------------------------------------------------------------

METHODS = ("exact", "information-flow", "iterative-path-patching", "magnitude")
# Paths of a tenth of the gap, two rounds: the second has receivers, but few.
FEW = {"iterative-path-patching": {"depth": 2, "threshold": 0.1}}


@pytest.mark.parametrize("method", METHODS)
def test_batches_and_order_of_pairs_do_not_matter(method, runs_of):
    family, n = ("gpt2", 3) if method == "iterative-path-patching" else ("native-ln", 5)  # it needs a gap
    at_once = runs_of(family, pairs=mini_pairs(n), batch_tokens=10_000)
    singly = runs_of(family, pairs=mini_pairs(n), batch_tokens=30)
    whole = np.nan_to_num(score(at_once, method, **FEW.get(method, {})).values)
    assert len(singly.batches) > len(at_once.batches) and whole.any()
    assert np.nan_to_num(score(singly, method, **FEW.get(method, {})).values) == pytest.approx(
        whole, abs=TOLERANCE
    )
    turned = score(at_once.subset([3, 0, 4, 2, 1] if n == 5 else [2, 0, 1]), method, **FEW.get(method, {}))
    assert np.nan_to_num(turned.values) == pytest.approx(whole, abs=TOLERANCE)


@pytest.mark.parametrize("method", METHODS)
def test_the_model_is_untouched(method, runs_of):
    runs = runs_of("gpt2", pairs=mini_pairs(1))
    flags = [p.requires_grad for p in runs.model.parameters()]
    before = runs.clean.copy()
    score(runs, method, **FEW.get(method, {}))
    assert [p.requires_grad for p in runs.model.parameters()] == flags and not runs.model.training
    assert not any(point.fwd_hooks for point in runs.model.hook_dict.values())
    assert runs_of("gpt2", pairs=mini_pairs(1)).clean.tolist() == before.tolist()
    outputs = source_outputs(runs, runs.batches[0], "clean", runs.wiring.graph())
    assert not outputs.requires_grad
