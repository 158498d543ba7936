"""The bench on two small models: numbers against loops of their own, cells kept, failures said and not final."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from workbench.bench.bench import bench_discovery
from workbench.bench.defence import cut_out, variation
from workbench.bench.part_scores import halves_of
from workbench.bench.quantities import (
    TaskRuns,
    areas,
    faithfulness_curves,
    gap_of,
    task_measures,
)
from workbench.bench.settings import GRID, Settings, Variant
from workbench.bench.table import load_bench
from workbench.circuits.files import load_scores
from workbench.core.errors import OptionError, RunError
from workbench.engine.of_task import paired_runs
from workbench.evaluate.curve import faithfulness_curve
from workbench.evaluate.faithfulness import faithfulness
from workbench.evaluate.specificity import OtherTasks
from workbench.evaluate.variance import deranged
from workbench.methods import registry
from workbench.methods.by_name import score
from workbench.model.known_circuits import edge_labels, load_truth
from workbench.model.open import open_model

SMALL = Settings(
    methods=("eap", "random"),
    truths=("zoo:truth-induction",),
    tasks=("zoo:induction/induction",),
    n_truth=4,
    n_task=6,
    noise=0.0,
    seeds=2,
)


@pytest.fixture(scope="module")
def induction():
    return open_model("zoo:induction")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The small bench, and the folder it is in."""
    folder = tmp_path_factory.mktemp("bench")
    return bench_discovery(SMALL, folder), folder


def measured(settings, folder):
    """Run, and what was measured anew."""
    said = []
    result = bench_discovery(settings, folder, progress=lambda done, total, what: said.append(what))
    return result, said


def cell_of(result, part, method, level="edge"):
    (found,) = [c for c in result.document[part] if (c["method"], c["level"]) == (method, level)]
    return found


@pytest.mark.parametrize(
    ("f", "cpr", "cmd"),
    [
        (lambda k: 1.0, 0.999, 0.0),
        (lambda k: k, 0.4999995, 0.4990005),
        (lambda k: float(k >= 0.01), 0.9925, 0.0065),
    ],
)
def test_areas_have_their_known_values(f, cpr, cmd):
    # all by the trapezoid rule on the grid from 0.001 to 1; the step rises between 0.005 and 0.01
    found = areas([{"share": k, "faithfulness": f(k)} for k in GRID])
    assert found["CPR"] == pytest.approx(cpr, abs=1e-9) and found["CMD"] == pytest.approx(cmd, abs=1e-9)


def test_areas_of_an_undefined_curve_are_undefined():
    assert areas([{"share": k, "faithfulness": None} for k in GRID]) == {"CPR": None, "CMD": None}


def test_curves_are_those_of_the_evaluation(induction):
    runs, judged = (paired_runs(induction, "induction", n=6, split=s) for s in ("train", "test"))
    scores = score(runs, "eap")
    found = faithfulness_curves(scores, judged)
    for by in ("absolute", "signed"):
        curve = faithfulness_curve(scores, judged, shares=GRID, by=by, random_draws=0)
        # 1e-5: the same circuits stacked in other batches, float32
        assert [p["faithfulness"] for p in found[by]] == pytest.approx(curve.values.tolist(), abs=1e-5)
        assert found[by][-1]["faithfulness"] == pytest.approx(1.0, abs=1e-5)
        area = areas(found[by])
        assert area["CMD"] == pytest.approx(curve.area()["CMD"], abs=1e-5)


def test_halves_of_a_mean_are_the_scores_of_half_of_the_pairs(induction):
    runs = paired_runs(induction, "induction", n=6, split="train")
    halves = halves_of(score(runs, "eap"))
    assert halves is not None
    for k, half in enumerate(halves):
        again = score(runs.subset(range(k, 6, 2)), "eap")
        assert np.allclose(half.values, again.values, atol=1e-4, equal_nan=True)


def test_a_corruption_that_changes_nothing_carries_no_faithfulness():
    ioi = open_model("zoo:ioi")
    assert gap_of(paired_runs(ioi, "ioi", n=8))["carries"]
    # zoo:ioi names late years whatever the start year is
    assert not gap_of(paired_runs(ioi, "greater-than", n=8))["carries"]


def test_auroc_of_a_cell_is_the_share_of_pairs_won(finished):
    result, folder = finished
    cell = cell_of(result, "truth", "random")
    truth = load_truth("zoo:truth-induction")
    (saved,) = [
        p
        for p in (folder / "cells").glob("*.json")
        for c in [json.loads(p.read_text())]
        if [c["decided"][k] for k in ("method", "level", "kind")] == ["random", "edge", "truth"]
    ]
    scores = load_scores(saved.with_suffix(".safetensors"))
    positive, counted = edge_labels(truth, scores.graph)
    values = np.abs(scores.values)
    yes, no = values[positive & counted], values[~positive & counted]
    wins = [1.0 if a > b else 0.5 if a == b else 0.0 for a in yes for b in no]
    assert len(yes) == cell["n_positive"] == len(truth.content)
    assert len(yes) + len(no) + len(truth.supporting) == scores.graph.n_edges
    assert cell["seeds"][0]["auroc"] == pytest.approx(sum(wins) / len(wins))
    assert len(cell["seeds"]) == 2 and cell["auroc"] == pytest.approx(
        np.mean([s["auroc"] for s in cell["seeds"]])
    )
    assert cell["seeds"][0] != cell["seeds"][1]  # another seed, another ranking


def test_a_gradient_method_finds_the_induction_circuit(finished):
    cell = cell_of(finished[0], "truth", "eap")
    assert cell["auroc"] == 1.0 and cell["missed"] == [] and cell["passes"] > 0 and cell["noise"] == 0.0


def test_tasks_have_everything_the_table_shows(finished):
    result, _ = finished
    eap, random = (cell_of(result, "tasks", m) for m in ("eap", "random"))
    assert eap["CMD"] < random["CMD"] and eap["agreement"]["pearson"] > 0.5
    assert "seeds" not in eap["stability"] and 0 <= random["stability"]["seeds"] <= 1
    assert random["stability"]["halves"] == 1.0  # it does not look at the pairs
    assert eap["stability"]["size"] == int(0.05 * eap["candidates"])
    assert random["stability"]["null"] == 1.0 and 0 < eap["stability"]["null"] <= 1
    assert "3 are needed" in eap["specificity"]["left_out"] and eap["variation"] is None  # it keeps nothing
    assert eap["gap"]["carries"] and eap["faithfulness"]["0.1"] is not None
    rows = result.tables()
    assert all(rows[caption] for caption in list(rows)[:6])


def test_a_method_that_refuses_the_null_task_has_all_else():
    """Dealt out, the answers of these three pairs are better on the corrupted prompts."""
    runs = paired_runs(open_model("zoo:truth-induction"), "induction", n=3, seed=1)
    asked = Variant(method="iterative-path-patching")
    with pytest.raises(OptionError, match="no better on clean"):
        score(deranged(runs, seed=0), asked.method)
    both = TaskRuns(draws=(runs,), judged=runs)
    cell, _ = task_measures(both, asked, "edge", exact=None, seeds=(0,), repeat_passes=10**6)
    assert "null" not in cell["stability"] and cell["stability"]["halves"] is not None
    assert cell["CMD"] is not None and cell["own"]["faithfulness"] > 0.5


def test_a_second_start_measures_nothing_and_says_the_same(finished):
    result, folder = finished
    again, said = measured(SMALL, folder)
    assert said == [] and again.document == result.document
    assert load_bench(folder).document == result.document
    assert {"bench.json", "bench.html", "run.json", "cells"} <= {p.name for p in folder.iterdir()}


def test_a_lost_cell_alone_is_measured_again(finished):
    result, folder = finished
    lost = sorted((folder / "cells").glob("*.json"))[0]
    kept = json.loads(lost.read_text())
    before = kept[kept["decided"]["kind"]]
    lost.unlink()
    again, said = measured(SMALL, folder)
    assert said == [f"{before['subject']}: {before['method']}, {before['level']}s"]
    drop = ("cpu_seconds", "wall_seconds")

    def timeless(cells):
        return [{k: v for k, v in c.items() if k not in drop} for c in cells]

    assert timeless(again.document["truth"]) == timeless(result.document["truth"])


def test_a_damaged_cell_is_refused_with_its_name(finished, tmp_path):
    folder = tmp_path / "bench"
    settings = Settings(
        methods=("random",), truths=("zoo:truth-induction",), tasks=(), levels=("edge",), n_truth=4
    )
    bench_discovery(settings, folder)
    (cell,) = (folder / "cells").glob("*.json")
    cell.write_text("{")
    with pytest.raises(RunError, match=cell.name):
        bench_discovery(settings, folder)


@dataclass(frozen=True, kw_only=True)
class _Nothing:
    """No options."""


def test_a_method_that_fails_is_a_row_and_is_tried_again(monkeypatch, tmp_path):
    def broken(runs, options, *, level, progress):
        """Always fails."""
        raise RuntimeError("no such luck")

    cost = registry.Cost(forward=1)
    monkeypatch.setattr(registry.METHODS, "_known", dict(registry.METHODS._known))  # forgotten afterwards
    registry.method("broken", levels=("edge",), source="", options=_Nothing, cost=lambda *_: cost)(broken)
    settings = Settings(methods=("broken", "random"), truths=("zoo:truth-induction",), tasks=(), n_truth=4)
    notes = []
    result = bench_discovery(settings, tmp_path, note=notes.append)
    cell = cell_of(result, "truth", "broken")
    assert (cell["status"], cell["reason"]) == ("failed", "RuntimeError: no such luck") and "broken" in notes[
        0
    ]
    assert cell_of(result, "truth", "random")["status"] == "done"
    assert result.tables()["Not measured"][0]["why"] == "failed: RuntimeError: no such luck"
    _, said = measured(settings, tmp_path)
    assert said == ["zoo:truth-induction: broken, edges"]


def test_too_many_passes_is_a_reason_and_threads_come_back(tmp_path):
    before = torch.get_num_threads()
    settings = Settings(
        methods=("exact",),
        truths=("zoo:truth-induction",),
        tasks=(),
        levels=("edge",),
        n_truth=4,
        most_passes=5,
    )
    cell = cell_of(bench_discovery(settings, tmp_path), "truth", "exact")
    assert cell["status"] == "left out" and "more than 5" in cell["reason"]
    assert torch.get_num_threads() == before


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks at processes in /proc")
def test_no_process_measures_on_when_its_parent_was_killed(tmp_path):
    """kill -9 of the parent ends the two processes that share the work."""
    command = "bench discovery --truth zoo:truth-ioi-grouped,zoo:truth-reverse --tasks none --methods exact --workers 2"
    parent = subprocess.Popen(
        [sys.executable, "-m", "cli.app", *command.split(), "--quiet", "-o", str(tmp_path / "out")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    children: list[int] = []
    for _ in range(600):
        children = [p for p in _children(parent.pid) if "spawn_main" in _command_of(p)]
        if len(children) == 2 or parent.poll() is not None:
            break
        time.sleep(0.2)
    assert len(children) == 2
    time.sleep(8)  # the watch starts when a process has imported the bench
    parent.kill()
    parent.wait()
    for _ in range(300):
        alive = [p for p in children if "spawn_main" in _command_of(p)]
        if not alive:
            break
        time.sleep(0.2)
    assert not alive


def _children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in found.read_text().split()] if found.exists() else []


def _command_of(pid: int) -> str:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return "" if state == "Z" else Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def test_variation_is_that_of_single_pairs_measured_one_by_one(induction):
    runs = paired_runs(induction, "induction", n=4, split="test")
    circuit = score(runs, "eap").top(60)
    each = [faithfulness(circuit, runs.subset([i])).faithfulness for i in range(4)]
    # 1e-4: single pairs run in other stacks, float32
    assert variation(circuit, runs) == pytest.approx(np.std(each, ddof=1) / abs(np.mean(each)), abs=1e-4)


def test_a_circuit_cut_out_on_its_own_task_is_not_specific(induction):
    runs = paired_runs(induction, "induction", n=4, split="test")
    circuit = score(runs, "eap").top(60)
    found = cut_out(circuit, runs, OtherTasks(runs=(runs, runs), least=2), seed=0)
    assert found["value"] == 0.0 and found["own"] == found["others"] and found["own"] > 0.1
    assert found["reached_by"] == found["draws"] and found["tasks"] == ["induction", "induction"]
    few = cut_out(circuit, runs, OtherTasks(runs=(runs,), least=2), seed=0)
    assert "2 are needed" in few["left_out"] and "value" not in few
