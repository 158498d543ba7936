"""AUROC and AUPRC by hand and against a loop over all pairs; what is not scored counts as what it is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.circuits.graph import Graph, GraphShape
from workbench.circuits.scores import Scores
from workbench.core.errors import ShapeError
from workbench.core.stats.agreement import (
    average_ranks,
    chance_jaccard,
    jaccard,
    mean_jaccard,
    pearson,
    spearman,
)
from workbench.evaluate.ground_truth import area_under, auprc, auroc, pr_points, recovery, roc_points

CASES = st.lists(
    st.tuples(st.sampled_from([0.0, 0.5, 1.0, 2.0, float("nan")]), st.booleans()), min_size=2, max_size=24
)


def arrays(values, positive):
    return np.array(values, dtype=float), np.array(positive, dtype=bool)


def test_auroc_by_hand():
    # positives 3 and 1, negatives 2 and 0: 3 beats both, 1 beats one of two -> 3 of 4
    assert auroc(*arrays([3, 2, 1, 0], [1, 0, 1, 0])) == 0.75
    # positive 1 ties with one negative and beats the other -> (0.5 + 1) / 2
    assert auroc(*arrays([1, 1, 0], [1, 0, 0])) == 0.75
    assert auroc(*arrays([4, 3, 1], [1, 1, 0])) == 1.0
    assert auroc(*arrays([1, 1, 1], [1, 0, 0])) == 0.5
    assert np.isnan(auroc(*arrays([1, 2], [1, 1])))


def test_auprc_by_hand():
    # best first: hit (1/1), miss, hit (2/3) -> 1/2 * 1 + 1/2 * 2/3
    assert auprc(*arrays([3, 2, 1, 0], [1, 0, 1, 0])) == pytest.approx(5 / 6)
    # tied pair enters together: recall 0 -> 1 at precision 1/2
    assert auprc(*arrays([1, 1, 0], [1, 0, 0])) == 0.5
    assert auprc(*arrays([7, 7, 7, 7], [1, 0, 0, 0])) == 0.25  # no ranking at all: the share of positives


def test_an_edge_that_is_not_scored_ranks_last_and_is_not_dropped():
    nan = float("nan")
    # the second positive has no score: below both negatives -> (2 + 0) / 4, not 1
    assert auroc(*arrays([3, nan, 2, 0], [1, 1, 0, 0])) == 0.5
    # and it ties with a negative that has none either: (2 + 0.5) / 4
    assert auroc(*arrays([3, nan, 2, nan], [1, 1, 0, 0])) == 0.625
    assert auprc(*arrays([3, nan, 2, 0], [1, 1, 0, 0])) == 0.5 * 1 + 0.5 * 2 / 4


def test_curves_by_hand():
    values, positive = arrays([3, 2, 1, 1], [1, 0, 1, 0])
    assert roc_points(values, positive) == ((0.0, 0.0), (0.0, 0.5), (0.5, 0.5), (1.0, 1.0))
    assert pr_points(values, positive) == ((0.5, 1.0), (0.5, 0.5), (1.0, 0.5))


@given(CASES)
def test_auroc_is_the_share_of_pairs_won_and_the_area_under_the_curve(cases):
    values, positive = arrays(*zip(*cases, strict=True))
    if positive.all() or not positive.any():
        return
    shown = np.where(np.isnan(values), -9.0, values)
    wins = [1.0 if p > n else 0.5 if p == n else 0.0 for p in shown[positive] for n in shown[~positive]]
    assert auroc(values, positive) == pytest.approx(sum(wins) / len(wins))
    points = roc_points(values, positive)
    assert points[0] == (0.0, 0.0) and points[-1] == (1.0, 1.0)
    assert area_under(points) == pytest.approx(auroc(values, positive))


@given(CASES, st.randoms())
def test_order_of_cases_changes_nothing(cases, random):
    other = list(cases)
    random.shuffle(other)
    for measure in (auroc, auprc):
        a, b = (measure(*arrays(*zip(*c, strict=True))) for c in (cases, other))
        assert a == pytest.approx(b, nan_ok=True)


@given(CASES)
def test_auprc_is_the_sum_over_thresholds(cases):
    values, positive = arrays(*zip(*cases, strict=True))
    if not positive.any():
        return
    shown, total, before = np.where(np.isnan(values), -9.0, values), 0.0, 0
    for threshold in sorted(set(shown.tolist()), reverse=True):
        kept = shown >= threshold
        hits = int((kept & positive).sum())
        total += (hits - before) / positive.sum() * hits / kept.sum()
        before = hits
    assert auprc(values, positive) == pytest.approx(total)


@pytest.mark.usefixtures("unchecked")
def test_labels_and_scores_must_be_of_one_length():
    with pytest.raises(ShapeError, match="one of each per case"):
        auroc(np.zeros(3), np.zeros(2, dtype=bool))


# -- scores of a graph -------------------------------------------------------------------------------------

GRAPH = Graph(GraphShape(n_layers=1, n_heads=1, n_kv_heads=1))  # input, a0.h0, m0 -> q, k, v, m0, logits


def edge_scores(**given_):
    values = np.where(GRAPH.edge_mask, 0.0, np.nan)
    for edge, value in given_.items():
        source, target = edge.split("__")
        i = [str(s) for s in GRAPH.sources].index(source.replace("_", "."))
        j = [str(t) for t in GRAPH.targets].index(target.replace("_", "."))
        values[i, j] = value
    return Scores(
        graph=GRAPH, values=values, level="edge", method="hand", unit="logits", metric="m", n_pairs=1
    )


def test_recovery_names_what_is_misplaced():
    scores = edge_scores(input__m0=-3.0, input__logits=2.0, m0__logits=1.0)
    positive = np.zeros_like(GRAPH.edge_mask)
    for at in (("input", "m0"), ("m0", "logits")):
        i = [str(s) for s in GRAPH.sources].index(at[0])
        positive[i, [str(t) for t in GRAPH.targets].index(at[1])] = True
    # 3 edges into q, k, v; 2 into m0; 3 into logits: 8 edges, 2 positive. By size: 3 | 2 | 1 | zeros
    found = recovery(scores, positive)
    assert (found.n_positive, found.n_negative) == (2, 6)
    assert found.auroc == pytest.approx((6 + 5) / 12)
    assert found.missed == (("m0->logits", 1.0),) and found.above == (("input->logits", 2.0),)
    # signed: -3 is below everything
    signed = recovery(scores, positive, by="signed")
    assert signed.auroc == pytest.approx((0 + 5) / 12) and not signed.exact
    # without the one edge that misleads, the ranking is perfect
    counted = GRAPH.edge_mask.copy()
    counted[0, -1] = False
    assert recovery(scores, positive, counted).auroc == 1.0 and recovery(scores, positive, counted).exact


def test_labels_of_another_graph_are_refused():
    with pytest.raises(ShapeError, match="both must be of one graph"):
        recovery(edge_scores(), np.zeros((2, 2), dtype=bool))


def test_the_input_node_is_not_judged():
    scores = Scores(
        graph=GRAPH,
        values=np.array([0.0, 2.0, 1.0]),
        level="node",
        method="hand",
        unit="logits",
        metric="m",
        n_pairs=1,
    )
    found = recovery(scores, np.array([True, True, False]))
    assert (found.n_positive, found.n_negative, found.auroc) == (1, 1, 1.0)


# -- agreement ---------------------------------------------------------------------------------------------


def test_correlations_by_hand():
    assert average_ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1.0, 3.5, 2.0]
    a, b = np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 4.0])
    assert pearson(a, b) == pytest.approx(4 / np.sqrt(2 * 26 / 3))  # sums of products of deviations
    assert spearman(a, b) == pytest.approx(1.0) and spearman(a, -b) == pytest.approx(-1.0)
    assert np.isnan(pearson(a, np.ones(3)))


def test_jaccard_by_hand():
    assert jaccard({"a", "b"}, {"b", "c"}) == pytest.approx(1 / 3)
    assert mean_jaccard([{"a"}, {"a"}, {"b"}]) == pytest.approx(1 / 3)
    assert np.isnan(mean_jaccard([{"a"}])) and np.isnan(jaccard(set(), set()))
    assert np.isnan(mean_jaccard([{1}, set(), set()]))
    # 10 of 20 twice: 5 shared of 15; 10 and 20 of 100: 2 shared of 28
    assert chance_jaccard(10, 10, 20) == pytest.approx(5 / 15)
    assert chance_jaccard(10, 20, 100) == pytest.approx(2 / 28) and np.isnan(chance_jaccard(0, 0, 100))
