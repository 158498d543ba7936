"""`workbench circuit`: results on stdout, exit codes, and no heavy import on the way."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.app import app
from tests.circuits import GROUPED, SMALL, scores, small
from workbench.circuits.files import export, load_circuit, save_circuit
from workbench.core.errors import WorkbenchError

RUN = CliRunner()


def call(*arguments: object):
    return RUN.invoke(app, ["circuit", *map(str, arguments)])


@pytest.fixture
def saved(tmp_path) -> Path:
    folder = tmp_path / "circuits" / "ioi" / "zoo-ioi" / "eap-ig-1f3a"
    save_circuit(small(), folder)
    return folder


def test_list_walks_the_folder(saved, tmp_path):
    (tmp_path / "circuits" / "broken").mkdir()
    (tmp_path / "circuits" / "broken" / "circuit.json").write_text("[")
    rows = json.loads(call("list", tmp_path / "circuits", "--json").stdout)
    assert [bool(row["problem"]) for row in rows] == [True, False]
    assert rows[1]["edges"] == 6 and rows[1]["faithfulness"] == 0.75
    assert "eap-ig" in call("list", tmp_path / "circuits").stdout
    (tmp_path / "none").mkdir()
    assert "no circuits" in call("list", tmp_path / "none").stdout
    assert json.loads(call("list", tmp_path / "none", "--json").stdout) == []


def test_show_prints_a_table_or_the_file(saved):
    assert "a1.h1->logits" in call("show", saved).stdout
    assert json.loads(call("show", saved, "--json").stdout) == json.loads(
        (saved / "circuit.json").read_text()
    )


def test_summary_as_json(saved):
    data = json.loads(call("summary", saved, "-n", 2, "--json").stdout)
    assert data["heads"] == 2 and len(data["strongest_edges"]) == 2
    assert data["strongest_paths"][0]["edges"] == ["input->a0.h0<v>", "a0.h0->a1.h1<q>", "a1.h1->logits"]
    assert "a0.h0" in call("summary", saved).stdout


def test_diff_of_two_and_of_two_models(saved, tmp_path):
    other = save_circuit(small().without("m1"), tmp_path / "other.json")
    data = json.loads(call("diff", saved, other, "--json").stdout)
    assert data["difference"]["only_here"]["nodes"] == ["m1"] and data["matching"] == "same architecture"
    bigger = save_circuit(scores(GROUPED).top(20), tmp_path / "bigger.json")
    data = json.loads(call("diff", saved, bigger, "--json").stdout)
    assert data["difference"] is None and data["matching"] == "layer and head numbers"
    assert "layer and head numbers" in call("diff", saved, bigger).stdout


def test_export_to_stdout_and_to_files(saved, tmp_path):
    assert call("export", saved, "-f", "dot").stdout == export(small(), "dot")
    assert call("export", saved, "-f", "csv", "-o", "-").stdout.startswith("source,target")
    target = tmp_path / "x.graphml"
    done = call("export", saved, "-o", target)
    assert done.exit_code == 0 and done.stdout == "" and target.read_text() == export(small(), "graphml")
    data = json.loads(call("export", saved, "-f", "mermaid", "--json").stdout)
    assert data["format"] == "mermaid" and data["text"].startswith("%%")


def test_import_of_eap_ig(tmp_path):
    source = tmp_path / "graph.json"
    source.write_text(export(small(), "eap-ig"))
    done = call("import", source, "-o", tmp_path / "ours", "--task", "ioi", "--json")
    assert done.exit_code == 0 and json.loads(done.stdout)["edges"] == 6
    made = load_circuit(tmp_path / "ours")
    assert made.edges == SMALL and made.task == "ioi"
    done = call("import", source, "-o", tmp_path / "top.json", "--keep", "4", "--json")
    assert json.loads(done.stdout)["edges"] == 4


def test_validate_has_its_own_exit_code(saved, tmp_path):
    assert call("validate", saved).exit_code == 0
    (tmp_path / "bad.json").write_text("{}")
    done = call("validate", saved, tmp_path / "bad.json", tmp_path / "none.json", "--json")
    assert done.exit_code == 3
    assert [row["valid"] for row in json.loads(done.stdout)] == [True, False, False]


def test_view_writes_a_page(saved, tmp_path):
    data = json.loads(call("view", saved, "--json").stdout)
    assert (
        Path(data["page"]) == saved / "circuit.html"
        and data["bytes"] == (saved / "circuit.html").stat().st_size
    )
    assert call("view", saved, "-o", tmp_path / "p.html").exit_code == 0
    assert (tmp_path / "p.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    "arguments",
    [("show", "none"), ("export", "{}", "-f", "graphm"), ("import", "none", "-o", "x"), ("list", "none")],
)
def test_mistakes_are_explained_errors(arguments, saved):
    done = call(*(str(saved) if a == "{}" else a for a in arguments))
    assert isinstance(done.exception, WorkbenchError) and done.stdout == ""


COMMANDS = (
    ["list", "{folder}"], ["show", "{one}"], ["summary", "{one}"], ["diff", "{one}", "{one}"],
    ["export", "{one}", "-f", "graphml"], ["validate", "{one}"], ["view", "{one}", "-o", "{folder}/x.html"],
)  # fmt: skip


def test_no_command_imports_torch_or_networkx(saved):
    """All commands in one process, through the whole `workbench`; then its modules are looked at."""
    fill = {"{folder}": str(saved.parent), "{one}": str(saved)}
    commands = [
        [a.replace("{folder}", fill["{folder}"]).replace("{one}", fill["{one}"]) for a in c] for c in COMMANDS
    ]
    code = (
        "import sys, io, contextlib, json\n"
        "from cli.app import app\n"
        "for command in json.loads(sys.argv[1]):\n"
        "    with contextlib.redirect_stdout(io.StringIO()):\n"
        "        app(['circuit', *command], standalone_mode=False)\n"
        "heavy = {'torch', 'transformers', 'transformer_lens', 'pandas', 'matplotlib', 'scipy', 'networkx'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(commands)],
        capture_output=True,
        text=True,
        env=dict(os.environ),
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_show_answers_within_a_second_of_processor_time(saved):
    """CPU time of the whole process, so that other work on the machine does not count."""
    code = (
        "import sys, time\nfrom cli.app import app\n"
        "app(['circuit', 'show', sys.argv[1]], standalone_mode=False)\n"
        "print(time.process_time(), file=sys.stderr)"
    )
    times = []
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", code, str(saved)], capture_output=True, text=True, check=True
        )
        times.append(float(done.stderr.split()[-1]))
    assert min(times) < 1.0


def test_any_result_is_shown_by_its_file(saved):
    def show(*words):
        return RUN.invoke(app, ["show", *map(str, words)])

    assert "a1.h1->logits" in show(saved / "circuit.json").stdout
    told = json.loads(show(saved / "circuit.json", "--json").stdout)
    assert told == json.loads((saved / "circuit.json").read_text())
    assert "is a folder" in str(show(saved).exception)


def test_why_of_a_circuit_names_the_writers_of_its_program():
    said = call("why", "a0.h1->a1.h0<k>", "zoo:truth-induction", "-n", 2, "--json")
    reason = json.loads(said.stdout)
    assert reason["read"] == "k" and reason["rankings"][0]["terms"][0]["term"] == "a0.h1"
    table = call(
        "why", "a0.h1->a1.h0<k>", "-m", "zoo:truth-induction", "-t", "induction", "-n", 2, "--at", "B1"
    )
    assert "who writes the key" in table.stdout and "norms frozen" in table.stdout


def test_smaller_circuits_come_from_saved_scores_and_names(run, tmp_path):
    from tests.circuits import scores, small
    from workbench.circuits.files import load_circuit, save_circuit, save_scores

    given = scores(seed=3)
    save_circuit(given.top(25), tmp_path / "found")
    save_scores(given, tmp_path / "found" / "scores.safetensors")
    code, _, err = run("circuit", "keep", "found", "--keep", "20", "-o", "kept", "--json")
    assert code == 0 and "was not judged yet" in err
    assert set(load_circuit(tmp_path / "kept").edges) == set(given.top(20).edges)
    save_circuit(small(), tmp_path / "small")
    code, _, _ = run("circuit", "without", "small", "--node", "m1", "-o", "less", "--json")
    less = load_circuit(tmp_path / "less")
    assert code == 0 and less.edges == small().without("m1").prune().edges and not less.evaluation
    code, _, err = run("circuit", "without", "small", "--edge", "a1.h1->logits", "--node", "m1", "-o", "no")
    assert code == 1 and "nothing is left" in err and not (tmp_path / "no").exists()
    code, _, err = run("circuit", "without", "small", "-o", "no")
    assert code == 1 and "nothing is named" in err
    assert run("circuit", "prune", "small", "-o", "pruned")[0] == 0


def test_fewer_edges_are_chosen_as_the_circuit_was_and_from_its_own_scores(run, tmp_path):
    from dataclasses import replace

    from tests.circuits import scores
    from workbench.circuits.files import load_circuit, save_circuit, save_scores
    from workbench.circuits.show.circuit_page import _chosen_from

    given = scores(seed=3)
    ways = {
        "signed": ({"by": "signed"}, given.top(12, by="signed")),
        "greedy": ({"select": "greedy"}, given.greedy(12)),
    }
    assert ways["signed"][1].edges != given.top(12).edges != ways["greedy"][1].edges
    for name, (how, expected) in ways.items():
        save_circuit(given.choose(25, **how), tmp_path / name)
        save_scores(given, tmp_path / name / "scores.safetensors")
        assert run("circuit", "keep", name, "--keep", "12", "-o", f"{name}-12")[0] == 0
        assert load_circuit(tmp_path / f"{name}-12").edges == expected.edges
    head = load_circuit(tmp_path / "signed").heads[-1]
    assert run("circuit", "without", "signed", "--node", head, "-o", "signed/less.json")[0] == 0
    code, _, err = run("circuit", "keep", "signed/less.json", "--keep", "12", "-o", "no")
    assert code == 1 and f"no choice from the scores beside it: top 25 by signed score, without {head}" in err
    cut = given.top(25).without(given.top(25).heads[-1])
    assert _chosen_from(given.top(25), given) == 25 and _chosen_from(cut, given) is None
    save_scores(replace(given, method="other"), tmp_path / "greedy" / "scores.safetensors")
    for command in (["keep", "greedy", "--keep", "12"], ["view", "greedy"]):
        code, _, err = run("circuit", *command, "-o", "no.html")
        assert code == 1 and "method is 'other' there" in err
