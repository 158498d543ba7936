"""Scores beside a sample of exact effects: all edges are the truth, and a few are near it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.families import family_dir
from tests.mini import mini_pairs
from workbench.bench.quantities import agreement as full_agreement
from workbench.core.errors import OptionError
from workbench.core.stats.sampled_agreement import agreement_over
from workbench.core.stats.strata import stratified
from workbench.engine.of_task import paired_runs
from workbench.evaluate.exact_sample import compare_with_exact
from workbench.evaluate.found_circuit import discover
from workbench.methods.by_name import score
from workbench.methods.exact import edge_effects
from workbench.model.open import open_model


@pytest.fixture(scope="module")
def runs():
    return paired_runs(open_model("zoo:ioi"), "ioi", n=6, split="train")


@pytest.fixture(scope="module")
def truth(runs):
    return score(runs, "exact", level="edge")


def test_with_all_edges_it_is_the_full_agreement(runs, truth):
    scores = score(runs, "eap")
    found, full = compare_with_exact(runs, scores, 10_000), full_agreement(scores, truth)
    assert len(found.edges) == found.of == 479
    # 1e-6: edges are stacked in the same passes, and nothing is weighted
    assert (found.linear, found.rank) == pytest.approx((full["pearson"], full["spearman"]), abs=1e-6)
    assert found.linear_interval[:2] == (found.linear, found.linear)


def test_exact_effects_are_those_of_the_method_exact(runs, truth):
    found = compare_with_exact(runs, score(runs, "eap"), 12)
    address = {truth.address(i): truth.values[tuple(i)] for i in np.argwhere(truth.candidates).tolist()}
    assert len({edge.edge for edge in found.edges}) == 12
    for edge in found.edges:  # 1e-4 logits of 30: float32 in passes stacked otherwise
        assert edge.exact == pytest.approx(address[edge.edge], abs=1e-4)
    assert sum(edge.weight for edge in found.edges) == pytest.approx(479)


def test_the_truth_is_in_the_interval_for_most_seeds(runs, truth):
    exact = truth.values[truth.candidates]
    for method in ("eap", "random"):
        scores = score(runs, method).values[truth.candidates]
        (linear, _), (rank, _) = agreement_over(scores, exact, stratified(scores, 10_000))
        inside = np.zeros(2)
        for seed in range(20):
            sample = stratified(scores, 40, seed=seed)
            found = agreement_over(scores[sample.items], exact[sample.items], sample, draws=100, seed=seed)
            held = zip(found, (linear, rank), strict=True)
            inside += [interval.low <= value <= interval.high for (_, interval), value in held]
        assert inside.min() >= 13, (method, inside)  # seen: 15 and more


def test_random_scores_are_warned_about_and_good_ones_are_not(runs):
    assert not compare_with_exact(runs, score(runs, "eap"), 40).warning
    found = discover(runs, "random", exact_sample=40, random_draws=0, shares=(0.1, 1.0), roles=False)
    assert found.agreement is not None and found.agreement.unsigned
    assert "random is a poor estimate" in found.agreement.warning
    assert found.circuit.evaluation["agreement"]["warning"] == found.agreement.warning
    assert "poor estimate" in found.page() and "correlation of their ranks" in found.circuit.page()


def test_batches_and_the_order_of_pairs_change_nothing():
    pairs, model = mini_pairs(3), open_model(family_dir("native"), device="cpu")
    turned = paired_runs(model, type(pairs)(items=pairs.items[::-1], task="mini"))
    whole, single = paired_runs(model, pairs), paired_runs(model, pairs, batch_tokens=1)
    found = [compare_with_exact(r, score(r, "eap"), 12) for r in (whole, single, turned)]
    for other in found[1:]:
        assert [e.edge for e in other.edges] == [e.edge for e in found[0].edges]
        assert [e.exact for e in other.edges] == pytest.approx([e.exact for e in found[0].edges], abs=1e-4)
        assert other.linear == pytest.approx(found[0].linear, abs=1e-3)


def test_each_edge_of_the_sample_is_measured_once_and_no_other(runs, monkeypatch):
    measured = []
    from workbench.methods import exact as exact_module

    run = exact_module.ablate_edges

    def counted(runs, batch, graph, masks, **more):
        measured.extend(np.argwhere(masks.cpu().numpy())[:, -2:].tolist())
        return run(runs, batch, graph, masks, **more)

    monkeypatch.setattr(exact_module, "ablate_edges", counted)
    scores = score(runs, "eap")
    found = compare_with_exact(runs, scores, 16)
    moving = [edge for edge in found.edges if edge.exact != 0]
    assert len(moving) <= len(measured) / len(runs.batches) <= 16
    assert len({tuple(edge) for edge in measured}) * len(runs.batches) == len(measured)


def test_positions_and_other_ablations_are_compared_alike():
    runs = paired_runs(open_model(family_dir("native"), device="cpu"), mini_pairs(2))
    scores = score(runs, "eap", per_position=True)
    truth = score(runs, "exact", level="edge", per_position=True)
    found = compare_with_exact(runs, scores, 8)
    values = {truth.address(i): truth.values[tuple(i)] for i in np.argwhere(truth.candidates).tolist()}
    assert [e.exact for e in found.edges] == pytest.approx([values[e.edge] for e in found.edges], abs=1e-4)
    zero = compare_with_exact(runs, score(runs, "eap", ablation="zero"), 8)
    assert zero.ablation == "zero"
    one = next(e for e in zero.edges if e.edge.startswith("a"))
    plain = score(runs, "eap")
    resampled = edge_effects(runs, plain, [index_of(plain, one.edge)])
    assert one.exact != pytest.approx(float(resampled[0]), abs=1e-4)


def index_of(scores, address: str) -> tuple[int, int]:
    """Where an edge's score stands."""
    places = map(tuple, np.argwhere(scores.candidates).tolist())
    return next(index for index in places if scores.address(index) == address)


def test_what_cannot_be_compared_is_refused(runs):
    with pytest.raises(OptionError, match="one of edges"):
        compare_with_exact(runs, score(runs, "eap-ig", level="node"))
    with pytest.raises(OptionError, match="exact effects"):
        discover(runs, "exact", exact_sample=8)
    other = paired_runs(runs.model, "ioi", n=4, split="test")
    with pytest.raises(OptionError, match="other pairs"):
        compare_with_exact(other, score(runs, "eap"))
