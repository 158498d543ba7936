"""Judging a circuit: the true circuit of a built-in model passes, wrong ones fail, and the file alone decides."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import workbench as wb
from tests.files import redigested
from tests.integration.naive import SplitInputs, naive_of
from workbench.circuits.addresses import parse_edge, parse_node
from workbench.circuits.circuit import Circuit
from workbench.circuits.files import load_circuit, save_circuit
from workbench.circuits.files.evaluation_file import find_evaluation, load_evaluation, save_evaluation
from workbench.circuits.show.judgement import NO_MEANS
from workbench.circuits.verdicts.criteria import Criteria
from workbench.circuits.verdicts.table import edge_tests, recompute_verdicts
from workbench.core.errors import CircuitError, OptionError
from workbench.engine.paired_runs import PairedRuns
from workbench.evaluate.baselines import matched_heads, random_circuit, random_path
from workbench.evaluate.completeness import completeness
from workbench.evaluate.curve import MIB_SHARES, faithfulness_curve
from workbench.evaluate.curve_comparison import compare_curves
from workbench.evaluate.evidence import edge_evidence, scores_evidence
from workbench.evaluate.faithfulness import run_circuits
from workbench.evaluate.judge_plan import JudgePlan
from workbench.evaluate.minimality import minimality
from workbench.evaluate.subject import Subject, classes_of
from workbench.evaluate.trial import judge
from workbench.methods.by_name import score
from workbench.model.builtin import PREFIX
from workbench.model.known_circuits import list_truths, load_truth
from workbench.model.open import open_model

TOLERANCE = 2e-5
SCHEMA = Path(__file__).parents[2] / "workbench" / "circuits" / "files" / "schema" / "evaluation.schema.json"
TRUTH = "zoo:truth-greater"
SMALL = JudgePlan(
    draws=40, matched=2, random_sets=1, restarts=1, steps=2, candidates=2, ablations=("resample",)
)


@pytest.fixture(scope="module")
def truth():
    return load_truth(TRUTH)


@pytest.fixture(scope="module")
def true_runs(truth):
    return PairedRuns(open_model(TRUTH, device="cpu"), truth.pairs(48), metric=truth.metric)


def edited(circuit: Circuit, *, add: tuple[str, ...] = (), drop: tuple[str, ...] = ()) -> Circuit:
    """A circuit with other edges, scores 1."""
    edges = [parse_edge(a) for a in (*circuit.edges, *add) if a not in drop]
    wires = {(e.source, e.target): 1.0 for e in edges}
    common = {name: getattr(circuit, name) for name in ("method", "unit", "metric", "task", "model")}
    return Circuit.build(shape=circuit.shape, nodes={}, edges=wires, **common)


@pytest.fixture(scope="module")
def judged(truth, true_runs):
    return judge(truth.circuit, true_runs, plan=SMALL)


# -- verdicts on a known circuit ------------------------------------------------------------------------------


def test_the_true_circuit_passes(judged):
    for name in ("faithful", "equivalent", "complete", "sufficient", "better than random"):
        assert judged[name].holds is True, judged[name]
    assert judged["faithful"].value == pytest.approx(1, abs=1e-4)
    assert judged["stable"].holds is None and "not at hand" in judged["stable"].measured


def test_a_wrong_edge_is_found_superfluous_and_only_that(truth, true_runs, judged):
    graph = true_runs.wiring.graph()
    wrong = next(
        str(e)
        for e in graph.edges()
        if str(e) not in truth.circuit.edges and e.source.kind == "head" and e.target.kind == "logits"
    )
    found = judge(edited(truth.circuit, add=(wrong,)), true_runs, plan=SMALL)
    idle = {row["edge"] for row in found.edges() if row["verdict"] == "not needed"}
    before = {row["edge"] for row in judged.edges() if row["verdict"] == "not needed"}
    assert wrong in idle and idle - {wrong} == before
    assert before <= set(truth.supporting)  # no exchange of prompts shows those
    assert found["no superfluous edge"].holds is False


CHEAP = ("truth-greater", "truth-reverse", "truth-redundant")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name.removeprefix(PREFIX) in CHEAP else pytest.mark.slow)
        for name in list_truths()
        if not load_truth(name).trained  # its other edges do a little
    ],
)
def test_every_wrong_edge_is_superfluous_whatever_the_last_digits(name):
    """The true circuit with 12 random other edges: what they change is rounding, which must not beat rounding."""
    truth = load_truth(name)
    runs = PairedRuns(open_model(name, device="cpu"), truth.pairs(8), metric=truth.metric)
    others = [str(e) for e in runs.wiring.graph().edges() if str(e) not in truth.circuit.edges]
    wrong = [others[i] for i in np.random.default_rng(3).permutation(len(others))[:12]]
    subject = Subject(runs=runs, circuit=edited(truth.circuit, add=tuple(wrong)))
    evidence = {
        "scores": scores_evidence(subject, None),
        "edges": edge_evidence(subject, JudgePlan(draws=60, edges=10**6), None),
    }
    rest = {"criteria": asdict(Criteria()), "pairs": {"groups": [""] * 8}, "direction": 1, "unit": ""}
    tests = edge_tests({**rest, "evidence": evidence})
    idle = {t.name.removeprefix("minimality of ") for t in tests if t.rejected}
    assert set(wrong) <= idle and len(tests) == len(truth.circuit.edges) + 12
    assert idle < {*wrong, *truth.circuit.edges}


@pytest.mark.slow
def test_a_circuit_without_a_needed_edge_is_not_faithful_nor_complete(truth, true_runs):
    last = next(a for a in truth.content if a.endswith("->logits"))
    found = judge(edited(truth.circuit, drop=(last,)), true_runs, plan=SMALL)
    for name in ("faithful", "equivalent", "complete"):
        assert found[name].holds is False, found[name]


def test_a_random_circuit_is_not_sufficient(truth, true_runs):
    """The one of ten that is furthest from the model."""
    rng, graph = np.random.default_rng(5), true_runs.wiring.graph()
    drawn = [random_circuit(graph, truth.circuit.size, rng) for _ in range(10)]
    distance = ((run_circuits(true_runs, drawn) - true_runs.clean) ** 2).mean(1)
    found = judge(drawn[int(distance.argmax())], true_runs, plan=SMALL)
    for name in ("faithful", "equivalent", "sufficient", "better than random"):
        assert found[name].holds is False, found[name]


# -- the file alone decides -----------------------------------------------------------------------------------


def by_formula(document: dict) -> dict[str, bool]:
    """Some verdicts once more, from their definitions and the numbers in the file."""
    e = document["evidence"]
    model, circuit, nothing = (np.array(e["scores"][k]) for k in ("model", "circuit", "nothing"))
    gap = model.mean() - nothing.mean()
    drawn = np.array(e["random"]["metric"])
    own = (circuit.mean() - nothing.mean()) / gap
    as_good = sum(abs(1 - (m - nothing.mean()) / gap) <= abs(1 - own) for m in drawn)
    left = [[i for i in range(len(model)) if i not in r["searched"]] for r in e["completeness"]]
    worst = max(
        abs(np.mean([r["circuit"][i] - r["model"][i] for i in rows]))
        for rows, r in zip(left, e["completeness"], strict=True)
    )
    return {
        "faithful": bool(0.8 <= own <= 1.2),
        "better than random": bool((1 + as_good) / (1 + len(drawn)) < 0.05),
        "complete": bool(worst / abs(gap) <= 0.2),
    }


def test_every_verdict_follows_from_the_saved_file_alone(judged, tmp_path):
    files = save_evaluation(judged, tmp_path)
    document = json.loads((tmp_path / "evaluation.json").read_text())
    again = [v.to_dict() for v in recompute_verdicts(document)]
    assert again == document["verdicts"] == [v.to_dict() for v in judged.verdicts]
    # The page says of every question what a no means; this case asks of no other task.
    assert {v.name for v in judged.verdicts} == set(NO_MEANS) - {"specific"}
    jsonschema.validate(document, json.loads(SCHEMA.read_text()))
    expected = by_formula(document)
    assert {v["name"]: v["holds"] for v in again if v["name"] in expected} == expected
    page = (tmp_path / "evaluation.html").read_text()
    assert files.keys() == {"evaluation", "page"} and "<svg" in page and "no superfluous edge" in page
    assert len(page) < 1_000_000 and "://" not in page.replace("http://www.w3.org/2000/svg", "")


def test_changed_evidence_changes_the_verdict(judged):
    document = json.loads(json.dumps(judged.document))
    scores = document["evidence"]["scores"]
    scores["circuit"] = [0.5 * (a + b) for a, b in zip(scores["model"], scores["nothing"], strict=True)]
    found = {v.name: v for v in recompute_verdicts(document)}
    assert found["faithful"].value == pytest.approx(0.5) and found["faithful"].holds is False


def test_a_file_of_the_first_rules_is_read_and_says_what_the_rules_change(judged, tmp_path):
    """Twelve pairs were enough then; the answers of then are checked, shown, and not those of today."""
    few = json.loads(json.dumps(judged.document))
    few["pairs"] = {name: few["pairs"][name][:12] for name in ("ids", "groups")}
    few["evidence"] = {"scores": {name: v[:12] for name, v in few["evidence"]["scores"].items()}}
    new = ("rules", "least_pairs", "node_correction", "flips")
    few["criteria"] = {name: v for name, v in few["criteria"].items() if name not in new}
    few["verdicts"] = [v.to_dict() | {"measured": "in other words"} for v in recompute_verdicts(few)]
    first = {k: v for k, v in few.items() if k not in ("digest", "behavior")} | {"version": 1}
    (tmp_path / "evaluation.json").write_text(json.dumps(first))
    found = load_evaluation(tmp_path)
    assert found["faithful"].holds is None and found.before["faithful"] == "yes"
    assert any("'faithful' was yes, is open" in note and "rules 1" in note for note in found.notes)
    rows = {row["question"]: row for row in found.rows()}
    assert (rows["faithful"]["verdict"], rows["faithful"]["by the rules then"]) == ("open", "yes")
    assert "by the rules then" in found._repr_html_()
    first["verdicts"][0]["holds"] = False
    (tmp_path / "evaluation.json").write_text(json.dumps(first))
    with pytest.raises(CircuitError, match="'faithful' does not follow"):
        load_evaluation(tmp_path)
    save_evaluation(found, tmp_path)  # written again, it is a file of today
    assert load_evaluation(tmp_path).before == {} and load_evaluation(tmp_path)["faithful"].holds is None


def test_an_evaluation_begins_with_what_the_model_does(judged, true_runs, tmp_path):
    files, sentence = save_evaluation(judged, tmp_path), judged.to_terminal()[0]
    assert sentence == true_runs.behavior.sentence("faithfulness and verdicts") == judged.lead
    assert judged.lead[:40] in (tmp_path / "evaluation.html").read_text() and files
    assert load_evaluation(tmp_path).document["behavior"]["finding"] == true_runs.behavior.finding == "yes"
    again = wb.save(wb.load(files["evaluation"]), tmp_path / "mine.json")  # by its type, by the file's format
    assert again.read_bytes() == (tmp_path / "evaluation.json").read_bytes()
    assert (tmp_path / "mine.html").is_file()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(version=3), "has version 3"),
        (lambda d: d.pop("criteria"), "lacks 'criteria'"),
        (lambda d: d["evidence"]["scores"]["model"].pop(), "one number for each of 48 pairs"),
        (lambda d: d["verdicts"][0].update(holds=False), "'faithful' does not follow from the evidence"),
        (lambda d: d["verdicts"][0].update(value=0.5), "'faithful' does not follow .*: value says 0.5"),
        (lambda d: d["verdicts"][0].update(measured="all of it"), "measured says 'all of it'"),
        (lambda d: d["verdicts"][0].update(verdict="no"), "verdict says 'no', the evidence 'yes'"),
        (lambda d: d["verdicts"].pop(), "has 12 verdicts, the evidence gives 13; missing: stable"),
        (lambda d: d["verdicts"].reverse(), "has 13 verdicts, the evidence gives 13"),
        (lambda d: d.pop("format"), "has no 'format'"),
        (lambda d: d["evidence"].update(more=[]), "unknown key 'more'"),
    ],
)
def test_a_file_that_is_not_whole_is_refused(change, message, judged, tmp_path):
    document = json.loads(json.dumps(judged.document))
    change(document)
    (tmp_path / "evaluation.json").write_text(json.dumps(redigested(document)))
    with pytest.raises(CircuitError, match=message):
        load_evaluation(tmp_path)


def test_an_evaluation_that_was_changed_is_refused_before_it_is_judged(judged, tmp_path):
    document = json.loads(json.dumps(judged.document))
    document["evidence"]["scores"]["circuit"][0] += 1
    (tmp_path / "evaluation.json").write_text(json.dumps(document))
    with pytest.raises(CircuitError, match="was changed since it was written"):
        load_evaluation(tmp_path)
    first = {k: v for k, v in judged.document.items() if k != "digest"} | {"version": 1}
    (tmp_path / "evaluation.json").write_text(json.dumps(first))
    assert "version 1" in load_evaluation(tmp_path).notes[0]


def test_what_another_machine_adds_in_another_order_is_no_change(judged, tmp_path):
    document = json.loads(json.dumps(judged.document))
    document["verdicts"][0]["value"] *= 1 + 1e-13
    (tmp_path / "evaluation.json").write_text(json.dumps(redigested(document)))
    assert load_evaluation(tmp_path)["faithful"].holds is True


def test_a_single_pair_is_refused_before_anything_is_run(truth, true_runs, tmp_path):
    with pytest.raises(OptionError, match="needs 2 or more"):
        judge(truth.circuit, true_runs.subset([0]), plan=SMALL)


def test_an_evaluation_of_another_circuit_is_refused(truth, judged, tmp_path):
    save_circuit(truth.circuit, tmp_path)
    save_evaluation(judged, tmp_path)
    assert find_evaluation(tmp_path, load_circuit(tmp_path)).verdicts == judged.verdicts
    other = edited(truth.circuit, drop=(next(iter(truth.circuit.edges)),))
    save_circuit(other, tmp_path)
    with pytest.raises(CircuitError, match="another circuit"):
        find_evaluation(tmp_path, load_circuit(tmp_path))


# -- parts taken away, against one pass at a time -------------------------------------------------------------


@pytest.fixture
def subject(runs_of):
    runs = runs_of("llama")
    circuit = score(runs, "eap").top(60)
    return Subject(
        runs=runs, circuit=circuit.with_roles({circuit.heads[0]: "first", circuit.heads[1]: "first"})
    )


def test_parts_taken_from_circuit_and_model_equal_one_pass_at_a_time(subject):
    """``C without K`` and ``M without K``: all edges out of K's nodes ablated, by split inputs."""
    graph, kept = subject.graph, set(subject.circuit.edges)
    every = {str(e): (str(e.source), str(e.target)) for e in graph.edges()}
    gone = subject.nodes[:2]
    outside = {
        "circuit": {ends for a, ends in every.items() if a not in kept or ends[0] in gone},
        "model": {ends for ends in every.values() if ends[0] in gone},
    }
    masks = [subject.without(subject.kept, gone), subject.without(subject.everything, gone)]
    found = subject.measure(masks)
    with SplitInputs(naive_of("llama", subject.runs), whole_layer=False) as split:
        for row, name in zip(found, ("circuit", "model"), strict=True):
            truth = [split.ablated(i, outside[name]) for i in range(subject.runs.n_pairs)]
            assert row == pytest.approx(truth, abs=TOLERANCE)
    assert np.array_equal(subject.measure(masks), found)  # remembered


def test_the_whole_model_is_complete_and_nothing_is_minimal_in_it_by_itself(runs_of):
    runs = runs_of("gpt2")
    graph = runs.wiring.graph()
    whole = Circuit.build(
        shape=graph.shape, nodes={}, edges={(e.source, e.target): 0.0 for e in graph.edges()}
    )
    found = completeness(Subject(runs=runs, circuit=whole), random_sets=2, restarts=1, steps=2, candidates=2)
    assert max(abs(row.incompleteness) for row in found.rows) == pytest.approx(0, abs=1e-6)
    assert {row.kind for row in found.rows} == {"class", "random nodes", "random edges", "greedy"}
    assert found._repr_html_().startswith("<svg") and len(found.to_dataframe()) == len(found.rows)


def test_minimality_is_the_drop_by_hand(subject):
    found = minimality(subject)
    row = next(r for r in found.rows if r.rest)
    masks = [subject.without(subject.kept, row.rest), subject.without(subject.kept, (*row.rest, row.part))]
    before, after = subject.measure(masks)
    assert row.effect == pytest.approx((before - after).mean()) and row.part not in row.rest
    assert row.interval.low <= row.effect <= row.interval.high
    assert {r.part for r in found.rows} == set(subject.nodes) and found._repr_html_().startswith("<svg")
    assert len({r.part for r in minimality(subject, parts="edges", limit=5).rows}) == 5


def test_nodes_are_classed_by_role_then_by_layer(subject):
    found = classes_of(subject.circuit, subject.nodes)
    assert found["first"] == subject.circuit.heads[:2]
    assert sorted(a for members in found.values() for a in members) == sorted(subject.nodes)


@pytest.mark.slow
@pytest.mark.parametrize("level", ["node", "edge"])
def test_node_circuits_and_circuits_at_positions_are_judged_too(level, runs_of):
    runs = runs_of("gpt2")
    graph = runs.wiring.graph()
    label = runs.position_labels[0]
    nodes = (
        {parse_node(a): 0.0 for a in ("a0.h1", "m1", f"a2.h0@{label}", f"m2@{label}")}
        if level == "node"
        else {}
    )
    edges = ("input@{0}->a0.h1<q>@{0}", "a0.h1@{0}->m1@{0}", "m1@{0}->logits@{0}", "input->logits")
    made = [parse_edge(a.format(label)) for a in edges] if level == "edge" else []
    circuit = Circuit.build(
        shape=graph.shape, level=level, nodes=nodes, edges={(e.source, e.target): 1.0 for e in made}
    )
    found = judge(circuit, runs, plan=replace(SMALL, draws=3, ablations=("resample", "zero")))
    assert found["faithful"].value is not None and found["partially necessary"].n == 3
    assert ("edges" in found.document["missing"]) == (level == "node")
    assert set(found.document["missing"]) <= {"edges", "stability", "curve"}  # no scores, no pairs at hand


def test_controls_have_the_same_heads_per_layer(runs_of):
    graph = runs_of("gpt2").wiring.graph()
    inside = [parse_node(a) for a in ("a0.h0", "a0.h1", "a0.h2", "a1.h3")]
    own, other = matched_heads(graph, inside, np.random.default_rng(0))
    assert [h.layer for h in own] == [h.layer for h in other] == [0, 1]  # one head of layer 0 is outside
    assert set(own) <= set(inside) and set(other).isdisjoint(inside)


def test_random_paths_go_from_input_to_logits(runs_of):
    graph, rng = runs_of("gpt-neox").wiring.graph(), np.random.default_rng(1)
    for _ in range(20):
        path = random_path(graph, rng)
        assert str(path[0].target) == "logits" and str(path[-1].source) == "input"
        assert all(graph.index(edge) for edge in path)
        assert all(a.source == b.target.writer for a, b in pairwise(path))


# -- curves ---------------------------------------------------------------------------------------------------


def test_curves_have_bands_and_share_no_axis_with_another_unit(runs_of):
    runs = runs_of("gpt2")
    scores = score(runs, "eap")
    how = {"shares": (0.1, 0.5, 1.0), "random_draws": 0}
    curve = faithfulness_curve(scores, runs, **how)
    assert all(low <= f <= high for _, f, low, high in curve.band()) and len(MIB_SHARES) == 10
    assert curve.quantity == ("logit-difference", "logits", "resample")
    assert 'class="band"' in curve._repr_html_()
    zero = faithfulness_curve(scores, runs, ablation="zero", **how)
    other = faithfulness_curve(scores, runs_of("gpt2", metric="prob-difference"), **how)
    for unlike in (zero, other):
        with pytest.raises(OptionError, match="cannot share an axis"):
            compare_curves({"here": curve, "there": unlike})
    both = compare_curves({"absolute": curve, "signed": faithfulness_curve(scores, runs, by="signed", **how)})
    assert both.areas()["absolute"] == curve.area() and len(both.to_dataframe()) == 6
    assert both._repr_html_().startswith("<svg")
