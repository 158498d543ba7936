"""EAP, EAP-IG and attribution patching against TransformerLens, finite differences, and what must hold of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.families import family_dir
from tests.integration.by_hand import MODELS
from tests.mini import mini_pairs
from workbench.circuits.graph import Graph
from workbench.engine.edges import ablate_edges
from workbench.engine.gradients import writer_gradients
from workbench.engine.interventions.ablation import ablations
from workbench.engine.paired_runs import PairedRuns
from workbench.engine.reader_gradients import reader_gradients
from workbench.engine.source_outputs import source_outputs
from workbench.engine.sweep import sweep
from workbench.methods.by_name import score
from workbench.model.open import open_model
from workbench.model.wiring import writer_hooks


def all_gradients(runs, batch, graph: Graph) -> torch.Tensor:
    """``(pair, pos, target, d_model)``."""
    return torch.cat([grad for _, grad in reader_gradients(runs, batch, graph)], dim=2)


def edited(family: str, folder, change):
    """A family's model with its weights changed on disk before it is opened."""
    folder.mkdir()
    for file in family_dir(family).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return open_model(folder, device="cpu")


# -- against TransformerLens ---------------------------------------------------------------------------------


def transformerlens_edges(runs, i: int) -> dict[tuple[str, str], float]:
    """Its edge scores of pair ``i``, summed over positions, roles swapped.

    Its gradient is taken on the run it calls corrupt and its difference points to the one it calls clean, so our
    clean prompt takes its corrupt role and the sign turns.
    """
    from transformer_lens.tools.analysis.attribution_patching import EdgeAttributionConfig, attribution_patch

    clean, corrupted = (torch.tensor(x[i])[None] for x in (runs.pairs.clean, runs.pairs.corrupted))
    correct, incorrect = runs.pairs.correct[i][0], runs.pairs.incorrect[i][0]

    def metric(logits):
        return logits[0, -1, correct] - logits[0, -1, incorrect]

    with torch.enable_grad():
        config = EdgeAttributionConfig(granularity="edge")
        found = attribution_patch(runs.model, corrupted, clean, metric, config).edge_scores
    total: dict[tuple[str, str], float] = {}
    for (writer, reader), value in found.items():
        edge = (address(writer), address(reader))
        total[edge] = total.get(edge, 0.0) - value
    return total


def address(node) -> str:
    part = {"embed": "input", "logits": "logits", "mlp_out": f"m{node.layer}", "mlp_in": f"m{node.layer}"}
    if node.kind in part:
        return part[node.kind]
    slot = "" if node.kind == "attn_head_out" else f"<{node.kind[0]}>"
    return f"a{node.layer}.h{node.head}{slot}"


@pytest.mark.parametrize("family", ["gpt2", "gpt-neox"])
def test_eap_equals_transformerlens_after_swapping_roles(family, runs_of):
    """Pitfall 'sign and gradient point': gradient on the clean run, clean minus corrupted, positive supports."""
    runs = runs_of(family)
    values = score(runs, "eap").values
    graph = runs.wiring.graph()
    model = runs.model
    wanted = [p.requires_grad for p in model.parameters()]
    model.requires_grad_(True)  # TransformerLens drives its backward pass through the embedding
    try:
        each = [transformerlens_edges(runs, i) for i in range(runs.n_pairs)]
    finally:
        for p, flag in zip(model.parameters(), wanted, strict=True):
            p.requires_grad_(flag)
    truth = np.full(graph.edge_mask.shape, np.nan)
    for i, j in np.argwhere(graph.edge_mask):
        edge = (str(graph.sources[i]), str(graph.targets[j]))
        truth[i, j] = np.mean([t[edge] for t in each])
    assert len(each[0]) == graph.n_edges  # the two libraries mean the same edges
    scale = np.nanmax(abs(truth))
    # 1e-6 of the largest score: float32, other order of sums; with a factor of ten
    assert np.nan_to_num(values) == pytest.approx(np.nan_to_num(truth), abs=1e-5 * max(1, scale))


# -- against finite differences ------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["native-ln", "opt"])
def test_reader_gradients_equal_finite_differences_by_hand(family, runs_of):
    """Each reader's own copy of the stream is moved in a float64 model written by hand."""
    runs, model = runs_of(family, pairs=mini_pairs(1)), MODELS[family](dtype=torch.float64)
    graph, batch = runs.wiring.graph(), runs.batches[0]
    grads = all_gradients(runs, batch, graph)[0].double()  # (pos, target, D)
    ids = batch.clean[0]
    correct, incorrect = runs.pairs.correct[0][0], runs.pairs.incorrect[0][0]
    start = model.run(ids)[1]["input"]
    generator = torch.Generator().manual_seed(0)
    eps = 1e-5

    for j, target in enumerate(graph.targets):
        direction = torch.randn(start.shape, generator=generator, dtype=torch.float64)
        values = []
        for sign in (1, -1):
            moved = {"input": start + sign * eps * direction}
            out = model.run(ids, ablated={("input", str(target))}, instead=moved)[0]
            values.append(out[-1, correct] - out[-1, incorrect])
        slope = float(values[0] - values[1]) / (2 * eps)
        # 1e-5: float32 gradients of size 10 against float64; the differences themselves are good to 1e-8
        assert float((grads[:, j] * direction).sum()) == pytest.approx(slope, abs=1e-4, rel=1e-4), str(target)


@pytest.mark.parametrize("family", ["llama", "gemma2", "olmo2", "gpt-neox", "qwen2-moe"])
def test_reader_gradients_equal_finite_differences(family, runs_of):
    """The rest of the architectures: a small step of one reader's copy, by the edge editor itself."""
    runs = runs_of(family, pairs=mini_pairs(1))
    graph, batch = runs.wiring.graph(), runs.batches[0]
    grads = all_gradients(runs, batch, graph)
    own = source_outputs(runs, batch, "clean", graph)
    last = graph.shape.n_layers - 1
    slots = {"q": None, "k": None, "v": None, None: None}
    for j, target in enumerate(graph.targets):
        if target.layer == last:
            slots[target.slot] = j
    generator = torch.Generator().manual_seed(1)
    eps = 3e-3  # float32: rounding 1e-6 / 6e-3 = 2e-4, curvature eps ** 2 = 1e-5
    for j in [*slots.values(), len(graph.targets) - 1]:
        direction = torch.randn(own.shape[1], own.shape[3], generator=generator)
        values = []
        for sign in (1, -1):
            reference = own.clone()
            reference[0, :, 0] += sign * eps * direction
            mask = torch.zeros(1, *graph.edge_mask.shape, dtype=torch.bool)
            mask[0, 0, j] = True
            values.append(float(ablate_edges(runs, batch, graph, mask, reference=reference)[0, 0]))
        slope = (values[0] - values[1]) / (2 * eps)
        found = float((grads[0, :, j] * direction).sum())
        assert found == pytest.approx(slope, abs=3e-3, rel=3e-3), str(graph.targets[j])


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "opt", "native-ln", "gpt-neox"])
def test_gradients_at_every_writer_hook_are_alive(family, runs_of):
    """Pitfall 'converted hook tensors are views': a gradient arrives at every hook that is used, per pair."""
    runs = runs_of(family)
    batch = runs.batches[0]
    sites = [(0, "resid"), *writer_hooks(Graph(runs.wiring.node_shape()))]
    grads = writer_gradients(runs, batch, sites)
    dead = [site for site, grad in grads.items() if not (grad.flatten(1).abs().amax(1) > 0).all()]
    assert not dead


# -- integration ---------------------------------------------------------------------------------------------


def input_sum(runs, steps: int, **options) -> float:
    return float(np.nansum(score(runs, "eap-ig", steps=steps, **options).values[0]))


@pytest.mark.parametrize(("family", "steps"), [("native-ln", 200), ("gpt2", 50), ("llama", 50)])
def test_eap_ig_is_complete(family, steps, runs_of):
    """The edges out of the input sum to metric(clean) - metric(corrupted); GQA included."""
    runs = runs_of(family, pairs=mini_pairs(1))
    gap = float((runs.clean - runs.corrupted).mean())
    assert input_sum(runs, steps) == pytest.approx(gap, abs=1e-3 * abs(gap) + 2e-4)


def test_eap_ig_is_not_complete_on_mixtures_of_experts(runs_of):
    """Routing jumps: the metric is not continuous along the path, and no number of steps brings the jumps back."""
    runs = runs_of("mixtral", pairs=mini_pairs(1))
    gap = float((runs.clean - runs.corrupted).mean())
    misses = [abs(input_sum(runs, steps) - gap) / abs(gap) for steps in (20, 40)]
    assert min(misses) > 0.01


def test_midpoints_converge_faster_than_left_ends(runs_of):
    """Pitfall 'quadrature': at the same cost the midpoint rule is several times closer to the integral."""
    runs = runs_of("native-ln", pairs=mini_pairs(1))
    best = np.nan_to_num(score(runs, "eap-ig", steps=120).values)

    def miss(steps: int, rule: str) -> float:
        found = np.nan_to_num(score(runs, "eap-ig", steps=steps, rule=rule).values)
        return float(np.linalg.norm(found - best) / np.linalg.norm(best))

    assert miss(5, "midpoint") < 0.3 * miss(5, "left")
    assert miss(20, "left") < 0.35 * miss(5, "left")  # first order: a quarter
    assert miss(20, "midpoint") < 0.1 * miss(5, "midpoint")  # second order: a sixteenth


def test_one_left_step_is_eap_with_the_gradient_on_the_corrupted_input(runs_of):
    """Pitfall 'which path is integrated': the name of the path is in the result, and its left end is this."""
    runs = runs_of("gpt2", pairs=mini_pairs(2))
    found = score(runs, "eap-ig", steps=1, rule="left")
    assert found.options["path"] == "input embeddings"
    graph = runs.wiring.graph()
    batch = runs.batches[0]
    delta = source_outputs(runs, batch, "clean", graph) - source_outputs(runs, batch, "corrupted", graph)
    grads = torch.cat([g for _, g in reader_gradients(runs, batch, graph, alpha=0.0)], dim=2)
    truth = torch.einsum("btsd,btvd->sv", delta.double(), grads.double()).numpy() / runs.n_pairs
    assert found.values[graph.edge_mask] == pytest.approx(truth[graph.edge_mask], abs=1e-5)


# -- what must hold ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["eap", "eap-ig", "exact", "attribution-patching"])
def test_scores_do_not_depend_on_batching(method, runs_of):
    """Pitfall 'batch weighting': 5 pairs at once, in ones, and as 4 + 1 give the same mean per pair."""
    options = {"eap-ig": {"steps": 3}}.get(method, {})
    at_once = score(runs_of("native-ln", pairs=mini_pairs(5), batch_tokens=10_000), method, **options).values
    small = 30 if method == "exact" else 1  # tokens: one pair a batch
    singly = score(runs_of("native-ln", pairs=mini_pairs(5), batch_tokens=small), method, **options).values
    parts = [
        score(runs_of("native-ln", pairs=p, batch_tokens=10_000), method, **options).values
        for p in (mini_pairs(5)[:4], mini_pairs(5)[4:])
    ]
    assert np.nan_to_num(singly) == pytest.approx(np.nan_to_num(at_once), abs=1e-5)
    assert np.nan_to_num(0.8 * parts[0] + 0.2 * parts[1]) == pytest.approx(np.nan_to_num(at_once), abs=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3", "opt", "gpt-neox", "mixtral"])
def test_outgoing_edges_sum_to_the_node(family, runs_of):
    """EAP over all readers of a node is its attribution patching score: the chain rule over the whole graph.

    Pitfall 'GQA': the readers of k and v are KV groups; a wrong share of a group would break the sum.
    """
    runs = runs_of(family)
    edges, nodes = score(runs, "eap").values, score(runs, "attribution-patching").values
    assert np.nansum(edges, axis=1) == pytest.approx(nodes, abs=2e-5 * max(1, abs(nodes).max()))


@pytest.mark.parametrize("family", ["gemma2", "olmo2"])
def test_outgoing_edges_sum_to_the_node_of_post_norm_models(family, runs_of):
    """There whole attention layers write; MLPs and the input are nodes at both levels."""
    runs = runs_of(family)
    edges, nodes = score(runs, "eap"), score(runs, "attribution-patching")
    shared = [n for n in edges.graph.sources if n in nodes.graph.source_index]
    assert {n.kind for n in shared} == {"input", "mlp"}
    for node in shared:
        sum_of_edges = np.nansum(edges.values[edges.graph.source_index[node]])
        assert sum_of_edges == pytest.approx(nodes.values[nodes.graph.source_index[node]], abs=5e-5)


def test_a_group_scores_what_its_heads_score_together(runs_of, tmp_path):
    """Pitfall 'GQA': the same model with each key and value written out per head has the same function.

    A group's edge carries what the edges into its heads carry together, for estimates, not by halves or copies.
    """
    folder = tmp_path / "ungrouped"
    folder.mkdir()
    for file in family_dir("llama").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    assert (config["num_attention_heads"], config["num_key_value_heads"]) == (4, 2)
    (folder / "config.json").write_text(json.dumps({**config, "num_key_value_heads": 4}))
    weights = load_file(folder / "model.safetensors")
    for name, tensor in weights.items():
        if ".k_proj." in name or ".v_proj." in name:
            weights[name] = tensor.reshape(2, 8, -1).repeat_interleave(2, 0).reshape(32, -1)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    heads = PairedRuns(open_model(folder, device="cpu"), mini_pairs(), batch_tokens=100)
    groups = runs_of("llama")
    assert heads.clean == pytest.approx(groups.clean, abs=1e-5)
    assert (heads.wiring.n_kv_heads, groups.wiring.n_kv_heads) == (4, 2)
    for method in ("eap", "eap-ig"):
        wide, narrow = score(heads, method), score(groups, method)
        for j, target in enumerate(narrow.graph.targets):
            name = str(target)
            same = [name]
            if target.kind == "group":
                g = target.index
                same = [f"a{target.layer}.h{h}<{target.slot}>" for h in (2 * g, 2 * g + 1)]
            columns = [i for i, t in enumerate(wide.graph.targets) if str(t) in same]
            assert len(columns) == len(same)
            total = np.nan_to_num(wide.values[:, columns]).sum(1)
            assert np.nan_to_num(narrow.values[:, j]) == pytest.approx(total, abs=2e-5), name


@pytest.fixture(scope="module")
def affine(tmp_path_factory):
    """Attention only, no norm, queries and keys zero: every pattern is uniform and the model is affine."""

    def flatten(weights):
        for name in weights:
            if ".attn.q." in name or ".attn.k." in name:
                weights[name] = torch.zeros_like(weights[name])

    return edited("native", tmp_path_factory.mktemp("affine") / "model", flatten)


def test_estimates_are_exact_on_an_affine_model(affine):
    runs = PairedRuns(affine, mini_pairs(3))
    for level, methods in (("edge", ("eap", "eap-ig")), ("node", ("attribution-patching", "eap-ig"))):
        truth = np.nan_to_num(score(runs, "exact", level=level).values)
        assert abs(truth).max() > 1e-2
        for method in methods:
            found = np.nan_to_num(score(runs, method, level=level).values)
            assert found == pytest.approx(truth, abs=3e-6), (level, method)  # float32, logits below 1


def test_estimates_differ_from_exact_on_a_curved_model(runs_of):
    """The test above can fail: with norms and softmax, EAP is an estimate only."""
    runs = runs_of("native-ln")
    truth, found = (np.nan_to_num(score(runs, m, level="edge").values) for m in ("exact", "eap"))
    assert abs(found - truth).max() > 1e-2


def test_a_head_that_writes_nothing_scores_0(tmp_path):
    """W_O = 0 for head 1.2: every causal and gradient score of it and into it is 0."""

    def silence(weights):
        weights["blocks.1.attn.o.weight"][:, 16:24] = 0

    runs = PairedRuns(edited("native-ln", tmp_path / "model", silence), mini_pairs(1))
    graph = runs.wiring.graph()
    row = graph.source_index[next(s for s in graph.sources if str(s) == "a1.h2")]
    columns = [j for j, t in enumerate(graph.targets) if str(t).startswith("a1.h2<")]
    for method in ("eap", "eap-ig", "exact"):
        values = np.nan_to_num(score(runs, method, level="edge").values)
        # exact: difference of two equal metrics in float32
        assert abs(values[row]).max() <= 1e-6 and abs(values[:, columns]).max() <= 1e-6, method
        assert abs(values).max() > 0.01
    for method in ("attribution-patching", "eap-ig", "exact"):
        assert abs(score(runs, method, level="node").values[row]) <= 1e-6
    for kind in ("zero", "mean", "resample"):
        assert abs(sweep(runs, ablations([["a1.h2"]], kind), kind="ablation").per_pair).max() <= 1e-6


def test_metrics_whose_low_is_good_keep_the_sign(runs_of):
    """Positive supports the behavior for every metric: exact nll scores are the rise of nll."""
    runs = runs_of("native-ln", pairs=mini_pairs(1), metric="nll")
    table = sweep(runs, ablations([["m1"], ["a0.h1"]]), kind="ablation")
    assert table.per_pair == pytest.approx(table.patched - runs.clean)
    nodes = score(runs, "exact", level="node")
    row = nodes.graph.source_index[next(s for s in nodes.graph.sources if str(s) == "m1")]
    assert nodes.values[row] == pytest.approx(table["m1"], abs=1e-6)
    gap = float((runs.corrupted - runs.clean).mean())
    assert input_sum(runs, 30) == pytest.approx(gap, abs=5e-3 * abs(gap))


# -- precision -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def half():
    return open_model(family_dir("gpt2"), device="cpu", dtype="bfloat16")


def test_node_scores_of_a_bf16_model_lose_nothing_in_the_sum(half):
    """The products and their sum are wide, also where the model is not."""
    runs = PairedRuns(half, mini_pairs(2), batch_tokens=1000)
    found = score(runs, "attribution-patching").values
    graph, batch = Graph(runs.wiring.node_shape()), runs.batches[0]
    sites = [(0, "resid"), *writer_hooks(graph)]
    hooks = ["blocks.0.hook_in"]
    hooks += [f"blocks.{n}.{'attn.hook_z' if s == 'head-output' else 'hook_mlp_out'}" for n, s in sites[1:]]
    clean, corrupted = (runs.activations(batch, run, hooks) for run in ("clean", "corrupted"))
    grads, truth = writer_gradients(runs, batch, sites), []
    for site, hook in zip(sites, hooks, strict=True):
        product = (clean[hook].double() - corrupted[hook].double()) * grads[site].double()
        truth += product.sum((0, 1, 3)).tolist() if site[1] == "head-output" else [float(product.sum())]
    assert found == pytest.approx(np.array(truth) / 2, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("method", ["attribution-patching", "eap", "ceap"])
def test_bf16_scores_are_those_of_float32_to_its_precision(half, runs_of, method):
    pairs = mini_pairs(2)
    wide, narrow = (
        np.nan_to_num(score(runs, method).values)
        for runs in (runs_of("gpt2", pairs=pairs), PairedRuns(half, pairs))
    )
    # 2 ** -8 relative per activation, a few layers deep
    assert np.linalg.norm(narrow - wide) < 0.1 * np.linalg.norm(wide)


def test_scores_are_json_and_say_what_they_are(runs_of):
    runs = runs_of("llama")
    found = score(runs, "eap-ig", steps=2)
    json.dumps({**found.provenance, "options": dict(found.options)}, allow_nan=False)
    assert found.provenance["convention"].startswith("position-free") and found.unit == "logits"
    assert found.provenance["processing"] == "raw" and found.options["rule"] == "midpoint"
