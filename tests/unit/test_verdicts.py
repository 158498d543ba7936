"""Verdicts from written numbers: too few pairs or draws leave a question open, rounding decides nothing."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from workbench.circuits.verdicts.criteria import Criteria, Verdict
from workbench.circuits.verdicts.statistics import edge_minimality, equivalence, equivalence_p
from workbench.circuits.verdicts.table import edge_tests, recompute_verdicts

PERFECT = [4.0, 5.0, 6.0, 4.5, 5.5, 3.0, 7.0, 5.25]


def evaluation(n: int = 8, *, circuit: list[float] | None = None, **evidence) -> dict:
    """The parts of an evaluation file that verdicts are computed from; the circuit is the model by default."""
    model = (PERFECT * (1 + n // 8))[:n]
    scores = {"model": model, "circuit": circuit or model, "nothing": [0.0] * n, "complement": [0.0] * n}
    return {
        "criteria": asdict(Criteria()),
        "pairs": {"ids": [str(i) for i in range(n)], "groups": [""] * n},
        "direction": 1,
        "unit": "logits",
        "evidence": {"scores": scores, **evidence},
        "missing": {},
    }


def verdict(document: dict, name: str) -> Verdict:
    return next(v for v in recompute_verdicts(document) if v.name == name)


@pytest.mark.parametrize(("n", "holds"), [(2, None), (5, None), (6, None), (7, True), (30, True)])
def test_equivalence_is_open_where_no_result_could_be_rejected(n, holds):
    """All won or all lost is the worst there is: ``0.6^n + 0.4^n``, 0.088 for 5 pairs, 0.0507 for 6."""
    found = verdict(evaluation(n), "equivalent")
    assert found.holds is holds
    assert ("too few to tell" in found.measured) == (holds is None)
    if holds is None:
        assert f"{0.6**n + 0.4**n:.3g}" in found.measured


@pytest.mark.parametrize(("n", "holds"), [(2, None), (3, None), (4, True), (8, True)])
def test_independence_is_open_with_fewer_orders_than_it_takes(n, holds):
    """3 pairs have 6 orders: even the best of them is 1 in 6."""
    found = verdict(evaluation(n), "independent")
    assert found.holds is holds and ("0.167" in found.measured) == (n == 3)


def edges(n_edges: int, n_draws: int, change: float = 1.0) -> dict:
    """Edges that all change the score by ``change`` against random ones that change it by 0.1."""
    rows = [{"edge": f"e{i}", "left_out": [x + change for x in PERFECT]} for i in range(n_edges)]
    return {"of": n_edges, "seed": 0, "left_out": rows, "reference": [0.01] * n_draws}


@pytest.mark.parametrize(
    ("tested", "draws", "holds"), [(1, 1, None), (100, 3, None), (1, 2, True), (100, 4, True)]
)
def test_superfluous_edges_are_open_with_too_few_draws(tested, draws, holds):
    """The worst edge beats none of the draws: ``0.1^draws`` times the number of edges tested."""
    assert (0.1**draws * tested < 0.05) == (holds is True)
    found = verdict(evaluation(edges=edges(tested, draws)), "no superfluous edge")
    assert found.holds is holds and ("too few" in found.measured) == (holds is None)


def test_an_idle_edge_is_found_with_enough_draws():
    found = verdict(evaluation(edges=edges(2, 60, change=0.0)), "no superfluous edge")
    assert found.holds is False and found.value == 2


def test_an_edge_that_is_rounding_beats_nothing():
    """The largest score is 7, so 7e-5 is rounding: 1e-5 above random edges that change nothing is no win."""
    document = evaluation(edges={**edges(1, 60, change=1e-5), "reference": [0.0] * 60})
    (test,) = edge_tests(document)
    assert test.value == 0 and test.rejected
    clear = evaluation(edges={**edges(1, 60, change=1e-3), "reference": [0.0] * 60})
    assert edge_tests(clear)[0].value == 1
    assert edge_minimality({"e": 1e-10}, [0.0] * 60, floor=1e-4)[0].rejected
    assert not edge_minimality({"e": 1e-10}, [0.0] * 60)[0].rejected


@pytest.mark.parametrize(("draws", "holds"), [(1, None), (19, None), (20, True)])
def test_a_few_draws_of_matched_heads_leave_it_open(draws, holds):
    row = {"n": 1, "heads": ["a0.h0"], "controls": ["a0.h1"], "drop": 2.0, "control_drop": 0.5}
    found = verdict(evaluation(matched={"seed": 0, "draws": [row] * draws}), "heads matter more than others")
    assert found.holds is holds and found.value == 1


def left_out(part: str, changes) -> dict:
    """A node whose absence changes the metric by so much on each pair."""
    kept = np.resize(PERFECT, len(changes))
    return {
        "part": part,
        "class": "MLPs",
        "rest": [],
        "kept": kept.tolist(),
        "left_out": (kept - changes).tolist(),
    }


@pytest.mark.parametrize(("n", "holds"), [(2, None), (5, None), (6, True), (8, True)])
def test_minimal_is_open_where_no_node_could_be_clear_of_zero(n, holds):
    """All pairs alike: ``2 ** (1 - n)`` is the smallest p, 0.0625 for 5 pairs."""
    found = verdict(evaluation(n, minimality=[left_out("m0", np.full(n, 4.0))]), "minimal")
    assert found.holds is holds and ("too few to tell" in found.measured) == (holds is None)


def test_minimal_is_corrected_for_the_nodes_that_are_tested():
    """Three of 128 turns give such a sum: as it is, and two with the minus turned. Beside 60 others it may be luck."""
    rng, n = np.random.default_rng(2), 8
    weak = left_out("a0.h0", np.array([2.0, 1.5, 1.0, 0.6, 0.4, 0.2, 0.1, -0.1]))
    alone = verdict(evaluation(n, minimality=[weak]), "minimal")
    assert alone.holds is True and alone.p == pytest.approx(3 / 2**7)
    idle = [left_out(f"a1.h{i}", rng.normal(0, 1, n)) for i in range(60)]
    beside = verdict(evaluation(n, minimality=[weak, *idle]), "minimal")
    assert "without a clear effect: a0.h0" in beside.measured


def test_what_is_large_and_not_clear_is_open_with_few_pairs_and_a_no_with_many():
    wild = np.tile([6.0, -4.0], 30)
    few, many = (evaluation(n, minimality=[left_out("m0", wild[:n])]) for n in (8, 60))
    assert verdict(few, "minimal").holds is None and "8 independent pairs" in verdict(few, "minimal").measured
    assert verdict(many, "minimal").holds is False
    none = evaluation(8, minimality=[left_out("m0", np.zeros(8))])
    assert verdict(none, "minimal").holds is False  # no effect at all is no question of how many pairs


def test_under_the_null_a_node_is_called_needed_no_more_often_than_nominal():
    """20 nodes that do nothing: any of them clear in at most 5 % of circuits; by intervals alone it is in half."""
    rng, together, alone = np.random.default_rng(6), 0, 0
    for _ in range(60):
        document = evaluation(24, minimality=[left_out(f"a0.h{i}", rng.normal(0, 1, 24)) for i in range(20)])
        for rules, seen in (({"flips": 299}, 0), (OLD | {"resamples": 200}, 1)):
            document["criteria"] = {**asdict(Criteria()), **rules}
            needed = verdict(document, "minimal").value > 0
            together, alone = together + (needed and seen == 0), alone + (needed and seen == 1)
    assert together / 60 < 0.05 + 2 * 0.028 and alone / 60 > 0.4  # 60 circuits: a standard error of 0.028


OLD = {"rules": 1, "least_pairs": 2, "node_correction": "none"}


@pytest.mark.parametrize(("n", "holds"), [(2, None), (8, None), (23, None), (24, True), (64, True)])
def test_faithful_is_open_below_24_independent_pairs(n, holds):
    found = verdict(evaluation(n), "faithful")
    assert found.holds is holds and found.value == pytest.approx(1)
    assert ("too few to tell" in found.measured) == (holds is None)
    half = evaluation(n, circuit=[x / 2 for x in evaluation(n)["evidence"]["scores"]["model"]])
    assert verdict(half, "faithful").holds is (None if holds is None else False)
    copies = evaluation(64)
    copies["pairs"]["clusters"] = [i // 4 for i in range(64)]  # 16 of them are independent
    assert (
        verdict(copies, "faithful").holds is None and "16 independent" in verdict(copies, "faithful").measured
    )


def test_copies_of_a_pair_tell_equivalence_and_independence_nothing_new():
    """64 pairs in 8 groups of equal scores are 8 pairs; files by earlier rules are read as they were."""
    own = [x + (-1) ** i for i, x in enumerate(PERFECT)]
    alone = evaluation(8, circuit=own)
    copies = evaluation(64, circuit=own * 8)
    copies["pairs"]["clusters"] = list(range(8)) * 8
    for document in (alone, copies):
        scores = document["evidence"]["scores"]
        scores["complement"] = [x**2 for x in scores["model"]]
    for name in ("equivalent", "independent"):
        assert verdict(copies, name).p == pytest.approx(verdict(alone, name).p)
    assert "of 8 groups of pairs" in verdict(copies, "equivalent").measured
    copies["criteria"]["rules"] = 2
    assert "of 64 pairs" in verdict(copies, "equivalent").measured
    assert Criteria.read(copies["criteria"]).today == Criteria()


def test_templates_of_few_pairs_are_not_judged():
    document = evaluation(60)
    document["pairs"]["groups"] = ["a"] * 30 + ["b"] * 30
    assert verdict(document, "robust to the template").holds is True
    document["pairs"]["groups"] = ["a"] * 30 + ["b"] * 20 + ["c"] * 10
    assert verdict(document, "robust to the template").holds is None


def test_old_criteria_decide_as_they_did():
    """A file that says nothing of rules was judged by the first: two pairs and single intervals were enough."""
    document = evaluation(8, minimality=[left_out("m0", np.full(8, 4.0)), left_out("m1", np.zeros(8))])
    saved = {k: v for k, v in asdict(Criteria()).items() if k not in {*OLD, "flips"}}
    assert Criteria.read(saved) == Criteria(**OLD) and Criteria.read(saved).today == Criteria()
    document["criteria"] = saved
    assert verdict(document, "faithful").holds is True and verdict(document, "minimal").holds is False
    assert verdict(document, "minimal").p is None and verdict(document, "minimal").value == 0.5


def test_ties_do_not_prefer_wins_to_losses():
    """10 pairs, one tie: 1 win and 8 losses, or 8 and 1; ``p`` is the mean of 1 and 2 wins of 10."""
    model = np.arange(10.0) + 1
    lost = np.where(np.arange(10) < 1, model + 1, np.where(np.arange(10) < 9, model - 1, model))
    won = 2 * model - lost
    here, there = equivalence(lost, model), equivalence(won, model)
    assert (
        here.p == pytest.approx(there.p) == pytest.approx((equivalence_p(1, 10) + equivalence_p(2, 10)) / 2)
    )
    assert (here.value, there.value) == (0.15, 0.85)


def stability(*sets: list[int], note: str = "") -> dict:
    made = {"method": "eap", "parts": ["a", "b", "c"], "sets": list(sets), "candidates": 10, "note": note}
    return {**made, "refitted": False, "n_pairs": 8, "seed": 0}


def test_stability_is_the_mean_overlap_by_hand():
    """{0, 1}, {0, 1}, {0, 2}: 1, 1/3 and 1/3."""
    document = evaluation(stability=stability([0, 1], [0, 1], [0, 2], note="measured on other pairs"))
    found = verdict(document, "stable")
    assert found.value == pytest.approx(5 / 9) and found.holds is False
    assert "by chance 0.11" in found.measured and found.measured.endswith("other pairs")  # 2 of 10: 2 / 18
    assert verdict(evaluation(stability=stability([0, 1], [0, 1])), "stable").holds is True


def test_stability_of_empty_circuits_is_open():
    for sets in ([[], []], [[0]]):
        found = verdict(evaluation(stability=stability(*sets)), "stable")
        assert found.holds is None and found.value is None
