"""Masks that differ from token to token or are fractions: of edges and of nodes, against single plain passes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.integration.naive import Naive, Put, SplitInputs, naive_of
from workbench.circuits.addresses import parse_edge, parse_node
from workbench.circuits.circuit import Circuit
from workbench.circuits.graph import Graph
from workbench.core.errors import CircuitError, ShapeError, TaskError
from workbench.engine.edges import ablate_edges
from workbench.engine.nodes import ablate_nodes
from workbench.evaluate.faithfulness import faithfulness, run_circuits
from workbench.methods.by_name import score

TOLERANCE = 2e-5  # as in test_edges: an edit at q, k, v against one at the split inputs
EDGE_FAMILIES = ("gpt2", "gpt-neox", "llama", "gemma2")
# mini pairs: tokens 0 to 5 or 7; S and V differ from pair to pair, end is the last token, rest all others


class Weighted(SplitInputs):
    """Edges replaced to a degree that depends on the token: ``{(source, target): (pos,) fraction}``."""

    def measured(self, i: int, fractions: dict[tuple[str, str], np.ndarray]) -> float:
        reference = self.outputs(i, "corrupted")
        by_target: dict[str, list[tuple[str, torch.Tensor]]] = {}
        for (source, target), fraction in fractions.items():
            weight = torch.tensor(fraction, dtype=torch.float32)[None, :, None]
            by_target.setdefault(target, []).append((source, weight))

        now: dict[str, torch.Tensor] = {}

        def change(target: str):
            return sum(w * (reference[s] - now[s]) for s, w in by_target.get(target, []))

        return self.with_inputs(i, change, now)


def label_of(runs, i: int, token: int) -> str:
    """The label of one token of one pair, from the pair itself."""
    here = [name for name in runs.position_labels if runs.pairs.positions[i].get(name) == token]
    return here[0] if here else "rest"


def on_batches(runs, measure) -> np.ndarray:
    """``(copy, pair)`` of ``measure(batch)``."""
    found = {}
    for batch in runs.batches:
        values = measure(batch).detach().numpy()
        found |= {int(i): values[:, row] for row, i in enumerate(batch.index)}
        runs.release(batch)
    return np.stack([found[i] for i in range(runs.n_pairs)], 1)


@pytest.mark.parametrize("family", EDGE_FAMILIES)
def test_equal_masks_at_all_labels_are_the_mask_without_labels(family, runs_of):
    runs = runs_of(family)
    graph, rng = runs.wiring.graph(), np.random.default_rng(0)
    masks = torch.as_tensor(graph.edge_mask & (rng.random((3, *graph.edge_mask.shape)) < 0.5))
    everywhere = masks[:, None].expand(-1, len(runs.position_labels), -1, -1)
    plain = on_batches(runs, lambda b: ablate_edges(runs, b, graph, masks))
    labelled = on_batches(runs, lambda b: ablate_edges(runs, b, graph, everywhere, labels=runs.labels_of(b)))
    assert labelled == pytest.approx(plain, abs=TOLERANCE)
    assert abs(plain - runs.clean).max() > 100 * TOLERANCE


@pytest.mark.parametrize("family", EDGE_FAMILIES)
@pytest.mark.parametrize("whole", [True, False])
def test_masks_per_label_equal_one_pass_at_a_time(family, whole, runs_of):
    """Random sets (and random fractions) of edges, other ones at every label."""
    runs = runs_of(family)
    graph, rng = runs.wiring.graph(), np.random.default_rng(1)
    shape = (2, len(runs.position_labels), *graph.edge_mask.shape)
    masks = rng.random(shape) < 0.5 if whole else rng.random(shape)
    masks = masks & graph.edge_mask if whole else masks * graph.edge_mask
    given = torch.as_tensor(masks if whole else masks.astype(np.float32))
    found = on_batches(runs, lambda b: ablate_edges(runs, b, graph, given, labels=runs.labels_of(b)))
    with Weighted(naive_of(family, runs), whole_layer=not runs.wiring.head_writes) as split:
        for i in range(runs.n_pairs):
            labels = [
                runs.position_labels.index(label_of(runs, i, t)) for t in range(len(runs.pairs.clean[i]))
            ]
            for c in range(len(masks)):
                cells = {
                    (str(graph.sources[s]), str(graph.targets[t])): masks[c, labels, s, t]
                    for s, t in np.argwhere(graph.edge_mask)
                }
                assert found[c, i] == pytest.approx(split.measured(i, cells), abs=TOLERANCE)


@pytest.mark.parametrize("family", ["gpt2", "llama", "native-ln"])
def test_fractions_of_0_and_1_are_the_plain_masks(family, runs_of):
    runs = runs_of(family)
    graph, rng = runs.wiring.graph(), np.random.default_rng(2)
    masks = torch.as_tensor(graph.edge_mask & (rng.random((2, *graph.edge_mask.shape)) < 0.5))
    whole = on_batches(runs, lambda b: ablate_edges(runs, b, graph, masks))
    asked = masks.float().requires_grad_(True)
    assert on_batches(runs, lambda b: ablate_edges(runs, b, graph, masks.float())) == pytest.approx(
        whole, abs=1e-6
    )
    assert on_batches(runs, lambda b: ablate_edges(runs, b, graph, asked)) == pytest.approx(
        whole, abs=TOLERANCE
    )


@pytest.mark.parametrize("family", EDGE_FAMILIES)
def test_the_gradient_of_a_mask_at_the_clean_end_is_minus_eap(family, runs_of):
    """The mask view of EAP (Syed et al. 2023): two independent ways to one number, for every edge."""
    runs = runs_of(family)
    graph = runs.wiring.graph()
    total = torch.zeros(graph.edge_mask.shape)
    for batch in runs.batches:
        masks = torch.zeros(1, *graph.edge_mask.shape, requires_grad=True)
        total += torch.autograd.grad(ablate_edges(runs, batch, graph, masks).sum(), masks)[0][0]
        runs.release(batch)
    found = np.where(graph.edge_mask, -total.numpy() / runs.n_pairs, 0)
    eap = np.nan_to_num(score(runs, "eap").values)
    assert found == pytest.approx(eap, abs=1e-5 * abs(eap).max() + 1e-6)
    assert not any(p.requires_grad or p.grad is not None for p in runs.model.parameters())


def test_the_gradient_of_a_mask_is_its_finite_difference(runs_of):
    """Halfway between the runs, with everything upstream moving too; five edges into every kind of reader."""
    runs = runs_of("gpt2")
    graph, batch = runs.wiring.graph(), runs.batches[0]
    start = 0.5 * torch.as_tensor(graph.edge_mask)[None].float()
    masks = start.clone().requires_grad_(True)
    grad = torch.autograd.grad(ablate_edges(runs, batch, graph, masks).sum(), masks)[0][0]
    columns = [
        graph.target_index[parse_node(a)] for a in ("a1.h0<q>", "a2.h1<k>", "a1.h2<v>", "m1", "logits")
    ]
    h = 0.02  # central differences: error of order h^2 times the third derivative, rounding of order 1e-6 / h
    for j in columns:
        moved = start.repeat(2, 1, 1)
        moved[0, 2, j] += h
        moved[1, 2, j] -= h
        up, down = ablate_edges(runs, batch, graph, moved).double().sum(1).tolist()
        assert float(grad[2, j]) == pytest.approx((up - down) / (2 * h), abs=5e-4)
    assert max(abs(float(grad[2, j])) for j in columns) > 0.01
    runs.release(batch)


def test_masks_and_labels_come_together(runs_of):
    runs = runs_of("gpt2")
    graph, batch = runs.wiring.graph(), runs.batches[0]
    mask = torch.as_tensor(graph.edge_mask)[None]
    with pytest.raises(ShapeError, match="with labels have 4 axes"):
        ablate_edges(runs, batch, graph, mask, labels=runs.labels_of(batch))
    with pytest.raises(ShapeError, match="without labels have 3 axes"):
        ablate_edges(runs, batch, graph, mask[None])


def test_late_start_with_labels_and_gradients(runs_of):
    """Layers below the first edited reader are skipped, whatever kind the masks are."""
    runs = runs_of("llama")
    graph, rng = runs.wiring.graph(), np.random.default_rng(3)
    late = np.array([t.layer is None or t.layer >= 1 for t in graph.targets])
    shape = (2, len(runs.position_labels), *graph.edge_mask.shape)
    masks = torch.as_tensor((rng.random(shape) * (graph.edge_mask & late)).astype(np.float32))
    found = []
    for start, asked in ((0, False), (1, False), (1, True)):
        given = masks.clone().requires_grad_(asked)
        found.append(
            on_batches(
                runs,
                lambda b, start=start, given=given: ablate_edges(
                    runs, b, graph, given, start=start, labels=runs.labels_of(b)
                ),
            )
        )
    assert found[1] == pytest.approx(found[0], abs=TOLERANCE)
    assert found[2] == pytest.approx(found[0], abs=TOLERANCE)


# -- circuits at positions --------------------------------------------------------------------------------------


def positioned(graph: Graph, addresses: list[str]) -> Circuit:
    edges = {(e.source, e.target): 1.0 for e in map(parse_edge, addresses)}
    return Circuit.build(shape=graph.shape, nodes={}, edges=edges)


KEPT = [
    "input->a0.h1<v>",
    "input@S->a0.h0<q>@S",
    "input@S->a0.h0<k>@S",
    "input@V->a0.h0<k>@V",
    "input@rest->a0.h0<v>@rest",
    "input@S->a0.h0<v>@S",
    "a0.h0@S->m1@S",
    "a0.h0@end->logits@end",
    "m1@3->logits@3",
    "m1@end->logits@end",
    "a0.h1@2->m1@2",
    "input->m2",
    "m2->logits",
]


def is_kept(runs, i: int, token: int, position) -> bool:
    return position is None or position == token or position == label_of(runs, i, token)


@pytest.mark.parametrize("family", ["gpt2", "gpt-neox"])
def test_a_circuit_at_positions_equals_one_pass_at_a_time(family, runs_of):
    runs = runs_of(family)
    graph = runs.wiring.graph()
    circuit = positioned(graph, KEPT)
    found = run_circuits(runs, [circuit])[0]
    kept = [parse_edge(a) for a in KEPT]
    truth = []
    with Weighted(naive_of(family, runs), whole_layer=not runs.wiring.head_writes) as split:
        for i in range(runs.n_pairs):
            gone = {(str(e.source), str(e.target)): np.ones(len(runs.pairs.clean[i])) for e in graph.edges()}
            for edge in kept:
                cell = gone[str(edge.source.at(None)), str(edge.target.at(None))]
                for token in range(len(cell)):
                    cell[token] *= not is_kept(runs, i, token, edge.source.position)
            truth.append(split.measured(i, gone))
    assert found == pytest.approx(truth, abs=TOLERANCE)
    free = positioned(
        graph,
        sorted(
            {str(parse_edge(a).source.at(None)) + "->" + str(parse_edge(a).target.at(None)) for a in KEPT}
        ),
    )
    assert abs(found - run_circuits(runs, [free])[0]).max() > 100 * TOLERANCE  # positions matter here


def test_an_edge_at_every_label_is_the_edge(runs_of):
    runs = runs_of("llama")
    graph = runs.wiring.graph()
    scores = score(runs, "eap")
    free = scores.top(60, prune=False)
    everywhere = Circuit.build(
        shape=graph.shape,
        nodes={},
        edges={
            (e.source.at(p), e.target.at(p)): 1.0 for e in free.parsed_edges for p in runs.position_labels
        },
    )
    assert run_circuits(runs, [everywhere])[0] == pytest.approx(run_circuits(runs, [free])[0], abs=TOLERANCE)
    assert faithfulness(everywhere, runs).size == 60 * len(runs.position_labels)


def test_positions_that_cannot_be_run_say_why(runs_of):
    runs = runs_of("gpt2")
    graph = runs.wiring.graph()
    crossing = positioned(graph, ["input@S->a1.h0<k>@end"])
    with pytest.raises(CircuitError, match="joins two positions"):
        run_circuits(runs, [crossing])
    with pytest.raises(CircuitError, match="'S9'") as error:
        run_circuits(runs, [positioned(graph, ["input@S9->m0@S9"])])
    assert "S, V, end, rest" in error.value.hint
    with pytest.raises(TaskError, match="position 7 is outside"):  # the first two pairs have 6 tokens
        run_circuits(runs, [positioned(graph, ["input@7->m0@7"])])


NODES = ("a0.h1", "a1.h2@S", "a1.h2@rest", "m0@end", "a2.h0@3", "m1", "m2@V")


@pytest.mark.parametrize("family", ["gpt2", "gemma2", "bert", "opt"])
@pytest.mark.parametrize("ablation", ["resample", "zero", "mean-per-position"])
def test_node_circuits_at_positions_equal_one_pass_at_a_time(family, ablation, runs_of):
    runs = runs_of(family)
    graph = Graph(runs.wiring.node_shape())
    nodes = {parse_node(a): 1.0 for a in NODES}
    circuit = Circuit.build(shape=graph.shape, nodes=nodes, edges={}, level="node")
    found = run_circuits(runs, [circuit], ablation=ablation)[0]
    naive: Naive = naive_of(family, runs)
    kind = "corrupted" if ablation == "resample" else ablation
    truth = []
    for i in range(runs.n_pairs):
        puts = []
        for source in graph.sources[1:]:
            mine = [n.position for n in nodes if n.at(None) == source]
            site = "head-output" if source.kind == "head" else "mlp-out"
            puts += [
                Put(site, source.layer, source.index, token)
                for token in range(len(runs.pairs.clean[i]))
                if not any(is_kept(runs, i, token, p) for p in mine)
            ]
        truth.append(naive.patched(i, "clean", kind, puts))
    assert found == pytest.approx(truth, abs=TOLERANCE)


@pytest.mark.parametrize("family", ["gpt2", "gemma2", "bert"])
def test_node_masks_without_labels_are_node_circuits(family, runs_of):
    """Whole and float masks of nodes against the sweep engine's edits."""
    runs = runs_of(family)
    graph, rng = Graph(runs.wiring.node_shape()), np.random.default_rng(4)
    masks = rng.random((3, len(graph.sources))) < 0.5
    circuits = [
        Circuit.build(
            shape=graph.shape,
            nodes={graph.sources[j]: 1.0 for j in np.flatnonzero(~mask)},
            edges={},
            level="node",
        )
        for mask in masks
    ]
    truth = run_circuits(runs, circuits)
    given = torch.as_tensor(masks)
    asked = given.float().requires_grad_(True)
    assert on_batches(runs, lambda b: ablate_nodes(runs, b, given)) == pytest.approx(truth, abs=TOLERANCE)
    assert on_batches(runs, lambda b: ablate_nodes(runs, b, asked)) == pytest.approx(truth, abs=TOLERANCE)


@pytest.mark.parametrize("family", ["gpt2", "gemma2"])
def test_the_gradient_of_a_node_mask_at_the_clean_end_is_minus_attribution_patching(family, runs_of):
    runs = runs_of(family)
    graph = Graph(runs.wiring.node_shape())
    total = np.zeros(len(graph.sources))
    for batch in runs.batches:
        masks = torch.zeros(1, len(graph.sources), requires_grad=True)
        total += torch.autograd.grad(ablate_nodes(runs, batch, masks).sum(), masks)[0][0].numpy()
        runs.release(batch)
    known = score(runs, "attribution-patching", level="node").values
    assert -total[1:] / runs.n_pairs == pytest.approx(known[1:], abs=1e-5)
    assert total[0] == 0  # the input is never replaced
