"""Single edges from pair to pair, parts of a circuit by how many tasks share them, and samples that go on."""

import numpy as np
import pytest

import workbench as wb
from workbench.circuits.specificity import Specificity
from workbench.circuits.variance import Variance
from workbench.engine.distribute import Here
from workbench.engine.store import SweepStore
from workbench.evaluate.judge_plan import JudgePlan
from workbench.methods.exact import edge_effects, effects_of_pairs


@pytest.fixture(scope="module")
def runs():
    return wb.paired_runs(wb.open_model("zoo:truth-induction"), "induction", n=3, seed=1)


def test_effects_of_pairs_are_those_of_single_pairs(runs):
    graph = runs.wiring.graph()
    places = [tuple(place) for place in np.argwhere(graph.edge_mask)[::5].tolist()]
    found = effects_of_pairs(runs, graph, places)
    for i in range(runs.n_pairs):
        alone = wb.score(runs.subset([i]), "exact").values
        assert found[:, i] == pytest.approx([alone[place] for place in places], abs=1e-4)


def test_signs_and_variation_by_hand():
    told = {"templates": (), "overlap": np.zeros((0, 0)), "faithfulness": np.zeros((0, 0)), "halves": ()}
    single = {"resampled": 1.0, "null": 0.5, "each": np.ones(3)}
    effects = np.array([[1.0, 3.0], [-1.0, 1.0]])
    edges = {"edges": ("a", "b"), "effect": effects.mean(1), "spread": effects.std(1, ddof=1)}
    found = Variance(**told, **single, **edges, signs=np.array([1.0, 0.0]))
    assert found.edge_variation[0] == pytest.approx(2**0.5 / 2) and np.isnan(found.edge_variation[1])
    assert "1 of 2" in found.facts().values()
    again = Variance.from_dict(found.to_dict())
    assert again.edges == found.edges and np.array_equal(again.effect, found.effect)
    older = {k: v for k, v in found.to_dict().items() if k not in ("edges", "effect", "spread", "signs")}
    assert Variance.from_dict(older).edges == ()


def test_variance_tells_the_largest_edges(runs):
    circuit = wb.score(runs, "eap-ig").top(6)
    found = wb.variance(circuit, runs, draws=2, refits=1, splits=1, varied=3)
    largest = sorted(circuit.edges, key=lambda edge: -abs(circuit.edges[edge]))[:3]
    assert sorted(found.edges) == sorted(largest) and ((found.signs >= 0) & (found.signs <= 1)).all()
    assert found.signs == pytest.approx(np.ones(3))  # a compiled circuit does the same on every pair


def test_what_all_tasks_share_is_the_whole_circuit_where_they_are_one_task(runs):
    circuit = wb.score(runs, "eap-ig").top(6)
    found = wb.specificity(circuit, runs, others=[runs, runs], draws=1, part_draws=2)
    parts = {part.name: part for part in found.parts}
    whole = parts["in the circuits of all tasks"]
    assert whole.size == circuit.n_edges and whole.own == pytest.approx(found.own.drop) and whole.value == 0
    assert parts["in this task's alone"].size == parts["in those of some other tasks"].size == 0
    heads = [edge for edge in circuit.edges if edge.startswith("a")]
    assert parts["what heads write"].size == len(heads) > 0
    assert Specificity.from_dict(found.to_dict()).part_rows()[0]["edges"] == circuit.n_edges


def test_a_sample_that_goes_on_finds_its_parts_and_no_others(runs, tmp_path):
    scores = wb.score(runs, "eap")
    first, second = (
        [tuple(i) for i in np.argwhere(scores.candidates)[a:b].tolist()] for a, b in ((0, 4), (4, 9))
    )
    plain = edge_effects(runs, scores, first)
    with SweepStore(tmp_path, {"format": "x"}, resume=False) as store:
        runs.division = Here(store=store)
        try:
            kept = edge_effects(runs, scores, first)
            files = len(list(tmp_path.rglob("*.safetensors")))
            again, other = edge_effects(runs, scores, first), edge_effects(runs, scores, second)
        finally:
            runs.division = Here()
    assert files > 0 and np.array_equal(kept, plain) and np.array_equal(again, plain)
    assert len(list(tmp_path.rglob("*.safetensors"))) > files and len(other) == len(second)


def test_a_dry_run_counts_variance_by_hand():
    plan = JudgePlan(refits=3, splits=5, varied=10)
    # scored for variance and on the null task, and for stability; two templates, the circuit, nothing; ten edges
    assert plan.variance_passes(n_edges=20, scoring=7, templates=2, averages=True) == 3 * 7 + 2 + 2 + 10
    # run again: three refits each of task and null task, two templates, three halves
    again = plan.variance_passes(n_edges=4, scoring=7, templates=2, averages=False)
    assert again == (2 + 3 + 2 + 3 + 1 + 3) * 7 + 2 + 2 + 4
