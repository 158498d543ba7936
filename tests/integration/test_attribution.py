"""The gradient engine: what must hold between levels, positions, points and references, on every family."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.integration.test_methods import edited
from tests.mini import mini_pairs
from workbench.circuits.graph import Graph
from workbench.core.errors import ModelError, OptionError
from workbench.engine.gradients import taped_run, writer_gradients
from workbench.engine.paired_runs import PairedRuns
from workbench.engine.reader_gradients import reader_gradients, reader_taps
from workbench.engine.source_outputs import source_outputs
from workbench.methods.by_name import score
from workbench.methods.points import quadrature
from workbench.methods.registry import get_method
from workbench.model.hooks import hook_name
from workbench.model.wiring import writer_hooks

METHODS = (
    "attribution-patching",
    "eap",
    "eap-ig",
    "eap-ig-activations",
    "clean-corrupted",
    "relp",
    "attnlrp",
    "hisp",
)
FEW = {"eap-ig": {"steps": 2}, "eap-ig-activations": {"steps": 1}}
EVERY = [(m, level) for m in METHODS for level in ("edge", "node", "neuron")]
EVERY = [(m, level) for m, level in EVERY if level in get_method(m).levels]
ADDITIVE = [(m, level) for m, level in EVERY if m != "hisp"]


def number(values: np.ndarray) -> np.ndarray:
    return np.nan_to_num(values)


# -- positions, pairs, batches -------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "level"), ADDITIVE)
def test_positions_sum_to_the_position_free_scores(method, level, runs_of):
    runs = runs_of("llama")
    together = score(runs, method, level=level, **FEW.get(method, {}))
    apart = score(runs, method, level=level, per_position=True, **FEW.get(method, {}))
    assert apart.positions == runs.position_labels == ("S", "V", "end", "rest")
    scale = max(1, np.nanmax(abs(together.values)))
    assert number(apart.values).sum(0) == pytest.approx(number(together.values), abs=2e-6 * scale)
    assert all(
        abs(number(part)).max() > 1e-6 for part in apart.values
    )  # every label has something of its own


def test_a_position_has_what_its_tokens_have(runs_of):
    """By hand, one pair: the score of a head at S is difference times gradient at S's token only."""
    runs = runs_of("gpt2", pairs=mini_pairs(1))
    batch = runs.batches[0]
    found = score(runs, "attribution-patching", per_position=True)
    where, name = int(batch.at("S")[0]), hook_name("head-output", 1)
    grad = writer_gradients(runs, batch, [(1, "head-output")])[1, "head-output"][0, where]
    clean, corrupted = (
        runs.activations(batch, run, [name])[name][0, where] for run in ("clean", "corrupted")
    )
    truth = ((clean - corrupted) * grad).sum(-1)
    rows = [i for i, s in enumerate(found.graph.sources) if s.kind == "head" and s.layer == 1]
    assert found.values[found.positions.index("S"), rows] == pytest.approx(truth.numpy(), abs=1e-6)


@pytest.mark.parametrize(("method", "level"), EVERY)
def test_scores_are_the_mean_of_their_pairs_in_any_batching_and_order(method, level, runs_of):
    options = FEW.get(method, {})
    whole = score(runs_of("gpt2", pairs=mini_pairs(5), batch_tokens=10_000), method, level=level, **options)
    singly = score(runs_of("gpt2", pairs=mini_pairs(5), batch_tokens=1), method, level=level, **options)
    assert whole.per_pair.shape == (5, *whole.values.shape)
    assert number(whole.per_pair.mean(0)) == pytest.approx(number(whole.values), abs=1e-6)
    assert number(singly.values) == pytest.approx(number(whole.values), abs=2e-6)
    order = [3, 0, 4, 1, 2]
    turned = score(runs_of("gpt2", pairs=mini_pairs(5)).subset(order), method, level=level, **options)
    assert number(turned.per_pair) == pytest.approx(number(whole.per_pair)[order], abs=2e-6)


# -- between levels ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt-neox", "gemma2", "olmo2"])
@pytest.mark.parametrize("method", ["eap-ig", "eap-ig-activations", "relp", "attnlrp"])
def test_edges_out_of_a_node_sum_to_the_node(family, method, runs_of):
    """The chain rule, rules and all: closed forms at the readers against the model's own backward pass."""
    if method == "eap-ig-activations" and family in ("gemma2", "olmo2"):
        pytest.skip("heads are on a line at node level, the post-normed layer at edge level: other points")
    runs = runs_of(family, pairs=mini_pairs(2))
    edges, nodes = (score(runs, method, level=level, **FEW.get(method, {})) for level in ("edge", "node"))
    scale = max(1, abs(nodes.values).max())
    shared = [n for n in edges.graph.sources if n in nodes.graph.source_index]  # not post-normed layers
    assert {n.kind for n in shared} >= {"input", "mlp"}
    for node in shared:
        total = np.nansum(edges.values[edges.graph.source_index[node]])
        assert total == pytest.approx(nodes.values[nodes.graph.source_index[node]], abs=5e-6 * scale), str(
            node
        )


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt-neox", "opt", "phi3", "native-ln", "bert"])
@pytest.mark.parametrize("method", ["eap-ig", "eap-ig-activations", "relp"])
def test_neurons_sum_to_their_mlp(family, method, runs_of):
    """The output matrix is linear, so an MLP's score is the sum over its hidden units: the right hook, unit by unit."""
    runs = runs_of(family, pairs=mini_pairs(2))
    neurons, nodes = (score(runs, method, level=level, **FEW.get(method, {})) for level in ("neuron", "node"))
    assert neurons.values.shape == (runs.wiring.n_layers, runs.wiring.d_mlp)
    for node, i in nodes.graph.source_index.items():
        if node.kind == "mlp":
            assert neurons.values[node.layer].sum() == pytest.approx(nodes.values[i], abs=5e-6), str(node)


def test_neurons_of_experts_and_of_no_mlp_are_refused(runs_of):
    for family, why in (("mixtral", "inside experts"), ("native", "no MLPs")):
        with pytest.raises(ModelError, match=why):
            score(runs_of(family), "attribution-patching", level="neuron")


# -- closed forms --------------------------------------------------------------------------------------------


def test_edges_equal_the_product_written_out(runs_of):
    """Thin factors and sums over points against one outer product per point and all copies of the stream."""
    runs = runs_of("qwen3", pairs=mini_pairs(2))
    graph, truth = runs.wiring.graph(), 0
    for batch in runs.batches:
        delta = source_outputs(runs, batch, "clean", graph) - source_outputs(runs, batch, "corrupted", graph)
        for alpha in quadrature(3, "midpoint"):
            grads = torch.cat([g for _, g in reader_gradients(runs, batch, graph, alpha=alpha)], dim=2)
            truth = truth + torch.einsum("btsd,btvd->sv", delta.double(), grads.double()).numpy() / 6
    found = score(runs, "eap-ig", steps=3).values
    assert found[graph.edge_mask] == pytest.approx(truth[graph.edge_mask], abs=3e-6)


@pytest.mark.parametrize("family", ["gpt2", "gemma2", "native-ln"])
def test_reader_gradients_equal_a_copy_through_the_norm(family, runs_of):
    """The closed form of the norm's backward pass against autograd on one copy of the stream per head."""
    from workbench.model.hooks import norm_before, projection

    runs = runs_of(family, pairs=mini_pairs(1))
    graph, batch = runs.wiring.graph(), runs.batches[0]
    grads = dict(reader_gradients_by_column(runs, batch, graph))
    taps, keep = reader_taps(graph)
    run = taped_run(runs, batch, taps, keep=keep)
    raw = run.gradients()
    layer = graph.shape.n_layers - 1
    x = run.seen[hook_name("resid", layer)]
    norm = norm_before(runs.model, layer, "ln1")
    for slot in "qkv":
        matrix = projection(runs.model, layer, slot)
        for h in range(matrix.shape[0]):
            copy = x.clone().requires_grad_(True)
            with torch.enable_grad():
                (truth,) = torch.autograd.grad(
                    norm(copy) @ matrix[h], copy, raw[hook_name(slot, layer)][:, :, h]
                )
            names = [str(t) for t in graph.targets]
            letter = "h" if slot == "q" or runs.wiring.n_heads == runs.wiring.n_kv_heads else "g"
            found = grads[names.index(f"a{layer}.{letter}{h}<{slot}>")]
            assert found.numpy() == pytest.approx(truth.numpy(), abs=1e-5 * max(1, float(truth.abs().max())))


def reader_gradients_by_column(runs, batch, graph):
    for columns, grad in reader_gradients(runs, batch, graph):
        for i, column in enumerate(range(columns.start, columns.stop)):
            yield column, grad[:, :, i]


# -- points and references -----------------------------------------------------------------------------------


def test_quadrature_by_hand():
    assert quadrature(4, "left") == [0, 0.25, 0.5, 0.75]
    assert quadrature(4, "right") == [0.25, 0.5, 0.75, 1]
    assert quadrature(2, "midpoint") == [0.25, 0.75]
    for steps, rule in ((0, "left"), (3, "simpson")):
        with pytest.raises(OptionError):
            quadrature(steps, rule)


def test_clean_corrupted_is_the_mean_of_both_ends(runs_of):
    runs = runs_of("gpt2")
    clean, corrupted = (score(runs, "eap", at=at).values for at in ("clean", "corrupted"))
    both = score(runs, "clean-corrupted").values
    assert number(both) == pytest.approx(number(clean + corrupted) / 2, abs=1e-6)
    left = score(runs, "eap-ig", steps=1, rule="left").values  # its one point is the corrupted input
    assert number(left) == pytest.approx(number(corrupted), abs=1e-7)
    assert number(score(runs, "eap-ig", steps=1, rule="right").values) == pytest.approx(
        number(clean), abs=1e-6
    )
    assert abs(number(clean - corrupted)).max() > 1e-2


def test_activation_lines_by_hand(runs_of):
    """One step, one pair: the mean over layer outputs of gradients with that output alone half way."""
    runs = runs_of("native-ln", pairs=mini_pairs(1))
    batch = runs.batches[0]
    sites = [(0, "resid"), (0, "head-output"), (0, "mlp-out"), (1, "head-output"), (1, "mlp-out")]
    names = [hook_name(site, layer) for layer, site in sites]
    clean, corrupted = (runs.activations(batch, run, names) for run in ("clean", "corrupted"))
    target, total = hook_name("mlp-out", 0), 0
    for name in names:
        grads = {}

        def halfway(tensor, hook, name=name):
            return ((clean[name] + corrupted[name]) / 2).requires_grad_(True)

        def watch(tensor, hook, grads=grads):
            if not tensor.requires_grad:  # nothing below it asks for a gradient
                tensor.requires_grad_(True)
            tensor.register_hook(lambda g: grads.update(g=g))

        with torch.enable_grad(), runs.model.hooks(fwd_hooks=[(name, halfway), (target, watch)]):
            logits = runs.model(batch.clean)[0, -1]
            (logits[runs.pairs.correct[0][0]] - logits[runs.pairs.incorrect[0][0]]).backward()
        runs.model.zero_grad()
        total = total + grads["g"] / len(names)
    truth = float(((clean[target] - corrupted[target]) * total).sum())
    found = score(runs, "eap-ig-activations", steps=1, level="node")
    row = next(i for i, s in enumerate(found.graph.sources) if str(s) == "m0")
    assert found.passes == 2 + 2 * 5 and found.options["path"] == "layer outputs, one at a time"
    assert found.values[row] == pytest.approx(truth, abs=1e-6)


@pytest.mark.parametrize("level", ["edge", "node"])
@pytest.mark.parametrize("ablation", ["zero", "mean"])
def test_references_are_exact_on_an_affine_model(ablation, level, affine):
    """Attribution to zero and to the mean against the run in which the reference is put there, node by node."""
    runs = PairedRuns(affine, mini_pairs(3))
    graph = runs.wiring.graph()
    method = "eap" if level == "edge" else "attribution-patching"
    found = score(runs, method, ablation=ablation)
    values = np.nansum(found.values, axis=1) if level == "edge" else found.values
    sites = [(0, "resid"), *writer_hooks(graph)]
    everything = {
        name: torch.cat(
            [runs.activations(b, "clean", [name])[name].flatten(0, 1) for b in runs.batches]
        ).mean(0)
        for name in (hook_name(site, layer) for layer, site in sites)
    }
    for node, row in graph.source_index.items():
        name = hook_name("resid", 0) if node.kind == "input" else hook_name("head-output", node.layer)
        drops = []
        for batch in runs.batches:

            def put(tensor, hook, node=node, name=name):
                tensor = tensor.clone()
                part = ... if node.kind == "input" else np.s_[:, :, node.index]
                value = 0 if ablation == "zero" else everything[name]
                tensor[part] = value if node.kind == "input" or ablation == "zero" else value[node.index]
                return tensor

            with torch.no_grad(), runs.model.hooks(fwd_hooks=[(name, put)]):
                moved = runs.measure(batch, runs.output(batch, batch.clean))
            drops += (runs.measure(batch, runs.clean_output(batch)) - moved).tolist()
        assert values[row] == pytest.approx(np.mean(drops), abs=3e-6), str(node)


@pytest.fixture(scope="module")
def affine(tmp_path_factory):
    """Attention only, no norm, queries and keys zero: every pattern is uniform and the model is affine."""

    def flatten(weights):
        for name in weights:
            if ".attn.q." in name or ".attn.k." in name:
                weights[name] = torch.zeros_like(weights[name])

    return edited("native", tmp_path_factory.mktemp("affine") / "model", flatten)


@pytest.mark.parametrize("method", [m for m in METHODS if m != "hisp"])
def test_every_method_is_exact_on_an_affine_model(method, affine):
    """Frozen uniform patterns, no norms: AtP = RelP = CP-LRP = exact. AttnLRP halves what goes through values."""
    runs = PairedRuns(affine, mini_pairs(3))
    level = get_method(method).levels[0]
    options = {**FEW.get(method, {}), **({"softmax": "cp"} if method == "attnlrp" else {})}
    found, truth = (
        score(runs, method, level=level, **options).values,
        score(runs, "exact", level=level).values,
    )
    assert abs(number(truth)).max() > 1e-2
    if method == "eap-ig-activations":  # replaced outputs are constants: fewer ways back, same last layer
        found, truth = found[-1], truth[-1]
    assert number(found) == pytest.approx(number(truth), abs=3e-6)


def test_hisp_takes_sizes_before_the_mean(runs_of):
    runs = runs_of("gpt2", pairs=mini_pairs(5))
    signed, size = score(runs, "attribution-patching"), score(runs, "hisp")
    assert size.values == pytest.approx(abs(signed.per_pair).mean(0), abs=1e-6)
    assert (size.values > abs(signed.values) + 1e-4).any() and size.unit == "|logits|"
    shares = score(runs, "hisp", normalise="layer")
    rows = [i for i, s in enumerate(shares.graph.sources) if s.layer == 1]
    assert np.square(shares.values[rows]).sum() == pytest.approx(1, abs=1e-6)
    assert shares.values[rows] / shares.values[rows[0]] == pytest.approx(
        size.values[rows] / size.values[rows[0]]
    )


# -- what is refused, and what is left behind ----------------------------------------------------------------


@pytest.mark.parametrize("method", ["attribution-patching", "eap", "relp", "attnlrp", "hisp", "atp-star"])
def test_metrics_that_are_flat_at_the_clean_run_are_refused(method, runs_of):
    with pytest.raises(OptionError, match="flat"):
        score(runs_of("native-ln", metric="kl"), method)


@pytest.mark.parametrize("method", ["eap-ig", "clean-corrupted", "eap-ig-activations"])
def test_flat_metrics_have_gradients_between_the_runs(method, runs_of):
    found = score(runs_of("native-ln", metric="kl"), method, **FEW.get(method, {}))
    assert np.nanmax(abs(found.values)) > 1e-4
    assert np.isfinite(found.values[found.graph.edge_mask]).all()


def test_kl_is_complete_along_the_line(runs_of):
    """KL from 0 at the clean run: the edges out of the input sum to the KL of the corrupted run."""
    runs = runs_of("native-ln", pairs=mini_pairs(1), metric="kl")
    total = np.nansum(score(runs, "eap-ig", steps=40).values[0])
    assert total == pytest.approx(float(runs.corrupted.mean()), rel=5e-3)


def test_wrong_options_are_refused_before_any_run(runs_of):
    runs = runs_of("native-ln")
    for options in ({"at": "middle"}, {"ablation": "noise"}, {"backward": "lrp0"}):
        with pytest.raises(OptionError if "ablation" not in options else Exception, match=r"at|noise|lrp0"):
            score(runs, "eap", **options)


def state(model) -> tuple:
    hooks = sum(len(h.fwd_hooks) + len(h.bwd_hooks) for h in model.hook_dict.values())
    attributes = sum(len(m.__dict__) + len(m._forward_hooks) for m in model.modules())
    flags = tuple(p.requires_grad for p in model.parameters())
    return hooks, attributes, flags, model.training, sum(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("family", ["gpt2", "llama", "native-ln"])
def test_the_model_is_as_before_also_after_an_error(family, runs_of):
    runs = runs_of(family, pairs=mini_pairs(2))
    for p in list(runs.model.parameters())[::2]:
        p.requires_grad_(True)
    try:
        before, logits = state(runs.model), runs.model(runs.batches[0].clean)
        for method in (*METHODS, "atp-star"):
            score(runs, method, **FEW.get(method, {}))
            score(runs, method, **FEW.get(method, {}))
        assert state(runs.model) == before

        def broken(*args, **kwargs):
            raise RuntimeError("broken metric")

        own, runs.values = runs.values, broken
        for method in (*METHODS, "atp-star"):
            with pytest.raises(RuntimeError, match="broken"):
                score(runs, method, **FEW.get(method, {}))
        runs.values = own
        assert state(runs.model) == before
        assert torch.equal(runs.model(runs.batches[0].clean), logits)
    finally:
        runs.model.requires_grad_(False)


def test_per_head_graph_is_used_for_nodes_of_post_norm_models(runs_of):
    found = score(runs_of("gemma2"), "relp", level="node")
    assert found.graph.shape == Graph(runs_of("gemma2").wiring.node_shape()).shape
    assert {s.kind for s in found.graph.sources} == {"input", "head", "mlp"}
