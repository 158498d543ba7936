"""What is kept for the page of a circuit is what the methods themselves measure."""

from __future__ import annotations

import numpy as np
import pytest

import workbench as wb
from workbench.circuits.details import pattern_of
from workbench.core.stats.intervals import mean_interval


@pytest.fixture(scope="module")
def runs():
    return wb.paired_runs(wb.open_model("zoo:truth-induction"), "induction", n=4, corruption="match")


def test_details_are_those_of_the_methods(runs):
    scores = wb.score(runs, "eap")
    circuit = scores.top(12)
    found = wb.circuit_details(circuit, runs, scores=scores, most_edges=8, n_prompts=2)
    assert set(found.heads) == {name for name in circuit.heads} and len(found.prompts) == 3
    head = next(iter(found.heads))
    layer, index = int(head[1]), int(head[-1])
    seen = wb.patterns_of(runs.model, runs.subset([1]).batches[0].prompt("clean")).patterns[layer][0, index]
    assert np.abs(pattern_of(found.prompts[1], head) / 255 - seen.numpy()).max() <= 0.5 / 255 + 1e-6
    effect = wb.ablate(runs, [head]).per_pair[0]
    assert found.heads[head].effect == pytest.approx(effect.mean(), abs=1e-5)
    assert found.heads[head].low == pytest.approx(mean_interval(effect).low, abs=1e-5)
    exact = wb.score(runs, "exact")
    for edge, detail in found.edges.items():
        [index] = [i for i in np.argwhere(exact.candidates).tolist() if exact.address(tuple(i)) == edge]
        assert detail.exact == pytest.approx(float(exact.values[tuple(index)]), abs=1e-5)
    edge, detail = next((e, d) for e, d in found.edges.items() if d.reason is not None)
    own = wb.why(runs, edge).rankings[0]
    assert detail.reason.rankings[0].terms[0].term == own.rows(1)[0]["term"]
    assert detail.reason.rankings[0].total == pytest.approx(own.total)
    assert any("8 strongest of" in note for note in found.notes) == (len(circuit.edges) > 8)
