"""What the model itself does, from the passes that are made anyway: the naive answers, no pass more."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from tests.families import family_dir
from tests.mini import mini_pairs
from workbench.circuits.files.circuit_file import load_circuit
from workbench.circuits.files.effects_file import load_effects
from workbench.circuits.files.folder import check as found_circuit
from workbench.commands.do import do
from workbench.core.run_file import load_record
from workbench.engine.experiments import ablate
from workbench.engine.run_folders.past_runs import look_at
from workbench.evaluate.found_circuit import SCORED, discover
from workbench.papers.kept_result import with_behaviors
from workbench.papers.kinds import Findings, Setting


def rightly(runs) -> np.ndarray:
    """One prompt at a time: whether the best correct answer has a higher logit than every incorrect one."""
    found = []
    for ids, correct, incorrect, places in zip(
        runs.pairs.clean, runs.pairs.correct, runs.pairs.incorrect, runs.pairs.positions, strict=True
    ):
        with torch.no_grad():
            logits = runs.model(torch.as_tensor(ids)[None])[0, places["end"]].float()
        found.append(float(logits[list(correct)].max() > logits[list(incorrect)].max()))
    return np.array(found)


@pytest.mark.parametrize("metric", ["logit-difference", "kl", "rank"])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_answers_are_those_of_single_prompts_whatever_the_metric(name, metric, runs_of):
    runs = runs_of(name, mini_pairs(5), metric=metric)
    assert runs.right.tolist() == rightly(runs).tolist()
    assert runs.behavior.right.value == pytest.approx(runs.right.mean())
    recorded = runs_of(name, mini_pairs(5), metric=metric)
    ablate(recorded)  # the base run is recorded for the sweep; its metric and answers come with that
    assert recorded.right.tolist() == runs.right.tolist() and np.array_equal(recorded.clean, runs.clean)


def test_a_model_without_answers_has_none(runs_of):
    runs = runs_of("bert")
    assert runs.right is None and runs.behavior.right is None
    assert "answered" not in runs.behavior.sentence()


def test_asking_takes_two_passes_a_batch_and_no_third(runs_of, monkeypatch):
    runs, passes = runs_of("gpt2"), []
    own = type(runs).values
    monkeypatch.setattr(type(runs), "values", lambda self, *a, **k: passes.append(a) or own(self, *a, **k))
    assert runs.behavior.n == 3
    assert len(passes) == 2 * len(runs.batches)
    assert runs.behavior is runs.behavior and len(passes) == 2 * len(runs.batches)


@pytest.fixture(scope="module")
def asked(tmp_path_factory) -> dict:
    """A model that was never trained, and four pairs of a file."""
    file = tmp_path_factory.mktemp("pairs") / "mini.jsonl"
    mini_pairs(5).save(file)
    return {"model": str(family_dir("llama")), "task": str(file)}


def test_a_sweep_begins_with_it_and_keeps_it_everywhere(asked, tmp_path):
    told, folder = [], tmp_path / "sweep"
    saved = do("ablate", **asked, out=folder, note=told.append)
    sentence = saved.effects.behavior.sentence()
    assert [text.partition(": ")[2] for text in told[:1]] == [sentence] and "smallest p is" in told[1]
    assert saved.effects.behavior.does_task is not True
    again, row = load_effects(folder), look_at(folder).row()
    assert again.behavior == saved.effects.behavior and again.clusters == saved.effects.clusters
    assert again.marks == saved.effects.marks
    assert row["does_task"] == again.behavior.short
    assert list(load_record(folder).behaviors.values()) == [again.behavior.to_dict()]
    assert sentence[:40] in (folder / "heatmap.svg").read_text()


def test_a_dry_run_says_what_can_survive(asked):
    plan = do("ablate", **asked, dry_run=True).to_dict()
    assert plan["significance"]["clusters"] == 5 and plan["significance"]["smallest"] == 2**-4
    assert "none of" in plan["significance"]["words"]


def test_a_search_says_it_of_its_pairs_and_how_to_connect(asked, tmp_path):
    told, folder = [], tmp_path / "search"
    saved = do("discover", **asked, method="eap", keep="1", random_draws=1, out=folder, note=told.append)
    found, circuit = saved.discovery, load_circuit(folder)
    assert any(found.behavior.sentence(SCORED) in text for text in told)
    assert found.behavior.sentence(SCORED) == circuit.evaluation["behavior"]["sentence"]
    assert circuit.size == 0 and found.advice in told and circuit.evaluation["advice"] == found.advice
    keep = found.advice.split("--keep ")[1].split(" ")[0]
    assert found.scores.keep(keep).size > 0
    for page in ("circuit.html", "report.html"):
        assert found.behavior.sentence(SCORED)[:30] in (folder / page).read_text()
    assert found_circuit(folder / "circuit.json").to_dict()["does_task"] == found.behavior.short
    assert look_at(folder).row()["does_task"] == found.behavior.short
    lines = found.to_terminal()[0].split("\n")
    assert lines[0] == found.behavior.sentence(SCORED) and "0 of all" in lines[1]


def test_a_reader_can_compute_the_faithfulness_again(runs_of):
    found = discover(runs_of("llama", mini_pairs(5)), "eap", amount="60%", random_draws=1, roles=False)
    text = found.faithfulness.sentence
    own, nothing, full, again, share = map(float, re.findall(r"-?[0-9]+\.[0-9]+", text)[:5])
    assert again == nothing and 100 * (own - nothing) / (full - nothing) == pytest.approx(share, abs=0.06)


def test_a_replication_keeps_it_of_every_set_of_pairs(runs_of):
    """Two sets of one task and model stay apart, and stand in the first table."""
    told: list[str] = []
    setting = Setting(model=None, name="m", options=None, note=told.append)
    for n in (3, 5):
        assert setting.begin(runs_of("llama", mini_pairs(n))).n_pairs == n
    findings = with_behaviors(Findings(claims=(), tables={"own": []}), setting)
    assert list(findings.tables) == ["What the model itself does", "own"]
    rows = findings.tables["What the model itself does"]
    assert [row["pairs"].split(", ")[-1] for row in rows] == ["3 pairs", "5 pairs"] and len(told) == 2
