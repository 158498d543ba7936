"""``workbench evaluate``: what a dry run says, what --full writes and prints, and where the verdicts show up."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import workbench
from workbench.commands.evaluate import as_good

SCHEMA = Path(workbench.__file__).parent / "circuits" / "files" / "schema" / "faithfulness.schema.json"

LITTLE = ["--random", 3, "--edges", 2, "--bootstraps", 4, "--limit", 8, "--quiet"]


def test_everything_is_written_beside_the_circuit_and_summaries_show_it(run, tmp_path):
    options = ["-m", "zoo:ioi", "-t", "ioi", "--limit", 8, "--method", "eap", "--keep", "10%"]
    code, _, err = run("discover", *options, "--random", 0, "--out", "found", "--quiet")
    assert code == 0, err
    others = ("--other-task", "induction", "--other-task", "colored-objects")
    code, out, err = run("evaluate", "found", "--full", *LITTLE, *others, "--json")
    assert code == 0, err
    said = json.loads(out)
    specific = next(v for v in said["verdicts"] if v["name"] == "specific")
    assert said["variance"]["each"] and said["variance"]["null"] is not None
    assert "2 others" in specific["measured"] and specific["value"] is not None
    assert {v["verdict"] for v in said["verdicts"]} <= {"yes", "no", "open"} and said["n"] == 8
    stable = next(v for v in said["verdicts"] if v["name"] == "stable")
    assert stable["n"] and "resampled pairs" in stable["measured"]
    written = {p.name for p in (tmp_path / "found").iterdir()}
    assert {"evaluation.json", "evaluation.html"} <= written and not [
        n for n in written if n.endswith(".tmp")
    ]
    page = (tmp_path / "found" / "evaluation.html").read_text()
    assert "CPR" in page and 'class="band"' in page
    before = (tmp_path / "found" / "evaluation.json").read_bytes()
    for command in ("summary", "show"):
        code, out, _ = run("circuit", command, "found")
        assert code == 0 and "heads matter more than others" in out and "faithful" in out
    code, out, _ = run("circuit", "summary", "found", "--json")
    assert {row["question"] for row in json.loads(out)["verdicts"]} == {v["name"] for v in said["verdicts"]}
    run("evaluate", "found", "--full", *LITTLE, *others)
    assert (
        tmp_path / "found" / "evaluation.json"
    ).read_bytes() == before  # the same question, the same bytes


@pytest.mark.parametrize("full", [(), ("--full", *LITTLE[:-3])])
def test_another_evaluation_is_not_replaced_silently(full, run, tmp_path):
    """The same question is measured again; another one is refused before it is measured, unless it may replace."""
    line = ("evaluate", "zoo:truth-ioi", "-o", "there", *full, "-q")
    little = ("-n", 4, "--random", 2)
    file = tmp_path / "there" / ("evaluation.json" if full else "faithfulness.json")
    assert run(*line, *little)[0] == 0
    before = file.read_bytes()
    assert run(*line, *little)[0] == 0 and file.read_bytes() == before
    code, out, err = run(*line, "-n", 5, "--random", 2)
    assert code == 1 and "is of another evaluation: other limit" in err and "--replace" in err and not out
    assert file.read_bytes() == before
    assert run(*line, "-n", 5, "--random", 2, "--replace")[0] == 0 and file.read_bytes() != before
    (file.parent / ("evaluation" if full else "faithfulness") / "run.json").unlink()
    assert "of an evaluation without a record" in run(*line, "-n", 5, "--random", 2)[2]


def test_a_dry_run_counts_and_writes_nothing(run, tmp_path):
    code, out, err = run("evaluate", "zoo:truth-greater", "--full", "--out", "there", "--dry-run", "--json")
    assert code == 0, err
    cost = json.loads(out)
    assert cost["dry_run"] is True and cost["circuits"] > 400 and cost["pairs"] == 64
    assert not list(tmp_path.iterdir())
    fewer = json.loads(
        run("evaluate", "zoo:truth-greater", "--out", "there", "--dry-run", "--random", 10, "--json")[1]
    )
    assert fewer["circuits"] == cost["circuits"] - 4 * 90 - 6 * 10
    # two of each random and of each inflated circuit, and 10 random ones less cut out on the task and five others


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["zoo:truth-greater", "--full"], "--out"),
        (["zoo:truth-grater", "--full", "--out", "x"], "did you mean zoo:truth-greater"),
        (["zoo:truth-greater", "--ablation", "means"], "did you mean mean"),
        (["zoo:truth-greater", "--full", "--out", "x", "--random", 0], "at least one random circuit"),
        (["zoo:truth-greater", "--full", "--out", "x", "--limit", 1], "needs 2 or more"),
        (
            ["zoo:truth-greater", "--full", "--out", "x", "--other-task", "inductoin"],
            "did you mean induction",
        ),
        (["zoo:truth-greater", "--full", "--out", "x", "--other-task", "mine.jsonl"], "mine.jsonl"),
        (["zoo:truth-greater", "--other-task", "induction"], "add --full"),
    ],
)
def test_mistakes_are_explained_before_anything_is_run(arguments, message, run, tmp_path):
    code, out, err = run("evaluate", *arguments)
    assert code == 1 and message in err and out == "" and not list(tmp_path.iterdir())


def test_faithfulness_under_another_ablation(run, tmp_path):
    code, out, err = run(
        "evaluate",
        "zoo:truth-greater",
        "--ablation",
        "zero",
        "--limit",
        6,
        "--random",
        0,
        "--json",
        "--quiet",
        "--out",
        "there",
    )
    assert code == 0, err
    found = json.loads(out)
    assert found["ablation"] == "zero" and found["faithfulness"] is not None
    assert found["same_weights"] is None  # a known circuit records no weights to compare with
    # beside the result, the record of the run that made it
    assert {p.name for p in (tmp_path / "there").iterdir()} == {"faithfulness.json", "faithfulness"}
    written = json.loads((tmp_path / "there" / "faithfulness.json").read_text())
    assert written == found and (found["format"], found["version"]) == ("circuit-workbench/faithfulness", 2)
    jsonschema.validate(written, json.loads(SCHEMA.read_text()))
    circuit = tmp_path / "there" / "circuit.json"
    circuit.write_bytes(
        (Path(workbench.__file__).parent / "model" / "zoo" / "truth-greater" / "circuit.json").read_bytes()
    )
    assert run("circuit", "summary", "there")[0] == 0  # faithfulness alone is no evaluation


def test_a_random_circuit_is_as_good_by_its_distance_from_one():
    """140 % is further from the model than 99 %: distances 0.4, 0.01, 0.01, 0.02 against the circuit's own 0.01."""
    assert as_good(np.array([1.4, 0.99, 1.01, 0.98]), 0.99, rounding=1e-6).tolist() == [
        False,
        True,
        True,
        False,
    ]
