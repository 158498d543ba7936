"""The long commands on the built-in IOI model: what they print and write, and what a kill leaves behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import cli.app
from tests import forks
from tests.forks import Forked
from workbench.circuits.files import load_circuit
from workbench.circuits.files.effects_file import load_effects

ABLATE = ["ablate", "-m", "zoo:ioi", "-t", "ioi", "--limit", "6"]


def data(result):
    code, out, err = result
    assert code == 0, err
    return json.loads(out)


def test_the_command_line_starts_without_torch():
    code = "import sys, cli.app; sys.exit('torch' in sys.modules or 'networkx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    "command", ["demo", "ablate", "patch", "path-patch", "knock-out", "discover", "evaluate", "methods"]
)
def test_help_has_a_claim_and_an_example(run, command):
    code, out, _ = run(command, "--help")
    assert code == 0 and f"Example: workbench {command}" in " ".join(out.split())


def test_ablation_table_has_a_row_per_head_and_is_saved(run, tmp_path):
    found = data(run(*ABLATE, "--json", "--out", "table"))
    assert [row["label"] for row in found["rows"]] == [f"a{n}.h{h}" for n in range(4) for h in range(4)]
    assert found["n"] == 6 and all(len(row["per_pair"]) == 6 for row in found["rows"])
    row = found["rows"][3]
    assert row["effect"] == pytest.approx(sum(row["per_pair"]) / 6)
    spread = sum((x - row["effect"]) ** 2 for x in row["per_pair"]) / 5
    assert row["stderr"] == pytest.approx((spread / 6) ** 0.5)
    saved = load_effects(tmp_path / "table")
    assert np.allclose(saved.per_pair, [r["per_pair"] for r in found["rows"]], atol=0)
    record = json.loads((tmp_path / "table" / "run.json").read_text())
    assert record["status"] == "done" and record["arguments"]["ablation"] == "resample"
    assert record["model"]["digest"] and record["versions"]["torch"] and record["pairs"]["n"] == 6


def test_a_finished_table_is_shown_again_and_another_runs_table_is_left_alone(run, tmp_path):
    first = data(run(*ABLATE, "--json", "--out", "table"))
    before = (tmp_path / "table" / "effects.parquet").read_bytes()
    code, out, err = run(*ABLATE, "--json", "--out", "table")
    assert code == 0 and json.loads(out)["rows"] == first["rows"] and "already measured" in err
    code, out, err = run(*ABLATE, "--ablation", "zero", "--json", "--out", "table")
    assert code == 1 and "another run" in json.loads(out)["error"]["message"] and "hint" in err
    assert (tmp_path / "table" / "effects.parquet").read_bytes() == before


def test_patching_everything_at_one_layer_restores_everything(run):
    found = data(run("patch", "-m", "zoo:ioi", "-t", "ioi", "--limit", 6, "--site", "resid", "--json"))
    assert [row["label"] for row in found["rows"]] == ["r0", "r1", "r2", "r3"]
    # 1e-5: float32 rounding of logits of about 10
    assert all(row["share"] == pytest.approx(1, abs=1e-5) for row in found["rows"])


def test_path_patching_and_knock_out_give_a_row_per_head(run):
    common = ["-m", "zoo:ioi", "-t", "ioi", "--limit", 4, "--json"]
    paths = data(run("path-patch", *common, "--receiver", "a1.h0<q>"))
    later = [row["effect"] for row in paths["rows"] if not row["label"].startswith("a0.")]
    # no later head can reach an earlier one; what is left is rounding of logits near 10
    assert len(paths["rows"]) == 16 and len(later) == 12 and max(map(abs, later)) < 1e-5
    knocked = data(run("knock-out", *common, "--query", "end", "--key", "S2"))
    assert [r["label"] for r in knocked["rows"]][:2] == ["a0.h0<pattern>@end", "a0.h1<pattern>@end"]


def test_a_dry_run_at_each_position_counts_the_positions_that_all_pairs_name(run):
    patch = ("patch", "-m", "zoo:ioi", "-t", "ioi", "-n", "4", "--node", "a0.h0", "--dry-run", "--json")
    everywhere, one = (data(run(*patch, *at)) for at in ((), ("--position", "end")))
    each = data(run(*patch, "--position", "each"))
    assert one["interventions"] == everywhere["interventions"] == 1 < each["interventions"]


def test_dry_run_counts_and_writes_nothing(run, tmp_path):
    found = data(run(*ABLATE, "--dry-run", "--json"))
    # 4 heads in each of 4 layers, (4 + 3 + 2 + 1) / 4 passes per head position, and two base runs
    assert found["interventions"] == 16 and found["prompt_passes"] == pytest.approx((4 * 10 / 4 + 4) * 6)
    assert "opening the model and saving come on top" in run(*ABLATE, "--dry-run")[2]
    assert data(run("discover", "-m", "zoo:ioi", "-t", "ioi", "--dry-run", "--json"))["forward"] == 7
    assert "judging the circuit" in " ".join(
        run("discover", "-m", "zoo:ioi", "-t", "ioi", "--dry-run")[1].split()
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["ablate", "-m", "zoo:ioy", "-t", "ioi"], "did you mean"),
        (["ablate", "-m", "zoo:ioi", "-t", "ioy"], "did you mean ioi"),
        (["ablate", "-m", "zoo:ioi", "-t", "ioi", "--ablation", "maen"], "did you mean mean"),
        (["ablate", "-m", "zoo:ioi", "-t", "ioi", "--parts", "head"], "did you mean heads"),
        (["ablate", "-m", "zoo:ioi", "-t", "ioi", "--metric", "logit-diff"], "did you mean logit-difference"),
        (["ablate", "-m", "zoo:ioi", "-t", "ioi", "--node", "9.9"], "addresses look like"),
        (["ablate", "-m", "zoo:ioi", "-t", "ioi", "--node", "a9.h9"], "layers 0 to 3"),
        (["patch", "-m", "zoo:ioi", "-t", "ioi", "--site", "residual"], "did you mean resid"),
        (["patch", "-m", "zoo:ioi", "-t", "ioi", "--position", "S3"], "positions of this task"),
        (["path-patch", "-m", "zoo:ioi", "-t", "ioi", "--receiver", "a1.h0"], "receivers are"),
        (
            ["knock-out", "-m", "zoo:ioi", "-t", "ioi", "--query", "end", "--key", "X"],
            "positions of this task",
        ),
        (["discover", "-m", "zoo:ioi", "-t", "ioi", "--method", "eapig"], "did you mean eap-ig"),
        (["discover", "-m", "zoo:ioi", "-t", "ioi", "--option", "step=3"], "options: steps"),
        (["discover", "-m", "zoo:ioi", "-t", "ioi", "--keep", "lots"], "a share (5%)"),
        (["evaluate", "nowhere"], "hint"),
    ],
)
def test_mistakes_are_explained_on_stderr_with_exit_code_1(run, tmp_path, arguments, hint):
    code, out, err = run(*arguments, *(["--limit", 4] if arguments[0] != "evaluate" else []))
    assert code == 1 and out == "" and hint in err and "Traceback" not in err
    assert not list(tmp_path.rglob("*.parquet")) and not list(tmp_path.rglob("circuit.json"))


def test_discover_saves_a_circuit_that_evaluate_measures_again(run, tmp_path):
    options = ["-m", "zoo:ioi", "-t", "ioi", "--limit", 12]
    found = data(run("discover", *options, "--keep", "10%", "--random", 2, "--json"))
    folder = Path(found["folder"])
    assert folder.parts[:3] == ("circuits", "ioi", "zoo-ioi") and folder.name.startswith("eap-ig-")
    names = {"circuit.json", "scores.safetensors", "run.json", "circuit.html", "report.html"}
    made = {p.name for p in (tmp_path / folder).iterdir() if not p.name.startswith(".")}
    assert made == names
    again = data(run("evaluate", folder, "--limit", 12, "--random", 2, "--json"))
    assert again["faithfulness"] == pytest.approx(found["faithfulness"]["faithfulness"], abs=1e-6)
    full = found["curve"]["points"][-1]
    assert full["share"] == 1 and full["faithfulness"] == pytest.approx(1, abs=1e-5)
    circuit = load_circuit(tmp_path / folder)
    assert circuit.n_edges == found["circuit"]["edges"] <= 47 and circuit.task == "ioi"
    second = data(run("discover", *options, "--keep", "10%", "--random", 2, "--json"))
    assert second["folder"] == found["folder"]  # the same question has the same place
    code, out, _ = run("circuit", "list", "--json")
    assert code == 0 and "eap-ig" in out


def test_the_users_own_pairs_work_end_to_end(run, tmp_path):
    rows = [
        {"id": f"p{i}", "clean": f"When {a} and {b} went to the store, {b} gave a drink to",
         "corrupted": f"When {a} and {b} went to the store, {a} gave a drink to",
         "correct": [f" {a}"], "incorrect": [f" {b}"]}
        for i, (a, b) in enumerate([("Mary", "John"), ("Anna", "Paul"), ("Sarah", "David")])
    ]  # fmt: skip
    (tmp_path / "own.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    found = data(run("ablate", "-m", "zoo:ioi", "-t", "own.jsonl", "--parts", "mlps", "--json"))
    assert found["n"] == 3 and len(found["rows"]) == 4


def test_demo_says_where_everything_is(run, tmp_path):
    code, out, err = run("demo", "--limit", 8, "-o", tmp_path / "made")
    assert code == 0 and "where everything is" in out and "4/4" in err
    made = {p.name for p in (tmp_path / "made").rglob("*") if p.is_file()}
    assert {"circuit.json", "circuit.html", "report.html", "effects.parquet", "circuit.graphml"} <= made
    code, out, _ = run("runs", "verify", "made", "--json")
    assert code == 0 and json.loads(out)["counts"] == {
        "as written": len(made - {".lock"})
    }  # pictures, pages, all


SLOW = [
    "ablate",
    "-m",
    "zoo:ioi",
    "-t",
    "ioi",
    "--limit",
    "24",
    "--batch-tokens",
    "100",
    "--out",
    "swept",
    "-q",
]


def start(folder: Path, *more: str) -> subprocess.Popen | Forked:
    command = ["-c", "from cli.app import main; main()", *SLOW, *more]
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parent.parent)}
    return forks.start(command, cwd=folder, env=environment, stderr=subprocess.PIPE)


def wait_for_parts(folder: Path, process: subprocess.Popen | Forked, n: int) -> None:
    while len(list((folder / "swept" / "shards").glob("*.safetensors"))) < n:
        assert process.poll() is None, "it ended before it could be stopped"
        time.sleep(0.002)


def test_kill_9_and_resume_give_the_table_of_an_undisturbed_run(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    undisturbed = start(whole)
    process = start(killed)
    wait_for_parts(killed, process, 3)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    finished = len(list((killed / "swept" / "shards").glob("*.safetensors")))
    assert finished < 96 and not (killed / "swept" / "effects.parquet").exists()
    refused = start(killed)
    assert refused.wait() == 1 and "--resume" in refused.stderr.read()
    for process in (start(killed, "--resume"), undisturbed):
        assert process.wait() == 0, process.stderr.read()
    a, b = load_effects(whole / "swept"), load_effects(killed / "swept")
    assert a.labels == b.labels and np.array_equal(a.patched, b.patched) and np.array_equal(a.base, b.base)


def test_an_interrupt_ends_with_130_and_says_how_to_go_on(tmp_path):
    process = start(tmp_path)
    wait_for_parts(tmp_path, process, 1)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    assert not (tmp_path / "swept" / "effects.parquet").exists()


def test_a_table_is_drawn_as_svg_and_png(run, tmp_path):
    code, _, err = run(*ABLATE, "--plot", "heads.png", "--out", "table")
    assert code == 0 and "drew heads.png" in err
    assert (tmp_path / "heads.png").read_bytes().startswith(b"\x89PNG")
    drawn = (tmp_path / "table" / "heatmap.svg").read_text()
    assert "resample ablation" in drawn and "n=6" in drawn and "<script" not in drawn
    code, out, err = run(*ABLATE, "--plot", "heads.gif")
    assert code == 1 and out == "" and ".svg or .png" in err


def own_pairs(n):
    names = [("Mary", "John"), ("Anna", "Paul"), ("Sarah", "David"), ("Emma", "Robert"), ("Alice", "Peter")]
    return [
        {"id": f"p{i}", "clean": f"When {a} and {b} went to the store, {b} gave a drink to",
         "corrupted": f"When {a} and {b} went to the store, {a} gave a drink to",
         "correct": [f" {a}"], "incorrect": [f" {b}"]}
        for i, (a, b) in enumerate(names[:n])
    ]  # fmt: skip


def test_a_file_of_pairs_is_used_whole_and_refuses_what_is_for_tasks(run, tmp_path):
    (tmp_path / "own.jsonl").write_text("\n".join(json.dumps(row) for row in own_pairs(5)))
    whole = ["ablate", "-m", "zoo:ioi", "-t", "own.jsonl", "--parts", "mlps", "--json"]
    assert data(run(*whole))["n"] == 5
    assert data(run(*whole, "--limit", 2))["n"] == 2
    code, out, err = run(*whole, "--corruption", "abc")
    assert code == 1 and "--corruption is for tasks" in json.loads(out)["error"]["message"]
    assert "--corruption is for tasks" in err


def test_opening_data_never_runs_the_code_it_names(run, tmp_path):
    (tmp_path / "evil.py").write_text("open('ran', 'w').close()\ndef f(*a): return a[0][:, 0]\n")
    head = {"format": "circuit-workbench/pairs", "version": 1, "metric": "evil.py:f"}
    (tmp_path / "own.jsonl").write_text("\n".join(json.dumps(row) for row in [head, *own_pairs(2)]))
    code, out, err = run("ablate", "-m", "zoo:ioi", "-t", "own.jsonl")
    assert code == 1 and out == "" and "--metric evil.py:f" in err
    found = data(run("discover", "-m", "zoo:ioi", "-t", "ioi", "--limit", 4, "--random", 0, "--json"))
    path = tmp_path / found["folder"] / "circuit.json"
    path.write_text(path.read_text().replace('"logit-difference"', '"evil.py:f"'))
    code, out, err = run("evaluate", path)
    assert code == 1 and out == "" and "only name built-in metrics" in err
    assert not (tmp_path / "ran").exists()


def test_evaluate_asks_the_circuits_own_question(run, tmp_path):
    options = ["-m", "zoo:ioi", "-t", "ioi", "--limit", 6, "--random", 0, "--json"]
    found = data(run("discover", *options, "--corruption", "abc"))
    again = data(run("evaluate", found["folder"], "--limit", 6, "--random", 0, "--json"))
    assert again["corruption"] == "abc" and again["same_weights"]
    assert again["faithfulness"] == pytest.approx(found["faithfulness"]["faithfulness"], abs=1e-6)
    (tmp_path / "ioi.jsonl").write_text("\n".join(json.dumps(row) for row in own_pairs(3)))
    own = data(run("discover", "-m", "zoo:ioi", "-t", "ioi.jsonl", "--random", 0, "--json"))
    code, out, err = run("evaluate", own["folder"])
    assert code == 1 and out == "" and "-t FILE.jsonl" in err


def test_another_questions_circuit_is_never_overwritten(run, tmp_path):
    options = ["-m", "zoo:ioi", "-t", "ioi", "--random", 0, "--out", "mine", "--json"]
    assert run("discover", *options, "--limit", 4)[0] == 0
    before = (tmp_path / "mine" / "circuit.json").read_bytes()
    code, out, err = run("discover", *options, "--limit", 5)
    assert code == 1 and "another circuit" in json.loads(out)["error"]["message"] and "another circuit" in err
    assert (tmp_path / "mine" / "circuit.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["ablate", "--reference", "own.jsonl"], "--ablation mean"),
        (["ablate", "--ablation", "mean", "--reference", "ioi"], ".jsonl file"),
        (["patch", "--mode", "denosing"], "did you mean denoising"),
        (["path-patch", "--receiver", "logits", "--mode", "denosing"], "did you mean denoising"),
        (["path-patch", "--receiver", "logits", "--mlps", "froze"], "did you mean frozen"),
        (["discover", "--keep", "101%"], "between 0% and 100%"),
        (["discover", "--keep", ">=0.1", "--greedy"], "--keep 5%"),
        (["discover", "--method", "eap", "--metric", "kl"], "--method eap-ig"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_measured(run, tmp_path, arguments, hint):
    code, out, err = run(arguments[0], "-m", "zoo:ioi", "-t", "ioi", "--limit", 4, *arguments[1:])
    assert code == 1 and out == "" and hint in err and "Traceback" not in err
    # a search that got as far as its runs leaves the record of its failure, and no result
    left = {p.name for p in tmp_path.rglob("*") if p.is_file()}
    assert left <= ({"run.json", "plan.json", ".lock"} if "kl" in arguments else set())


def test_a_metric_without_a_gap_still_gives_a_saved_circuit(run, tmp_path):
    rows = [row | {"corrupted": row["clean"].replace("store", "park")} for row in own_pairs(2)]
    (tmp_path / "own.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    accuracy = ["--method", "exact", "--metric", "accuracy"]  # 1 in both runs: no gap to share out
    found = data(run("discover", "-m", "zoo:ioi", "-t", "own.jsonl", *accuracy, "--random", 1, "--json"))
    assert found["faithfulness"]["faithfulness"] is None and found["curve"]["CPR"] is None
    assert load_circuit(tmp_path / found["folder"]).task == "own"


def test_heads_at_positions_are_known_by_their_roles(run, tmp_path):
    out = tmp_path / "c"
    options = [
        "-m",
        "zoo:truth-ioi",
        "-t",
        "ioi",
        "--limit",
        8,
        "--random",
        0,
        "--per-position",
        "--keep",
        20,
    ]
    code, text, _ = run("discover", *options, "--method", "eap", "-o", out)
    assert code == 0
    row = next(line for line in text.splitlines() if "a2.h0" in line)
    assert "name mover" in row and row.split()[-1] == "yes"
    nodes = json.loads((out / "circuit.json").read_text())["graph"]["nodes"]
    assert {n["role"] for n in nodes if n["id"] == "a2.h0@end"} == {"name mover"}
