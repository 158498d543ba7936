"""``workbench evaluate``: what a dry run says, what --full writes and prints, and where the verdicts show up."""

from __future__ import annotations

import json
import sys

import pytest

import cli.app

LITTLE = ["--random", 3, "--edges", 2, "--bootstraps", 4, "--limit", 8, "--quiet"]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run ``workbench ...`` in this process, in an empty folder; gives exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORKBENCH_QUIET", "")

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["workbench", *map(str, arguments)])
        capsys.readouterr()
        try:
            cli.app.main()
            code = 0
        except SystemExit as ended:
            code = ended.code or 0
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


def test_everything_is_written_beside_the_circuit_and_summaries_show_it(run, tmp_path):
    options = ["-m", "zoo:ioi", "-t", "ioi", "--limit", 8, "--method", "eap", "--keep", "10%"]
    code, _, err = run("discover", *options, "--random", 0, "--out", "found", "--quiet")
    assert code == 0, err
    code, out, err = run("evaluate", "found", "--full", *LITTLE, "--json")
    assert code == 0, err
    said = json.loads(out)
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
    run("evaluate", "found", "--full", *LITTLE)
    assert (
        tmp_path / "found" / "evaluation.json"
    ).read_bytes() == before  # the same question, the same bytes


def test_a_dry_run_counts_and_writes_nothing(run, tmp_path):
    code, out, err = run("evaluate", "zoo:truth-greater", "--full", "--out", "there", "--dry-run", "--json")
    assert code == 0, err
    cost = json.loads(out)
    assert cost["dry_run"] is True and cost["circuits"] > 400 and cost["pairs"] == 64
    assert not list(tmp_path.iterdir())
    fewer = json.loads(
        run("evaluate", "zoo:truth-greater", "--out", "there", "--dry-run", "--random", 10, "--json")[1]
    )
    assert fewer["circuits"] == cost["circuits"] - 4 * 90  # two of each random and of each inflated circuit


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["zoo:truth-greater", "--full"], "--out"),
        (["zoo:truth-grater", "--full", "--out", "x"], "did you mean zoo:truth-greater"),
        (["zoo:truth-greater", "--ablation", "means"], "did you mean mean"),
        (["zoo:truth-greater", "--full", "--out", "x", "--random", 0], "at least one random circuit"),
    ],
)
def test_mistakes_are_explained_before_anything_is_run(arguments, message, run, tmp_path):
    code, out, err = run("evaluate", *arguments)
    assert code == 1 and message in err and out == "" and not list(tmp_path.iterdir())


def test_faithfulness_under_another_ablation(run):
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
    )
    assert code == 0, err
    found = json.loads(out)
    assert found["ablation"] == "zero" and found["faithfulness"] is not None
