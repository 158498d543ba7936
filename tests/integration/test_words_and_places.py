"""What is asked is measured or refused: no word is taken for another, no second place or value is dropped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import workbench as wb
from workbench.bench.settings import parse_variant
from workbench.circuits.faithfulness import faithfulness_sentence
from workbench.commands.asked.evaluate import check_evaluation
from workbench.commands.asked.logits import check_logits
from workbench.commands.asked.sweep import check_sweep
from workbench.commands.evaluate import evaluate
from workbench.commands.forms.evaluate import Evaluate
from workbench.commands.forms.logits import Logits
from workbench.commands.forms.sweep import Ablate, Patch
from workbench.commands.sweep import patch
from workbench.core.command import named_values
from workbench.core.job import Job
from workbench.edits.making import make_edit
from workbench.engine.sweep import sweep
from workbench.masks.mask_words import named_mask
from workbench.tasks.registry import get_task, parse_options
from workbench.tasks.scenes.parse import scene_of

ON_IOI = {"model": "zoo:ioi", "task": "ioi", "limit": 2}


@pytest.fixture(scope="module")
def runs():
    return wb.paired_runs(wb.open_model("zoo:ioi"), "ioi", n=2)


@pytest.fixture(scope="module")
def scores(runs):
    return wb.score(runs, "eap")


WRONG = {
    "mode": lambda runs, scores: wb.patch(runs, "resid", mode="denoise"),
    "mode of patches": lambda runs, scores: wb.patches(["r0"], mode="noise"),
    "mode of a sweep": lambda runs, scores: wb.measure(
        runs, wb.ablations(["a0.h0"]), kind="x", mode="denoise"
    ),
    "ranking": lambda runs, scores: scores.top(20, by="abs"),
    "ranking of a threshold": lambda runs, scores: scores.keep(">=0.1", by="size"),
    "ranking of a rule": lambda runs, scores: scores.choose(20, by="abs", select="ilp"),
    "ranking of a circuit": lambda runs, scores: scores.top(20).top(3, by="abs"),
    "ranking of effects": lambda runs, scores: wb.ablate(runs, ["a0.h0"]).top(1, by="abs"),
    "ranking of a search": lambda runs, scores: wb.discover(runs, "eap", by="abs"),
    "ranking of labels": lambda runs, scores: wb.recovery(scores, scores.values > 1, by="abs"),
    "level": lambda runs, scores: wb.random_circuit(scores.graph, 9, np.random.default_rng(0), level="edges"),
    "parts": lambda runs, scores: wb.minimality(wb.Subject(runs=runs, circuit=scores.top(60)), parts="edge"),
    "run": lambda runs, scores: wb.Reference(runs=runs, run="corrupt"),
    "run of a stream": lambda runs, scores: runs.resid(runs.batches[0], "corrupt", 1),
    "run of prompts": lambda runs, scores: runs.prompt_of("corrupt", np.array([0])),
    "correction": lambda runs, scores: wb.Criteria(correction="max"),
    "correction of nodes": lambda runs, scores: wb.Criteria(node_correction="maxT"),
    "ablations of a trial": lambda runs, scores: wb.JudgePlan(ablations=("means",)),
    "text for a switch": lambda runs, scores: wb.score(runs, "acdc", absolute="false"),
    "switch for a number": lambda runs, scores: wb.score(runs, "eap-ig", steps=True),
    "part of a step": lambda runs, scores: wb.score(runs, "eap-ig", steps=2.5),
    "two places": lambda runs, scores: wb.ablate(runs, ["a1.h0@S2"], positions="end"),
    "two places of a patch": lambda runs, scores: wb.patches(["r1@S2"], positions=["end"]),
    "two places of a path": lambda runs, scores: wb.path_patches(
        runs, ["a0.h0"], ["a2.h2<q>@S2"], positions="end"
    ),
    "place of a knock-out": lambda runs, scores: wb.knock_outs(["a0.h0@S2"], "end", "S2"),
    "input of a knock-out": lambda runs, scores: wb.knock_outs(["a0.h0<q>"], "end", "S2"),
    "two values": lambda runs, scores: named_values(["steps=3", "steps=4"]),
    "two values of an edit": lambda runs, scores: make_edit(
        "rows", ["heads=a0.h0", "operation=drop", "keys=0", "keys=1"]
    ),
    "two values of a mask": lambda runs, scores: named_mask("window:width=3,width=4"),
    "two values of a variant": lambda runs, scores: parse_variant("eap-ig:steps=2:steps=3"),
    "two values of a picture": lambda runs, scores: scene_of("7/12?noise=0.1&noise=0.2"),
    "two values at one address": lambda runs, scores: wb.Intervention(
        label="x", edits=[wb.Edit(node="a0.h0", value=v) for v in ("zero", "corrupted")]
    ),
    "two values of a task": lambda runs, scores: parse_options(
        get_task("induction"), ["period=5", "period=6"]
    ),
    "site beside addresses": lambda runs, scores: check_sweep(
        Patch(**ON_IOI, site="q", node=("a1.h0",)), Job()
    ),
    "embedding of a model of words": lambda runs, scores: wb.paired_runs(
        runs.model, "ioi", n=2, metric="embedding-similarity"
    ),
    "own decision by size": lambda runs, scores: wb.discover(runs, "acdc", amount="own", by="absolute"),
    "revision of a built-in model": lambda runs, scores: check_sweep(Ablate(**ON_IOI, revision="v1"), Job()),
    "picture of a shard": lambda runs, scores: check_sweep(
        Ablate(**ON_IOI, shard="1/2", plot=Path("a.svg")), Job()
    ),
    "ablation of no effects": lambda runs, scores: check_logits(
        Logits(model="zoo:ioi", task="ioi", no_effects=True, ablation="zero"), Job()
    ),
    "bootstraps of a short evaluation": lambda runs, scores: check_evaluation(
        Evaluate(circuit=Path("zoo:truth-ioi"), bootstraps=3), Job()
    ),
    "parts beside addresses": lambda runs, scores: check_sweep(
        Ablate(**ON_IOI, parts="mlps", node=("a1.h0",)), Job()
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_meant_is_refused(what, runs, scores, unchecked):
    with pytest.raises(wb.WorkbenchError) as refused:
        WRONG[what](runs, scores)
    assert refused.value.hint


def test_titles_say_which_site_and_place_were_patched(runs, tmp_path):
    check_sweep(Patch(**ON_IOI, site="resid", node=("r2", "r3")), Job())
    kept = patch(Patch(**ON_IOI, node=("m1", "a1.h0<q>")), Job(out=tmp_path))
    assert kept.effects.kind == "patching mlp-out, q"
    assert "logits at end, MLPs" in wb.path_patches(runs, ["a0.h0"], ["logits"], positions="end").kind
    (both,) = wb.knock_outs(["a0.h0", "a1.h1"], "end", "S2", together=True)
    assert both.label == "a0.h0+a1.h1@end-x->S2"


def test_pairs_that_find_and_judge_a_circuit_are_told(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    how = {"method": "eap", "random_draws": 0, "shares": (0.1,), "roles": False}
    other = wb.paired_runs(runs.model, "ioi", n=2, split="train")
    assert "all 2 pairs that judge" in wb.discover(runs, **how).advice
    assert wb.discover(runs, test_runs=other, **how).advice == ""
    found = wb.discover(other, test_runs=runs, **how)
    wb.save_circuit(found.circuit, "found")
    told: list[str] = []
    for split in ("test", "train"):
        evaluate(Evaluate(circuit=Path("found"), split=split, limit=2, random_draws=0), Job(note=told.append))
    assert [line for line in told if "flatters" in line] == [
        "all 2 pairs that judge the circuit are among those it was found on, which flatters it: judge it on others"
    ]


def test_a_seed_is_of_the_pairs_and_of_every_choice_as_on_the_command_line(runs):
    model, other = runs.model, wb.paired_runs(runs.model, "ioi", n=2, seed=3)
    assert wb.ablate(model, "ioi", ["a0.h0"], n=2, seed=3).provenance["pairs"] == other.pairs.pairs.digest
    drawn = wb.score(model, "ioi", "random", n=2, seed=3)  # there it is an option of the method
    assert drawn.options == {"seed": 3} and drawn.provenance["seed"] == 0
    found = wb.discover(model, "ioi", "eap", n=2, seed=3, random_draws=1, shares=(0.1,), roles=False)
    assert found.circuit.provenance["judged_on"]["pairs"] == other.pairs.pairs.digest
    assert found.circuit.provenance["seed"] == found.circuit.provenance["judged_on"]["seed"] == 3


def test_edits_of_one_address_may_repeat_or_follow_one_another():
    for values in (("zero", "zero"), (wb.Scale(0.5), wb.Scale(0.5)), ("zero", lambda there: there + 1)):
        made = wb.Intervention(label="x", edits=tuple(wb.Edit(node="a0.h0", value=v) for v in values))
        assert len(made.edits) == 2


def test_a_share_of_nothing_has_no_minus_sign():
    told = {
        "value": -3e-8,
        "low": -4e-8,
        "high": 0.0,
        "metric": "m",
        "unit": "logits",
        "n": 4,
        "independent": 4,
    }
    said = faithfulness_sentence(-17.0, 12.0, -17.0, **told)
    assert "= 0.0% (95% interval 0.0% to 0.0%)" in said


ONE_LAYER = (
    "input",
    "input@S2",
    "a0.h1",
    "a1.h3",
    "a1.h3@end",
    "a1.h3<q>",
    "a1.h3<q>@end",
    "a1.h3<k>@S2",
    "a1.h3<v>",
    "a1.h3<pattern>",
    "a1",
    "a1@end",
    "m1",
    "m1.n4",
    "r0",
    "r1",
    "r2",
    "r2@end",
)


def test_edits_that_another_one_hides_are_refused_and_only_those(monkeypatch, runs):
    """Against the model: what is refused has exactly the effect of the second edit alone; the rest has not."""
    firsts = [wb.Edit(node=node, value=wb.Scale(0.5)) for node in ONE_LAYER]
    firsts.append(wb.KnockOut(node="a1.h3", query="end", key="S2"))
    others = [wb.Edit(node=node, value="corrupted") for node in ONE_LAYER]
    pairs = [(a, b) for a in firsts for b in others if isinstance(a, wb.KnockOut) or a.node != b.node]
    refused = set()
    for pair in pairs:
        try:
            wb.Intervention(label="pair", edits=pair)
        except wb.WorkbenchError as error:
            assert "does nothing" in str(error) and error.hint
            refused.add(pair)
    monkeypatch.setattr(wb.Intervention, "_require_all_to_act", lambda self: None)
    sets = [*pairs, *((edit,) for edit in others)]
    rows = [wb.Intervention(label=str(at), edits=edits) for at, edits in enumerate(sets)]
    effect = dict(zip(sets, sweep(runs, rows, kind="ablate").patched, strict=True))
    same = {pair for pair in pairs if np.abs(effect[pair] - effect[pair[1:]]).max() < 2e-5}
    assert [(str(a.node), str(b.node)) for a, b in same ^ refused] == []
