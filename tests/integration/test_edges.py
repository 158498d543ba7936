"""Edits of edges: full is clean, empty is corrupted, and any set in between equals independent forward passes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.families import DECODERS
from tests.integration.by_hand import MODELS
from tests.integration.naive import SplitInputs, naive_of
from workbench.circuits.circuit import Circuit
from workbench.circuits.graph import Graph
from workbench.core.errors import ModelError
from workbench.engine.edges import ablate_edges
from workbench.engine.source_outputs import source_outputs
from workbench.evaluate.curve import Curve
from workbench.evaluate.faithfulness import Faithfulness, faithfulness, run_circuits
from workbench.methods.by_name import score

# 5e-6: largest difference seen between an edit at q, k, v (difference of two norms, projected) and one at the
# split inputs (norm of the edited copy), logits of order 1, float32; with a factor of four.
TOLERANCE = 2e-5
SPLIT = (
    "gpt2",
    "gpt-neox",
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma2",
    "phi3",
    "olmo2",
    "mixtral",
    "qwen2-moe",
)
HAND = ("opt", "native", "native-ln")


def run_masks(runs, graph: Graph, masks: np.ndarray, **options) -> np.ndarray:
    """``(mask, pair)`` metric with these edges ablated."""
    values = np.full((len(masks), runs.n_pairs), np.nan)
    for batch in runs.batches:
        found = ablate_edges(runs, batch, graph, torch.as_tensor(masks), **options)
        values[:, batch.index] = found.numpy()
        runs.release(batch)
    return values


def some_masks(graph: Graph) -> np.ndarray:
    """Two random halves of all edges, and single edges into each kind of reader."""
    rng = np.random.default_rng(1)
    masks = [graph.edge_mask & (rng.random(graph.edge_mask.shape) < 0.5) for _ in range(2)]
    last = graph.shape.n_layers - 1
    layer = [j for j, t in enumerate(graph.targets) if t.layer == last]
    for slot in ("q", "k", "v", None):
        readers = [j for j in layer if graph.targets[j].slot == slot]
        if readers:
            one = np.zeros_like(graph.edge_mask)
            one[graph.n_visible[readers[-1]] - 1, readers[-1]] = True  # its latest source
            masks.append(one)
    logits = np.zeros_like(graph.edge_mask)
    logits[1, -1] = True
    return np.stack([*masks, logits])


def addresses(graph: Graph, mask: np.ndarray) -> set[tuple[str, str]]:
    return {(str(graph.sources[i]), str(graph.targets[j])) for i, j in np.argwhere(mask)}


@pytest.mark.parametrize("family", DECODERS)
def test_full_is_clean_and_empty_is_corrupted(family, runs_of):
    runs = runs_of(family)
    graph = runs.wiring.graph()
    found = run_masks(runs, graph, np.stack([np.zeros_like(graph.edge_mask), graph.edge_mask]))
    assert found[0] == pytest.approx(runs.clean, abs=TOLERANCE)
    assert found[1] == pytest.approx(runs.corrupted, abs=TOLERANCE)
    assert (abs(runs.clean - runs.corrupted) > 100 * TOLERANCE).all()


@pytest.mark.parametrize("family", SPLIT)
def test_edges_equal_transformerlens_split_inputs(family, runs_of):
    """Pitfalls 'GQA', 'LayerNorm: edge patch before the norm', 'hook point not equal to the residual write'."""
    runs = runs_of(family)
    graph = runs.wiring.graph()
    masks = some_masks(graph)
    found = run_masks(runs, graph, masks)
    naive = naive_of(family, runs)
    with SplitInputs(naive, whole_layer=not runs.wiring.head_writes) as split:
        truth = [[split.ablated(i, addresses(graph, m)) for i in range(runs.n_pairs)] for m in masks]
    assert found == pytest.approx(np.array(truth), abs=TOLERANCE)
    assert (abs(found - runs.clean).max(1) > 2 * TOLERANCE).sum() >= len(masks) - 1


@pytest.mark.parametrize("family", HAND)
def test_edges_equal_a_model_written_by_hand(family, runs_of):
    """Where TransformerLens has no split inputs (delegated and native attention)."""
    runs, model = runs_of(family), MODELS[family]()
    graph, naive = runs.wiring.graph(), naive_of(family, runs)
    masks = some_masks(graph)
    found = run_masks(runs, graph, masks)
    for i in range(runs.n_pairs):
        clean, corrupted = (torch.tensor(x[i]) for x in (runs.pairs.clean, runs.pairs.corrupted))
        reference = model.run(corrupted)[1]
        for m, mask in enumerate(masks):
            out = model.run(clean, ablated=addresses(graph, mask), instead=reference)[0]
            assert found[m, i] == pytest.approx(naive.value(out[None], i), abs=TOLERANCE)


def test_every_exact_edge_effect_by_hand(runs_of):
    """All 110 edges of a small model, each in a forward pass of its own, written by hand."""
    runs, model = runs_of("native-ln"), MODELS["native-ln"]()
    graph, naive = runs.wiring.graph(), naive_of("native-ln", runs)
    scores = score(runs, "exact", level="edge")
    truth = np.full(graph.edge_mask.shape, np.nan)
    for i, j in np.argwhere(graph.edge_mask):
        drops = []
        for p in range(runs.n_pairs):
            clean, corrupted = (torch.tensor(x[p]) for x in (runs.pairs.clean, runs.pairs.corrupted))
            edge = {(str(graph.sources[i]), str(graph.targets[j]))}
            out = model.run(clean, ablated=edge, instead=model.run(corrupted)[1])[0]
            drops.append(runs.clean[p] - naive.value(out[None], p))
        truth[i, j] = np.mean(drops)
    assert graph.n_edges == 110  # 12 readers * (1 + 6), MLPs 5 + 10, logits 11
    assert np.nan_to_num(scores.values) == pytest.approx(np.nan_to_num(truth), abs=TOLERANCE)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt-neox"])
def test_starting_late_changes_nothing(family, runs_of):
    """Masks without edges into the first layers give the same numbers when those layers are skipped."""
    runs = runs_of(family)
    graph = runs.wiring.graph()
    rng = np.random.default_rng(2)
    late = np.array([t.layer is None or t.layer >= 2 for t in graph.targets])
    masks = np.stack([graph.edge_mask & late[None, :] & (rng.random(graph.edge_mask.shape) < 0.4)] * 2)
    assert run_masks(runs, graph, masks, start=2) == pytest.approx(
        run_masks(runs, graph, masks), abs=TOLERANCE
    )


def test_denoising_edges_swaps_the_runs(runs_of):
    """With the corrupted run as base, everything ablated is the clean run."""
    runs = runs_of("llama")
    graph = runs.wiring.graph()
    found = run_masks(
        runs, graph, np.stack([np.zeros_like(graph.edge_mask), graph.edge_mask]), base="corrupted"
    )
    assert found[0] == pytest.approx(runs.corrupted, abs=TOLERANCE)
    assert found[1] == pytest.approx(runs.clean, abs=TOLERANCE)


@pytest.mark.parametrize("family", DECODERS)
def test_writes_and_biases_sum_to_the_residual_stream(family, runs_of):
    """Pitfall 'which biases belong to a node': b_O to no head, the position embedding to the input."""
    runs = runs_of(family)
    graph, batch = runs.wiring.graph(), runs.batches[0]
    written = source_outputs(runs, batch, "clean", graph).sum(2)
    if runs.wiring.head_writes:
        for layer in runs.wiring.attention_layers:
            bias = getattr(runs.model.blocks[layer].attn, "b_O", None)
            written = written + (0 if bias is None else bias)
    last = f"blocks.{runs.wiring.n_layers - 1}.hook_resid_post"
    naive = naive_of(family, runs)
    kept = {}
    with torch.no_grad():
        for row, i in enumerate(batch.index):
            store = [(last, lambda t, hook, row=row: kept.update({row: t[0].clone()}))]
            runs.model.run_with_hooks(naive.ids(int(i), "clean"), fwd_hooks=store)
    truth = torch.stack([kept[row] for row in range(len(batch))])
    assert (written - truth).abs().max() < 1e-5  # sums of 16 terms of order 1 in float32
    runs.release(batch)


def test_encoder_without_edges_says_why(runs_of):
    with pytest.raises(ModelError, match="norm follows the sum"):
        score(runs_of("bert"), "exact", level="edge")


# -- circuits --------------------------------------------------------------------------------------------------


def whole(graph: Graph, level: str = "edge") -> Circuit:
    if level == "node":
        return Circuit.build(shape=graph.shape, nodes={n: 0.0 for n in graph.nodes()}, edges={}, level="node")
    return Circuit.build(
        shape=graph.shape, nodes={}, edges={(e.source, e.target): 0.0 for e in graph.edges()}
    )


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "gpt-neox"])
def test_faithfulness_of_everything_is_1_and_of_nothing_0(family, runs_of):
    runs = runs_of(family)
    graph = runs.wiring.graph()
    nothing = Circuit.build(shape=graph.shape, nodes={}, edges={})
    assert faithfulness(whole(graph), runs).faithfulness == pytest.approx(1, abs=1e-4)
    assert faithfulness(nothing, runs).faithfulness == pytest.approx(0, abs=1e-4)
    assert faithfulness(nothing, runs).empty == pytest.approx(runs.corrupted, abs=TOLERANCE)


@pytest.mark.parametrize("family", ["gpt2", "gemma2", "bert"])
def test_faithfulness_of_all_nodes_is_1_and_of_none_0(family, runs_of):
    """Node level: nothing is every head and MLP on its corrupted value, the input clean."""
    runs = runs_of(family)
    graph = Graph(runs.wiring.node_shape())
    nothing = Circuit.build(shape=graph.shape, nodes={}, edges={}, level="node")
    assert faithfulness(whole(graph, "node"), runs).faithfulness == pytest.approx(1, abs=1e-4)
    assert faithfulness(nothing, runs).faithfulness == pytest.approx(0, abs=1e-4)


def test_a_circuit_is_run_as_given(runs_of):
    """Pitfall 'pruning that changes the reported circuit': a dangling edge stays, and its mask is what is run."""
    runs = runs_of("gpt2")
    graph = runs.wiring.graph()
    edges = {("input", "a0.h1<v>"), ("a0.h1", "a2.h3<v>"), ("input", "logits"), ("m0", "m2")}
    index = {(str(e.source), str(e.target)): (e.source, e.target) for e in graph.edges()}
    circuit = Circuit.build(shape=graph.shape, nodes={}, edges={index[e]: 1.0 for e in edges})
    result = faithfulness(circuit, runs)
    assert (result.size, circuit.size) == (4, 4)
    outside = addresses(graph, graph.edge_mask) - edges
    naive = naive_of("gpt2", runs)
    with SplitInputs(naive, whole_layer=False) as split:
        truth = [split.ablated(i, outside) for i in range(runs.n_pairs)]
    assert result.circuit == pytest.approx(truth, abs=TOLERANCE)


def test_circuits_do_not_depend_on_their_company(runs_of):
    """Stacked with others or alone, a circuit gives the same numbers."""
    runs = runs_of("llama")
    graph = runs.wiring.graph()
    scores = score(runs, "eap")
    circuits = [scores.top(n) for n in (5, 40, 120)]
    together = run_circuits(runs, [*circuits, whole(graph)])
    alone = np.concatenate([run_circuits(runs, [c]) for c in circuits])
    assert together[:3] == pytest.approx(alone, abs=TOLERANCE)


def point(f: float) -> Faithfulness:
    """A result with faithfulness ``f``: empty 0, full 1."""
    ones = np.ones(2)
    return Faithfulness(
        circuit=f * ones,
        full=ones,
        empty=0 * ones,
        size=1,
        candidates=1,
        metric="logit-difference",
        unit="logits",
    )


MIB_GRID = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


@pytest.mark.parametrize(
    ("f", "cpr", "cmd"),
    [
        (lambda k: 1.0, 0.999, 0.0),
        (lambda k: k, 0.4999995, 0.4989995 + 1e-6),  # integral of k and of 1 - k from 0.001 to 1
        (
            lambda k: float(k >= 0.01),
            0.9925,
            0.999 - 0.9925,
        ),  # trapezoid rises from 0.005 to 0.01: 0.99 + 0.0025
    ],
)
def test_areas_under_known_curves(f, cpr, cmd):
    """CPR and CMD on the grid of MIB: trapezoid, linear in the share, not divided by the length."""
    curve = Curve(
        shares=MIB_GRID[::-1],  # the order of the points does not matter
        points=tuple(point(f(k)) for k in MIB_GRID[::-1]),
        random=np.zeros((10, 0)),
        method="",
        ranking="signed",
    )
    assert curve.area()["CPR"] == pytest.approx(cpr, abs=2e-6)
    assert curve.area()["CMD"] == pytest.approx(cmd, abs=2e-6)


def test_faithfulness_without_a_gap_is_undefined():
    """Pitfall 'denominator near 0': NaN instead of a number that means nothing; the parts are still reported."""
    ones = np.ones(3)
    result = Faithfulness(
        circuit=0.5 * ones, full=ones, empty=ones * (1 + 1e-9), size=1, candidates=2, metric="", unit="logits"
    )
    assert np.isnan(result.faithfulness) and np.isnan(result.stderr)
    assert result.to_dict()["faithfulness"] is None and result.to_dict()["metric_full"] == 1.0
