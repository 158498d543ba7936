"""Stability: the circuit is chosen again as it was chosen, on the pairs and by the metric it was found with."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from tests.mini import mini_pairs
from workbench.circuits.verdicts.statistics import resamples
from workbench.commands.asked.evaluate import CircuitCase, case_of
from workbench.commands.evaluate import _found_on
from workbench.commands.forms.evaluate import Evaluate
from workbench.core.errors import OptionError
from workbench.evaluate.stability import stability
from workbench.methods.by_name import score


def jaccard(one: set, two: set) -> float:
    return len(one & two) / len(one | two)


def test_averaging_again_gives_the_overlap_by_a_plain_loop(runs_of):
    """Top 5 of the mean of the drawn pairs' scores, by sorting; Jaccard of every two."""
    runs = runs_of("gpt2")
    scores = score(runs, "attribution-patching", level="node")
    circuit = scores.top(5)
    found = stability(circuit, runs, draws=6, seed=3)
    sets = []
    for drawn in resamples(runs.n_pairs, draws=6, seed=3):
        mean = sum(scores.per_pair[i] for i in drawn) / len(drawn)
        order = sorted(range(1, len(mean)), key=lambda i: -abs(mean[i]))
        sets.append({str(scores.graph.sources[i]) for i in order[:5]})
    assert [{found.parts[i] for i in s} for s in found.sets] == sets
    truth = np.mean([jaccard(a, b) for a, b in combinations(sets, 2)])
    assert found.jaccard == pytest.approx(truth) and not found.refitted
    assert found.chance == pytest.approx(5 / (2 * len(scores.graph.sources[1:]) - 5))


def test_a_method_that_decides_decides_again_on_each_draw(runs_of):
    """The threshold of iterative path patching is a share of the gap, which the drawn pairs change."""
    runs = runs_of("gpt2")
    options = {"threshold": 0.03, "depth": 1}
    scores = score(runs, "iterative-path-patching", **options)
    circuit = scores.keep("own", prune=False)
    assert circuit.selection["rule"] == "own" and circuit.selection["threshold"] == scores.own_rule
    assert circuit.provenance["options"]["depth"] == 1
    found = stability(circuit, runs, refits=3, seed=1)
    rules = set()
    for drawn, kept in zip(resamples(runs.n_pairs, draws=3, seed=1), found.sets, strict=True):
        again = score(runs.subset(drawn.tolist()), "iterative-path-patching", **options)
        rules.add(again.own_rule)
        least = float(again.own_rule.removeprefix(">="))
        edges = {str(e) for e in again.graph.edges() if again.values[again.graph.index(e)] >= least}
        assert {found.parts[i] for i in kept} == edges
    assert len(rules) > 1 and found.refitted  # the first run's threshold is not that of the others


def test_a_threshold_is_written_whole(runs_of):
    scores = score(runs_of("gpt2"), "attribution-patching", level="node")
    tau = float(np.sort(np.abs(scores.values[1:]))[-4])  # the fourth best, which six digits may lose
    circuit = scores.threshold(tau)
    assert float(circuit.selection["rule"].rpartition(" ")[2]) == tau
    again = stability(circuit, runs_of("gpt2"), draws=2)
    assert len(again.sets) == 2


def test_a_circuit_without_its_options_is_not_chosen_again(runs_of):
    runs = runs_of("gpt2")
    circuit = score(runs, "eap-ig", steps=2).top(20)
    assert circuit.provenance["options"]["steps"] == 2
    bare = circuit.with_fields(provenance=runs.provenance())
    with pytest.raises(OptionError, match="with which options"):
        stability(bare, runs)


# -- the pairs it was found on --------------------------------------------------------------------------------


@pytest.fixture
def filed(runs_of, tmp_path):
    """Runs on a file of pairs, and the case of a circuit that was found on it by a probability."""
    path = mini_pairs().save(tmp_path / "mine.jsonl")
    runs = runs_of("gpt2", metric="logit-difference")
    circuit = score(runs, "eap").top(20).with_fields(metric="prob-difference")

    def made(**changes) -> CircuitCase:
        known = {**circuit.provenance, "pairs_file": path.name, **changes}
        found = circuit.with_fields(provenance={k: v for k, v in known.items() if v is not None})
        fields = {"model": "m", "task": str(path), "metric": "logit-difference", "corruption": None}
        return CircuitCase(circuit=found, options=None, is_own=False, **fields)

    return runs, made


def test_a_file_counts_as_its_pairs_only_if_it_holds_them(filed):
    runs, case = filed
    found, note = _found_on(case(), runs)
    assert note == "" and found.pairs.pairs.digest == runs.pairs.pairs.digest
    none, why = _found_on(case(pairs="0" * 64), runs)
    assert none is None and "mine.jsonl does not hold the pairs" in why
    none, why = _found_on(case(pairs=None), runs)
    assert none is None and "does not record the pairs" in why


def test_stability_is_of_the_model_it_was_found_in(filed):
    runs, case = filed
    assert _found_on(case(weights="0" * 64), runs) == (None, "the circuit was found with other weights")


def test_stability_is_by_the_metric_the_circuit_was_found_by(filed):
    runs, case = filed
    found, _ = _found_on(case(), runs)
    assert runs.metric.name == "logit-difference" and found.metric.name == "prob-difference"


def test_a_known_circuit_records_no_pairs_and_no_weights():
    case = case_of(Evaluate(circuit=Path("zoo:truth-greater")))
    assert case.known.get("weights") is None
    assert _found_on(case, None)[0] is None
